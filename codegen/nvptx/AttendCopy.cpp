//===- AttendCopy.cpp - a step's codes into shared memory -----------------===//
//
// Those who share a ring fill it, 16 bytes a lane where rows are multiples of
// 16, several whole rows with one instruction. Rows stand a multiple of 16
// bytes plus 16 apart in shared memory, so that eight rows at one offset (what
// ldmatrix reads at a time) lie in eight different groups of banks, and every
// address is the lane's own plus a constant.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Attend.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using arith::CmpIPredicate;

AttendKernel::CopyShape AttendKernel::shapeOf(int64_t rowBytes) const {
  CopyShape shape;
  shape.rowBytes = rowBytes;
  shape.unit = rowBytes % 16 == 0 ? 16 : 8; // dims are multiples of 8
  int64_t units = rowBytes / shape.unit;
  shape.lanesPerRow = std::min(kWarpLanes, units & -units);
  // With fewer rows than that leaves lanes for, some have nothing to do.
  shape.rowsAtOnce = std::min(copyLanes() / shape.lanesPerRow, tokens);
  shape.unitsPerLane = units / shape.lanesPerRow;
  return shape;
}

/// What each lane copies does not depend on the step.
void AttendKernel::planCopies() {
  auto plan = [&](Operand &operand, unsigned plane, int64_t stride) {
    CopyShape shape = shapeOf(operand.rowBytes());
    LaneCopy copy;
    Value lane = byRows ? thread : this->lane;
    copy.row = kit.div(lane, shape.lanesPerRow);
    copy.unit = kit.mul(kit.rem(lane, shape.lanesPerRow), shape.unit);
    copy.global = kit.wide(
        kit.add(kit.mul(copy.row, planes[plane].tokenStride), copy.unit));
    copy.shared = kit.add(kit.mul(copy.row, stride), copy.unit);
    if (shape.rowsAtOnce * shape.lanesPerRow < copyLanes())
      copy.active = kit.less(copy.row, kit.i32(shape.rowsAtOnce));
    return copy;
  };
  copyK = plan(body.k, codesK, strideK);
  copyV = plan(body.v, codesV, strideV);
}

/// Id of a token's page.
Value AttendKernel::pageOf(Value token) {
  int64_t page = k.cache.layout().getPageTokens();
  if (!page)
    return kit.i32(0);
  Value index = kit.div(clampToken(token), page);
  return kit.loadConst(kit.i32(), kit.ptr(table, kit.mul(kit.wide(index), 4)),
                       4);
}

/// Ids of the pages of a step that begins at `first`; none where each row has
/// to be looked up.
Values AttendKernel::pagesOf(Value first) {
  Values pages;
  int64_t page = k.cache.layout().getPageTokens();
  for (int64_t i = 0; i < pagesPerStep; ++i)
    pages.push_back(pageOf(kit.add(first, i * page)));
  return pages;
}

/// Of them, that of row `row` of the step.
Value AttendKernel::pageAmong(ValueRange pages, Value row) {
  int64_t page = k.cache.layout().getPageTokens();
  Value found = pages[0];
  for (int64_t i = 1; i < pagesPerStep; ++i)
    found = kit.select(kit.less(row, kit.i32(i * page)), found, pages[i]);
  return found;
}

int64_t AttendKernel::rowsAtOnce() {
  return std::max(shapeOf(body.k.rowBytes()).rowsAtOnce,
                  shapeOf(body.v.rowBytes()).rowsAtOnce);
}

/// The nearest token that is there: whatever is read of it is not used, but
/// reading it is allowed.
Value AttendKernel::clampToken(Value token) {
  return kit.max(kit.min(token, kit.add(current.end, -1)), kit.i32(0));
}

/// Where a token's row stands in a plane, given its page's id.
Value AttendKernel::rowAddress(unsigned plane, Value page, Value token) {
  int64_t pageTokens = k.cache.layout().getPageTokens();
  Value base = origin[plane], within = token;
  if (pageTokens) {
    base = kit.ptr(base, kit.mul(kit.wide(page), outerStride[plane]));
    within = kit.rem(token, pageTokens);
  }
  return kit.ptr(base, kit.mul(kit.wide(within), planes[plane].tokenStride));
}

void AttendKernel::copyStep(Value first, ValueRange pages, Value full,
                            Value stage) {
  copyRows(StreamKind::K, first, pages, full, {stage, 0});
  copyRows(StreamKind::V, first, pages, full, {stage, tokens * strideK});
}

