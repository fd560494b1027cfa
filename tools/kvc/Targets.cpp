//===- Targets.cpp - kvc targets: what is emitted, what runs here ---------===//
#include "tools/kvc/Cli.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("targets",
                              "List targets, and which of them run here");
static cl::opt<bool> asJson("json", cl::desc("Print JSON"), cl::sub(command),
                            cl::cat(verbOptions()));

static std::string json(llvm::ArrayRef<CpuTargetInfo> targets) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream os(stream, 2);
  std::string native = nativeTarget();
  os.object([&] {
    os.attribute("native",
                 native.empty() ? llvm::json::Value(nullptr) : native);
    os.attributeArray("targets", [&] {
      for (const CpuTargetInfo &target : targets)
        os.object([&] {
          os.attribute("name", target.name);
          os.attribute("runs_here", target.runsHere);
          os.attribute("why_not", target.whyNot);
          os.attributeArray("features", [&] {
            for (const std::string &feature : target.features)
              os.value(feature);
          });
        });
    });
  });
  stream << "\n";
  return text;
}

static std::string table(llvm::ArrayRef<CpuTargetInfo> targets) {
  std::string text;
  llvm::raw_string_ostream os(text);
  Table table({"target", "here", "needs"});
  for (const CpuTargetInfo &target : targets)
    table.row({target.name, target.runsHere ? "yes" : "no: " + target.whyNot,
               llvm::join(target.features, " ")});
  table.print(os);
  std::string native = nativeTarget();
  os << "native is " << (native.empty() ? "none of them" : native) << "\n";
  return text;
}

static int runTargets() {
  Diagnostics diagnostics;
  std::vector<CpuTargetInfo> targets = cpuTargets();
  writeOutput("-", asJson ? json(targets) : table(targets), diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::targetsVerb{&command, runTargets, R"(
EXAMPLE:
  kvc targets --json
)"};
