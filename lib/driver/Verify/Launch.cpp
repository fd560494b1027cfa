//===- Launch.cpp - a batch image run through the runtime -----------------===//
#include "lib/driver/Verify/Launch.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/driver/Verify/ConstantArrays.h"
#include "lib/driver/Verify/FaultInjection.h"

#include "llvm/ADT/SmallVectorExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace kvc;
using namespace kvc::verify;

float verify::element(mlir::Type type, const uint8_t *bits, size_t at) {
  if (type.isF32()) {
    float x;
    std::memcpy(&x, bits + 4 * at, 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, bits + 2 * at, 2);
  return type.isF16() ? fromF16(half) : fromBF16(half);
}

std::string verify::number(double x) {
  if (std::isnan(x)) // whatever its sign
    return "NaN";
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.9g", x);
  return text;
}

const char *verify::ruleOf(const kvc_status &status) {
  return status.code == KVC_DEVICE_ERROR ? "SIM" : "setup";
}

static int64_t width(mlir::Type type) {
  return type.getIntOrFloatBitWidth() / 8;
}

llvm::SmallVector<kvc_plane, 4>
verify::planesOf(llvm::ArrayRef<reference::HostPlane> planes) {
  return llvm::map_to_vector<4>(planes, [](const reference::HostPlane &plane) {
    return kvc_plane{plane.base, plane.pageStride, plane.headStride};
  });
}

namespace {

/// One kvc_attend: its memory, all of it poisoned where the kernel has no data.
class AttendCall {
public:
  AttendCall(const CompiledSpec &compiledSpec, BatchImage &image)
      : compiledSpec(compiledSpec), image(image), store(image.store),
        dtype(store.problem.dtype), random(image.placement.salt, 1, 'L'),
        dimK(store.cache().getDimK()), dimV(store.cache().getDimV()) {}

  std::optional<Output> run(Report &report);

private:
  void prepare();
  kvc_status call(AttendMemory &memory);
  /// Whether bytes beside the rows of this store are as they were.
  bool untouched(Buffer before, const Buffer &after, const RowLayout &layout);
  Output collect() const;

  const CompiledSpec &compiledSpec;
  BatchImage &image;
  const CompiledStore &store;
  mlir::Type dtype;
  Random random;
  const int64_t dimK, dimV;
  Buffer q, out, lse, workspace;
  RowLayout qLayout, outLayout, lseLayout;
  size_t workspaceBytes = 0;
  int32_t longest = 1; ///< of the sequences, not below 1: a GPU needs a bound
};

void AttendCall::prepare() {
  int64_t heads = store.problem.qHeads;
  auto draw = [&](int64_t headBytes) {
    return RowLayout::draw(image.rows(), heads, headBytes,
                           image.placement.scatter, random);
  };
  qLayout = draw(dimK * width(dtype));
  outLayout = draw(dimV * width(dtype));
  lseLayout = draw(4);
  mlir::Type f32 = mlir::Float32Type::get(dtype.getContext());
  auto poison = [&](Buffer &buffer, size_t bytes, mlir::Type type) {
    buffer.resize(bytes); // all have room, so that none is null
    fill(buffer.data(), bytes, type, image.placement.poison, random);
  };
  poison(q, qLayout.bytes() + 64, dtype);
  poison(out, outLayout.bytes() + 64, dtype);
  poison(lse, lseLayout.bytes() + 64, f32);
  poison(workspace, workspaceBytes + 64, f32);
  int64_t row = 0, first = store.firstQuery();
  for (const TestSequence *sequence : image.sequences)
    for (int64_t i = 0; i < sequence->queries; ++i, ++row)
      for (int64_t head = first; head < first + store.queryHeads(); ++head)
        pack(dtype, {&sequence->q[(i * heads + head) * dimK], size_t(dimK)},
             q.data() + qLayout.at(row, head));
}

kvc_status AttendCall::call(AttendMemory &memory) {
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = image.sequences.size();
  args.q = q.data();
  args.q_row_stride = qLayout.rowStride;
  args.q_head_stride = qLayout.givenHeadStride();
  args.out = out.data();
  args.out_row_stride = outLayout.rowStride;
  args.out_head_stride = outLayout.givenHeadStride();
  args.lse =
      image.placement.lse ? reinterpret_cast<float *>(lse.data()) : nullptr;
  args.lse_row_stride = lseLayout.rowStride;
  args.lse_head_stride = lseLayout.givenHeadStride();
  args.cu_q = image.cuQ.data();
  args.kv_len = memory.kvLen.data();
  args.table = memory.table.data();
  args.table_stride = image.tableStride;
  args.page_count = random.percent(50) ? image.cache.outers : 0;
  args.slot_tokens = image.cache.outerTokens;
  args.workspace = workspace.data();
  args.workspace_bytes = workspaceBytes;
  llvm::SmallVector<kvc_plane, 4> planes = planesOf(memory.planes);
  args.planes = planes.data();
  args.plane_count = planes.size();
  ConstantArrays constants(store, image.sequences.size());
  std::vector<int64_t> constantRows = image.constantRows;
  if (compiledSpec.fault == Fault::WrongConstants)
    for (int64_t &row : constantRows)
      row = (row + 1) % kConstantRows;
  constants.setRows(constantRows);
  args.constants = constants.pointers().data();
  args.constant_count = constants.pointers().size();
  args.rows = image.rows();
  for (const TestSequence *sequence : image.sequences)
    args.max_queries = std::max(args.max_queries, uint32_t(sequence->queries));
  args.max_kv_len = longest;
  Lent lent(compiledSpec.emulators[image.placement.device]);
  lent.read(q.data(), q.size());
  lent.read(image.cuQ.data(), image.cuQ.size() * 4);
  lent.read(memory.kvLen.data(), memory.kvLen.size() * 4);
  lent.read(memory.table.data(), memory.table.size() * 4);
  lent.read(image.arena.data(), image.arena.size());
  constants.lend(lent);
  lent.write(out.data(), out.size());
  if (args.lse)
    lent.write(lse.data(), lse.size());
  lent.write(workspace.data(), workspaceBytes);
  return kvc_attend(compiledSpec.programs[image.placement.device], store.index,
                    &args);
}

bool AttendCall::untouched(Buffer before, const Buffer &after,
                           const RowLayout &layout) {
  int64_t first = store.firstQuery();
  for (int64_t row = 0; row < image.rows(); ++row)
    for (int64_t head = first; head < first + store.queryHeads(); ++head)
      std::memcpy(before.data() + layout.at(row, head),
                  after.data() + layout.at(row, head), layout.headBytes);
  return !std::memcmp(before.data(), after.data(), before.size());
}

Output AttendCall::collect() const {
  Output output;
  int64_t heads = store.queryHeads(), row = 0;
  int64_t headBytes = dimV * width(dtype), first = store.firstQuery();
  for (const TestSequence *sequence : image.sequences) {
    SequenceOutput &to = output.emplace_back();
    to.o.resize(sequence->queries * heads * headBytes);
    if (image.placement.lse)
      to.lse.resize(sequence->queries * heads);
    for (int64_t i = 0; i < sequence->queries; ++i, ++row)
      for (int64_t head = 0; head < heads; ++head) {
        std::memcpy(&to.o[(i * heads + head) * headBytes],
                    out.data() + outLayout.at(row, first + head), headBytes);
        if (image.placement.lse)
          std::memcpy(&to.lse[i * heads + head],
                      lse.data() + lseLayout.at(row, first + head), 4);
      }
  }
  return output;
}

std::optional<Output> AttendCall::run(Report &report) {
  for (int32_t length : image.kvLen)
    longest = std::max(longest, length);
  kvc_status status = kvc_attend_workspace(
      compiledSpec.programs[image.placement.device], store.index,
      image.sequences.size(), image.rows(), longest, &workspaceBytes);
  if (status.code != KVC_OK)
    return report.fail("setup", std::string("kvc_attend_workspace: ") +
                                    kvc_error_text()),
           std::nullopt;
  prepare();
  Buffer outBefore = out, lseBefore = lse, arenaBefore = image.arena;
  AttendMemory memory{image,     image.kvLen, image.table, image.cache.planes,
                      q,         out,         lse,         qLayout,
                      outLayout, lseLayout};
  injectBeforeAttend(compiledSpec.fault, memory);
  // A GPU is told how many rows there are, and refuses a call without any.
  if (image.rows() || !compiledSpec.emulators[0])
    status = call(memory);
  if (status.code != KVC_OK)
    return report.fail(ruleOf(status),
                       std::string("kvc_attend: ") + kvc_error_text()),
           std::nullopt;
  injectAfterAttend(compiledSpec.fault, memory);
  if (!untouched(outBefore, out, outLayout))
    report.fail("N8", "attend of store `" + store.spec->name +
                          "` wrote outside of its rows of out");
  if (image.placement.lse
          ? !untouched(lseBefore, lse, lseLayout)
          : std::memcmp(lseBefore.data(), lse.data(), lse.size()))
    report.fail("N8", "attend of store `" + store.spec->name +
                          "` wrote outside of its rows of lse");
  if (std::memcmp(arenaBefore.data(), image.arena.data(), image.arena.size()))
    report.fail("N8", "attend of store `" + store.spec->name +
                          "` wrote into the cache");
  return collect();
}

} // namespace

std::optional<Output> verify::attend(const CompiledSpec &compiledSpec,
                                     BatchImage &image, Report &report) {
  return AttendCall(compiledSpec, image).run(report);
}

namespace {

/// Rows on their way into a batch image.
class AppendCall {
public:
  AppendCall(const CompiledSpec &compiledSpec, BatchImage &image)
      : compiledSpec(compiledSpec), image(image), store(image.store),
        dtype(store.problem.dtype), random(image.placement.salt, 2, 'L'),
        elementsK(store.kvHeads() * store.cache().getDimK()),
        elementsV(store.kvHeads() * store.cache().getDimV()) {}

  bool run(Report &report);

private:
  struct Row {
    const float *k, *v;
    int64_t slot;
  };
  kvc_status call(llvm::ArrayRef<Row> rows);

  const CompiledSpec &compiledSpec;
  BatchImage &image;
  const CompiledStore &store;
  mlir::Type dtype;
  Random random;
  const int64_t elementsK, elementsV; ///< of a row
};

kvc_status AppendCall::call(llvm::ArrayRef<Row> rows) {
  Buffer k, v;
  int64_t heads = store.kvHeads(), dimK = elementsK / heads,
          dimV = elementsV / heads;
  RowLayout kLayout = RowLayout::draw(rows.size(), heads, dimK * width(dtype),
                                      /*scatter=*/true, random);
  RowLayout vLayout = RowLayout::draw(rows.size(), heads, dimV * width(dtype),
                                      /*scatter=*/true, random);
  k.resize(kLayout.bytes() + 64);
  v.resize(vLayout.bytes() + 64);
  fill(k.data(), k.size(), dtype, image.placement.poison, random);
  fill(v.data(), v.size(), dtype, image.placement.poison, random);
  std::vector<int64_t> slots;
  for (auto [i, row] : llvm::enumerate(rows)) {
    for (int64_t head = 0; head < heads; ++head) {
      pack(dtype, {row.k + head * dimK, size_t(dimK)},
           k.data() + kLayout.at(i, head));
      pack(dtype, {row.v + head * dimV, size_t(dimV)},
           v.data() + vLayout.at(i, head));
    }
    slots.push_back(row.slot);
  }
  injectBeforeAppend(compiledSpec.fault, slots);
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = rows.size();
  args.k = k.data();
  args.k_row_stride = kLayout.rowStride;
  args.k_head_stride = kLayout.givenHeadStride();
  args.v = store.cache().isVOfK() ? nullptr : v.data();
  args.v_row_stride = vLayout.rowStride;
  args.v_head_stride = vLayout.givenHeadStride();
  args.slot = slots.data();
  args.slot_tokens = image.cache.outerTokens;
  args.page_count = image.cache.outers;
  llvm::SmallVector<kvc_plane, 4> planes = planesOf(image.cache.planes);
  args.planes = planes.data();
  args.plane_count = planes.size();
  Lent lent(compiledSpec.emulators[image.placement.device]);
  lent.read(k.data(), k.size());
  lent.read(v.data(), v.size());
  lent.read(slots.data(), slots.size() * 8);
  lent.write(image.arena.data(), image.arena.size());
  return kvc_append(compiledSpec.programs[image.placement.device], store.index,
                    &args);
}

bool AppendCall::run(Report &report) {
  std::vector<Row> rows;
  for (auto [b, sequence] : llvm::enumerate(image.sequences))
    for (int64_t t = 0; t < sequence->length; ++t)
      rows.push_back({&sequence->k[t * elementsK], &sequence->v[t * elementsV],
                      image.slot(b, t)});
  // Skipped rows hold what no other row does, so that one that is written after
  // all changes a byte wherever it goes.
  std::vector<float> skippedK(elementsK, 3), skippedV(elementsV, 3);
  if (!rows.empty())
    for (unsigned i = 0; i < 2; ++i)
      rows.push_back(
          {skippedK.data(), skippedV.data(), -1 - int64_t(random.below(9))});
  random.shuffle(rows);
  llvm::ArrayRef<Row> all(rows);
  size_t cut = rows.empty() ? 0 : random.below(rows.size());
  for (llvm::ArrayRef<Row> part : {all.take_front(cut), all.drop_front(cut)}) {
    kvc_status status = call(part);
    if (status.code == KVC_OK)
      continue;
    report.fail(ruleOf(status), std::string("kvc_append: ") + kvc_error_text());
    return false;
  }
  injectAfterAppend(compiledSpec.fault, image);
  return true;
}

} // namespace

bool verify::append(const CompiledSpec &compiledSpec, BatchImage &image,
                    Report &report) {
  return AppendCall(compiledSpec, image).run(report);
}

bool verify::sameBits(const CompiledStore &store,
                      const SequenceOutput &expected,
                      const SequenceOutput &found, const std::string &rule,
                      const std::string &context, Report &report) {
  int64_t dimV = store.cache().getDimV(), heads = store.queryHeads();
  mlir::Type dtype = store.problem.dtype;
  if (expected.o != found.o) {
    size_t at = 0;
    for (int64_t bytes = width(dtype);
         !std::memcmp(&expected.o[at * bytes], &found.o[at * bytes], bytes);)
      ++at;
    report.fail(
        rule, llvm::formatv("store `{0}`, {1}: query {2}, q head {3}, o[{4}]: "
                            "expected {5}, found {6}",
                            store.spec->name, context, at / dimV / heads,
                            at / dimV % heads + store.firstQuery(), at % dimV,
                            number(element(dtype, expected.o.data(), at)),
                            number(element(dtype, found.o.data(), at))));
    return false;
  }
  for (size_t at = 0; at < expected.lse.size() && at < found.lse.size(); ++at)
    if (std::memcmp(&expected.lse[at], &found.lse[at], 4)) {
      report.fail(
          rule, llvm::formatv("store `{0}`, {1}: query {2}, q head {3}, lse: "
                              "expected {4}, found {5}",
                              store.spec->name, context, at / heads,
                              at % heads + store.firstQuery(),
                              number(expected.lse[at]), number(found.lse[at])));
      return false;
    }
  return true;
}
