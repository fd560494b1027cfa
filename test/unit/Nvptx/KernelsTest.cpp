//===- KernelsTest.cpp - append and merge, emulated -----------------------===//
//
// Each kernel is compiled as for a GPU, runs in the emulator and is compared
// with plain code: append with the interpreter bit for bit, merge with formulas
// in f64.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Nvptx/KernelFixture.h"

#include "lib/driver/Reference/Host.h"
#include "lib/driver/Reference/Interpreter.h"

#include "llvm/Support/FormatVariadic.h"

#include <bit>
#include <cmath>

using namespace kvc;
using namespace kvc::nvptx;
using artifact::Word;

namespace {

constexpr float kInf = INFINITY;

//===----------------------------------------------------------------------===//
// Append
//===----------------------------------------------------------------------===//

/// Elements of all kinds, and rows of one kind.
float someElement(Random &random, int rowKind) {
  switch (rowKind == 0 ? random.pick(1, 14) : rowKind) {
  case 1:
    return 0;
  case 2:
    return -0.0f;
  case 3:
    return NAN;
  case 4:
    return random.pick(0, 1) ? kInf : -kInf;
  case 5: // subnormal
    return std::bit_cast<float>(uint32_t(random.pick(1, 0x7fffff)));
  case 6: // scales near the smallest normal
    return float(random.pick(-127, 127)) * 0x1p-126f;
  case 7:
    return float(random.pick(-127, 127)) * 0x1p120f;
  case 8: // ties
    return float(random.pick(-254, 254)) * 0.5f;
  default:
    return random.real(-4, 4);
  }
}

/// k or v of a batch, as the model stores them and widened.
struct ModelRows {
  AlignedBytes bytes;
  int64_t stride = 0;
  std::vector<float> wide;
  reference::Rows view;

  ModelRows(Random &random, spec::DType dtype, int64_t rows, int64_t heads,
            int64_t dim) {
    int64_t element = spec::bytes(dtype);
    stride = heads * dim * element + 16 * random.pick(0, 2);
    bytes = AlignedBytes(rows * stride, 0xaa);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t head = 0; head < heads; ++head) {
        int kind = random.pick(0, 9);
        for (int64_t i = 0; i < dim; ++i) {
          uint8_t *at =
              bytes.data() + row * stride + (head * dim + i) * element;
          wide.push_back(storeRounded(at, dtype, someElement(random, kind)));
        }
      }
    view = {wide, rows, heads, dim};
  }
};

std::vector<int64_t> someSlots(Random &random, int64_t rows, int64_t tokens) {
  std::vector<int64_t> all(tokens);
  for (int64_t i = 0; i < tokens; ++i)
    all[i] = i;
  std::shuffle(all.begin(), all.end(), random.engine);
  std::vector<int64_t> slots;
  for (int64_t row = 0; row < rows; ++row)
    if (random.pick(0, 4))
      slots.push_back(all[row]);
    else
      slots.push_back(random.pick(0, 1) ? -1 : INT64_MIN + row);
  return slots;
}

/// One batch of rows, by the kernel and by the interpreter.
void checkAppend(Random &random, const spec::Spec &spec, Compiled &compiled) {
  const spec::Store &store = spec.stores[0];
  CacheType type = compiled.cacheType();
  int64_t capacity = store.layout.paged ? store.layout.page : 24;
  int64_t outers = random.pick(1, 4), rows = random.pick(0, 9);
  rows = std::min(rows, outers * capacity);
  ModelRows k(random, spec.model.dtype, rows, spec.model.kvHeads, store.k.dim);
  ModelRows v(random, spec.model.dtype, rows, spec.model.kvHeads, store.v.dim);
  std::vector<int64_t> slots = someSlots(random, rows, outers * capacity);

  reference::HostArena expected(type, outers, capacity, 0x5a);
  reference::HostArena actual(type, outers, capacity, 0x5a);
  ASSERT_FALSE(bool(reference::append(store.scope.headBegin, k.view, v.view,
                                      slots, expected.cache())));
  KernelWords words;
  words.set(Word::K, k.bytes.data()), words.set(Word::KRowStride, k.stride);
  words.set(Word::KHeadStride, store.k.dim * spec::bytes(spec.model.dtype));
  words.set(Word::V, v.bytes.data()), words.set(Word::VRowStride, v.stride);
  words.set(Word::VHeadStride, store.v.dim * spec::bytes(spec.model.dtype));
  words.set(Word::Slot, slots.data());
  words.set(Word::SlotTokens, capacity);
  words.setPlanes(actual.cache());
  words.set(Word::Rows, rows);
  Memory memory;
  memory.reads(k.bytes.bytes()), memory.reads(v.bytes.bytes());
  memory.reads(slots), memory.writes(actual.bytes());
  // Some CTAs have nothing to do.
  int64_t warps = rows * type.getHeads() + random.pick(0, 9);
  ASSERT_NO_FATAL_FAILURE(
      compiled.run("s.append", words, (warps + 3) / 4, memory));
  ASSERT_EQ(llvm::ArrayRef<uint8_t>(expected.bytes()),
            llvm::ArrayRef<uint8_t>(actual.bytes()));
}

