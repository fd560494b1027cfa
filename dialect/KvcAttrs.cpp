//===- KvcAttrs.cpp - layouts, reads, targets -----------------------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvc;

#define GET_ATTRDEF_CLASSES
#include "dialect/KvcAttrs.cpp.inc"

void KvcDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/KvcAttrs.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Layouts
//===----------------------------------------------------------------------===//

static int64_t rowStride(PageOrder order, int64_t rowBytes, int64_t heads) {
  return order == PageOrder::HND ? rowBytes : rowBytes * heads;
}

LogicalResult PagedAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t tokens, PageOrder) {
  if (tokens < 1 || tokens > kMaxPageTokens)
    return emitError() << "a page holds 1 to " << kMaxPageTokens
                       << " tokens, found " << tokens;
  return success();
}

int64_t PagedAttr::getPageTokens() const { return getTokens(); }
int64_t PagedAttr::getRowStride(int64_t rowBytes, int64_t heads) const {
  return rowStride(getOrder(), rowBytes, heads);
}
int64_t PagedAttr::getHeadStride(int64_t rowBytes, int64_t pageRows) const {
  return getOrder() == PageOrder::HND ? rowBytes * pageRows : rowBytes;
}
StringRef PagedAttr::getOrderName() const {
  return stringifyPageOrder(getOrder());
}

int64_t ContiguousAttr::getPageTokens() const { return 0; }
int64_t ContiguousAttr::getRowStride(int64_t rowBytes, int64_t heads) const {
  return rowStride(getOrder(), rowBytes, heads);
}
int64_t ContiguousAttr::getHeadStride(int64_t rowBytes, int64_t) const {
  return getOrder() == PageOrder::HND ? 0 : rowBytes;
}
StringRef ContiguousAttr::getOrderName() const {
  return stringifyPageOrder(getOrder());
}

//===----------------------------------------------------------------------===//
// Streams
//===----------------------------------------------------------------------===//

LogicalResult StreamAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef name, int64_t dim, Attribute codec,
                                 int64_t tokens, StringAttr) {
  bool isWord =
      !name.empty() && llvm::isAlpha(name.front()) &&
      llvm::all_of(name, [](char c) { return llvm::isAlnum(c) || c == '_'; });
  if (!isWord || name == "layout" || name == "heads")
    return emitError() << "a stream's name is a letter and then letters, "
                          "digits and `_`, and not `heads` or `layout`; found `"
                       << name << "`";
  if (dim < 1 || dim > kMaxStreamDim)
    return emitError() << "a row has 1 to " << kMaxStreamDim
                       << " elements, found " << dim;
  if (tokens < 0 || tokens > kMaxPageTokens)
    return emitError() << "a row stands for 1 to " << kMaxPageTokens
                       << " tokens, or for a sequence; found " << tokens;
  auto known = dyn_cast<CodecAttrInterface>(codec);
  if (!known)
    return emitError() << "expected a codec, found " << codec;
  for (const CodecPlane &plane : known.getPlanes(dim)) {
    int64_t bits = plane.elements * plane.type.getIntOrFloatBitWidth();
    if (!plane.elements || bits % 8)
      return emitError() << "a row of " << plane.role
                         << " is whole bytes; found " << plane.elements
                         << " of " << plane.type << " for " << dim
                         << " elements";
    if (plane.tokens != 1 && tokens != 1)
      return emitError() << "rows that each stand for several tokens have a "
                            "codec of single rows, found "
                         << codec;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Reads
//===----------------------------------------------------------------------===//

bool ReadAllAttr::isCausal() const { return getCausal(); }
bool ReadAllAttr::isAll() const { return true; }
int64_t ReadAllAttr::getSinkTokens() const { return 0; }
int64_t ReadAllAttr::getRecentTokens() const { return INT64_MAX; }

LogicalResult
SlidingWindowAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                          int64_t sink, int64_t recent, bool) {
  if (sink < 0 || recent < 1 || sink > INT32_MAX || recent > INT32_MAX)
    return emitError() << "a window has sink >= 0 and recent >= 1, found sink "
                       << sink << " and recent " << recent;
  return success();
}
bool SlidingWindowAttr::isCausal() const { return getCausal(); }
bool SlidingWindowAttr::isAll() const { return false; }
int64_t SlidingWindowAttr::getSinkTokens() const { return getSink(); }
int64_t SlidingWindowAttr::getRecentTokens() const { return getRecent(); }

//===----------------------------------------------------------------------===//
// Targets
//===----------------------------------------------------------------------===//

LogicalResult TargetAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef name, int64_t lanes,
                                 int64_t registers, ArrayRef<Type>,
                                 ArrayRef<Type>, int64_t shared, bool) {
  if (lanes < 1 || registers < 1)
    return emitError() << "target `" << name
                       << "` needs at least one lane and one register, found "
                       << lanes << " and " << registers;
  if (shared < 0)
    return emitError() << "target `" << name
                       << "`: `shared` must not be negative, found " << shared;
  return success();
}

bool TargetAttr::hasDot(Type code, Type dtype) const {
  bool precise = code.isBF16() ? dtype.isBF16() : !dtype.isF32();
  return precise && llvm::is_contained(getDot(), code);
}

bool TargetAttr::hasMatrix(Type code, Type dtype) const {
  return !dtype.isF32() && llvm::is_contained(getMatrix(), code);
}

ScheduleAttrInterface TargetAttr::defaultSchedule() const {
  if (getShared())
    return WarpScheduleAttr::get(getContext(), {});
  return CoreScheduleAttr::get(getContext(), {});
}
