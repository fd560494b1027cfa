//===- SpecToKvc.cpp - a checked spec as kvc IR ---------------------------===//
#include "lib/driver/Import/SpecToKvc.h"
#include "dialect/KvcDialect.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/driver/Import/ScoreRegion.h"

using namespace mlir;
using namespace kvc;

namespace {

Location location(MLIRContext &context, const SourceLoc &loc) {
  return FileLineColLoc::get(&context, loc.file, loc.line, loc.column);
}

/// Builds the ops of one store after another.
class Importer {
public:
  Importer(OpBuilder &b, const spec::Spec &spec)
      : b(b), context(*b.getContext()), model(spec.model) {}

  void importStore(const spec::Store &store);

private:
  Type floatType(spec::DType type);
  Type floatType(spec::ParameterType type);
  Type floatType(spec::MinifloatCodec::Format format);
  Attribute codec(const spec::Codec &codec);
  Attribute layout(const spec::Layout &layout);
  Attribute read(const spec::Store &store);
  /// What the store's attention computes, with the model's softcap spelt out.
  spec::Attend attendOf(const spec::Store &store);
  CacheType cacheType(const spec::Store &store);
  /// A tensor of [rows, dims...] with as many rows as a step brings.
  RankedTensorType rows(ArrayRef<int64_t> dims, Type element);
  func::FuncOp function(Location loc, const std::string &name,
                        TypeRange arguments, TypeRange results);
  void importAppend(const spec::Store &store, CacheType cache);
  void importGather(const spec::Store &store, CacheType cache);
  void importAttend(const spec::Store &store, CacheType cache);