TEST(GpuAppend, WritesTheInterpretersBytes) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    spec::Spec spec = randomSpec(random);
    Compiled compiled(spec, {}, Attends::Dropped);
    for (int batch = 0; batch < 4; ++batch)
      ASSERT_NO_FATAL_FAILURE(checkAppend(random, spec, compiled));
  }
}

//===----------------------------------------------------------------------===//
// Merge
//===----------------------------------------------------------------------===//

struct Partials {
  std::vector<int32_t> cu = {0};
  std::vector<int64_t> splitRow;
  std::vector<float> lse;
  AlignedBytes bytes;
  float *o = nullptr;
  int64_t count = 0, heads = 0, dim = 0;

  Partials(Random &random, int64_t heads, int64_t dim)
      : count(random.pick(1, 21)), heads(heads), dim(dim) {
    int64_t rows = 0;
    for (int b = random.pick(0, 5); b > 0; --b) {
      int32_t n = random.pick(0, 2) ? random.pick(0, 3) : 0;
      cu.push_back(cu.back() + n);
      rows += random.pick(0, 2); // and unused ones between
      splitRow.push_back(rows);
      rows += count * n * heads;
    }
    bytes = AlignedBytes(rows * dim * 4, 0xff);
    o = reinterpret_cast<float *>(bytes.data());
    int emptiness = random.pick(0, 3);
    float range = random.pick(0, 1) ? 30 : 1000;
    for (int64_t row = 0; row < rows; ++row) {
      bool empty = emptiness == 3 || random.pick(0, 3) < emptiness;
      lse.push_back(empty ? -kInf : random.real(-range, range));
      // What a split that saw nothing says of o does not matter.
      if (!empty || random.pick(0, 1))
        for (int64_t i = 0; i < dim; ++i)
          o[row * dim + i] = empty ? 0 : random.real(-2, 2);
    }
  }
  int64_t index(int64_t b, int64_t splitIdx, int64_t query,
                int64_t head) const {
    int64_t n = cu[b + 1] - cu[b];
    return splitRow[b] + (splitIdx * n + query) * heads + head;
  }
};

/// A combined row in f64.
struct Combined {
  double lse = -INFINITY;
  std::vector<double> o;
};

Combined combine(const Partials &partials, int64_t b, int64_t query,
                 int64_t head) {
  Combined combined;
  combined.o.resize(partials.dim);
  double largest = -INFINITY, total = 0;
  for (int64_t p = 0; p < partials.count; ++p)
    largest = std::max<double>(largest,
                               partials.lse[partials.index(b, p, query, head)]);
  if (largest == -INFINITY)
    return combined;
  for (int64_t p = 0; p < partials.count; ++p) {
    int64_t row = partials.index(b, p, query, head);
    double weight = std::exp(partials.lse[row] - largest);
    if (weight == 0)
      continue;
    total += weight;
    for (int64_t i = 0; i < partials.dim; ++i)
      combined.o[i] += weight * partials.o[row * partials.dim + i];
  }
  for (double &x : combined.o)
    x /= total;
  combined.lse = largest + std::log(total);
  return combined;
}

