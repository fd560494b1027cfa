//===- RandomExpr.cpp - what scores' regions say, drawn at random ---------===//
#include "test/unit/Tile/RandomExpr.h"

#include <cmath>

using namespace kvc;
using namespace kvc::fuzz;
using Ref = Expr::Ref;

namespace {

class Drawing {
public:
  Drawing(Expr &expr, Random &random) : e(expr), random(random) {}

  Ref p() const { return e.input(ScoreInput::QueryPosition); }
  Ref t() const { return e.input(ScoreInput::TokenPosition); }
  Ref h() const { return e.input(ScoreInput::QueryHead); }
  Ref g() const { return e.input(ScoreInput::KvHead); }
  Ref s() const { return e.input(ScoreInput::Score); }
  Ref distance() { return e.make(ExprOp::Sub, p(), t()); }
  int64_t tokens() { return random.pick({1, 2, 5, 16, 17, 40, 64, 90, 300}); }

  // Anything, of a type.
  Ref integer(unsigned steps);
  Ref boolean(unsigned steps);
  /// That no score is part of, of at most some tens.
  Ref real();
  /// `x`, which may be of the score, in `steps` steps.
  Ref onward(Ref x, unsigned steps);

  Ref window();
  Ref logit(unsigned choice, int64_t heads);
  Ref visible(unsigned choice);

private:
  Ref integerLeaf();
  Ref comparison(unsigned mostLeft, unsigned mostRight);
  /// Between -low and high, or less far apart.
  Ref clamp(Ref x, double low, double high) {
    double least = -odd(low / 3, low);
    return e.clamp(x, least, odd(high / 3, high));
  }
  /// A constant that no other is like, so that no comparison stands at an edge.
  double odd(double low, double high) {
    return low + (high - low) * (double(random.below(9973)) + 0.37) / 9973;
  }
  Ref step(Ref x);
  Ref functionStep(Ref x);
  Ref positive();
  Ref quotient(Ref x) { return e.make(ExprOp::Div, x, positive()); }
  Ref alibi(int64_t heads, bool tree);
  Ref headTable(int64_t heads, double low, double high);

  Expr &e;
  Random &random;
};

} // namespace

Ref Drawing::integerLeaf() {
  switch (random.below(8)) {
  case 0:
  case 1:
    return p();
  case 7:
    return e.input(ScoreInput::Context);
  case 2:
  case 3:
    return t();
  case 4:
    return random.percent(50) ? h() : g();
  case 5:
    return distance();
  default:
    return e.integer(random.percent(70) ? random.range(-9, 64)
                                        : random.range(-300, 300));
  }
}

Ref Drawing::integer(unsigned steps) {
  constexpr double kMost = 1 << 26; // intervals of it stay within 32 bits
  std::vector<Ref> pool = {integerLeaf()};
  for (unsigned i = 0; i < steps; ++i) {
    Ref x = pool[random.below(pool.size())], y = integerLeaf();
    if (random.percent(25))
      y = pool[random.below(pool.size())];
    if (random.percent(40))
      std::swap(x, y);
    Ref made;
    switch (random.below(8)) {
    case 0:
      made = e.make(ExprOp::Div, x,
                    e.integer(random.pick({1, 2, 3, 7, 8, 16, 25, 64})));
      break;
    case 1:
      made = e.rest(x, random.range(2, 30));
      break;
    case 2:
      made = e.select(boolean(1), x, y);
      break;
    case 3:
      made = e.make(ExprOp::Mul, x, y);
      break;
    default:
      made = e.make(random.pick({ExprOp::Add, ExprOp::Sub, ExprOp::Max,
                                 ExprOp::Min, ExprOp::Sub}),
                    x, y);
    }
    if (e.sizeOf(made) <= kMost)
      pool.push_back(made);
  }
  return pool.back();
}

Ref Drawing::comparison(unsigned mostLeft, unsigned mostRight) {
  Relation relation = Relation(random.below(6));
  Ref x = integer(unsigned(random.range(0, mostLeft)));
  Ref y = integer(unsigned(random.range(0, mostRight)));
  return e.compare(relation, x, y);
}

Ref Drawing::boolean(unsigned steps) {
  if (steps <= 1) {
    if (random.percent(6))
      return e.boolean(random.percent(50));
    return comparison(3, 2);
  }
  Ref x = boolean(steps / 2), y = boolean(steps - steps / 2);
  switch (random.below(6)) {
  case 0:
    return e.select(boolean(1), x, y);
  case 1:
    return e.no(x);
  default:
    return e.make(random.pick({ExprOp::And, ExprOp::Or, ExprOp::Xor}), x, y);
  }
}

/// In [1/2, 4].
Ref Drawing::positive() {
  switch (random.below(3)) {
  case 0:
    return e.real(odd(0.5, 4));
  case 1:
    return e.clamp(e.make(ExprOp::ToReal, integer(1)), 0.5, 4);
  default:
    Ref condition = boolean(1), x = e.real(odd(0.5, 2));
    return e.select(condition, x, e.real(odd(0.5, 4)));
  }
}

