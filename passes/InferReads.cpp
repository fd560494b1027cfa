//===- InferReads.cpp - what a visible region shows at most ---------------===//
//
// Which pages a step reads, which tiles are skipped and which pages go back to
// the pool is decided by a store's read: the first `sink` tokens and the last
// `recent`. This pass finds the smallest read that a visible region implies. An
// integer of the region lies between two linear functions of the positions p
// and t (the quotient of a division lies within one of the real one), so that a
// comparison bounds p - t, or t, or nothing. A region that says no more than
// its read is dropped: `t > p - 4096` is a window and costs what a window
// costs.
//
//===----------------------------------------------------------------------===//
#include "dialect/Score.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

namespace kvc {
#define GEN_PASS_DEF_INFERREADS
#include "passes/Passes.h.inc"
} // namespace kvc

using namespace mlir;
using namespace kvc;

namespace {

constexpr int64_t kAll = INT64_MAX;

/// (p * query + t * token + constant) / divisor, the divisor positive.
struct Linear {
  int64_t query = 0, token = 0, constant = 0, divisor = 1;

  bool operator==(const Linear &) const = default;
};
using Bound = std::optional<Linear>;

/// x * a + y * b; nothing where 64 bits do not suffice.
Bound combine(Bound x, int64_t a, Bound y, int64_t b) {
  if (!x || !y)
    return std::nullopt;
  bool overflow = false;
  auto times = [&](int64_t u, int64_t v) {
    int64_t result;
    overflow |= llvm::MulOverflow(u, v, result);
    return result;
  };
  auto field = [&](int64_t Linear::*f) {
    int64_t left = times(times((*x).*f, a), y->divisor), result;
    int64_t right = times(times((*y).*f, b), x->divisor);
    overflow |= bool(llvm::AddOverflow(left, right, result));
    return result;
  };
  Linear sum{field(&Linear::query), field(&Linear::token),
             field(&Linear::constant), times(x->divisor, y->divisor)};
  return overflow ? Bound() : Bound(sum);
}

Bound constant(int64_t value) { return Linear{0, 0, value, 1}; }

/// Where an integer lies.
struct LinearRange {
  Bound low, high;

  /// Whether it is the one linear function.
  bool isExact() const { return low && high && *low == *high; }
};

/// The tokens t <= p with t < sink or p - t < recent; kAll: no bound. `exact`:
/// what implies it is implied by it. Of tokens t > p it says nothing.
struct Hull {
  int64_t sink = 0, recent = 0;
  bool exact = true;

  static Hull all(bool exact) { return {0, kAll, exact}; }
  static Hull none() { return {}; }
  bool isAll() const { return sink == kAll || recent == kAll; }
};

Hull join(const Hull &a, const Hull &b) {
  return {std::max(a.sink, b.sink), std::max(a.recent, b.recent),
          a.exact && b.exact};
}

Hull meet(const Hull &a, const Hull &b) {
  for (auto [one, other] : {std::pair(a, b), std::pair(b, a)})
    if (one.isAll())
      return {other.sink, other.recent, one.exact && other.exact};
  bool exact = a.exact && b.exact;
  if (a.sink == 0 && b.sink == 0)
    return {0, std::min(a.recent, b.recent), exact};
  if (a.recent == 0 && b.recent == 0)
    return {std::min(a.sink, b.sink), 0, exact};
  Hull tighter =
      std::pair(a.recent, a.sink) < std::pair(b.recent, b.sink) ? a : b;
  tighter.exact = false;
  return tighter;
}

class Inference {
public:
  explicit Inference(StoreOp store) : store(store) {}

  /// Of a boolean, or of its opposite.
  Hull hullOf(Value value, bool positive);

private:
  LinearRange rangeOf(Value value);
  LinearRange rangeOf(BlockArgument argument);
  LinearRange multiplied(Value x, Value y);
  LinearRange quotient(Value x, Value divisor);
  Hull compared(arith::CmpIOp op, bool positive);
  /// Of x <= y + slack.
  Hull atMost(Value x, Value y, int64_t slack);

  StoreOp store;
};

} // namespace

