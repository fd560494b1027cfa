//===- Bounds.cpp - where a store's kernels do something else -------------===//
#include "lib/driver/Verify/Bounds.h"

#include "llvm/Support/FormatVariadic.h"

#include <map>
#include <set>

using namespace kvc;
using namespace kvc::verify;

namespace {

/// Gathers the bounds of one store.
class Finder {
public:
  explicit Finder(const CompiledStore &store) : store(store) {
    for (const auto *expr :
         {&store.spec->attend.logits, &store.spec->attend.visible,
          &store.spec->attend.sink})
      if (*expr)
        addLiterals(**expr);
  }
  Bounds find();

private:
  void addLiterals(const spec::Expr &expr);
  void addLengths(const CompiledStore::Variant &variant);
  void addQueries(const CompiledStore::Variant &variant);
  void add(const std::string &what, const CompiledStore::Variant &variant,
           int64_t at, llvm::ArrayRef<Visit> visits);

  const CompiledStore &store;
  Bounds found;
  std::map<std::pair<int64_t, int64_t>, size_t> numbers; ///< of visits
  std::set<int64_t> literals; ///< integers of the store's expressions
};

/// Where an expression may change its mind.
void Finder::addLiterals(const spec::Expr &expr) {
  if (expr.isLiteral() && expr.type == spec::ExprType::Int && expr.number > 1)
    literals.insert(int64_t(expr.number));
  for (const spec::Expr &operand : expr.operands)
    addLiterals(operand);
}

void Finder::add(const std::string &what, const CompiledStore::Variant &variant,
                 int64_t at, llvm::ArrayRef<Visit> visits) {
  Bound bound{llvm::formatv("{0} {1} of {2}", what, at, variant.name), at, {}};
  for (const Visit &visit : visits) {
    if (visit.queries < 1 || visit.tokens < visit.queries ||
        visit.tokens > INT32_MAX / 2)
      continue;
    auto [number, isNew] =
        numbers.try_emplace({visit.tokens, visit.queries}, found.visits.size());
    if (isNew)
      found.visits.push_back(visit);
    bound.visits.push_back(number->second);
  }
  if (!bound.visits.empty())
    found.bounds.push_back(std::move(bound));
}

/// One page, split and window, and each twice: what is right at the first may
/// be wrong at the next.
void Finder::addLengths(const CompiledStore::Variant &variant) {
  int64_t queries = std::max<int64_t>(1, variant.minQueries);
  auto around = [&](const char *what, int64_t at) {
    add(what, variant, at,
        {{at - 1, queries}, {at, queries}, {at + 1, queries}});
  };
  if (store.paged())
    for (int64_t times : {1, 2})
      around("page", times * store.page());
  // A prefill kernel's splits are long, and its first query tokens few.
  for (int64_t times : {1, 2})
    if (variant.split && (times == 1 || variant.split <= 4096))
      around("split", times * variant.split);
  // Results of many splits are merged several at a time, and the last apart.
  if (variant.split && variant.split <= 4096)
    for (int64_t times : {11, 16})
      add("many splits", variant, times * variant.split,
          {{times * variant.split + 1, queries}});
  for (int64_t literal : literals)
    around("literal", literal);
  if (!store.window)
    return;
  int64_t sink = store.window->sink, recent = store.window->recent;
  if (sink)
    around("sink", sink);
  around("window", recent);
  around("sink and window", sink + recent);
  if (variant.split) // one that nobody sees, between sink and window
    add("hidden split", variant, variant.split,
        {{sink + recent + 2 * variant.split + 1, queries}});
}

void Finder::addQueries(const CompiledStore::Variant &variant) {
  auto around = [&](const char *what, int64_t at) {
    llvm::SmallVector<Visit, 3> visits;
    for (int64_t queries : {at - 1, at, at + 1})
      visits.push_back({queries + store.page() / 2 + 3, queries});
    add(what, variant, at, visits);
  };
  if (variant.minQueries > 1)
    around("least queries", variant.minQueries);
  around("most queries", variant.maxQueries);
}

Bounds Finder::find() {
  found.store = store.spec->name;
  for (const CompiledStore::Variant &variant : store.variants) {
    addLengths(variant);
    addQueries(variant);
  }
  return std::move(found);
}

} // namespace

Bounds verify::boundsOf(const CompiledStore &store) {
  return Finder(store).find();
}
