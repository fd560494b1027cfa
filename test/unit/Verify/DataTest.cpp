//===- DataTest.cpp - data and bounds hold for every legal model ----------===//
#include "lib/base/Spec/Canonical.h"
#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Reference/Sequence.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/ExactValues.h"
#include "lib/driver/Verify/Oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

using namespace kvc;
using namespace kvc::verify;
using spec::DType;
using spec::ParameterType;

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
  store.k.dim = store.v.dim = dim;
  store.k.codec = codecK, store.v.codec = spec::FloatCodec{dtype};
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
      store.planes.push_back({plane.stream, plane.role, plane.type,
                              plane.rowBytes, plane.rowStride});
  }
  spec::Spec spec;
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CompiledStore store;
};

/// Row `row` of a stream as `sequence` has it quantised.
void dequantize(const CompiledStore &store, const TestSequence &sequence,
                llvm::StringRef stream, int64_t row,
                llvm::MutableArrayRef<float> to) {
  StreamInfo info = store.cache().stream(stream);
  unsigned first = store.cache().planeIndex(stream);
  llvm::SmallVector<const uint8_t *, 3> planes;
  for (size_t plane = first; plane < first + info.planes().size(); ++plane)
    planes.push_back(
        &sequence.planes[plane][row * store.planes[plane].rowBytes]);
  info.codec.dequantizeRow(planes, to);
}

/// Keys as they are kept, [head][token][dim].
std::vector<float> keptK(const CompiledStore &store,
                         const TestSequence &sequence) {
  int64_t dim = store.cache().getDimK();
  std::vector<float> kept(sequence.k.size());
  for (size_t at = 0; at < kept.size(); at += dim)
    dequantize(store, sequence, kStreamK, at / dim, {&kept[at], size_t(dim)});
  return kept;
}

double logit(const CompiledStore &store, const TestSequence &sequence,
             llvm::ArrayRef<float> kept, int64_t query, int64_t head,
             int64_t token) {
  int64_t dim = store.cache().getDimK();
  const float *q = &sequence.q[(query * store.problem.qHeads + head) * dim];
  const float *k =
      &kept[(head / store.problem.group * sequence.length + token) * dim];
  double sum = 0;
  for (int64_t c = 0; c < dim; ++c)
    sum += double(q[c]) * k[c];
  sum *= store.problem.scale;
  return store.softcap ? *store.softcap * std::tanh(sum / *store.softcap) : sum;
}

/// Every row names a token that it sees, which beats all others in what the
/// cache holds of them.
void expectWinners(const CompiledStore &store, int64_t length, int64_t queries,
                   double wins = 160) {
  Random random(7, uint64_t(length));
  TestSequence sequence =
      makeSequence(store, DataKind::Addresses, length, queries, random);
  ASSERT_GE(sequence.queries, std::min<int64_t>(queries, 64));
  std::vector<float> kept = keptK(store, sequence);
  for (int64_t i = 0; i < sequence.queries; ++i)
    for (int64_t head = 0; head < store.problem.qHeads; ++head) {
      int64_t pick = sequence.picks[i * store.problem.qHeads + head];
      auto seen = reference::visibleTo(store.problem, sequence.place(i));
      ASSERT_TRUE(pick >= 0 && seen.contains(pick)) << i << " " << pick;
      double best = logit(store, sequence, kept, i, head, pick);
      ASSERT_TRUE(std::isfinite(best));
      ASSERT_LE(std::fabs(best), 8192 * M_LN2); // bits behind f32's point
      seen.forEach([&](int64_t t) {
        if (t != pick)
          ASSERT_GE(best - logit(store, sequence, kept, i, head, t), wins) << t;
      });
    }
}

/// No number that q and K can be makes a logit win: no row names a token.
void expectNoWinner(const CompiledStore &store) {
  Random random(7, 20);
  TestSequence sequence =
      makeSequence(store, DataKind::Addresses, 20, 3, random);
  for (int64_t pick : sequence.picks)
    ASSERT_EQ(pick, -1);
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
  for (float x : keptK(store, sequence))
    ASSERT_TRUE(std::isfinite(x)) << name(kind);
  auto isZero = [](float x) { return x == 0; };
  if (kind != DataKind::Mean)
    EXPECT_FALSE(llvm::all_of(sequence.q, isZero)) << name(kind);
}