LinearRange Inference::rangeOf(BlockArgument argument) {
  switch (inputOf(*argument.getOwner()->getParent(), argument.getArgNumber())) {
  case ScoreInput::QueryPosition:
    return {Linear{1, 0, 0, 1}, Linear{1, 0, 0, 1}};
  case ScoreInput::TokenPosition:
    return {Linear{0, 1, 0, 1}, Linear{0, 1, 0, 1}};
  case ScoreInput::Context:
    return {constant(0), Linear{1, 0, 0, 1}};
  case ScoreInput::QueryHead:
    return {constant(0), constant(int64_t(store.getQHeads()) - 1)};
  case ScoreInput::KvHead:
    return {constant(0), constant(int64_t(store.getKvHeads()) - 1)};
  case ScoreInput::Score:
    break;
  }
  return {};
}

LinearRange Inference::multiplied(Value x, Value y) {
  LinearRange left = rangeOf(x), right = rangeOf(y);
  auto isConstant = [](const LinearRange &range) {
    return range.isExact() && range.low->query == 0 && range.low->token == 0 &&
           range.low->divisor == 1;
  };
  if (isConstant(left))
    std::swap(left, right);
  if (!isConstant(right))
    return {};
  int64_t factor = right.low->constant;
  if (factor < 0)
    std::swap(left.low, left.high);
  return {combine(left.low, factor, constant(0), 1),
          combine(left.high, factor, constant(0), 1)};
}

/// floor(x / n) is more than (x - n) / n and at most x / n.
LinearRange Inference::quotient(Value x, Value divisor) {
  LinearRange range = rangeOf(x), by = rangeOf(divisor);
  if (!by.isExact())
    return {};
  int64_t n = by.low->constant;
  auto divide = [&](Bound bound) -> Bound {
    if (!bound || llvm::MulOverflow(bound->divisor, n, bound->divisor))
      return std::nullopt;
    return bound;
  };
  return {divide(combine(range.low, 1, constant(1 - n), 1)),
          divide(range.high)};
}

LinearRange Inference::rangeOf(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return rangeOf(argument);
  return llvm::TypeSwitch<Operation *, LinearRange>(value.getDefiningOp())
      .Case([&](arith::ConstantOp op) {
        Bound exactly = constant(
            cast<IntegerAttr>(op.getValue()).getValue().getSExtValue());
        return LinearRange{exactly, exactly};
      })
      .Case([&](arith::AddIOp op) {
        LinearRange x = rangeOf(op.getLhs()), y = rangeOf(op.getRhs());
        return LinearRange{combine(x.low, 1, y.low, 1),
                           combine(x.high, 1, y.high, 1)};
      })
      .Case([&](arith::SubIOp op) {
        LinearRange x = rangeOf(op.getLhs()), y = rangeOf(op.getRhs());
        return LinearRange{combine(x.low, 1, y.high, -1),
                           combine(x.high, 1, y.low, -1)};
      })
      .Case([&](arith::MulIOp op) {
        return multiplied(op.getLhs(), op.getRhs());
      })
      .Case([&](arith::FloorDivSIOp op) {
        return quotient(op.getLhs(), op.getRhs());
      })
      .Case([&](arith::MaxSIOp op) {
        Bound x = rangeOf(op.getLhs()).low;
        return LinearRange{x ? x : rangeOf(op.getRhs()).low, Bound()};
      })
      .Case([&](arith::MinSIOp op) {
        Bound x = rangeOf(op.getLhs()).high;
        return LinearRange{Bound(), x ? x : rangeOf(op.getRhs()).high};
      })
      .Default([](Operation *) { return LinearRange(); });
}

