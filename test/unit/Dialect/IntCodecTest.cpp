//===- IntCodecTest.cpp - #kvc.int against a scalar quantiser -------------===//
//
// The quantiser here is written from the text of Codecs.td, in float64 with an
// explicit rounding wherever the text has one.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Dialect/Codecs.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <random>

using namespace kvc;

namespace {

struct Encoded {
  std::vector<int8_t> codes;
  uint32_t scaleBits = 0;
  float scale = 0;
};

double nearestEven(double x) {
  double low = std::floor(x), rest = x - low;
  if (rest != 0.5)
    return rest < 0.5 ? low : low + 1;
  return std::fmod(low, 2) == 0 ? low : low + 1;
}

double finite(float x) {
  if (std::isnan(x))
    return 0;
  return std::isinf(x) ? std::copysign(double(FLT_MAX), x) : x;
}

Encoded quantise(const std::vector<float> &row, bool halfScale) {
  double absmax = 0;
  for (float x : row)
    absmax = std::max(absmax, std::abs(finite(x)));
  Encoded result;
  // float64 has twice the digits of f32: rounding its quotient again is exact.
  float scale = float(absmax / 127);
  const llvm::fltSemantics &half = llvm::APFloat::IEEEhalf();
  if (halfScale)
    scale = widen(narrow(std::min(scale, 65504.0f), half), half);
  if (scale < FLT_MIN)
    scale = 0;
  result.scale = scale;
  result.scaleBits =
      halfScale ? narrow(scale, half) : std::bit_cast<uint32_t>(scale);
  float factor = scale == 0 ? 0 : float(1 / double(scale));
  for (float x : row) {
    float product = float(finite(x) * double(factor));
    double code = nearestEven(product);
    result.codes.push_back(int8_t(std::min(127.0, std::max(-127.0, code))));
  }
  return result;
}

class IntCodecTest : public CodecTest,
                     public testing::WithParamInterface<bool> {
protected:
  CodecAttrInterface codec() {
    return IntCodecAttr::get(&context, 8, GetParam() ? f16() : f32());
  }
  Encoded encode(const std::vector<float> &row) {
    Encoded result;
    result.codes.assign(row.size(), 99);
    codec().quantizeRows(row, 1,
                         {reinterpret_cast<uint8_t *>(result.codes.data()),
                          reinterpret_cast<uint8_t *>(&result.scaleBits)});
    return result;
  }
  /// Codes and scale as the text says, and what they decode to.
  void check(const std::vector<float> &row) {
    Encoded want = quantise(row, GetParam()), got = encode(row);
    ASSERT_EQ(got.scaleBits, want.scaleBits);
    ASSERT_EQ(got.codes, want.codes);
    std::vector<float> back(row.size(), NAN);
    codec().dequantizeRow({reinterpret_cast<uint8_t *>(got.codes.data()),
                           reinterpret_cast<uint8_t *>(&got.scaleBits)},
                          back);
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(back[i], float(double(want.codes[i]) * want.scale)) << i;
  }
};

// Nothing computed here: these are the numbers.
TEST_P(IntCodecTest, KnownRow) {
  Encoded got = encode({127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, NAN});
  EXPECT_EQ(got.scaleBits, GetParam() ? 0x3c00u : 0x3f800000u);
  EXPECT_EQ(got.codes, (std::vector<int8_t>{127, 0, 2, 2, 0, -2, -126, 0}));
}

TEST_P(IntCodecTest, RowsOfNothing) {
  for (float x : {0.0f, -0.0f, NAN}) {
    Encoded got = encode(std::vector<float>(8, x));
    EXPECT_EQ(got.scaleBits, 0u);
    EXPECT_EQ(got.codes, std::vector<int8_t>(8, 0));
  }
}

TEST_P(IntCodecTest, Extremes) {
  float inf = INFINITY;
  check({inf, -inf, 1, -1, 0, NAN, FLT_MAX, -FLT_MAX});
  check({FLT_MAX, 1, 2, 3, 4, 5, 6, 7});
  check({NAN, 1, -2, NAN, 3, -0.0f, 0, NAN});
  // Around the smallest scale that counts: 127 * FLT_MIN.
  for (float scale : {FLT_MIN, std::nextafterf(FLT_MIN, 0), FLT_MIN * 2})
    for (float off : {0.0f, FLT_TRUE_MIN, -FLT_TRUE_MIN})
      check({127 * scale + off, scale, -scale, 0, 0, 0, 0, FLT_TRUE_MIN});
  check(std::vector<float>(8, FLT_TRUE_MIN));
  // Around the largest, the smallest normal and the smallest f16.
  for (float scale : {65504.0f, 65519.0f, 65520.0f, 1e6f, 0x1p-14f, 0x1p-15f,
                      0x1p-24f, 0x1p-25f, 0x1.1p-25f})
    check({127 * scale, -127 * scale, 63.5f * scale, scale, -scale / 2,
           100 * scale, -99.5f * scale, 0});
}

TEST_P(IntCodecTest, Ties) {
  // A scale that is a power of two makes every half a tie.
  for (int exponent : {-10, -3, 0, 5}) {
    float scale = std::ldexp(1.0f, exponent);
    std::vector<float> row;
    for (int half = -254; half <= 254; ++half)
      row.push_back(float(half) / 2 * scale);
    check(row);
  }
}

TEST_P(IntCodecTest, RandomRows) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-40, 40);
  for (int i = 0; i < 5000; ++i) {
    std::vector<float> row(i % 3 == 0 ? 8 : i % 3 == 1 ? 64 : 576);
    float size = std::exp2(exponent(random));
    for (float &x : row)
      x = normal(random) * size;
    check(row);
  }
}

