//===- Kernel.cpp - what every CPU kernel starts from ---------------------===//
#include "codegen/cpu/Kernel.h"

#include "lib/base/Artifact/KernelAbi.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

ChannelPlan::ChannelPlan(Type code, int64_t dim, int64_t lanes) : code(code) {
  int64_t preferred = CodeConversion{code, lanes}.preferredChannels();
  int64_t first = 0;
  auto take = [&](int64_t channels, int64_t width) {
    for (; dim - first >= channels; first += channels)
      blocks.push_back({first, channels, width});
  };
  take(preferred, lanes);
  main = blocks.size();
  take(lanes, lanes);
  take(8, 8); // dims are multiples of 8
}

SmallVector<int64_t> ChannelPlan::order(const ChannelBlock &block) const {
  return CodeConversion{code, block.lanes}.channelOrder(block.channels);
}

void ChannelPlan::forBlocks(
    Kit &kit,
    llvm::function_ref<void(const ChannelBlock &, Value)> body) const {
  const ChannelBlock &first = blocks.front();
  kit.loop(0, main * first.channels, first.channels,
           [&](Value channel) { body(first, channel); });
  for (const ChannelBlock &block : ArrayRef(blocks).drop_front(main))
    body(block, kit.i64(block.first));
}

SmallVector<Value> ChannelPlan::convert(Kit &kit, const ChannelBlock &block,
                                        Value row, Value channel) const {
  int64_t bytes = code.getIntOrFloatBitWidth() / 8;
  Value from = kit.at(row, kit.mul(channel, bytes));
  auto load = [&](int64_t byte, VectorType type) {
    return kit.load(type, kit.at(from, byte));
  };
  return CodeConversion{code, block.lanes}.emit(kit.b, kit.loc, load,
                                                block.channels);
}

Value ChannelPlan::convertInOrder(Kit &kit, const ChannelBlock &block,
                                  Value row, Value channel) const {
  Value x = kit.concat(convert(kit, block, row, channel));
  SmallVector<int64_t> elements = order(block), back(elements.size());
  for (auto [element, c] : llvm::enumerate(elements))
    back[c] = element;
  return kit.shuffle(x, x, back);
}

int64_t ChannelPlan::unroll() const {
  // About 128 channels: enough to hide the loop, small enough to compile fast.
  int64_t limit = 128 / blocks.front().channels;
  for (int64_t n = std::min(limit, main); n > 1; --n)
    if (main % n == 0)
      return n;
  return 1;
}

Value Kernel::partialRow(Value splitIdx, Value query, Value qHead) {
  Value first = kit.loadI64(workTile, offsetof(KvcWorkTile, split_row));
  Value queries = workTileField(offsetof(KvcWorkTile, split_queries));
  Value row = kit.add(kit.mul(splitIdx, queries), query);
  return kit.add(kit.add(first, kit.mul(row, cache.getHeads() * group())),
                 qHead);
}

Value Kernel::argPtr(Word what, StringRef of) {
  return kit.loadPtr(args, params.offsetOf(what, of));
}
Value Kernel::argI64(Word what, StringRef of) {
  return kit.loadI64(args, params.offsetOf(what, of));
}

Value Kernel::rowHead(const artifact::RowWords &words, Value row, Value head) {
  Value at = kit.at(argPtr(words.base), kit.mul(row, argI64(words.rowStride)));
  return kit.at(at, kit.mul(head, argI64(words.headStride)));
}

Value Kernel::planeBase(unsigned plane) {
  return argPtr(Word::PlaneBase, cache.planes()[plane].name());
}
Value Kernel::planePageStride(unsigned plane) {
  return argI64(Word::PlanePageStride, cache.planes()[plane].name());
}
Value Kernel::planeHeadStride(unsigned plane) {
  return argI64(Word::PlaneHeadStride, cache.planes()[plane].name());
}
