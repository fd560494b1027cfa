//===- KvcAttrs.cpp - layouts, reads, schedules ---------------------------===//
#include "dialect/KvcDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSwitch.h"
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
                                 int64_t tokens) {
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
// Targets and schedules
//===----------------------------------------------------------------------===//

LogicalResult TargetAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef name, int64_t lanes,
                                 int64_t registers, ArrayRef<Type>,
                                 ArrayRef<Type>, int64_t shared) {
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

LogicalResult ScheduleAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t tokens, int64_t rows, int64_t keys,
                                   int64_t queries, int64_t split,
                                   int64_t prefetch, int64_t level, bool, bool,
                                   int64_t warps, int64_t stages,
                                   bool warpsSplitQ, bool bulk) {
  auto inRange = [&](StringRef field, int64_t value, int64_t low,
                     int64_t high) -> LogicalResult {
    if (value >= low && value <= high)
      return success();
    return emitError() << "schedule field `" << field << "` must be in [" << low
                       << ", " << high << "], found " << value;
  };
  if (failed(inRange("tokens", tokens, 1, 256)) ||
      failed(inRange("rows", rows, 1, warps ? 128 : 16)) ||
      failed(inRange("keys", keys, 1, 16)) ||
      failed(inRange("queries", queries, 1, 1024)) ||
      failed(inRange("split", split, 0, 1 << 20)) ||
      failed(inRange("prefetch", prefetch, 0, 3 * tokens)) ||
      failed(inRange("level", level, 1, 2)) ||
      failed(inRange("warps", warps, 0, 8)) ||
      failed(inRange("stages", stages, warps ? 2 : 0, warps ? 16 : 0)))
    return failure();
  if (tokens % keys)
    return emitError() << "schedule field `keys` (" << keys
                       << ") must divide `tokens` (" << tokens << ")";
  if (split % tokens)
    return emitError() << "schedule field `tokens` (" << tokens
                       << ") must divide `split` (" << split << ")";
  if ((warpsSplitQ || bulk) && !warps)
    return emitError() << "schedule field `" << (bulk ? "bulk" : "warpsSplitQ")
                       << "` is of work tiles that are done by warps";
  if (warpsSplitQ && rows != 16 * warps)
    return emitError() << "warps that share rows take 16 each: schedule field "
                          "`rows` must be "
                       << 16 * warps << ", found " << rows;
  if (warps && !warpsSplitQ && split % (tokens * warps))
    return emitError() << "the tokens of a step of all warps (" << tokens
                       << " times " << warps << ") must divide `split` ("
                       << split << ")";
  return success();
}

ScheduleAttr ScheduleAttr::of(MLIRContext *context, const ScheduleFields &f) {
  return get(context, f.tokens, f.rows, f.keys, f.queries, f.split, f.prefetch,
             f.level, f.pack, f.dot, f.warps, f.stages, f.warpsSplitQ, f.bulk);
}

ScheduleAttr ScheduleAttr::with(function_ref<InFlightDiagnostic()> emitError,
                                ArrayRef<Field> fields) const {
  int64_t tokens = getTokens(), rows = getRows(), keys = getKeys(),
          queries = getQueries(), split = getSplit(), prefetch = getPrefetch(),
          level = getLevel(), pack = getPack(), dot = getDot(),
          warps = getWarps(), stages = getStages(),
          warpsSplitQ = getWarpsSplitQ(), bulk = getBulk();
  for (auto [field, value] : fields) {
    int64_t *slot = llvm::StringSwitch<int64_t *>(field)
                        .Case("tokens", &tokens)
                        .Case("rows", &rows)
                        .Case("keys", &keys)
                        .Case("queries", &queries)
                        .Case("split", &split)
                        .Case("prefetch", &prefetch)
                        .Case("level", &level)
                        .Case("pack", &pack)
                        .Case("dot", &dot)
                        .Case("warps", &warps)
                        .Case("stages", &stages)
                        .Case("warpsSplitQ", &warpsSplitQ)
                        .Case("bulk", &bulk)
                        .Default(nullptr);
    if (!slot) {
      emitError() << "a schedule has no field `" << field
                  << "`; it has tokens, rows, keys, queries, split, prefetch, "
                     "level, pack, dot, warps, stages, warpsSplitQ and bulk";
      return {};
    }
    *slot = value;
  }
  return getChecked(emitError, getContext(), tokens, rows, keys, queries, split,
                    prefetch, level, pack != 0, dot != 0, warps, stages,
                    warpsSplitQ != 0, bulk != 0);
}

std::string ScheduleAttr::str() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "tokens = " << getTokens() << ", rows = " << getRows()
     << ", keys = " << getKeys() << ", queries = " << getQueries()
     << ", split = " << getSplit() << ", prefetch = " << getPrefetch()
     << ", level = " << getLevel()
     << ", pack = " << (getPack() ? "true" : "false")
     << ", dot = " << (getDot() ? "true" : "false");
  if (getWarps())
    os << ", warps = " << getWarps() << ", stages = " << getStages()
       << ", warpsSplitQ = " << (getWarpsSplitQ() ? "true" : "false")
       << ", bulk = " << (getBulk() ? "true" : "false");
  return text;
}
