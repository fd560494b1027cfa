//===- GatherModule.cpp - the IR of a drawn gather kernel -----------------===//
#include "test/unit/Tile/KernelModule.h"

#include "dialect/Score.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::fuzz;

namespace {

/// Builds what a round of the loop over rows does.
class GatherBuilder {
public:
  GatherBuilder(const fuzz::Kernel &kernel, OpBuilder &b, CacheType cache,
                Value token)
      : kernel(kernel), b(b), loc(b.getUnknownLoc()), cache(cache),
        token(token), random(kernel.random('L')) {}

  void build();

private:
  Value element(const GatheredRow &row);
  LoadOp load(StringRef stream);
  Value convert(LoadOp load, unsigned plane);
  Value dequantize(LoadOp load, bool mapsScales = false);
  Value slicedCodes(LoadOp load, const GatheredRow &row);
  /// Channels [first, first + channels) of a row.
  Value slice(Value x, int64_t first, int64_t channels);
  Value part(Value x, const GatheredRow &row) {
    int64_t dim = kernel.dim(row.to);
    return columns(x) == dim ? x : slice(x, row.first, dim);
  }
  /// `body` gives what becomes of the elements of `operands`.
  Value map(ValueRange operands, llvm::function_ref<Value(ValueRange)> body);
  Value real(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(float(value)));
  }
  static int64_t columns(Value x) {
    return cast<RankedTensorType>(x.getType()).getDimSize(1);
  }
  unsigned ops() const { return kernel.choice[GatheredOps]; }
  template <typename OpT> Value make(Value x, Value y) {
    return OpT::create(b, loc, x, y);
  }

  const fuzz::Kernel &kernel;
  OpBuilder &b;
  Location loc;
  CacheType cache;
  Value token;
  Random random;
  llvm::StringMap<LoadOp> loads; ///< that rows may share
};

} // namespace

LoadOp GatherBuilder::load(StringRef stream) {
  unsigned where = kernel.choice[GatheredLoads];
  bool shares = where == gathered::Shared ||
                (where == gathered::Anywhere && random.percent(50));
  if (auto found = loads.find(stream); found != loads.end() && shares)
    return found->second;
  SmallVector<Type> types;
  for (const CodecPlane &plane : cache.stream(stream).planes())
    types.push_back(RankedTensorType::get({1, plane.elements}, plane.type));
  return loads[stream] = LoadOp::create(b, loc, types, token, stream);
}

Value GatherBuilder::convert(LoadOp load, unsigned plane) {
  const Codec &codec = kernel.codec(load.getStream());
  bool isUnsigned = !plane && codec.boxes && codec.boxes->zero;
  return ConvertOp::create(b, loc, load.getPlanes()[plane], isUnsigned);
}

Value GatherBuilder::slice(Value x, int64_t first, int64_t channels) {
  auto type = RankedTensorType::get({1, channels}, b.getF32Type());
  return tile::SliceOp::create(b, loc, type, x, first, first + channels);
}

Value GatherBuilder::map(ValueRange operands,
                         llvm::function_ref<Value(ValueRange)> body) {
  auto op = tile::MapOp::create(b, loc, operands[0].getType(), operands);
  OpBuilder::InsertionGuard guard(b);
  Block &block = op.getBody().emplaceBlock();
  for (unsigned i = 0; i < operands.size(); ++i)
    block.addArgument(b.getF32Type(), loc);
  b.setInsertionPointToEnd(&block);
  ScoreYieldOp::create(b, loc, body(block.getArguments()));
  return op.getResult();
}

Value GatherBuilder::dequantize(LoadOp load, bool mapsScales) {
  auto planes = load.getPlanes();
  Value x = convert(load, 0);
  if (planes.size() > 1) {
    Value scales = planes[1];
    if (mapsScales)
      scales = map(convert(load, 1), [&](ValueRange s) {
        Value size = math::AbsFOp::create(b, loc, s[0]);
        return make<arith::AddFOp>(size, real(0.0625));
      });
    x = ScaleOp::create(b, loc, x.getType(), x, scales);
  }
  if (planes.size() > 2)
    x = tile::OffsetOp::create(b, loc, x.getType(), x, planes[2]);
  return x;
}

/// The same as a part of the whole row, where boxes begin and end with it.
Value GatherBuilder::slicedCodes(LoadOp load, const GatheredRow &row) {
  auto planes = load.getPlanes();
  int64_t dim = kernel.dim(row.to), boxes = 1, channels = 1;
  if (planes.size() > 1) {
    boxes = columns(planes[1]);
    channels = kernel.dim(row.from) / boxes;
  }
  if (boxes > 1 && (row.first % channels || dim % channels))
    return part(dequantize(load), row);
  auto parameters = [&](unsigned plane) -> Value {
    if (boxes == 1)
      return planes[plane];
    return slice(convert(load, plane), row.first / channels, dim / channels);
  };
  Value x = slice(convert(load, 0), row.first, dim);
  if (planes.size() > 1)
    x = ScaleOp::create(b, loc, x.getType(), x, parameters(1));
  if (planes.size() > 2)
    x = tile::OffsetOp::create(b, loc, x.getType(), x, parameters(2));
  return x;
}

Value GatherBuilder::element(const GatheredRow &row) {
  LoadOp planes = load(row.from);
  int64_t dim = kernel.dim(row.to);
  if (ops() == gathered::CodesSliced)
    return slicedCodes(planes, row);
  Value all = dequantize(planes, ops() == gathered::MapOfScales);
  if (ops() == gathered::Slices) {
    int64_t first = row.first / 2;
    Value wider = slice(all, first, columns(all) - first);
    return slice(wider, row.first - first, dim);
  }
  Value x = part(all, row);
  auto times = [&](Value y, double factor) {
    return make<arith::MulFOp>(y, real(factor));
  };
  switch (ops()) {
  case gathered::Map:
    return map(x, [&](ValueRange y) {
      Value most = make<arith::MaximumFOp>(y[0], real(-0.5));
      Value sum = make<arith::AddFOp>(times(most, 1.5), real(0.125));
      return math::TanhOp::create(b, loc, sum).getResult();
    });
  case gathered::MapOfTwo:
    return map({x, part(convert(planes, 0), row)}, [&](ValueRange y) {
      return make<arith::SubFOp>(y[0], times(y[1], 0.25));
    });
  case gathered::MapOfColumn:
    return map({x, slice(x, row.column, 1)}, [&](ValueRange y) {
      return make<arith::AddFOp>(times(y[0], 0.5), y[1]);
    });
  case gathered::CodesAsScales: {
    Value codes = part(convert(planes, 0), row);
    int64_t boxes = dim / row.channels;
    Value scales = slice(codes, dim - boxes, boxes);
    return ScaleOp::create(b, loc, x.getType(), x, scales);
  }
  default:
    return x;
  }
}

void GatherBuilder::build() {
  if (kernel.choice[GatheredLoads] == gathered::Shared)
    for (const GatheredRow &row : kernel.gathered)
      load(row.from);
  for (const GatheredRow &row : kernel.gathered)
    tile::StoreDecodedOp::create(b, loc, token, row.to, element(row));
}

void fuzz::buildGathered(const fuzz::Kernel &kernel, OpBuilder &b,
                         CacheType cache, Value token) {
  GatherBuilder(kernel, b, cache, token).build();
}
