//===- Check.cpp - rules between fields -----------------------------------===//
#include "lib/base/Spec/Check.h"
#include "lib/base/Spec/Size.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::spec;
using llvm::StringRef;

namespace {

class Checker {
public:
  Checker(Context &context, const Spec &spec)
      : context(context), spec(spec), model(spec.model) {}

  void checkHeads();
  void checkNames();
  void checkSymbols();
  /// Whether every scope lies in the model.
  bool checkScopes();
  void checkCoverage();
  void checkPages();

private:
  SourceLoc at(StringRef pointer) {
    return context.document.loc(context.document.nearest(pointer));
  }
  bool isInside(const Scope &scope, const std::string &what, unsigned end,
                unsigned size, StringRef sizePointer);

  Context &context;
  const Spec &spec;
  const Model &model;
};

std::string number(unsigned n) { return std::to_string(n); }

std::string pair(size_t layer, size_t head) {
  return "(layer " + number(layer) + ", kv head " + number(head) + ")";
}

} // namespace

void Checker::checkHeads() {
  if (!model.qHeads || !model.kvHeads || model.qHeads % model.kvHeads == 0)
    return;
  Diagnostic &diagnostic = context.error(
      "E-HEADS", at("/model/q_heads"),
      "q_heads must be a multiple of kv_heads, found " + number(model.qHeads) +
          " over " + number(model.kvHeads));
  Context::addNote(diagnostic, at("/model/kv_heads"), "kv_heads is set here");
  unsigned above = llvm::divideCeil(model.qHeads, model.kvHeads);
  std::string legal = number(above * model.kvHeads);
  if (above > 1)
    legal = number((above - 1) * model.kvHeads) + " or " + legal;
  Context::addHelp(diagnostic, "use " + legal);
}

void Checker::checkNames() {
  llvm::StringMap<const Store *> named;
  for (const Store &store : spec.stores) {
    if (store.name.empty())
      continue;
    auto [first, isNew] = named.try_emplace(store.name, &store);
    if (isNew)
      continue;
    Diagnostic &diagnostic =
        context.error("E-DUPLICATE-NAME", store.loc,
                      "two stores are named " + quote(store.name));
    Context::addNote(diagnostic, first->second->loc, "the first one is here");
  }
  // Kernels are named STORE.append and so on, side by side with the stores.
  for (const Store &store : spec.stores)
    for (size_t dot = store.name.find('.'); dot != std::string::npos;
         dot = store.name.find('.', dot + 1)) {
      auto outer = named.find(StringRef(store.name).take_front(dot));
      if (outer == named.end())
        continue;
      Diagnostic &diagnostic = context.error(
          "E-NAME", store.loc,
          "a store's name must not continue another's with a `.`, found " +
              quote(store.name) + " beside " + quote(outer->first()));
      Context::addNote(diagnostic, outer->second->loc, "the other store");
    }
}

/// Kernels are C functions, with a `_` for all but letters and digits.
void Checker::checkSymbols() {
  llvm::StringMap<const Store *> known;
  for (const Store &store : spec.stores) {
    std::string symbol = store.name;
    std::replace_if(
        symbol.begin(), symbol.end(), [](char c) { return !llvm::isAlnum(c); },
        '_');
    auto [first, isNew] = known.try_emplace(symbol, &store);
    // checkNames() tells of equal names.
    if (isNew || first->second->name == store.name)
      continue;
    Diagnostic &diagnostic = context.error(
        "E-NAME", store.loc,
        "the names of two stores must differ in a letter or digit, found " +
            quote(store.name) + " beside " + quote(first->second->name));
    Context::addNote(diagnostic, first->second->loc, "the other store");
    Context::addHelp(diagnostic, "`_`, `.` and `-` are all `_` in the names of "
                                 "C functions");
  }
}

bool Checker::isInside(const Scope &scope, const std::string &what,
                       unsigned end, unsigned size, StringRef sizePointer) {
  if (end <= size)
    return true;
  Diagnostic &diagnostic =
      context.error("E-SCOPE", scope.loc,
                    "expected " + what + " below " + number(size) +
                        ", which is how many "
                        "the model has, found " +
                        number(end - 1));
  Context::addNote(diagnostic, at(sizePointer), "the model's size is set here");
  return false;
}

bool Checker::checkScopes() {
  bool inside = true;
  for (const Store &store : spec.stores) {
    const Scope &scope = store.scope;
    bool hasLayers = !scope.layers.empty();
    if (model.layers && hasLayers)
      inside &= isInside(scope, "layers", scope.layers.back() + 1, model.layers,
                         "/model/layers");
    if (model.kvHeads)
      inside &= isInside(scope, "kv heads", scope.headEnd, model.kvHeads,
                         "/model/kv_heads");
    // Without layers or heads it is a scope that could not be read.
    inside &= hasLayers && scope.headEnd;
  }
  return inside && model.layers && model.kvHeads;
}

void Checker::checkCoverage() {
  // The owner of each (layer, head), as index + 1. A store stops at its first
  // overlap, so that no pair is painted twice, however many stores there are.
  std::vector<uint16_t> owners(size_t(model.layers) * model.kvHeads);
  auto paint = [&](const Store &store, uint16_t owner) {
    for (size_t layer : store.scope.layers)
      for (size_t head = store.scope.headBegin; head < store.scope.headEnd;
           ++head) {
        uint16_t &slot = owners[layer * model.kvHeads + head];
        if (slot) {
          const Store &first = spec.stores[slot - 1];
          Diagnostic &diagnostic = context.error(
              "E-OVERLAP", store.scope.loc,
              pair(layer, head) + " is already in store " + quote(first.name));
          Context::addNote(diagnostic, first.scope.loc,
                           "that store's scope is here");
          return false;
        }
        slot = owner;
      }
    return true;
  };
  bool complete = true;
  for (auto [index, store] : llvm::enumerate(spec.stores))
    complete &= paint(store, index + 1);
  if (!complete)
    return;
  auto gap = llvm::find(owners, 0);
  if (gap == owners.end())
    return;
  size_t index = gap - owners.begin();
  Diagnostic &diagnostic = context.error(
      "E-GAP", at("/stores"),
      pair(index / model.kvHeads, index % model.kvHeads) + " is in no store");
  Context::addHelp(diagnostic,
                   "extend a scope or add a store: every pair of layer and kv "
                   "head belongs to exactly one");
}

/// Bounds on each field alone allow a page of more than an artifact describes.
void Checker::checkPages() {
  for (const Store &store : spec.stores) {
    uint64_t bytes = pageBytes(store);
    if (bytes <= kMaxPageBytes)
      continue;
    Store smaller = store;
    while (pageBytes(smaller) > kMaxPageBytes)
      --smaller.layout.page;
    Diagnostic &diagnostic =
        context.error("E-PAGE-BYTES", store.layout.loc,
                      "a page has at most " + std::to_string(kMaxPageBytes) +
                          " bytes, found " + std::to_string(bytes) + ": " +
                          number(store.layout.page) + " tokens of " +
                          std::to_string(tokenBytes(store)) + " bytes");
    Context::addHelp(diagnostic,
                     "use a `page` of at most " + number(smaller.layout.page));
  }
}

void spec::check(Context &context, const Spec &spec) {
  Checker checker(context, spec);
  checker.checkHeads();
  checker.checkNames();
  checker.checkSymbols();
  if (!checker.checkScopes())
    return;
  checker.checkCoverage();
  checker.checkPages();
}
