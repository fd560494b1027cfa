//===- AttendDecode.cpp - rows that are decoded before they are read ------===//
//
// What products take where K or V is more than codes as they are: whatever
// element-wise ops make of loaded planes (codes under a byte, scales of boxes,
// zeros, a part of another stream's rows) stands in shared memory as f32. Those
// who share an smem pipeline decode it, a unit of eight channels of a row each.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"
#include "codegen/nvptx/RowDecoder.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

namespace {

class DecodeLoader : public StagedLoader {
public:
  using StagedLoader::StagedLoader;

private:
  void copyStep(const PrefetchStep &step, bool interior, Value stage) override;
  void decode(Operand &operand, const PrefetchStep &step, bool interior,
              Shared to, int64_t stride);
};

} // namespace

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

void DecodeLoader::copyStep(const PrefetchStep &step, bool interior,
                            Value stage) {
  decode(a.body.k, step, interior, {stage, 0}, a.strideK);
  decode(a.body.v, step, interior, {stage, a.layout.offsetV}, a.strideV);
}

/// Rows that nobody sees are zeros and are not read, as those that are copied.
void DecodeLoader::decode(Operand &operand, const PrefetchStep &step,
                          bool interior, Shared to, int64_t stride) {
  int64_t units = operand.dim() / kUnit;
  auto store = [&](const Values &x, Value row, Value unit) {
    Value at = kit.add(kit.add(to.base, kit.mul(row, stride)),
                       kit.mul(unit, kUnit * 4));
    for (int64_t half = 0; half < kUnit; half += 4)
      kit.storeShared(kit.concat(ArrayRef(x).slice(half, 4)),
                      {at, to.offset + half * 4});
  };
  auto decodeUnit = [&](Value token, Value unit) {
    Value there = a.clampToken(token);
    Value page = a.pagesPerStep
                     ? a.pageAmong(step.pages, kit.sub(there, step.first))
                     : a.pageOf(token);
    RowDecoder decoder(
        a.k, [&](unsigned plane) { return a.rowAddress(plane, page, there); },
        a.workTile().sequence);
    Value first = kit.mul(unit, kUnit);
    Values x;
    for (int64_t i = 0; i < kUnit; ++i)
      x.push_back(decoder.element(operand.x, {first, i}));
    return x;
  };
  kit.loop(a.smemPipelineLane(), kit.i32(a.tokens * units),
           kit.i32(a.smemPipelineLanes()), [&](Value index) {
             Value row = kit.div(index, units), unit = kit.rem(index, units);
             Value token = kit.add(step.first, row);
             Values x = interior
                            ? decodeUnit(token, unit)
                            : kit.choose(
                                  a.anyRowVisible(token),
                                  [&] { return decodeUnit(token, unit); },
                                  [&] { return Values(kUnit, kit.f32(0)); });
             store(x, row, unit);
           });
}

std::unique_ptr<KvLoader> kvc::nvptx::makeDecodeLoader(AttendKernel &kernel) {
  return std::make_unique<DecodeLoader>(kernel);
}