/// The least that x - y may be is at most `slack`.
Hull Inference::atMost(Value x, Value y, int64_t slack) {
  LinearRange left = rangeOf(x), right = rangeOf(y);
  Bound least = combine(left.low, 1, right.high, -1);
  if (least)
    least = combine(least, 1, constant(slack), -1);
  if (!least)
    return Hull::all(/*exact=*/false);
  bool exact = left.isExact() && right.isExact();
  // query * p + token * t + c <= 0, where 0 <= t <= p.
  int64_t query = least->query, token = least->token, c = least->constant;
  if (query == 0 && token == 0)
    return c > 0 ? Hull::none() : Hull::all(exact);
  int64_t sum = query + token;
  if (sum == 0 && query < 0) // p - t is at least something
    return Hull::all(exact && c <= 0);
  if (query < 0 || sum < 0 || (query == 0 && token < 0))
    return Hull::all(/*exact=*/false);
  if (c > 0)
    return Hull::none();
  if (sum == 0)
    return {0, -c / query + 1, exact};
  // sum * t <= query * p + token * t
  return {-c / sum + 1, 0, exact && query == 0};
}

Hull Inference::compared(arith::CmpIOp op, bool positive) {
  using P = arith::CmpIPredicate;
  P predicate =
      positive ? op.getPredicate() : arith::invertPredicate(op.getPredicate());
  Value x = op.getLhs(), y = op.getRhs();
  if (!x.getType().isInteger(32))
    return Hull::all(/*exact=*/false);
  switch (predicate) {
  case P::sle:
    return atMost(x, y, 0);
  case P::slt:
    return atMost(x, y, -1);
  case P::sge:
    return atMost(y, x, 0);
  case P::sgt:
    return atMost(y, x, -1);
  case P::eq:
    return meet(atMost(x, y, 0), atMost(y, x, 0));
  default:
    return Hull::all(/*exact=*/false);
  }
}

Hull Inference::hullOf(Value value, bool positive) {
  Operation *op = value.getDefiningOp();
  auto both = [&](Operation *op, bool meets) {
    Hull x = hullOf(op->getOperand(0), positive);
    Hull y = hullOf(op->getOperand(1), positive);
    return meets ? meet(x, y) : join(x, y);
  };
  auto truth = [](Value value) -> std::optional<bool> {
    auto constant = value.getDefiningOp<arith::ConstantOp>();
    if (!constant)
      return std::nullopt;
    return cast<IntegerAttr>(constant.getValue()).getValue().isOne();
  };
  if (std::optional<bool> known = truth(value))
    return *known == positive ? Hull::all(/*exact=*/true) : Hull::none();
  return llvm::TypeSwitch<Operation *, Hull>(op)
      .Case([&](arith::CmpIOp compare) { return compared(compare, positive); })
      .Case([&](arith::AndIOp op) { return both(op, positive); })
      .Case([&](arith::OrIOp op) { return both(op, !positive); })
      .Case([&](arith::XOrIOp op) {
        if (std::optional<bool> known = truth(op.getRhs()))
          return hullOf(op.getLhs(), positive != *known);
        return Hull::all(/*exact=*/false);
      })
      .Case([&](arith::SelectOp op) {
        return join(meet(hullOf(op.getCondition(), true),
                         hullOf(op.getTrueValue(), positive)),
                    meet(hullOf(op.getCondition(), false),
                         hullOf(op.getFalseValue(), positive)));
      })
      .Default([](Operation *) { return Hull::all(/*exact=*/false); });
}

namespace {

struct InferReads : kvc::impl::InferReadsBase<InferReads> {
  void runOnOperation() override {
    getOperation().walk([](AttendOp op) {
      if (!op.getVisible().empty())
        infer(op);
    });
  }

  static void infer(AttendOp op) {
    auto store =
        SymbolTable::lookupNearestSymbolFrom<StoreOp>(op, op.getStoreAttr());
    // What the store says already may be tighter; it holds as well.
    if (!store.read().isAll())
      return;
    Hull hull = Inference(store).hullOf(yieldedBy(op.getVisible()), true);
    bool causal = store.read().isCausal();
    // What it says of tokens behind the query, no hull does.
    if (causal && hull.exact && (hull.isAll() || hull.recent > 0))
      op.getVisible().getBlocks().clear();
    // Tokens are counted in 32 bits.
    if (!hull.isAll() && std::max(hull.sink, hull.recent) < INT32_MAX)
      store.setReadAttr(
          SlidingWindowAttr::get(op.getContext(), hull.sink,
                                 std::max<int64_t>(1, hull.recent), causal));
  }
};

} // namespace
