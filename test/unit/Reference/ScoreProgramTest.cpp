//===- ScoreProgramTest.cpp - a score's region on the host ----------------===//
#include "lib/driver/Reference/ScoreProgram.h"
#include "lib/base/Spec/Fields.h"
#include "lib/driver/Import/ScoreRegion.h"

#include "dialect/KvcDialect.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace kvc;
using namespace kvc::reference;
using spec::ExprType;

namespace {

class ScoreProgramTest : public testing::Test {
protected:
  ScoreProgramTest() { context.loadDialect<KvcDialect>(); }

  /// What an expression of a spec means; `s` is known to logits alone.
  ScoreProgram program(const std::string &text, bool logits = true) {
    Diagnostics diagnostics;
    std::string json = "[\"" + text + "\"]";
    auto document = spec::Document::parse(json, "a.json", diagnostics);
    spec::Context reading(*document, diagnostics);
    spec::Constant slope{"slope", {0.5, 0.25, 0.125, 0.0625}, false, {}};
    spec::ExprScope scope{logits, true, 4, 2, slope};
    auto expr = readExpr(reading, *document->root().children[0], scope,
                         logits ? ExprType::Float : ExprType::Bool);
    EXPECT_TRUE(expr) << text;
    mlir::Region region;
    importExpr(region,
               logits ? ScoreRegionKind::Logits : ScoreRegionKind::Visible,
               *expr, mlir::UnknownLoc::get(&context));
    return ScoreProgram(region);
  }

  double logit(const std::string &text, double s, ScorePlace place = {}) {
    return program(text).logit(s, place);
  }
  bool visible(const std::string &text, ScorePlace place) {
    return program(text, /*logits=*/false).visible(place);
  }

  mlir::MLIRContext context;
};

TEST_F(ScoreProgramTest, NoRegionIsTheScore) {
  ScoreProgram none;
  EXPECT_TRUE(none.isEmpty());
  EXPECT_EQ(none.logit(2.5, {}), 2.5);
  EXPECT_TRUE(none.visible({}));
  EXPECT_EQ(logit("s", 2.5), 2.5);
}

TEST_F(ScoreProgramTest, DoesWhatIsWritten) {
  ScorePlace place{100, 40, 70, 3, 1};
  EXPECT_DOUBLE_EQ(logit("50.0 * tanh(s / 50.0)", 20, place),
                   50 * std::tanh(0.4));
  EXPECT_DOUBLE_EQ(logit("s - exp2(-8.0 * (h + 1) / 4) * (p - t)", 1, place),
                   1 - std::exp2(-8) * 60);
  EXPECT_DOUBLE_EQ(logit("s + slope[h]", 1, place), 1.0625);
  EXPECT_DOUBLE_EQ(logit("s + slope[g] * g", 1, place), 1.25);
  EXPECT_DOUBLE_EQ(logit("p - t < 64 ? s : s - 3", 1, place), 1);
  EXPECT_DOUBLE_EQ(logit("p - t < 60 ? s : s - 3", 1, place), -2);
  EXPECT_DOUBLE_EQ(logit("s * sigmoid(0.5)", 2, place),
                   2 / (1 + std::exp(-0.5)));
  EXPECT_DOUBLE_EQ(logit("max(min(s, 1.5), -abs(s))", 2, place), 1.5);
  EXPECT_DOUBLE_EQ(logit("s + log(exp(2.0)) + sqrt(9.0)", 0, place), 5);
  // Division rounds down, also below 0.
  EXPECT_DOUBLE_EQ(logit("s + (t - p) // 7", 0, place), -9);
  EXPECT_DOUBLE_EQ(logit("s + (t - p) % 7", 0, place), 3);
}

TEST_F(ScoreProgramTest, ShowsWhatIsWritten) {
  EXPECT_TRUE(visible("p // 64 == t // 64", {100, 64, 0, 0, 0}));
  EXPECT_FALSE(visible("p // 64 == t // 64", {100, 63, 0, 0, 0}));
  EXPECT_TRUE(visible("!(t < 4) && h != 1 || t == 2", {9, 2, 0, 1, 0}));
  EXPECT_FALSE(visible("!(t < 4) && h != 1 || t == 2", {9, 5, 0, 1, 0}));
  EXPECT_TRUE(visible("(t < 4) == (p < 4)", {9, 5, 0, 1, 0}));
}

TEST_F(ScoreProgramTest, AnErrorIsCarriedOn) {
  auto error = [&](const std::string &text, double s, double off) {
    return program(text).logit(Approx{s, off}, {10, 4, 0, 0}).error;
  };
  // Steep and flat parts of a softcap.
  EXPECT_NEAR(error("10.0 * tanh(s / 10.0)", 0, 1e-3), 1e-3, 1e-5);
  EXPECT_LT(error("10.0 * tanh(s / 10.0)", 100, 1e-3), 1e-4);
  EXPECT_NEAR(error("s * s", 4, 1e-3), 8e-3, 1e-4);
  // Which way a comparison goes is not known.
  EXPECT_GE(error("s < 1.0 ? s : s - 3.0", 1.0005, 1e-3), 3);
  EXPECT_LT(error("s < 1.0 ? s : s - 3.0", 1.1, 1e-3), 2e-3);
  EXPECT_EQ(error("1.0 / s", 1e-4, 1e-3),
            std::numeric_limits<double>::infinity());
}

/// Integers are exact, and so is 0 times something: at p = t nothing is unsure.
TEST_F(ScoreProgramTest, ARootOfNothingIsExact) {
  Approx score{2, 1e-6};
  for (const char *text : {"s + sqrt(p - t)", "s + sqrt(0.5 * (p - t))",
                           "s + sqrt((p - t) / 3.0)"})
    EXPECT_LT(program(text).logit(score, {7, 7, 0, 0}).error, 2e-6) << text;
}

/// What may be anything may be so after any step: no bound is NaN.
TEST_F(ScoreProgramTest, AnythingStaysAnything) {
  for (const char *text :
       {"2.0 * sqrt(s)", "0.0 * (1.0 / s)", "(1.0 / s) / (1.0 / s)",
        "max(sqrt(s), 1.0) * 3.0 - sqrt(s)"})
    EXPECT_EQ(program(text).logit(Approx{1e-7, 1e-6}, {}).error,
              std::numeric_limits<double>::infinity())
        << text;
}

/// The steps of a program in f32, one after the other, are within its bound.
TEST_F(ScoreProgramTest, SinglePrecisionIsWithinTheBound) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> scores(-40, 40);
  auto round = [](double x) { return double(float(x)); };
  for (const char *text :
       {"30.0 * tanh(s / 30.0)", "s - exp2(-8.0 * (h + 1) / 4) * (p - t)",
        "s * sigmoid(s) + log2(1.5 + abs(s))", "s / (1.0 + abs(s))",
        "exp(min(s, 20.0) / 3.0)", "max(s, 0.1) * sqrt(abs(s))"}) {
    ScoreProgram program = this->program(text);
    for (int i = 0; i < 1000; ++i) {
      ScorePlace place{100000 + i, i * 90, 90000, i % 4, i % 2};
      double exact = scores(random), given = round(exact);
      Approx bound =
          program.logit(Approx{exact, std::fabs(given - exact)}, place);
      double found = program.logit(given, place, round);
      ASSERT_LE(std::fabs(found - bound.value), bound.error) << text << exact;
      ASSERT_LT(bound.error, 1e-4 * (1 + std::fabs(bound.value))) << text;
    }
  }
}

} // namespace