TEST_P(IntCodecTest, HasCodesAndAScale) {
  auto planes = codec().getPlanes(24);
  ASSERT_EQ(planes.size(), 2u);
  EXPECT_EQ(planes[0].role, kPlaneCodes);
  EXPECT_TRUE(planes[0].type.isInteger(8));
  EXPECT_EQ(planes[0].elements, 24);
  EXPECT_EQ(planes[1].role, kPlaneScales);
  EXPECT_EQ(planes[1].type, GetParam() ? f16() : f32());
  EXPECT_EQ(planes[1].elements, 1);
}

INSTANTIATE_TEST_SUITE_P(Scale, IntCodecTest, testing::Bool(),
                         [](const auto &info) {
                           return info.param ? "f16" : "f32";
                         });

//===----------------------------------------------------------------------===//
// Boxes, zeros, and codes of less than a byte
//===----------------------------------------------------------------------===//

struct Shape {
  unsigned bits;
  int64_t tokens, channels;
  bool zero, half;
  bool extreme = false, exact = false;
  Rounding rounding = Rounding::Even;
  bool between = false; ///< the zero is a number between codes
};

/// The formulas of Codecs.td over one box, in float64 with roundings.
struct Box {
  Box(const std::vector<float> &elements, const Shape &shape) : shape(shape) {
    double low = INFINITY, high = -INFINITY;
    for (float x : elements)
      low = std::min(low, finite(x)), high = std::max(high, finite(x));
    double half = 1 << (shape.bits - 1), range = std::max(high, -low);
    least = shape.zero ? 0 : shape.extreme ? -half : 1 - half;
    most = shape.zero ? 2 * half - 1 : half - 1;
    shift = shape.zero ? 0 : half;
    double end = shape.extreme ? least : most;
    if (shape.extreme && -low > high)
      range = low;
    if (shape.zero && !shape.between) {
      zero = stored(low);
      origin = shape.exact ? float(low) : zero;
      range = std::min(std::max(high - origin, 0.0), double(FLT_MAX));
    }
    if (shape.between) {
      range = std::min(std::max(high - low, 0.0), double(FLT_MAX));
      range =
          std::max<double>(float(range), float(std::fabs(low) * (most / 2048)));
    }
    float unrounded = float(float(range) / end);
    scale = normal(stored(unrounded));
    float by = shape.exact ? normal(unrounded) : scale;
    factor = by == 0 ? 0 : float(1 / double(by));
    if (shape.between) {
      float exact = float(low * factor);
      zero = stored(exact);
      below = shape.exact ? exact : zero;
    }
  }
  static float normal(float x) { return std::fabs(x) < FLT_MIN ? 0 : x; }
  float stored(double x) const {
    const llvm::fltSemantics &half = llvm::APFloat::IEEEhalf();
    if (!shape.half)
      return float(x);
    x = std::min(std::max(x, -65504.0), 65504.0);
    return widen(narrow(float(x), half), half);
  }
  double rounded(double y) const {
    if (shape.rounding == Rounding::Even)
      return nearestEven(float(y));
    if (shape.rounding == Rounding::HalfUp)
      return std::floor(double(float(y + (shift + 0.5)))) - shift;
    return std::copysign(std::floor(std::fabs(y) + 0.5), y);
  }
  int code(float x) const {
    double above = float(finite(x) - origin);
    double y = float(float(above * factor) - below);
    return int(rounded(std::min(most, std::max(least, y))));
  }

  const Shape shape;
  double least, most, shift;
  float zero = 0, origin = 0, below = 0, scale = 0, factor = 0;
};

class BoxCodecTest : public CodecTest,
                     public testing::WithParamInterface<Shape> {
protected:
  IntCodecAttr codec() {
    const Shape &shape = GetParam();
    mlir::Type type = shape.half ? f16() : f32();
    return IntCodecAttr::get(
        &context, shape.bits, type, shape.zero ? type : mlir::Type(),
        shape.tokens, shape.channels, shape.extreme, shape.exact,
        shape.rounding, shape.between ? ZeroKind::Float : ZeroKind::Min);
  }
  void check(const std::vector<float> &rows, int64_t tokens);
};