TEST(Data, HoldsForEveryScaleAndType) {
  for (DType dtype : {DType::F32, DType::F16, DType::BF16})
    for (spec::Codec codec :
         {spec::Codec(spec::FloatCodec{dtype}),
          spec::Codec(spec::FloatCodec{DType::F16}),
          spec::Codec(spec::IntCodec{8, ParameterType::F16}),
          spec::Codec(spec::MinifloatCodec{}),
          spec::Codec(
              spec::MinifloatCodec{spec::MinifloatCodec::Format::E5M2})})
      for (unsigned dim : {8u, 80u, 576u})
        for (double scale : {1e-6, 1e-3, 1., 1e6})
          for (std::optional<double> cap :
               {std::optional<double>(), std::optional<double>(1e6)}) {
            SCOPED_TRACE(spec::name(dtype) + (" " + std::to_string(dim)) + " " +
                         std::to_string(scale) + (cap ? " capped" : ""));
            Described described(specOf(dtype, codec, dim, scale, cap));
            const auto *eight = std::get_if<spec::MinifloatCodec>(&codec);
            if (eight && eight->format == spec::MinifloatCodec::Format::E4M3 &&
                dtype == DType::F16 && dim == 8 && scale == 1e-6) {
              expectNoWinner(described.store); // 65504 * 448 * 8e-6 is 235
              continue;
            }
            expectWinners(described.store, 1, 1);
            expectWinners(described.store, 20, 3);
            if (dim == 8) // which has fewer codes than tokens
              expectWinners(described.store, 300, 300);
            for (DataKind kind : kFinite)
              expectNumbers(described.store, kind);
          }
}

/// Every codec of narrow floats, by types and groups, and its name.
void forMinifloatCodecs(
    unsigned dim,
    llvm::function_ref<void(spec::Codec, const std::string &)> body) {
  using Format = spec::MinifloatCodec::Format;
  for (Format format : {Format::E4M3, Format::E5M2, Format::E2M1}) {
    body(spec::MinifloatCodec{format}, spec::name(format));
    for (ParameterType scale : {ParameterType::F32, ParameterType::F16,
                                ParameterType::E8M0, ParameterType::E4M3})
      for (unsigned group : {0u, 8u, 16u, 32u})
        if (group < dim && (!group || dim % group == 0) &&
            (scale != ParameterType::E4M3 || format == Format::E2M1))
          body(spec::MinifloatCodec{format, scale, group},
               spec::name(format) + std::string(" of ") + spec::name(scale) +
                   " by " + std::to_string(group));
  }
}

/// Every integer codec, by bits, types, zeros and groups, and its name, then
/// those.
void forSmallCodecs(
    unsigned dim,
    llvm::function_ref<void(spec::Codec, const std::string &)> body) {
  for (unsigned bits = 1; bits <= 8; ++bits)
    for (std::optional<ParameterType> zero :
         {std::optional<ParameterType>(), std::optional(ParameterType::F32),
          std::optional(ParameterType::F16)})
      for (ParameterType scale : {ParameterType::F32, ParameterType::F16})
        for (unsigned group : {0u, 8u, 16u, 32u})
          if ((bits > 1 || zero) && group < dim && (!group || dim % group == 0))
            body(spec::IntCodec{bits, scale, zero, group},
                 std::to_string(bits) + " bits of " + spec::name(scale) +
                     (zero ? std::string(" from ") + spec::name(*zero) : "") +
                     " by " + std::to_string(group));
  for (unsigned bits = 1; bits <= 8; ++bits)
    for (unsigned group : {0u, 16u})
      if (group < dim && (!group || dim % group == 0))
        body(spec::IntCodec{bits, ParameterType::F16, ParameterType::F16, group,
                            /*zeroBetweenCodes=*/true},
             std::to_string(bits) + " bits from between codes by " +
                 std::to_string(group));
  using Rounding = spec::IntCodec::Rounding;
  for (unsigned bits = 2; bits <= 8; ++bits)
    for (unsigned group : {0u, 16u})
      if (group < dim && (!group || dim % group == 0))
        body(spec::IntCodec{bits, ParameterType::F16, std::nullopt, group,
                            /*zeroBetweenCodes=*/false, /*extreme=*/true,
                            /*exact=*/true, Rounding::HalfUp},
             std::to_string(bits) + " bits to the extreme by " +
                 std::to_string(group));
  forMinifloatCodecs(dim, body);
}