Ref Drawing::real() {
  auto clamped = [&] {
    Ref x = e.make(ExprOp::ToReal, integer(unsigned(random.range(0, 3))));
    x = e.make(ExprOp::Mul, x, e.real(odd(-0.1, 0.1)));
    return clamp(x, 20, 20);
  };
  switch (random.below(7)) {
  case 0:
    return e.real(odd(-5, 5));
  case 1:
    return e.make(
        ExprOp::Sqrt,
        e.make(ExprOp::ToReal, e.make(ExprOp::Max, distance(), e.integer(0))));
  case 2:
    return e.make(
        ExprOp::Log2,
        e.make(ExprOp::Add, e.real(1),
               e.make(ExprOp::Abs, e.make(ExprOp::ToReal, distance()))));
  case 3:
    return e.make(ExprOp::Exp2, clamp(clamped(), 9, 3));
  case 4:
    return quotient(clamped());
  default:
    return clamped();
  }
}

Ref Drawing::functionStep(Ref x) {
  auto size = [&](double more) {
    return e.make(ExprOp::Add, e.make(ExprOp::Abs, x), e.real(more));
  };
  switch (random.below(8)) {
  case 0:
    return e.make(ExprOp::Exp2, clamp(x, 6, 3));
  case 1:
    return e.make(ExprOp::Exp, clamp(x, 6, 2));
  case 2:
    return e.make(ExprOp::Log2, size(odd(0.5, 2)));
  case 3:
    return e.make(ExprOp::Log, size(odd(0.5, 2)));
  case 4:
    return e.make(ExprOp::Sqrt, size(odd(0.25, 2)));
  case 5: {
    Ref above = e.real(odd(0.5, 9));
    return e.make(ExprOp::Div, above, size(odd(0.75, 2)));
  }
  case 6:
    return e.make(ExprOp::Tanh, e.make(ExprOp::Mul, x, e.real(odd(0.1, 0.9))));
  default:
    return e.make(ExprOp::Abs, x);
  }
}

Ref Drawing::step(Ref x) {
  switch (random.below(11)) {
  case 0:
    return e.make(ExprOp::Add, x, real());
  case 1:
    return e.make(ExprOp::Sub, x, real());
  case 2:
    return e.make(ExprOp::Sub, real(), x);
  case 3:
    return e.make(ExprOp::Mul, x, clamp(real(), 2, 2));
  case 4:
    return quotient(x);
  case 5: {
    ExprOp op = random.pick({ExprOp::Max, ExprOp::Min});
    return e.make(op, x, real());
  }
  case 6:
    return e.make(ExprOp::Neg, x);
  case 7: {
    Ref condition = boolean(unsigned(random.range(1, 2)));
    return e.select(condition, x, real());
  }
  case 8: {
    Relation relation = Relation(random.range(2, 5));
    Ref condition = e.compare(relation, x, e.real(odd(-8, 8)));
    return e.select(condition, x, e.make(ExprOp::Add, x, real()));
  }
  default:
    return functionStep(x);
  }
}

Ref Drawing::onward(Ref x, unsigned steps) {
  constexpr double kSize = 400, kSteepest = 8;
  for (unsigned i = 0; i < steps; ++i) {
    Ref next = step(x);
    if (e.sizeOf(next) <= kSize && e.slopeOf(next) <= kSteepest)
      x = next;
  }
  return x;
}

/// A number of each head, by a tree of choices.
Ref Drawing::headTable(int64_t heads, double low, double high) {
  auto tree = [&](auto &self, int64_t begin, int64_t end) -> Ref {
    if (end - begin == 1)
      return e.real(odd(low, high));
    int64_t middle = (begin + end) / 2;
    Ref left = e.compare(Relation::Lt, h(), e.integer(middle));
    Ref x = self(self, begin, middle), y = self(self, middle, end);
    return e.select(left, x, y);
  };
  return tree(tree, 0, heads);
}

/// The score, less a slope of the head times the distance.
Ref Drawing::alibi(int64_t heads, bool tree) {
  Ref slope;
  if (tree) {
    slope = headTable(heads, 0.01, 0.5);
  } else {
    Ref exponent =
        e.make(ExprOp::ToReal, e.make(ExprOp::Add, h(), e.integer(1)));
    double ratio = -8. / double(heads);
    slope = e.make(ExprOp::Exp2, e.make(ExprOp::Mul, exponent, e.real(ratio)));
  }
  Ref far = e.make(ExprOp::Mul, slope, e.make(ExprOp::ToReal, distance()));
  return e.make(ExprOp::Sub, s(), far);
}