void checkMerge(Random &random, const spec::Spec &spec, Compiled &compiled) {
  const spec::Store &store = spec.stores[0];
  int64_t group = spec.model.group(), heads = spec.model.qHeads;
  int64_t first = store.scope.headBegin * group;
  int64_t own = (store.scope.headEnd - store.scope.headBegin) * group;
  int64_t dim = store.v.dim, element = spec::bytes(spec.model.dtype);
  Partials partials(random, own, dim);
  int64_t rows = partials.cu.back();
  int64_t stride = heads * dim * element + 16 * random.pick(0, 1);
  AlignedBytes storage(rows * stride, 0x5a);
  uint8_t *out = storage.data();
  bool wantLse = random.pick(0, 2);
  std::vector<float> lse(rows * heads + 1, 12345);

  int64_t batch = int64_t(partials.splitRow.size());
  KernelWords words;
  words.set(Word::Out, out), words.set(Word::OutRowStride, stride);
  words.set(Word::Lse, wantLse ? lse.data() : nullptr);
  words.set(Word::LseRowStride, heads * 4);
  words.set(Word::OutHeadStride, dim * element);
  words.set(Word::LseHeadStride, 4);
  words.set(Word::CuQ, partials.cu.data());
  words.set(Word::SplitRow, partials.splitRow.data());
  words.set(Word::PartialO, partials.o);
  words.set(Word::PartialLse, partials.lse.data());
  words.set(Word::Batch, batch);
  words.set(Word::NumSplits, partials.count);
  Memory memory;
  memory.reads(partials.cu), memory.reads(partials.splitRow);
  memory.reads(partials.lse), memory.reads(partials.bytes.bytes());
  memory.writes(storage.bytes()), memory.writes(lse);
  int64_t warps = rows * own + random.pick(0, 9);
  ASSERT_NO_FATAL_FAILURE(
      compiled.run("s.merge", words, (warps + 3) / 4, memory));

  std::vector<uint8_t> untouched(dim * element, 0x5a);
  double unit = spec.model.dtype == spec::DType::F32   ? 0x1p-24
                : spec.model.dtype == spec::DType::F16 ? 0x1p-11
                                                       : 0x1p-8;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t row = partials.cu[b]; row < partials.cu[b + 1]; ++row)
      for (int64_t head = 0; head < heads; ++head) {
        SCOPED_TRACE(llvm::formatv("row {0} head {1}", row, head).str());
        const uint8_t *at = out + row * stride + head * dim * element;
        float gotLse = lse[row * heads + head];
        if (head < first || head >= first + own) {
          ASSERT_EQ(std::vector<uint8_t>(at, at + dim * element), untouched);
          ASSERT_EQ(gotLse, 12345);
          continue;
        }
        Combined combined =
            combine(partials, b, row - partials.cu[b], head - first);
        if (!wantLse)
          ASSERT_EQ(gotLse, 12345);
        else if (combined.lse == -INFINITY)
          ASSERT_EQ(gotLse, -kInf);
        else
          ASSERT_NEAR(gotLse, combined.lse,
                      4e-6 + 2e-7 * std::fabs(combined.lse));
        for (int64_t i = 0; i < dim; ++i) {
          float got = loadWide(at + i * element, spec.model.dtype);
          ASSERT_NEAR(got, combined.o[i],
                      unit * std::fabs(combined.o[i]) + 4e-6)
              << "channel " << i;
        }
      }
}

TEST(GpuMerge, CombinesSplitsByLogSumExp) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    spec::Spec spec = randomSpec(random);
    Compiled compiled(spec, {}, Attends::Dropped);
    for (int batch = 0; batch < 4; ++batch)
      ASSERT_NO_FATAL_FAILURE(checkMerge(random, spec, compiled));
  }
}

//===----------------------------------------------------------------------===//
// Refusals
//===----------------------------------------------------------------------===//

/// Lowers the kernels of a store after `change`; returns the error.
std::string refusal(llvm::function_ref<void(tile::KernelOp)> change) {
  Random random(0);
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  SmTarget sm = *findSmTarget("sm_90");
  auto module = planned(context, randomSpec(random), {}, sm);
  for (auto op : llvm::make_early_inc_range(module->getOps<tile::KernelOp>()))
    change(op);
  std::string error;
  mlir::ScopedDiagnosticHandler handler(
      &context, [&](mlir::Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
          error = diagnostic.str();
      });
  LaunchInfos launches;
  EXPECT_TRUE(failed(lowerTileToGpu(*module, sm, launches)));
  return error;
}

TEST(GpuKernels, RefuseBodiesThatTheyDoNotKnow) {
  auto insert = [](llvm::StringRef kind) {
    return refusal([&](tile::KernelOp op) {
      if (op.getKind() != kind)
        return;
      mlir::OpBuilder b = mlir::OpBuilder::atBlockBegin(&op.getBody().front());
      tile::LoadQueryOp::create(
          b, op.getLoc(), mlir::RankedTensorType::get({8, 8}, b.getF32Type()),
          b.getF64FloatAttr(1));
    });
  };
  EXPECT_EQ(insert("append"),
            "`tile.load_query` has no part in what the append kernel stores");
  EXPECT_EQ(insert("merge"),
            "`tile.load_query` has no part in what the merge kernel stores");
}

TEST(GpuKernels, RefuseMoreAttendKernelsThanAPlanHasRoomFor) {
  std::string error = refusal([](tile::KernelOp op) {
    if (op.getKind() != "attend")
      return;
    mlir::OpBuilder b(op);
    for (int i = 0; i < 8; ++i)
      cast<tile::KernelOp>(b.clone(*op))
          .setSymName((op.getSymName() + std::to_string(i)).str());
  });
  EXPECT_EQ(error, "the GPU target plans at most 16 attend kernels of a store, "
                   "found 18");
}

//===----------------------------------------------------------------------===//
// All kernels
//===----------------------------------------------------------------------===//

TEST(GpuKernels, AssembleForEveryArchitectureWithoutSpills) {
  if (assemblerName().empty())
    GTEST_SKIP() << "no assembler for PTX on this machine";
  for (const SmTarget &sm : smTargets())
    for (uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE(sm.name + " " + std::to_string(seed));
      Random random(seed);
      Compiled compiled(randomSpec(random), {}, Attends::Planned, sm);
      compiled.expectAssembles({"s.append", "s.merge", "s.plan"});
    }
}

} // namespace