/// A key of few bits wins as one of many does.
TEST(Data, HoldsForFewBits) {
  for (unsigned dim : {8u, 80u, 96u})
    forSmallCodecs(dim, [&](spec::Codec codec, const std::string &name) {
      for (std::optional<double> cap :
           {std::optional<double>(), std::optional<double>(1e6)}) {
        SCOPED_TRACE(name + " " + std::to_string(dim));
        Described described(specOf(DType::BF16, codec, dim, 0.125, cap));
        const auto *code = std::get_if<spec::IntCodec>(&codec);
        // The least of few codes has no negative.
        bool wins = !code || !code->extreme || code->bits == 8;
        if (wins)
          expectWinners(described.store, 20, 3);
        else
          expectNoWinner(described.store);
        for (DataKind kind : kFinite)
          if (wins || kind != DataKind::Addresses)
            expectNumbers(described.store, kind);
      }
    });
}

/// Orthogonal keys, of which channels beyond a power of two are 0, as well.
TEST(Data, FewBitsHoldUnderTheSoftcapsOfModels) {
  forSmallCodecs(80, [&](spec::Codec codec, const std::string &name) {
    SCOPED_TRACE(name);
    Described described(specOf(DType::BF16, codec, 80, 0.125, 50.));
    // Without a scale fp4 has no numbers so far apart, and the extreme of a
    // group no negative.
    const auto *four = std::get_if<spec::MinifloatCodec>(&codec);
    const auto *code = std::get_if<spec::IntCodec>(&codec);
    if ((code && code->extreme && code->bits < 8) ||
        (four && four->format == spec::MinifloatCodec::Format::E2M1 &&
         !four->scaleType))
      return expectNoWinner(described.store);
    expectWinners(described.store, 100, 20, 29);
  });
}

/// V of `kind` is what was given, to the bit.
void expectExact(const CompiledStore &store, DataKind kind) {
  Random random(5, uint64_t(kind));
  TestSequence sequence = makeSequence(store, kind, 33, 1, random);
  int64_t dim = store.cache().getDimV(), heads = store.kvHeads();
  std::vector<float> kept(dim);
  for (int64_t t = 0; t < sequence.length; ++t)
    for (int64_t head = 0; head < heads; ++head) {
      dequantize(store, sequence, kStreamV, head * sequence.length + t, kept);
      for (int64_t c = 0; c < dim; ++c)
        ASSERT_EQ(kept[c], sequence.v[(t * heads + head) * dim + c])
            << name(kind) << " token " << t << " channel " << c;
    }
}

TEST(Data, EveryCodecKeepsExactValues) {
  for (DType dtype : {DType::F32, DType::F16, DType::BF16})
    forSmallCodecs(64, [&](spec::Codec codec, const std::string &name) {
      SCOPED_TRACE(name + " in " + spec::name(dtype));
      spec::Spec spec = specOf(dtype, codec, 64, 0.125, std::nullopt);
      spec.stores[0].v.codec = codec;
      Described described(spec);
      expectExact(described.store, DataKind::Addresses);
      expectExact(described.store, DataKind::Mean);
    });
}

/// Addresses tell a row from its neighbours', and every element from nothing.
TEST(Data, AddressesDiffer) {
  forSmallCodecs(16, [&](spec::Codec codec, const std::string &name) {
    SCOPED_TRACE(name);
    spec::Spec spec = specOf(DType::BF16, codec, 16, 0.125, std::nullopt);
    spec.stores[0].v.codec = codec;
    Described described(spec);
    ExactValues exact(described.store);
    std::set<std::vector<float>> rows;
    for (int64_t token = 100; token < 120; ++token)
      for (int64_t head = 0; head < 2; ++head) {
        std::vector<float> row;
        for (int64_t c = 0; c < 16; ++c) {
          row.push_back(exact.address(head, token, c));
          ASSERT_TRUE(std::fabs(row.back()) >= 1 &&
                      std::fabs(row.back()) <= exact.addressRatio())
              << row.back();
        }
        rows.insert(row);
      }
    EXPECT_EQ(rows.size(), 40u);
  });
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