Ref Drawing::logit(unsigned choice, int64_t heads) {
  switch (choice) {
  case logits::Alibi:
  case logits::AlibiTree:
    return alibi(heads, choice == logits::AlibiTree);
  case logits::HeadBias:
    return e.make(ExprOp::Add, s(), headTable(heads, -4, 4));
  case logits::ByPosition: {
    Ref near = e.compare(Relation::Lt, distance(), e.integer(tokens()));
    Ref other = e.make(ExprOp::Sub, s(), e.real(odd(1, 5)));
    return random.percent(50) ? e.select(near, s(), other)
                              : e.select(near, other, s());
  }
  case logits::Clamped:
    return clamp(s(), 6, 6);
  case logits::Functions:
    return onward(functionStep(s()), 2);
  case logits::Quotient:
    return random.percent(50)
               ? quotient(s())
               : e.make(ExprOp::Div, s(),
                        e.make(ExprOp::Add, e.make(ExprOp::Abs, s()),
                               e.real(odd(0.75, 3))));
  case logits::ScoreTwice: {
    Ref x = onward(s(), unsigned(random.range(0, 3)));
    Ref y = onward(s(), unsigned(random.range(0, 3)));
    if (random.percent(30))
      return e.select(e.compare(Relation::Lt, y, e.real(odd(-3, 3))), x, y);
    if (random.percent(30))
      return e.make(ExprOp::Mul, x, e.make(ExprOp::Tanh, y));
    return e.make(random.pick({ExprOp::Add, ExprOp::Sub, ExprOp::Max}), x, y);
  }
  case logits::NoScore:
    return onward(real(), unsigned(random.range(1, 6)));
  default: // ScoreOnce
    return onward(s(), unsigned(random.range(1, 6)));
  }
}

Ref Drawing::window() {
  Ref n = e.integer(tokens());
  return random.percent(50)
             ? e.compare(Relation::Lt, distance(), n)
             : e.compare(Relation::Gt, t(), e.make(ExprOp::Sub, p(), n));
}

Ref Drawing::visible(unsigned choice) {
  auto sinks = [&](Ref x) {
    Ref first = e.integer(random.range(0, 40));
    return e.make(ExprOp::Or, x, e.compare(Relation::Lt, t(), first));
  };
  auto chunks = [&] {
    Ref n = e.integer(tokens());
    return e.compare(Relation::Eq, e.make(ExprOp::Div, p(), n),
                     e.make(ExprOp::Div, t(), n));
  };
  auto dilation = [&] {
    return e.compare(Relation::Eq, e.rest(distance(), random.range(1, 9)),
                     e.integer(0));
  };
  switch (choice) {
  case shown::Window:
    if (random.percent(50))
      return window();
    return sinks(window());
  case shown::Chunks:
    return chunks();
  case shown::Dilation:
    return dilation();
  case shown::HeadWindows: {
    Ref head = random.percent(50) ? h() : g();
    Ref wider = e.integer(random.range(1, 30));
    Ref n = e.make(ExprOp::Mul, wider, e.make(ExprOp::Add, head, e.integer(1)));
    return e.compare(Relation::Lt, distance(), n);
  }
  case shown::Logic: {
    Ref x = random.percent(50) ? chunks() : e.no(window());
    Ref y = random.percent(50) ? e.no(dilation()) : window();
    return e.make(random.pick({ExprOp::And, ExprOp::Or, ExprOp::Xor}), x, y);
  }
  case shown::Choice: {
    Ref condition = boolean(1), x = random.percent(50) ? window() : chunks();
    return e.select(condition, x, random.percent(50) ? dilation() : boolean(1));
  }
  case shown::Integers:
    return comparison(6, 3);
  default:
    return boolean(unsigned(random.range(2, 6)));
  }
}

Expr fuzz::softcap(double cap) {
  Expr e(/*logits=*/true);
  Ref inner = e.make(ExprOp::Div, e.input(ScoreInput::Score), e.real(cap));
  e.finish(
      e.make(ExprOp::Mul, e.real(cap * M_LOG2E), e.make(ExprOp::Tanh, inner)));
  return e;
}

Expr fuzz::drawLogits(unsigned choice, int64_t heads, Random &random) {
  constexpr double kMost = 60;
  if (choice == logits::Softcap)
    return softcap(random.pick({1.5, 3.0, 5.0, 30.0}));
  Expr e(/*logits=*/true);
  Ref x = Drawing(e, random).logit(choice, heads);
  // ALiBi is for few tokens here.
  bool isLarge = choice >= logits::Functions && e.sizeOf(x) > kMost;
  if (isLarge || x == e.input(ScoreInput::Score))
    x = e.make(ExprOp::Mul, x,
               e.real(isLarge ? kMost / 2 / e.sizeOf(x) : 0.75));
  e.finish(x);
  return e;
}

Expr fuzz::drawVisible(unsigned choice, Random &random) {
  Expr e(/*logits=*/false);
  Drawing drawing(e, random);
  Ref x = drawing.visible(choice);
  // Rows that see nothing are to be there, but not everywhere.
  if (choice >= shown::Logic && random.percent(50))
    x = e.make(ExprOp::Or, x, drawing.window());
  e.finish(x);
  return e;
}