  OpBuilder &b;
  MLIRContext &context;
  const spec::Model &model;
};

Type Importer::floatType(spec::DType type) {
  switch (type) {
  case spec::DType::F32:
    return b.getF32Type();
  case spec::DType::F16:
    return b.getF16Type();
  case spec::DType::BF16:
    return b.getBF16Type();
  }
  llvm_unreachable("no such dtype");
}

Type Importer::floatType(spec::ParameterType type) {
  switch (type) {
  case spec::ParameterType::F32:
    return b.getF32Type();
  case spec::ParameterType::F16:
    return b.getF16Type();
  case spec::ParameterType::E4M3:
    return b.getType<Float8E4M3FNType>();
  case spec::ParameterType::E8M0:
    return b.getType<Float8E8M0FNUType>();
  }
  llvm_unreachable("no such type");
}

Type Importer::floatType(spec::MinifloatCodec::Format format) {
  switch (format) {
  case spec::MinifloatCodec::Format::E4M3:
    return b.getType<Float8E4M3FNType>();
  case spec::MinifloatCodec::Format::E5M2:
    return b.getType<Float8E5M2Type>();
  case spec::MinifloatCodec::Format::E2M1:
    return b.getType<Float4E2M1FNType>();
  }
  llvm_unreachable("no such format");
}

static Rounding rounding(spec::IntCodec::Rounding rounding) {
  switch (rounding) {
  case spec::IntCodec::Rounding::Even:
    return Rounding::Even;
  case spec::IntCodec::Rounding::HalfUp:
    return Rounding::HalfUp;
  case spec::IntCodec::Rounding::HalfAway:
    return Rounding::HalfAway;
  }
  llvm_unreachable("no such rounding");
}

Attribute Importer::codec(const spec::Codec &codec) {
  return std::visit(
      llvm::makeVisitor(
          [&](const spec::FloatCodec &stored) -> Attribute {
            return FloatCodecAttr::get(&context, floatType(stored.type));
          },
          [&](const spec::IntCodec &quantised) -> Attribute {
            Type zero;
            if (quantised.zeroType)
              zero = floatType(*quantised.zeroType);
            return IntCodecAttr::get(
                &context, quantised.bits, floatType(quantised.scaleType), zero,
                /*tokens=*/1, quantised.group, quantised.extreme,
                quantised.exact, rounding(quantised.rounding),
                quantised.zeroBetweenCodes ? ZeroKind::Float : ZeroKind::Min);
          },
          [&](const spec::MinifloatCodec &stored) -> Attribute {
            Type scale;
            if (stored.scaleType)
              scale = floatType(*stored.scaleType);
            return FloatCodecAttr::get(&context, floatType(stored.format),
                                       scale, stored.group);
          }),
      codec);
}

Attribute Importer::layout(const spec::Layout &layout) {
  PageOrder order =
      layout.order == spec::PageOrder::HND ? PageOrder::HND : PageOrder::NHD;
  if (!layout.paged)
    return ContiguousAttr::get(&context, order);
  return PagedAttr::get(&context, layout.page, order);
}

Attribute Importer::read(const spec::Store &store) {
  bool causal = store.attend.causal;
  const auto &window = store.read.window;
  if (!window)
    return ReadAllAttr::get(&context, causal);
  return SlidingWindowAttr::get(&context, window->sink, window->recent, causal);
}

CacheType Importer::cacheType(const spec::Store &store) {
  int64_t heads = store.scope.headEnd - store.scope.headBegin;
  auto stream = [&](StringRef name, const spec::Stream &stream) {
    StringAttr of =
        stream.ofK ? StringAttr::get(&context, kStreamK) : StringAttr();
    return StreamAttr::get(&context, name, stream.dim, codec(stream.codec),
                           /*tokens=*/1, of);
  };
  return CacheType::get(&context, heads,
                        {stream(kStreamK, store.k), stream(kStreamV, store.v)},
                        layout(store.layout));
}

RankedTensorType Importer::rows(ArrayRef<int64_t> dims, Type element) {
  SmallVector<int64_t> shape{ShapedType::kDynamic};
  llvm::append_range(shape, dims);
  return RankedTensorType::get(shape, element);
}

func::FuncOp Importer::function(Location loc, const std::string &name,
                                TypeRange arguments, TypeRange results) {
  auto function =
      func::FuncOp::create(b, loc, name, b.getFunctionType(arguments, results));
  b.setInsertionPointToStart(function.addEntryBlock());
  return function;
}

void Importer::importAppend(const spec::Store &store, CacheType cache) {
  OpBuilder::InsertionGuard guard(b);
  Location loc = location(context, store.loc);
  Type dtype = floatType(model.dtype);
  int64_t heads = model.kvHeads;
  SmallVector<Type> types = {rows({heads, store.k.dim}, dtype)};
  if (!store.v.ofK)
    types.push_back(rows({heads, store.v.dim}, dtype));
  types.append({rows({}, b.getI64Type()), cache});
  auto op = function(loc, store.name + ".append", types, {});
  auto arguments = op.getArguments();
  Value v = store.v.ofK ? Value() : Value(arguments[1]);
  AppendOp::create(b, loc, store.name, arguments[0], v,
                   arguments.drop_back().back(), arguments.back());
  func::ReturnOp::create(b, loc);
}

void Importer::importGather(const spec::Store &store, CacheType cache) {
  OpBuilder::InsertionGuard guard(b);
  Location loc = location(context, store.loc);
  Type dtype = floatType(model.dtype);
  Type k = rows({model.kvHeads, store.k.dim}, dtype);
  Type v = rows({model.kvHeads, store.v.dim}, dtype);
  auto op = function(loc, store.name + ".gather",
                     {rows({}, b.getI64Type()), cache}, {k, v});
  auto gather = GatherOp::create(b, loc, k, v, store.name, op.getArgument(0),
                                 op.getArgument(1));
  func::ReturnOp::create(b, loc, gather.getResults());
}

void Importer::importAttend(const spec::Store &store, CacheType cache) {
  OpBuilder::InsertionGuard guard(b);
  Location loc = location(context, store.loc);
  Type dtype = floatType(model.dtype);
  int64_t heads = model.qHeads;
  Type o = rows({heads, store.v.dim}, dtype);
  Type lse = rows({heads}, b.getF32Type());
  auto op = function(
      loc, store.name + ".attend",
      {rows({heads, store.k.dim}, dtype), cache, BatchType::get(&context)},
      {o, lse});
  auto attend = AttendOp::create(
      b, loc, o, lse, FlatSymbolRefAttr::get(&context, store.name),
      op.getArgument(0), op.getArgument(1), op.getArgument(2),
      b.getF64FloatAttr(model.softmaxScale), /*splits=*/IntegerAttr(),
      ScheduleAttrInterface());
  spec::Attend formulas = attendOf(store);
  Location place = location(context, formulas.loc);
  auto import = [&](const std::optional<spec::Expr> &expr, Region &region,
                    ScoreRegionKind kind) {
    if (expr)
      importExpr(region, kind, *expr, place);
  };
  import(formulas.logits, attend.getLogits(), ScoreRegionKind::Logits);
  import(formulas.visible, attend.getVisible(), ScoreRegionKind::Visible);
  import(formulas.sink, attend.getSink(), ScoreRegionKind::Sink);
  func::ReturnOp::create(b, loc, attend.getResults());
}

spec::Attend Importer::attendOf(const spec::Store &store) {
  spec::Attend attend = store.attend;
  if (model.logitSoftcap) { // then there are no other logits
    attend.logits = spec::softcapOf(*model.logitSoftcap);
    attend.loc = store.loc;
  }
  return attend;
}

void Importer::importStore(const spec::Store &store) {
  CacheType cache = cacheType(store);
  SmallVector<int64_t> layers(store.scope.layers.begin(),
                              store.scope.layers.end());
  auto op = StoreOp::create(b, location(context, store.loc), store.name, layers,
                            store.scope.headBegin, store.scope.headEnd,
                            model.kvHeads, model.qHeads, read(store), cache);
  if (std::string attend = spec::canonicalText(attendOf(store));
      !attend.empty())
    op->setAttr(kAttendAttr, b.getStringAttr(attend));
  SmallVector<NamedAttribute> given;
  for (const spec::Constant &constant : store.attend.constants)
    if (constant.given) {
      SmallVector<int64_t> shape{constant.given};
      if (constant.perSequence)
        shape.insert(shape.begin(), ShapedType::kDynamic);
      Type type = constant.type == spec::ExprType::Int ? Type(b.getI32Type())
                                                       : Type(b.getF32Type());
      given.push_back(b.getNamedAttr(
          constant.name, TypeAttr::get(RankedTensorType::get(shape, type))));
    }
  if (!given.empty())
    op->setAttr(kConstantsAttr, b.getDictionaryAttr(given));
  importAppend(store, cache);
  importGather(store, cache);
  importAttend(store, cache);
}

} // namespace

OwningOpRef<ModuleOp> kvc::importSpec(MLIRContext &context,
                                      const spec::Spec &spec) {
  context.loadDialect<KvcDialect, func::FuncDialect>();
  OpBuilder b(&context);
  OwningOpRef<ModuleOp> module =
      ModuleOp::create(b, location(context, spec.model.loc));
  (*module)->setAttr("kvc.spec", b.getStringAttr(spec.name));
  b.setInsertionPointToStart(module->getBody());
  Importer importer(b, spec);
  for (const spec::Store &store : spec.stores)
    importer.importStore(store);
  return module;
}
