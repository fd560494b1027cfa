//===- kvc.cpp - the verbs of kvc, and nothing else -----------------------===//
#include "lib/Artifact/KernelAbi.h"
#include "lib/Support/Version.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/PrettyStackTrace.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

/// In the order of a user's day.
static const Verb *const kVerbs[] = {
    &checkVerb,  &compileVerb, &explainVerb, &inspectVerb,
    &verifyVerb, &benchVerb,   &targetsVerb, &cacheVerb,
};

static constexpr const char *kOverview =
    "kvc compiles a description of a KV cache (one JSON spec) into its "
    "kernels\n";

static constexpr const char *kHelp = R"(
EXIT CODES:
  0  done
  1  a diagnosed error in what was given
  2  the command line makes no sense
  3  kvc's own fault: please report it
  4  a device or tool is missing on this machine

ENVIRONMENT:
  KVC_CACHE_DIR     kernel cache (default: kvc in the user's cache directory)
  KVC_CACHE_POLICY  when entries go (default: cache_size_bytes=2g:prune_after=720h)
  NO_COLOR          no colours in messages

EXAMPLE:
  kvc compile specs/examples/smollm2.json -o smollm2.kvca

  `kvc VERB --help` says more on each verb.
)";

static void printVersion(llvm::raw_ostream &os) {
  os << producer() << ", artifact format " << artifact::kFormatMajor << "."
     << artifact::kFormatMinor << ", CPU kernel ABI " << KVC_CPU_ABI << "\n";
}

static const Verb *selectedVerb() {
  for (const Verb *verb : kVerbs)
    if (*verb->command)
      return verb;
  return nullptr;
}

/// A crash is a bug of ours: say so, and give scripts a code of its own.
static int runGuarded(const Verb &verb) {
  llvm::CrashRecoveryContext::Enable();
  llvm::CrashRecoveryContext guard;
  guard.DumpStackAndCleanupOnFailure = true;
  int code = ExitBug;
  if (guard.RunSafely([&] { code = verb.run(); }))
    return code;
  llvm::errs() << "kvc: internal error: please report it with the spec, the "
                  "command line and the stack above\n";
  return ExitBug;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  llvm::setBugReportMsg("");
  addCommonFlags(kVerbs);
  cl::SetVersionPrinter(printVersion);
  cl::HideUnrelatedOptions(verbOptions());
  const char *more = kHelp;
  for (const Verb *verb : kVerbs) {
    cl::HideUnrelatedOptions(verbOptions(), *verb->command);
    if (argc > 1 && verb->command->getName() == argv[1])
      more = verb->more;
  }
  cl::extrahelp help(more);
  if (!cl::ParseCommandLineOptions(argc, argv, kOverview, &llvm::errs()))
    return ExitUsage;
  if (const Verb *verb = selectedVerb())
    return runGuarded(*verb);
  llvm::errs() << "kvc: expected a verb, see kvc --help\n";
  return ExitUsage;
}
