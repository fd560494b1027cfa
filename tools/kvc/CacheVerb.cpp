//===- CacheVerb.cpp - kvc cache: look after the kernel cache -------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/driver/Compiler/KernelCache.h"
#include "tools/kvc/Cli.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("cache", "Show, prune or clear the kernel cache");
namespace {
enum class Action : uint8_t { Path, List, Prune, Clear };
} // namespace
static cl::opt<std::string> action(cl::Positional, cl::Required,
                                   cl::desc("path|list|prune|clear"),
                                   cl::sub(command), cl::cat(verbOptions()));

static std::optional<Action> parseAction() {
  return llvm::StringSwitch<std::optional<Action>>(action)
      .Case("path", Action::Path)
      .Case("list", Action::List)
      .Case("prune", Action::Prune)
      .Case("clear", Action::Clear)
      .Default(std::nullopt);
}

static void list(llvm::raw_ostream &os, KernelCache &cache) {
  Table table({"key", ">bytes", "spec", "targets"});
  for (const KernelCache::EntryInfo &entry : cache.list()) {
    auto bytes = cache.lookup(entry.key);
    std::string error;
    auto bundle = bytes ? artifact::Bundle::open(*bytes, error) : std::nullopt;
    if (!bundle)
      continue;
    std::vector<std::string> targets;
    for (const artifact::KernelInfo &kernel : bundle->manifest().kernels)
      if (!llvm::is_contained(targets, kernel.target))
        targets.push_back(kernel.target);
    table.row({entry.key.hex().substr(0, 16), std::to_string(entry.bytes),
               bundle->manifest().specName, llvm::join(targets, ",")});
  }
  table.print(os);
}

static void prune(llvm::raw_ostream &os, KernelCache &cache,
                  Diagnostics &diagnostics) {
  size_t before = cache.list().size();
  cache.prune(/*now=*/true, diagnostics);
  std::vector<KernelCache::EntryInfo> left = cache.list();
  uint64_t bytes = 0;
  for (const KernelCache::EntryInfo &entry : left)
    bytes += entry.bytes;
  os << "removed " << before - std::min(before, left.size()) << " entries and "
     << cache.leftovers() << " files of killed writers; " << left.size()
     << " entries with " << bytes << " bytes are left\n";
}

static int runCache() {
  Diagnostics diagnostics;
  auto wanted = parseAction();
  if (!wanted) {
    diagnostics.error("E-USAGE", at(action),
                      "expected path, list, prune or clear, found `" + action +
                          "`");
    return finish(diagnostics, ExitUsage);
  }
  std::string directory = KernelCache::defaultDirectory();
  if (directory.empty()) {
    diagnostics.error("E-CACHE-DIR", {},
                      "expected a directory in KVC_CACHE_DIR, or a home");
    return finish(diagnostics);
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  if (*wanted == Action::Path) {
    os << directory << "\n";
    writeOutput("-", text, diagnostics);
    return finish(diagnostics);
  }
  Diagnostics opening;
  KernelCache cache(directory, opening);
  if (!cache.isOpen()) {
    // Elsewhere a warning; here it is all that was asked for.
    diagnostics.error("E-CACHE-DIR", {}, opening.all().front().message);
    return finish(diagnostics);
  }
  if (*wanted == Action::List)
    list(os, cache);
  else if (*wanted == Action::Prune)
    prune(os, cache, diagnostics);
  else
    os << "removed " << cache.clear() << " files\n";
  writeOutput("-", text, diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::cacheVerb{&command, runCache, R"(
`prune` removes what KVC_CACHE_POLICY says, `clear` everything. Files of killed
writers go whenever the cache is opened. A directory that others may write is
not used, for its entries are code that will run.

EXAMPLE:
  kvc cache list
)"};
