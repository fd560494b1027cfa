//===- DataTest.cpp - data and bounds hold for every legal model ----------===//
#include "lib/base/Spec/Canonical.h"
#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Reference/Sequence.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/Oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

using namespace kvc;
using namespace kvc::verify;
using spec::DType;

namespace {

spec::Spec specOf(DType dtype, spec::Codec codecK, unsigned dim, double scale,
                  std::optional<double> cap) {
  spec::Spec spec;
  spec.name = "data";
  spec.model.layers = 1;
  spec.model.qHeads = 4, spec.model.kvHeads = 2;
  spec.model.headDimK = spec.model.headDimV = dim;
  spec.model.dtype = dtype;
  spec.model.softmaxScale = scale;
  spec.model.logitSoftcap = cap;
  spec::Store store;
  store.name = "main";
  store.scope.layers = {0}, store.scope.headEnd = 2;
  store.k = {dim, codecK, {}, {}};
  store.v = {dim, spec::FloatCodec{dtype}, {}, {}};
  spec.stores = {store};
  spec.canonical = canonicalText(spec);
  return spec;
}

/// A spec's only store, without a program.
struct Described {
  explicit Described(spec::Spec given) : spec(std::move(given)) {
    module = importSpec(context, spec);
    auto function = module->lookupSymbol<mlir::func::FuncOp>("main.attend");
    store.spec = &spec.stores[0];
    store.problem =
        reference::AttendProblem::of(*function.getOps<AttendOp>().begin());
    store.softcap = spec.model.logitSoftcap;
    for (const PlaneGeometry &plane : store.cache().planes())
      store.planes.push_back(
          {plane.stream, plane.type, plane.rowBytes, plane.rowStride});
  }
  spec::Spec spec;
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CompiledStore store;
};

double logit(const CompiledStore &store, const TestSequence &sequence,
             int64_t query, int64_t head, int64_t token) {
  int64_t dim = store.cache().getDimK();
  const float *q = &sequence.q[(query * store.problem.qHeads + head) * dim];
  const float *k =
      &sequence.k[(token * store.kvHeads() + head / store.problem.group) * dim];
  double sum = 0;
  for (int64_t c = 0; c < dim; ++c)
    sum += double(q[c]) * k[c];
  sum *= store.problem.scale;
  return store.softcap ? *store.softcap * std::tanh(sum / *store.softcap) : sum;
}

/// Every row names a token that it sees, which beats all others.
void expectWinners(const CompiledStore &store, int64_t length, int64_t queries,
                   double wins = 160) {
  Random random(7, uint64_t(length));
  TestSequence sequence =
      makeSequence(store, DataKind::Addresses, length, queries, random);
  ASSERT_GE(sequence.queries, std::min<int64_t>(queries, 64));
  for (int64_t i = 0; i < sequence.queries; ++i)
    for (int64_t head = 0; head < store.problem.qHeads; ++head) {
      int64_t pick = sequence.picks[i * store.problem.qHeads + head];
      auto seen = reference::visibleTo(store.problem, sequence.place(i));
      ASSERT_TRUE(pick >= 0 && seen.contains(pick)) << i << " " << pick;
      double best = logit(store, sequence, i, head, pick);
      ASSERT_TRUE(std::isfinite(best));
      ASSERT_LE(std::fabs(best), 8192 * M_LN2); // bits behind f32's point
      seen.forEach([&](int64_t t) {
        if (t != pick)
          ASSERT_GE(best - logit(store, sequence, i, head, t), wins) << t;
      });
    }
}

constexpr DataKind kFinite[] = {
    DataKind::Normal,     DataKind::Sharp, DataKind::Channels,
    DataKind::Uneven,     DataKind::Equal, DataKind::Dominant,
    DataKind::Decreasing, DataKind::Huge,  DataKind::Denormal,
    DataKind::Addresses,  DataKind::Mean};

/// q and K, as encoded too, are numbers, and not all of them 0.
void expectNumbers(const CompiledStore &store, DataKind kind) {
  Random random(3, uint64_t(kind));
  TestSequence sequence = makeSequence(store, kind, 40, 3, random);
  for (const auto *values : {&sequence.q, &sequence.k, &sequence.v})
    for (float x : *values)
      ASSERT_TRUE(std::isfinite(x)) << name(kind);
  StreamInfo info = store.cache().stream(kStreamK);
  std::vector<float> row(info.dim);
  for (int64_t t = 0; t < 40; ++t) {
    llvm::SmallVector<const uint8_t *, 2> planes;
    for (size_t plane = 0; plane < info.planes().size(); ++plane)
      planes.push_back(
          &sequence.planes[plane][t * store.planes[plane].rowBytes]);
    info.codec.dequantizeRow(planes, row);
    for (float x : row)
      ASSERT_TRUE(std::isfinite(x)) << name(kind);
  }
  auto isZero = [](float x) { return x == 0; };
  if (kind != DataKind::Mean)
    EXPECT_FALSE(llvm::all_of(sequence.q, isZero)) << name(kind);
}

TEST(Data, HoldsForEveryScaleAndType) {
  for (DType dtype : {DType::F32, DType::F16, DType::BF16})
    for (spec::Codec codec : {spec::Codec(spec::FloatCodec{dtype}),
                              spec::Codec(spec::FloatCodec{DType::F16}),
                              spec::Codec(spec::IntCodec{8, DType::F16})})
      for (unsigned dim : {8u, 80u, 576u})
        for (double scale : {1e-6, 1e-3, 1., 1e6})
          for (std::optional<double> cap :
               {std::optional<double>(), std::optional<double>(1e6)}) {
            SCOPED_TRACE(spec::name(dtype) + (" " + std::to_string(dim)) + " " +
                         std::to_string(scale) + (cap ? " capped" : ""));
            Described described(specOf(dtype, codec, dim, scale, cap));
            expectWinners(described.store, 1, 1);
            expectWinners(described.store, 20, 3);
            if (dim == 8) // which has fewer codes than tokens
              expectWinners(described.store, 300, 300);
            for (DataKind kind : kFinite)
              expectNumbers(described.store, kind);
          }
}

/// Softcaps that models have leave room for a winner, if not for a great one.
TEST(Data, HoldsUnderTheSoftcapsOfModels) {
  for (DType dtype : {DType::F32, DType::F16, DType::BF16})
    for (unsigned dim : {64u, 256u})
      for (double cap : {30., 50., 200.}) {
        SCOPED_TRACE(spec::name(dtype) + (" " + std::to_string(cap)));
        Described described(
            specOf(dtype, spec::FloatCodec{dtype}, dim, 0.125, cap));
        expectWinners(described.store, 300, 70, 29);
      }
}

/// Without a finite logit that wins, rows say so.
TEST(Data, NamesNoTokenUnderASmallSoftcap) {
  Described described(
      specOf(DType::F32, spec::FloatCodec{DType::F32}, 64, 0.125, 15));
  Random random(7);
  TestSequence sequence =
      makeSequence(described.store, DataKind::Addresses, 20, 2, random);
  EXPECT_THAT(sequence.picks, testing::Each(-1));
}

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

/// The rules that rows of uneven data break, right or with a fault.
std::vector<std::string> brokenRules(const spec::Spec &spec, Fault fault) {
  Diagnostics diagnostics;
  auto output = compile(spec, CompileOptions(), diagnostics);
  std::string error;
  auto devices = Devices::create({"native"}, nullptr, error);
  std::vector<std::string> rules;
  EXPECT_TRUE(output && devices);
  auto compiledSpec = CompiledSpec::create(spec, spec, output->artifact,
                                           *devices, fault, error);
  EXPECT_TRUE(compiledSpec) << error;
  const CompiledStore &store = compiledSpec->stores[0];
  Random random(1);
  TestSequence sequence = makeSequence(store, DataKind::Uneven, 300, 2, random);
  Report report;
  Oracle oracle(store, &sequence, report);
  Placement placement;
  BatchImage image(store, &sequence, placement);
  auto result = attend(*compiledSpec, image, report);
  EXPECT_TRUE(result);
  oracle.judge(*result, report);
  for (const Failure &failure : report.failures)
    rules.push_back(failure.rule);
  return rules;
}

// An error that is nothing beside its row's largest element is all of a small
// channel: only a bound of each element sees it.
TEST(Oracle, SmallChannelsCount) {
  for (DType dtype : {DType::F16, DType::BF16}) {
    spec::Spec spec =
        specOf(dtype, spec::FloatCodec{dtype}, 64, 0.125, std::nullopt);
    EXPECT_THAT(brokenRules(spec, Fault::None), testing::IsEmpty());
    EXPECT_THAT(brokenRules(spec, Fault::OneStep), testing::ElementsAre("N2"));
  }
}

/// The rules that a result breaks whose o is 1 but for `found` in channel 3,
/// where the second of two tokens, whose logit is `logit` against 0, has an
/// infinity in V.
std::vector<std::string> brokenByInfinity(const CompiledStore &store,
                                          float logit, float found) {
  TestSequence sequence;
  sequence.length = 2, sequence.queries = 1;
  int64_t dim = store.cache().getDimK();
  sequence.q.assign(store.problem.qHeads * dim, 1);
  sequence.k.assign(2 * store.kvHeads() * dim, 0);
  sequence.v.assign(2 * store.kvHeads() * dim, 1);
  for (int64_t head = 0; head < store.kvHeads(); ++head) {
    int64_t row = (store.kvHeads() + head) * dim;
    sequence.k[row] = float(logit / store.problem.scale);
    sequence.v[row + 3] = std::numeric_limits<float>::infinity();
  }
  quantize(store, sequence);
  std::vector<float> o(store.problem.qHeads * dim, 1);
  for (int64_t head = 0; head < store.problem.qHeads; ++head)
    o[head * dim + 3] = found;
  SequenceOutput output;
  output.o.resize(o.size() * sizeof(float));
  pack(store.problem.dtype, o, output.o.data());
  Report report;
  Oracle(store, &sequence, report).judge({output}, report);
  std::vector<std::string> rules;
  for (const Failure &failure : report.failures)
    rules.push_back(failure.rule);
  return rules;
}

// Infinity times a weight that f32 takes for 0 may be anything; any other
// weight makes it infinity.
TEST(Oracle, InfinitiesCountAsFarAsTheirWeightDoes) {
  Described described(
      specOf(DType::F32, spec::FloatCodec{DType::F32}, 8, 0.5, std::nullopt));
  float infinity = std::numeric_limits<float>::infinity();
  for (float found : {infinity, float(NAN), 1.f})
    EXPECT_THAT(brokenByInfinity(described.store, -100, found),
                testing::IsEmpty())
        << found;
  for (float logit : {-80.f, 1.f})
    EXPECT_THAT(brokenByInfinity(described.store, logit, infinity),
                testing::IsEmpty())
        << logit;
  for (float found : {float(NAN), 1.f})
    EXPECT_THAT(brokenByInfinity(described.store, -80, found),
                testing::ElementsAre("N2"))
        << found;
}

} // namespace