/// One stream's rows of a step; `full` as in Step. Rows that nobody sees are
/// zeros and are not read: what multiplies them is 0, but their bytes may be
/// anything.
void AttendKernel::copyRows(StreamKind kind, Value first, ValueRange pages,
                            Value full, Shared to) {
  bool isK = kind == StreamKind::K;
  unsigned plane = isK ? codesK : codesV;
  const LaneCopy &copy = isK ? copyK : copyV;
  int64_t stride = isK ? strideK : strideV;
  int64_t tokenStride = planes[plane].tokenStride;
  CopyShape shape = shapeOf((isK ? body.k : body.v).rowBytes());
  Ptx whole = shape.unit == 16 ? Ptx::CpAsync16 : Ptx::CpAsync8;
  Ptx zfill = shape.unit == 16 ? Ptx::CpAsync16Zfill : Ptx::CpAsync8Zfill;
  Shared own{kit.add(to.base, copy.shared), to.offset};

  auto forRows = [&](llvm::function_ref<void(int64_t, Shared)> body) {
    auto all = [&] {
      for (int64_t row = 0; row < tokens; row += shape.rowsAtOnce)
        body(row, own + row * stride);
    };
    copy.active ? kit.when(copy.active, all) : all();
  };
  auto units = [&](llvm::function_ref<void(int64_t)> body) {
    for (int64_t i = 0; i < shape.unitsPerLane; ++i)
      body(i * shape.lanesPerRow * shape.unit);
  };
  // Each row by itself: where it is and whether anybody sees it.
  auto careful = [&] {
    forRows([&](int64_t row, Shared at) {
      Value token = kit.add(kit.add(first, copy.row), row);
      Value seen = seenByAny(token);
      Value there = clampToken(token);
      Value id = pagesPerStep ? pageAmong(pages, kit.sub(there, first))
                              : pageOf(token);
      Value address = kit.ptr(rowAddress(plane, id, there), copy.unit);
      Value bytes = kit.select(seen, kit.i32(shape.unit), kit.i32(0));
      units([&](int64_t offset) {
        kit.op(zfill, {at.base, address, bytes}, {at.offset + offset, offset});
      });
    });
  };
  // Page after page, each row where the one before it ends.
  auto plain = [&] {
    int64_t page = pagesPerStep > 1 ? tokens / pagesPerStep : tokens;
    Values from;
    for (int64_t i = 0; i < pagesPerStep; ++i)
      from.push_back(kit.ptr(
          rowAddress(plane, pages[i], kit.add(first, i * page)), copy.global));
    forRows([&](int64_t row, Shared at) {
      units([&](int64_t offset) {
        kit.op(whole, {at.base, from[row / page]},
               {at.offset + offset, row % page * tokenStride + offset});
      });
    });
  };
  if (!pagesPerStep)
    careful();
  else if (!full)
    plain();
  else
    kit.when(full, plain, careful);
}

/// The f32 scales of tokens first + 32 i + lane % tokens.
Values AttendKernel::loadScale(StreamKind kind, Value first, ValueRange pages) {
  Operand &operand = kind == StreamKind::K ? body.k : body.v;
  Type type = operand.codec().getScaleType();
  unsigned plane = k.cache.planeIndex(kind, /*scales=*/true);
  Values scales;
  for (int64_t i = 0; i < scaleWords(); ++i) {
    Value own = kit.add(kit.rem(lane, tokens), i * kWarpLanes);
    Value token = clampToken(kit.add(first, own));
    Value id =
        pagesPerStep ? pageAmong(pages, kit.sub(token, first)) : pageOf(token);
    Value address = rowAddress(plane, id, token);
    Value scale =
        kit.loadConst(type, address, type.getIntOrFloatBitWidth() / 8);
    if (!type.isF32())
      scale = arith::ExtFOp::create(kit.b, kit.kernel, kit.f32(), scale);
    scales.push_back(scale);
  }
  return scales;
}

/// Bytes between the end of a row and where a product stops reading it.
void AttendKernel::zeroPadding() {
  auto pad = [&](Operand &operand, int64_t offset, int64_t stride) {
    int64_t bytes = operand.rowBytes();
    int64_t end = llvm::alignTo(bytes, 32);
    if (end == bytes)
      return;
    Value zero = kit.constant(0, kit.vec(2, kit.f32()));
    Value lane = byRows ? thread : this->lane;
    for (int64_t stage = 0; stage < stages; ++stage)
      kit.loop(lane, kit.i32(tokens), kit.i32(copyLanes()), [&](Value row) {
        Value at = kit.add(ringBase, kit.mul(row, stride));
        for (int64_t byte = bytes; byte < end; byte += 8)
          kit.storeShared(zero, {at, stage * stageBytes + offset + byte});
      });
  };
  pad(body.k, 0, strideK);
  pad(body.v, tokens * strideK, strideV);
}
