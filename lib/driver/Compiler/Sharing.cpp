//===- Sharing.cpp - each distinct kernel once ----------------------------===//
#include "lib/driver/Compiler/Sharing.h"

#include "dialect/tile/TileDialect.h"
#include "lib/base/Artifact/KernelKey.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kvc;
using artifact::KernelInfo;

namespace {
/// Stores with the same kernels.
struct Group {
  StoreOp first;
  SmallVector<StoreOp> others;
};
} // namespace

/// Whether the ops say the same of two stores, but for names and layers.
static bool isAlike(StoreOp a, StoreOp b) {
  return a.getCache() == b.getCache() && a.getReadAttr() == b.getReadAttr() &&
         a.getHeadBegin() == b.getHeadBegin() &&
         a.getHeadEnd() == b.getHeadEnd();
}

/// The keys of each store's kernels, in the manifest's order.
static llvm::StringMap<std::string> keysOf(const artifact::Manifest &manifest) {
  artifact::KernelKeys keys(manifest);
  llvm::StringMap<std::string> list;
  for (const KernelInfo &kernel : manifest.kernels)
    list[kernel.store] += kernel.kind + " " + keys.of(kernel) + "\n";
  return list;
}

static void remarkSharing(const Group &group) {
  // A spec may have 256 stores, and the first few tell which these are.
  constexpr size_t kNamed = 8;
  std::string names;
  size_t count = group.others.size();
  for (size_t i = 0; i < std::min(count, kNamed); ++i) {
    StoreOp store = group.others[i];
    names += (i ? ", `" : "`") + store.getSymName().str() + "`";
  }
  if (count > kNamed)
    names += " and " + std::to_string(count - kNamed) + " more";
  StoreOp first = group.first;
  first.emitRemark(count == 1 ? "store " : "stores ")
      << names << (count == 1 ? " has" : " have") << " the kernels of `"
      << first.getSymName() << "`, which are compiled once [R-SHARED]";
}

LogicalResult KernelSharing::shareStores(ModuleOp module) {
  llvm::StringMap<std::string> keys = keysOf(all);
  llvm::MapVector<StringRef, Group> groups; // by their keys
  llvm::StringMap<StringRef> firstOf;       // store by store, by name
  for (auto store : module.getOps<StoreOp>()) {
    Group &group = groups[keys[store.getSymName()]];
    if (!group.first) {
      group.first = store;
      continue;
    }
    if (!isAlike(group.first, store))
      return store.emitError("the kernels of `")
             << store.getSymName() << "` and of `" << group.first.getSymName()
             << "` have the same keys, and are not the same";
    group.others.push_back(store);
    firstOf[store.getSymName()] = group.first.getSymName();
  }
  for (const KernelInfo &kernel : all.kernels)
    if (auto first = firstOf.find(kernel.store); first != firstOf.end())
      sameAs[kernel.name] =
          first->second.str() + kernel.name.substr(kernel.store.size());
  for (auto kernel :
       llvm::make_early_inc_range(module.getOps<tile::KernelOp>()))
    if (firstOf.contains(kernel.getStore()))
      kernel.erase();
  for (auto &[key, group] : groups) {
    if (!group.others.empty())
      remarkSharing(group);
    for (StoreOp store : group.others)
      store.erase();
  }
  return success();
}

std::vector<KernelInfo> KernelSharing::distinct() const {
  std::vector<KernelInfo> kernels;
  llvm::copy_if(
      all.kernels, std::back_inserter(kernels),
      [&](const KernelInfo &kernel) { return !sameAs.contains(kernel.name); });
  return kernels;
}

/// Whether two functions do the same.
static bool isSameCode(Operation *a, Operation *b) {
  for (auto [first, second] : llvm::zip_equal(a->getRegions(), b->getRegions()))
    if (!OperationEquivalence::isRegionEquivalentTo(
            &first, &second, OperationEquivalence::IgnoreLocations))
      return false;
  return true;
}

LogicalResult KernelSharing::bind(ModuleOp module,
                                  std::vector<KernelInfo> &kernels) {
  artifact::Manifest manifest = all;
  manifest.kernels = kernels;
  artifact::KernelKeys keys(manifest);
  llvm::StringMap<Operation *> functions;
  for (Operation &op : *module.getBody())
    if (auto name = SymbolTable::getSymbolName(&op))
      functions[name] = &op;
  llvm::StringMap<const KernelInfo *> known; // by key
  std::vector<KernelInfo> kept;
  for (KernelInfo &kernel : kernels) {
    Operation *function = functions.lookup(kernel.symbol);
    std::string key = keys.of(kernel);
    auto [first, isNew] = known.try_emplace(key, &kernel);
    if (!isNew) {
      sameAs[kernel.name] = first->second->name;
      if (!isSameCode(functions.lookup(first->second->symbol), function))
        return function->emitError("the kernels `")
               << kernel.name << "` and `" << first->second->name
               << "` have the same key, and are not the same";
      function->erase();
      continue;
    }
    kernel.symbol = artifact::boundSymbol(kernel.symbol, key);
    SymbolTable::setSymbolName(function, kernel.symbol);
    functions[kernel.symbol] = function;
    kept.push_back(kernel);
  }
  kernels = std::move(kept);
  return success();
}

std::vector<KernelInfo>
KernelSharing::expand(ArrayRef<KernelInfo> compiled) const {
  llvm::StringMap<const KernelInfo *> byName;
  for (const KernelInfo &kernel : compiled)
    byName[kernel.name] = &kernel;
  std::vector<KernelInfo> kernels;
  for (const KernelInfo &kernel : all.kernels) {
    StringRef name = kernel.name;
    for (auto same = sameAs.find(name); same != sameAs.end();
         same = sameAs.find(name))
      name = same->second;
    KernelInfo &info = kernels.emplace_back(*byName.lookup(name));
    info.name = kernel.name;
    info.store = kernel.store;
  }
  return kernels;
}