/// Codes one by one, what they decode to, and no bit beside them.
void BoxCodecTest::check(const std::vector<float> &rows, int64_t tokens) {
  const Shape &shape = GetParam();
  int64_t dim = rows.size() / tokens;
  int64_t channels = shape.channels ? shape.channels : dim;
  auto planes = CodecAttrInterface(codec()).getPlanes(dim);
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<uint8_t *> to;
  for (const CodecPlane &plane : planes)
    bytes.emplace_back(plane.elements * plane.type.getIntOrFloatBitWidth() / 8 *
                           (tokens / plane.tokens),
                       0xa5);
  for (auto &plane : bytes)
    to.push_back(plane.data());
  CodecAttrInterface(codec()).quantizeRows(rows, tokens, to);
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<const uint8_t *> from;
    for (auto [plane, data] : llvm::zip(planes, bytes))
      from.push_back(data.data() +
                     t / plane.tokens * (data.size() * plane.tokens / tokens));
    std::vector<float> row(dim, NAN);
    CodecAttrInterface(codec()).dequantizeRow(from, row);
    for (int64_t c = 0; c < dim; ++c) {
      std::vector<float> elements;
      for (int64_t i = 0; i < shape.tokens; ++i)
        for (int64_t j = 0; j < channels; ++j)
          elements.push_back(rows[(t / shape.tokens * shape.tokens + i) * dim +
                                  c / channels * channels + j]);
      Box box(elements, shape);
      int code = box.code(rows[t * dim + c]);
      ASSERT_EQ(unpackCode(from[0], c, shape.bits, !shape.zero), code)
          << "token " << t << " channel " << c;
      float want = shape.between ? float(float(code) + box.zero) * box.scale
                                 : float(float(code) * box.scale) + box.zero;
      ASSERT_EQ(row[c], want);
    }
  }
}

TEST_P(BoxCodecTest, RandomBoxes) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-20, 20);
  for (int i = 0; i < 40; ++i) {
    int64_t tokens = GetParam().tokens * (1 + i % 3);
    std::vector<float> rows(tokens * (8 << i % 4));
    float size = std::exp2(exponent(random)), origin = normal(random) * size;
    for (float &x : rows)
      x = origin + normal(random) * size;
    check(rows, tokens);
  }
}

/// Steps of a half, and what is beside one.
TEST_P(BoxCodecTest, Halves) {
  const Shape &shape = GetParam();
  int64_t tokens = shape.tokens;
  for (float end : {8.f, -8.f, 127.f}) {
    std::vector<float> rows(tokens * 32);
    for (size_t i = 0; i < rows.size(); ++i) {
      float half = 0.5f * float(int(i % 16) - 8);
      rows[i] = i % 3 == 0   ? half
                : i % 3 == 1 ? std::nextafterf(half, INFINITY)
                             : std::nextafterf(half, -INFINITY);
      if (i % 8 == 7)
        rows[i] = end;
    }
    check(rows, tokens);
  }
}

TEST_P(BoxCodecTest, Extremes) {
  int64_t tokens = GetParam().tokens;
  std::vector<float> rows(tokens * 8);
  for (float x : {0.0f, -0.0f, NAN, 1.0f, INFINITY, FLT_MAX, FLT_TRUE_MIN}) {
    std::fill(rows.begin(), rows.end(), x);
    check(rows, tokens);
    for (float y : {-INFINITY, 3.0f, NAN, -1e-3f}) {
      for (size_t i = 0; i < rows.size(); i += 3)
        rows[i] = y;
      check(rows, tokens);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BoxCodecTest,
    testing::Values(
        Shape{2, 32, 1, true, true}, Shape{2, 1, 8, true, true},
        Shape{1, 4, 0, true, false}, Shape{3, 1, 0, true, true},
        Shape{4, 1, 4, false, true}, Shape{5, 2, 2, false, false},
        Shape{7, 1, 0, true, false}, Shape{8, 16, 1, true, true},
        Shape{8, 1, 0, true, false}, Shape{2, 1, 0, false, true},
        // ggml's q8_0, q4_0, q4_1, q5_0 and q5_1
        Shape{8, 1, 8, false, true, false, true, Rounding::HalfAway},
        Shape{4, 1, 8, false, true, true, true, Rounding::HalfUp},
        Shape{4, 1, 8, true, true, false, true, Rounding::HalfUp},
        Shape{5, 1, 8, false, true, true, true, Rounding::HalfUp},
        Shape{5, 1, 8, true, true, false, true, Rounding::HalfUp},
        Shape{2, 1, 8, false, false, true, false, Rounding::HalfAway},
        Shape{8, 1, 8, true, true, false, true, Rounding::HalfAway},
        Shape{4, 1, 0, true, true, false, false, Rounding::Even, true},
        Shape{2, 1, 8, true, false, false, true, Rounding::HalfUp, true},
        Shape{8, 4, 1, true, true, false, false, Rounding::HalfAway, true}));

} // namespace
