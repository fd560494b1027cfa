//===- ExprTest.cpp - expressions: grammar, types, ranges, carets ---------===//
#include "lib/base/Spec/Expr.h"
#include "lib/base/Spec/Fields.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

using namespace kvc;
using namespace kvc::spec;
using testing::HasSubstr;
using testing::Not;

namespace {

/// An expression read out of a document of its own.
struct Reading {
  std::optional<Expr> expr;
  std::string messages;
  uint32_t column = 0; ///< of the first error, from the expression's first

  explicit Reading(const std::string &text, ExprType type = ExprType::Float,
                   bool score = true, bool positions = true) {
    Constant slopes{"slope", {0.5, 0.25, 0.125, 0.0625}, false, {}};
    Constant bias{"bias", {-1.5}, true, {}};
    Constant first{"first", {}, false, {}, 64, false, ExprType::Int};
    Constant wide{"wide", std::vector<double>(1000, 1.0), false, {}};
    Constant one{"one", {2}, false, {}};
    Constant broken{"broken", {}, false, {}, 0, false, ExprType::Float, true};
    Constant constants[] = {slopes, bias, first, wide, one, broken};
    ExprScope scope{score, positions, 4, 2, constants};
    Diagnostics diagnostics;
    std::string json = "{\"e\": \"" + text + "\"}";
    diagnostics.addSource("a.json", json);
    auto document = Document::parse(json, "a.json", diagnostics);
    if (document) {
      Context context(*document, diagnostics);
      expr = readExpr(context, *document->root().find("e"), scope, type);
    }
    llvm::raw_string_ostream os(messages);
    diagnostics.print(os, Diagnostics::Format::Text);
    if (diagnostics.hasErrors())
      column = diagnostics.all().front().loc.column - 8;
  }
};

std::string textOf(const std::string &text, ExprType type = ExprType::Float) {
  Reading reading(text, type);
  EXPECT_TRUE(reading.expr) << reading.messages;
  return reading.expr ? reading.expr->text() : "";
}

/// The error's column within the expression, from 0, and its message.
void expectError(const std::string &text, uint32_t column,
                 const std::string &message, ExprType type = ExprType::Float) {
  Reading reading(text, type);
  EXPECT_FALSE(reading.expr) << text;
  EXPECT_EQ(reading.column, column) << text << "\n" << reading.messages;
  EXPECT_THAT(reading.messages, HasSubstr(message)) << text;
}

TEST(Expr, PrintsWithTheFewestParentheses) {
  EXPECT_EQ(textOf("s"), "s");
  EXPECT_EQ(textOf("(s)-(1.0)"), "s - 1.0");
  EXPECT_EQ(textOf("s - (1.0 - s)"), "s - (1.0 - s)");
  EXPECT_EQ(textOf("(s - 1.0) - s"), "s - 1.0 - s");
  EXPECT_EQ(textOf("s*(1.0+s)"), "s * (1.0 + s)");
  EXPECT_EQ(textOf("-(s + 1.0)"), "-(s + 1.0)");
  EXPECT_EQ(textOf("s + -1.0"), "s + -1.0");
  EXPECT_EQ(textOf("p-t<8?s:s-1.0"), "p - t < 8 ? s : s - 1.0");
  EXPECT_EQ(textOf("(p<8&&t<8)||h==1", ExprType::Bool),
            "p < 8 && t < 8 || h == 1");
  EXPECT_EQ(textOf("!(p<8||t<8)", ExprType::Bool), "!(p < 8 || t < 8)");
  EXPECT_EQ(textOf("p//4==t//4", ExprType::Bool), "p // 4 == t // 4");
  EXPECT_EQ(textOf("max(s, 2)"), "max(s, 2.0)");
  EXPECT_EQ(textOf("s - exp2(-8.0*(h+1)/4)*(p-t)"),
            "s - exp2(-8.0 * float(h + 1) / 4.0) * float(p - t)");
  EXPECT_EQ(textOf("s * slope[h] + bias"), "s * slope[h] + bias");
}

TEST(Expr, ANumberKeepsItsValue) {
  EXPECT_EQ(textOf("1e-3"), "0.001");
  EXPECT_EQ(textOf(".5"), "0.5");
  EXPECT_EQ(textOf("2"), "2.0"); // a float is wanted
  EXPECT_EQ(textOf("2147483647 - t < 3", ExprType::Bool), "2147483647 - t < 3");
  // Where the shortest text of an integer would be a float's.
  EXPECT_EQ(textOf("p - t < 100000", ExprType::Bool), "p - t < 100000");
  EXPECT_EQ(textOf("t > -2000000000", ExprType::Bool), "t > -2000000000");
  EXPECT_EQ(textOf("100000.0"), "1e+05");
  EXPECT_EQ(textOf("s + t // 8000000"), "s + float(t // 8000000)");
  expectError("s + 1e39", 4, "a float has a magnitude of");
  expectError("s + 2147483648", 4, "an integer is below 2^31");
  expectError("s + 1.2.3", 4, "expected a number, found `1.2.3`");
  expectError("s + 12x", 4, "expected a number, found `12x`");
}

TEST(Expr, AnErrorStandsAtItsPlace) {
  expectError("", 0, "found the end of the expression");
  expectError("s +", 3, "expected a number, a name or `(`");
  expectError("(s", 2, "expected `)`");
  expectError("s s", 2, "expected an operator or the end, found `s`");
  expectError("p < t < 4 ? s : s", 6, "write `a < b && b < c`");
  expectError("p = t ? s : s", 2, "use `==` to compare");
  expectError("p < t & t < 4 ? s : s", 6, "use `&&` or `||`");
  expectError("p < t and t < 4 ? s : s", 6, "use `&&`");
  expectError("p < t ? s", 9, "expected `:` and the other value");
  expectError("slop[h] + s", 0, "did you mean `slope`?");
  expectError("s * kv_idx", 4, "use `t`");
  expectError("tanh(s", 6, "expected `)`");
  expectError("max(s)", 5, "expected `,` and another argument");
  expectError("tanh + s", 5, "expected `(` after the name of a function");
  expectError("slope + s", 6, "expected `[` and an index");
  expectError("s # 1", 2, "found `#`");
}

// A character that looks like an operator is shown whole, with its number, and
// the caret stands below it.
TEST(Expr, OtherCharactersAreWhole) {
  Reading reading("p \u2212 t < 4", ExprType::Bool);
  EXPECT_EQ(reading.messages,
            "a.json:1:10: error: expected an operator or the end, found "
            "`\u2212` (U+2212) [E-EXPR]\n"
            "{\"e\": \"p \u2212 t < 4\"}\n"
            "         ^\n"
            "  at /e\n"
            "a.json:1:10: help: use `-`\n");
  expectError("p \u2013 t", 2, "(U+2013) [E-EXPR]");
  expectError("p \u2013 t", 2, "use `-`");
  expectError("s \u00d7 2", 2, "use `*`");
  expectError("t \u2264 p ? s : s", 2, "use `<=`");
  expectError("t \u2265 p ? s : s", 2, "use `>=`");
  expectError("s + \u03b1", 4, "found `\u03b1` (U+03B1)");
  expectError("s\u00a0+ 1", 1, "found `\u00a0` (U+00A0)");
  expectError("s\u00a0+ 1", 1, "help: use a plain space");
  expectError("s + \U0001d465", 4, "(U+1D465)");
}

// What others have an operator or a function for, and how it is written here.
TEST(Expr, SaysHowItIsWrittenHere) {
  expectError("s - 2**h", 5, "found `**`, which is none");
  expectError("s - 2**h", 5, "use `exp2(h)`");
  expectError("s - 2 ** -(h + 1)", 6, "use `exp2(-(h + 1))`");
  expectError("3 * s**2 + 1", 5, "use `s * s`");
  expectError("-(p - t)**3", 8, "use `(p - t) * (p - t) * (p - t)`");
  expectError("slope[h]**h", 8, "use `exp2(h * log2(slope[h]))`");
  expectError("s **", 2, "use `exp2(y * log2(x))`");
  expectError("2**h < t", 1, "write the product out", ExprType::Bool);
  for (const char *legal : {"s - exp2(h)", "s - exp2(-(h + 1))",
                            "3 * s * s + 1", "exp2(h * log2(slope[h]))"})
    EXPECT_TRUE(Reading(legal).expr) << legal;
  expectError("s if t < 4 else 0", 2, "use `condition ? a : b`");
  expectError("where(t < 4, s, 0)", 0, "use `condition ? a : b`");
  expectError("max(s, 1, 2)", 8,
              "expected `)`, for `max` takes two arguments, found `,`");
  expectError("max(s, 1, 2)", 8, "for three write `max(a, max(b, c))`");
  expectError("exp(s, 1)", 5, "`exp` takes one argument");
  expectError("min(s)", 5, "another argument, for `min` takes two, found `)`");
  expectError("s * bias[h]", 8,
              "`bias` is one number and not a list, but has an index");
  expectError("s * bias[h]", 8, "write `bias`, or make a list of it");
}

TEST(Expr, AnUnknownNameMayBeDeclared) {
  expectError("s + cap", 4,
              "declare it in `attend.constants`, as in `\"cap\": 0.5`");
  expectError("s + scales[h]", 4, "as in `\"scales\": [0.5, 0.25]`");
  std::string form = "as in `\"w\": {\"type\": \"int\", \"values\": [64]}`";
  expectError("p - t < w", 8, form + ", and read `w[0]`", ExprType::Bool);
  expectError("p - t < w[h]", 8, form + "\n", ExprType::Bool);
  EXPECT_THAT(Reading("s + kv_idx").messages, Not(HasSubstr("declare")));
  expectError("slop[h] + s", 0, "or declare it in `attend.constants`");
  expectError("s + cos(h)", 4,
              "expected a function, one of `abs`, `exp`, `exp2`, `log`, "
              "`log2`, `tanh`, `sqrt`, `sigmoid`, `min`, `max` or `float`, "
              "found `cos`");
  expectError("tan(s)", 0, "did you mean `tanh`?");
  EXPECT_THAT(Reading("s < 1", ExprType::Bool, /*score=*/false).messages,
              HasSubstr("`s` is known in `logits` only"));
  EXPECT_THAT(Reading("bias * t", ExprType::Float, false, false).messages,
              HasSubstr("`t` is not known in `sink`"));
}

// What was said of the constant itself is enough.
TEST(Expr, AConstantThatCouldNotBeReadIsNoSecondError) {
  for (const char *text : {"s + broken", "s + broken[h]", "s + broken[t * 4]"})
    EXPECT_EQ(Reading(text).messages, "") << text;
}

TEST(Expr, TypesAreHeld) {
  expectError("p < t", 0, "expected a float, but `p < t` is a boolean");
  expectError("s", 0, "expected a boolean", ExprType::Bool);
  expectError("s && s ? s : s", 2, "`&&` takes booleans");
  expectError("(p < t) + s", 8,
              "`+` takes numbers, but `(p < t)` is a boolean");
  expectError("!s", 1, "`!` takes a boolean");
  expectError("-(p < t)", 1, "expected a number");
  expectError("p ? s : s", 0, "a condition is a boolean");
  expectError("s // 2", 2, "takes integers");
  expectError("s + t // h", 9, "expected a positive integer literal");
  expectError("s + t % 0", 8, "expected a positive integer literal");
  expectError("slope[s]", 6, "an index is an integer");
  EXPECT_EQ(textOf("(p < t) == (t < 4)", ExprType::Bool), "(p < t) == (t < 4)");
}

// The caret stands below what was written as a float, not below what is one
// beside it.
TEST(Expr, WhatIsVisibleIsOfIntegers) {
  ExprType wanted = ExprType::Bool;
  expectError("p - t < 0.5 * p", 8, "`0.5` is a float", wanted);
  expectError("2 < 0.5 * t", 4, "`0.5` is a float", wanted);
  expectError("t < 4 || p / 2 > t", 9, "`p / 2` is a float", wanted);
  expectError("exp2(h) < t", 0, "`exp2(h)` is a float", wanted);
  expectError("float(t) < 4", 0, "`float(t)` is a float", wanted);
  expectError("t < slope[h]", 4, "`slope[h]` is a float", wanted);
}

TEST(Expr, IntegersStayWithin32Bits) {
  expectError("s + (p + t)", 5, "more than an integer of 32 bits holds");
  expectError("s + 2 * t", 4, "may be 0 to");
  // What the message advises is legal, and what looks alike is not.
  expectError("s + 2 * t", 4, "as in `2 * min(t, 4096)`");
  EXPECT_EQ(textOf("s + 2 * min(t, 4096)"), "s + float(2 * min(t, 4096))");
  EXPECT_EQ(textOf("s + 2.0 * t"), "s + 2.0 * float(t)");
  expectError("s + 2 * (p - t)", 4, "may be -");
  expectError("slope[h + 1]", 6, "the index is 1 to 4, but `slope` has 4");
  expectError("slope[t]", 6, "the index is 0 to");
  EXPECT_EQ(textOf("slope[t % 4]"), "slope[t % 4]");
  EXPECT_EQ(textOf("slope[min(abs(p - t), 3)]"), "slope[min(abs(p - t), 3)]");
  EXPECT_EQ(textOf("slope[3 - h]"), "slope[3 - h]");
  Reading reading("s + float(h * 2 - g)");
  ASSERT_TRUE(reading.expr) << reading.messages;
  const Expr &sum = reading.expr->operands[1].operands[0];
  EXPECT_EQ(sum.low, -1);
  EXPECT_EQ(sum.high, 6);
}

// A float would not decide what is visible: that help would lead to the next
// error.
TEST(Expr, AdvisesOnRangesWhatIsLegalThere) {
  ExprType wanted = ExprType::Bool;
  std::string bound = "help: bound an operand, as in `2 * min(t, 4096)`";
  struct {
    const char *text, *help, *legal;
  } cases[] = {
      {"t * 8 < p",
       ", or divide the other side, as in `t <= p // 8` for `8 * t <= p`\n",
       "t <= p // 8"},
      {"2 * (p - t) < 10", ", or divide the other side", "p - t <= 9 // 2"},
      {"p + t < 100",
       ", or move a term to the other side, as in `p < 100 - t` for `p + t < "
       "100`\n",
       "p < 100 - t"},
      {"t < first[0] + 1", ", or move a term", "t - 1 < first[0]"},
      {"p - first[0] < 4",
       ", or move a term to the other side, as in `p - 4 < first[0]` for `p - "
       "first[0] < 4`\n",
       "p - 4 < first[0]"},
      {"-first[0] < t", "\n", "-max(first[0], -8192) < t"},
      {"t < first[2 * p]", "\n", "t < first[min(2 * min(p, 4096), 63)]"},
  };
  for (auto [text, help, legal] : cases) {
    EXPECT_THAT(Reading(text, wanted).messages, HasSubstr(bound + help))
        << text;
    EXPECT_TRUE(Reading(legal, wanted).expr) << legal;
  }
  EXPECT_TRUE(Reading("2 * min(t, 4096) < p", wanted).expr);
  // Nor is one an index.
  EXPECT_THAT(Reading("slope[2 * p]").messages, HasSubstr(bound + "\n"));
}

TEST(Expr, AnIndexIsAdvisedToStayInItsRow) {
  ExprType wanted = ExprType::Bool;
  struct {
    const char *text, *help, *legal;
    ExprType type = ExprType::Float;
  } cases[] = {
      {"t >= first[p]", "write `first[min(p, 63)]`", "t >= first[min(p, 63)]",
       wanted},
      {"t >= first[p - c - 1]", "write `first[max(0, min(p - c - 1, 63))]`",
       "t >= first[max(0, min(p - c - 1, 63))]", wanted},
      {"slope[h - 1]", "write `slope[max(h - 1, 0)]`", "slope[max(h - 1, 0)]"},
      {"slope[4]", "write `slope[3]`: indices count from 0", "slope[3]"},
      {"slope[-1]", "write `slope[0]`: indices count from 0", "slope[0]"},
      {"one[t]", "write `one[0]`", "one[0]"},
      {"one[h]", "give it 4 values, one per q head", "slope[h]"},
      {"one[g]", "give it 2 values, one per kv head", "slope[g]"},
      {"wide[t]",
       "write `wide[min(t, 999)]`, and let each call give the values: "
       "`\"wide\": {\"size\": 1000}`",
       "float(first[min(t, 63)])"},
      {"wide[t % 300]",
       "let each call give the values: `\"wide\": {\"size\": 1000}`",
       "wide[t % 200]"},
      {"slope[abs(p - t) // 64 + abs(p - t) // 64 + 12345]",
       "write `slope[min(i, 3)]`", "slope[min(t, 3)]"},
  };
  for (auto [text, help, legal, type] : cases) {
    EXPECT_THAT(Reading(text, type).messages, HasSubstr(help)) << text;
    EXPECT_TRUE(Reading(legal, type).expr) << legal;
  }
}

TEST(Expr, NothingIsDividedByZero) {
  expectError("s / 0", 4, "expected a divisor other than 0, found `0`");
  expectError("p / 0.0", 4, "expected a divisor other than 0, found `0.0`");
  expectError("s / (h // 4)", 4, "but `(h // 4)` is always 0");
  expectError("0 / 0", 4, "expected a divisor other than 0");
  // A number by 0 is the infinity that has no literal.
  EXPECT_EQ(textOf("t < 4 ? s : -1 / 0"), "t < 4 ? s : -1.0 / 0.0");
  EXPECT_EQ(textOf("s / (h // 2)"), "s / float(h // 2)");
}

TEST(Expr, PicksAmongSoManyValuesAndNoMore) {
  // slope has 4.
  auto sum = [](const std::string &term, int times) {
    std::string text = "s";
    for (int i = 0; i < times; ++i)
      text += " + " + term;
    return text;
  };
  EXPECT_TRUE(Reading(sum("slope[t%4]", 64)).expr);
  EXPECT_THAT(Reading(sum("slope[t%4]", 65)).messages,
              HasSubstr("picks by position are at most 256 in all, found 260"));
  EXPECT_TRUE(Reading(sum("slope[h]", 80)).expr);
  // Values by head are counted apart, and there may be more of them.
  EXPECT_TRUE(Reading(sum("slope[h]", 40) + " + slope[t%4]").expr);
}

TEST(Expr, NestsSoDeepAndNoDeeper) {
  std::string deep(40, '('), shut(40, ')');
  EXPECT_EQ(textOf(deep + "s" + shut), "s");
  EXPECT_FALSE(Reading(std::string(400, '(') + "s").expr);
  EXPECT_FALSE(Reading(std::string(400, '-') + "s").expr);
  std::string selects;
  for (int i = 0; i < 100; ++i)
    selects += "p < 1 ? s : ";
  EXPECT_FALSE(Reading(selects + "s").expr);
}

TEST(Expr, TheScoreIsKnownWhereThereIsOne) {
  EXPECT_FALSE(Reading("s < 1.0", ExprType::Bool, /*score=*/false).expr);
  EXPECT_TRUE(Reading("t < 4", ExprType::Bool, /*score=*/false).expr);
}

/// Text that is one expression in many, of the characters that they have.
RC_GTEST_PROP(ExprProperty, AnyTextIsReadOrRefused, ()) {
  std::string text = *rc::gen::container<std::string>(
      rc::gen::elementOf(std::string("stphg0123.+-*/%<>=!&|?:()[], eamxlop")));
  Reading reading(text);
  RC_ASSERT(reading.expr.has_value() == reading.messages.empty());
  if (!reading.expr)
    return;
  // What is printed reads as the same.
  std::string printed = reading.expr->text();
  Reading again(printed);
  RC_ASSERT(again.expr.has_value());
  RC_ASSERT(again.expr->text() == printed);
}

/// A random well-formed text.
std::string randomText(unsigned depth, ExprType type) {
  auto pick = [](std::vector<std::string> words) {
    return words[*rc::gen::inRange<size_t>(0, words.size())];
  };
  auto inner = [&](ExprType type) { return randomText(depth - 1, type); };
  if (depth == 0)
    return type == ExprType::Float ? pick({"s", "0.5", "slope[h]", "bias"})
           : type == ExprType::Int ? pick({"p", "t", "h", "g", "7", "100000"})
                                   : pick({"true", "p < t", "h == 1"});
  switch (*rc::gen::inRange(0, 4)) {
  case 0:
    return "(" + inner(ExprType::Bool) + " ? " + inner(type) + " : " +
           inner(type) + ")";
  case 1:
    if (type == ExprType::Float)
      return pick({"tanh", "exp2", "abs", "-"}) + "(" + inner(type) + ")";
    if (type == ExprType::Int)
      return "(" + inner(type) + ") " + pick({"//", "%"}) + " 5";
    return "!(" + inner(type) + ")";
  case 2:
    if (type == ExprType::Bool)
      return inner(ExprType::Int) + pick({" < ", " >= ", " == "}) +
             inner(ExprType::Int);
    [[fallthrough]];
  default:
    if (type == ExprType::Bool)
      return "(" + inner(type) + pick({") && (", ") || (", ") != ("}) +
             inner(type) + ")";
    if (type == ExprType::Int)
      return "min(" + inner(type) + ", " + inner(type) + ")";
    return "(" + inner(type) + pick({") + (", ") - (", ") * (", ") / ("}) +
           inner(type) + ")";
  }
}

RC_GTEST_PROP(ExprProperty, WhatIsPrintedReadsAsTheSame, ()) {
  unsigned depth = *rc::gen::inRange(0u, 5u);
  Reading reading(randomText(depth, ExprType::Float));
  RC_PRE(reading.expr.has_value()); // or an integer may be too large
  std::string printed = reading.expr->text();
  Reading again(printed);
  RC_ASSERT(again.expr.has_value());
  RC_ASSERT(again.expr->text() == printed);
}

} // namespace
