//===- Kernel.cpp - what every CPU kernel starts from ---------------------===//
#include "codegen/cpu/Kernel.h"

#include "codegen/cpu/RowDecoder.h"
#include "lib/base/Artifact/KernelAbi.h"

#include "llvm/ADT/SetVector.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

/// Adds the planes that element-wise ops make `x` of.
static void collectPlanes(Value x, CacheType cache,
                          llvm::SmallSetVector<unsigned, 4> &planes) {
  Operation *op = x.getDefiningOp();
  if (auto load = dyn_cast<tile::LoadOp>(op)) {
    planes.insert(cache.planeIndex(load.getStream()) + *load.planeOf(x));
    return;
  }
  for (Value operand : op->getOperands())
    collectPlanes(operand, cache, planes);
}

static SmallVector<unsigned, 4> planesOf(Kernel &k, Value x) {
  llvm::SmallSetVector<unsigned, 4> planes;
  collectPlanes(x, k.cache, planes);
  SmallVector<unsigned, 4> sorted = planes.takeVector();
  llvm::sort(sorted, [&](unsigned a, unsigned b) {
    auto rank = [&](unsigned plane) {
      return std::pair(-k.cache.planes()[plane].rowBytes, plane);
    };
    return rank(a) < rank(b);
  });
  return sorted;
}

ChannelPlan::ChannelPlan(Kernel &kernel, const tile::StreamOperand &operand)
    : k(kernel), x(operand.x), planes(planesOf(kernel, x)),
      element(operand.isDecoded() ? kernel.kit.f32() : operand.code()),
      conversion{k.cache.planes()[codesPlane()].type, kernel.kit.lanes},
      isDecoded(operand.isDecoded()) {
  int64_t dim = operand.dim(), lanes = k.kit.lanes;
  int64_t first = 0;
  auto take = [&](int64_t channels, int64_t width) {
    for (; dim - first >= channels; first += channels)
      blocks.push_back({first, channels, width});
  };
  take(conversion.preferredChannels(), lanes);
  main = blocks.size();
  take(lanes, lanes);
  take(8, 8); // dims are multiples of 8
}

SmallVector<int64_t> ChannelPlan::order(const ChannelBlock &block) const {
  CodeConversion some = conversion;
  some.lanes = block.lanes;
  return some.channelOrder(block.channels);
}

void ChannelPlan::forBlocks(
    llvm::function_ref<void(const ChannelBlock &, Value)> body) const {
  Kit &kit = k.kit;
  const ChannelBlock &first = blocks.front();
  kit.loop(0, main * first.channels, first.channels,
           [&](Value channel) { body(first, channel); });
  for (const ChannelBlock &block : ArrayRef(blocks).drop_front(main))
    body(block, kit.i64(block.first));
}

SmallVector<Value> ChannelPlan::convert(const ChannelBlock &block,
                                        const RowFn &row, Value channel) const {
  Kit &kit = k.kit;
  if (!isDecoded) {
    Value from = kit.at(row(codesPlane()).at, codeBytes(kit, channel));
    auto load = [&](int64_t byte, VectorType type) {
      return kit.load(type, kit.at(from, byte));
    };
    CodeConversion some = conversion;
    some.lanes = block.lanes;
    return some.emit(kit.b, kit.loc, load, block.channels);
  }
  RowDecoder decoder(k, row, RowDecoder::Rounding::Once);
  Value all = decoder.decode(x, {channel, order(block)});
  SmallVector<Value> parts;
  for (int64_t first = 0; first < block.channels; first += block.lanes)
    parts.push_back(kit.shuffle(
        all, all,
        llvm::to_vector(llvm::seq<int64_t>(first, first + block.lanes))));
  return parts;
}

Value ChannelPlan::convertInOrder(const ChannelBlock &block, const RowFn &row,
                                  Value channel) const {
  Kit &kit = k.kit;
  Value x = kit.concat(convert(block, row, channel));
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
