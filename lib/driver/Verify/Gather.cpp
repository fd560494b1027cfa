//===- Gather.cpp - rows decoded from a batch image -----------------------===//
#include "lib/driver/Verify/Gather.h"
#include "lib/driver/Reference/Interpreter.h"
#include "lib/driver/Verify/FaultInjection.h"
#include "lib/driver/Verify/Launch.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace kvc;
using namespace kvc::verify;

namespace {

/// Rows of K or of V: what is expected, and what a call is given.
struct GatheredRows {
  RowLayout layout;
  Buffer expected, found;
  bool wanted = true;

  uint8_t *given() { return wanted ? found.data() : nullptr; }
};

class GatherCall {
public:
  GatherCall(const CompiledSpec &compiledSpec, BatchImage &image,
             Report &report)
      : compiledSpec(compiledSpec), image(image), store(image.store),
        dtype(store.problem.dtype), random(image.placement.salt, 3, 'L'),
        report(report) {}

  void run();

private:
  void drawSlots();
  void prepare(GatheredRows &rows, const reference::Tensor &decoded);
  kvc_status call();
  void compare(llvm::StringRef stream, const GatheredRows &rows);

  const CompiledSpec &compiledSpec;
  BatchImage &image;
  const CompiledStore &store;
  mlir::Type dtype;
  Random random;
  Report &report;
  std::vector<int64_t> slots;
  GatheredRows k, v;
};

} // namespace

void GatherCall::drawSlots() {
  for (auto [b, sequence] : llvm::enumerate(image.sequences))
    for (int64_t t = 0; t < sequence->length; ++t)
      slots.push_back(image.slot(b, t));
  random.shuffle(slots);
  size_t twice = std::min<size_t>(slots.size(), 2);
  slots.insert(slots.end(), slots.begin(), slots.begin() + twice);
  for (unsigned i = 0; i < 2; ++i)
    slots.push_back(-1 - int64_t(random.below(9)));
  random.shuffle(slots);
}

/// Bytes that nobody writes are the same in both buffers.
void GatherCall::prepare(GatheredRows &rows, const reference::Tensor &decoded) {
  int64_t heads = store.kvHeads(), dim = decoded.shape.back();
  rows.layout = RowLayout::draw(slots.size(), heads,
                                dim * dtype.getIntOrFloatBitWidth() / 8,
                                image.placement.scatter, random);
  rows.expected.resize(rows.layout.bytes() + 64);
  fill(rows.expected.data(), rows.expected.size(), dtype,
       image.placement.poison, random);
  rows.found = rows.expected;
  int64_t first = store.problem.firstHead;
  for (size_t row = 0; rows.wanted && row < slots.size(); ++row)
    for (int64_t head = first; slots[row] >= 0 && head < first + store.heads();
         ++head) {
      const double *from = &decoded.data[(row * heads + head) * dim];
      std::vector<float> values(from, from + dim);
      pack(dtype, values, rows.expected.data() + rows.layout.at(row, head));
    }
}

kvc_status GatherCall::call() {
  std::vector<int64_t> given = slots;
  injectBeforeGather(compiledSpec.fault, image, given);
  llvm::SmallVector<kvc_plane, 4> planes = planesOf(image.cache.planes);
  kvc_gather_args args = {};
  args.size = sizeof(args);
  args.rows = given.size();
  args.k = k.given();
  args.k_row_stride = k.layout.rowStride;
  args.k_head_stride = k.layout.givenHeadStride();
  args.v = v.given();
  args.v_row_stride = v.layout.rowStride;
  args.v_head_stride = v.layout.givenHeadStride();
  args.slot = given.data();
  args.slot_tokens = image.cache.outerTokens;
  args.page_count = image.cache.outers;
  args.planes = planes.data();
  args.plane_count = planes.size();
  Lent lent(compiledSpec.emulators[image.placement.device]);
  lent.write(k.found.data(), k.found.size());
  lent.write(v.found.data(), v.found.size());
  lent.read(given.data(), given.size() * 8);
  lent.read(image.arena.data(), image.arena.size());
  return kvc_gather(compiledSpec.programs[image.placement.device], store.index,
                    &args);
}

void GatherCall::compare(llvm::StringRef stream, const GatheredRows &rows) {
  // A NaN is one whatever its bits; they are told apart first, since most rows
  // have none.
  if (!std::memcmp(rows.expected.data(), rows.found.data(), rows.found.size()))
    return;
  std::vector<uint8_t> found(rows.found.data(),
                             rows.found.data() + rows.found.size());
  int64_t width = dtype.getIntOrFloatBitWidth() / 8;
  for (size_t row = 0; row < slots.size(); ++row)
    for (int64_t head = 0; head < store.kvHeads(); ++head)
      for (int64_t byte = 0; byte < rows.layout.headBytes; byte += width) {
        int64_t at = rows.layout.at(row, head) + byte;
        float want = element(dtype, rows.expected.data() + at, 0);
        float got = element(dtype, &found[at], 0);
        if (std::isnan(want) && std::isnan(got))
          std::memcpy(&found[at], rows.expected.data() + at, width);
        else if (std::memcmp(rows.expected.data() + at, &found[at], width))
          return report.fail(
              "N15",
              llvm::formatv("store `{0}`, {1} row {2} at slot {3}, kv head "
                            "{4}, element {5}: expected {6}, found {7}",
                            store.spec->name, stream, row, slots[row], head,
                            byte / width, number(want), number(got)));
      }
  if (std::memcmp(rows.expected.data(), found.data(), found.size()))
    report.fail("N15", llvm::formatv("store `{0}`: gather wrote beside its "
                                     "rows of {1}",
                                     store.spec->name, stream));
}

void GatherCall::run() {
  drawSlots();
  auto decoded = reference::gather(store.problem.firstHead, store.kvHeads(),
                                   slots, image.cache);
  if (!decoded)
    return report.fail("setup", llvm::toString(decoded.takeError()));
  unsigned one = random.below(4); // 0, 1: both are wanted
  k.wanted = one != 2, v.wanted = one != 3;
  prepare(k, decoded->k);
  prepare(v, decoded->v);
  Buffer before = image.arena;
  kvc_status status = call();
  if (status.code != KVC_OK)
    return report.fail(ruleOf(status),
                       std::string("kvc_gather: ") + kvc_error_text());
  injectAfterGather(compiledSpec.fault, k.found, k.layout);
  compare(kStreamK, k);
  compare(kStreamV, v);
  if (std::memcmp(before.data(), image.arena.data(), before.size()))
    report.fail("N15", "gather of store `" + store.spec->name +
                           "` wrote into the cache");
}

void verify::checkGather(const CompiledSpec &compiledSpec, BatchImage &image,
                         Report &report) {
  GatherCall(compiledSpec, image, report).run();
}
