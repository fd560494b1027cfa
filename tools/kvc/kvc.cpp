//===- kvc.cpp - the verbs of kvc, and nothing else -----------------------===//
#include "kvc/runtime.h"
#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Artifact/KernelAbi.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Support/Version.h"
#include "lib/base/Support/Words.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/PrettyStackTrace.h"
#include "llvm/Support/StringSaver.h"
#include "llvm/Support/raw_ostream.h"

#include <csignal>
#include <cstdlib>
#include <unistd.h>

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
  1  a diagnosed error in what was given, a result that could not be written, or
     kernels that `verify` found wrong; with --Werror, a warning
  2  the command line makes no sense
  3  kvc's own fault: please report it
  4  a device or tool is missing on this machine

ENVIRONMENT:
  KVC_CACHE_DIR     kernel cache (default: kvc in the user's cache directory)
  KVC_CACHE_POLICY  when entries go (default: cache_size_bytes=2g:prune_after=720h)
  NO_COLOR          no colours in messages

EXAMPLE:
  kvc compile specs/examples/smollm2.json -o smollm2.kvca

  `kvc VERB --help` says more on each verb, `kvc help schedule` on the fields that
  --schedule overrides.
)";

static void printVersion(llvm::raw_ostream &os) {
  os << producer() << ", artifact format " << artifact::kFormatMajor << "."
     << artifact::kFormatMinor << ", spec language " << spec::kLanguageVersion
     << ", runtime ABI " << KVC_RUNTIME_ABI << ", kernel ABI " << KVC_CPU_ABI
     << " (CPU) and " << KVC_GPU_ABI << " (GPU)\n";
}

static const Verb *findVerb(llvm::StringRef name) {
  for (const Verb *verb : kVerbs)
    if (verb->command->getName() == name)
      return verb;
  return nullptr;
}

static void printVerbs(llvm::raw_ostream &os) {
  os << "kvc: expected a verb\n\n";
  for (const Verb *verb : kVerbs)
    os << llvm::formatv("  kvc {0,-8} {1}\n", verb->command->getName(),
                        verb->command->getDescription());
  os << "\n`kvc --help` and `kvc VERB --help` say more\n";
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

/// argv with the contents of `@FILE` in place of that, as LLVM has it; `help
/// VERB` is `VERB --help`.
static std::vector<std::string> argumentsOf(int argc, char **argv) {
  llvm::BumpPtrAllocator memory;
  llvm::StringSaver saver(memory);
  llvm::SmallVector<const char *> expanded(argv, argv + argc);
  cl::ExpandResponseFiles(saver, cl::TokenizeGNUCommandLine, expanded);
  std::vector<std::string> arguments(expanded.begin(), expanded.end());
  arguments[0] = "kvc";
  if (arguments.size() > 1 && arguments[1] == "help") {
    arguments.erase(arguments.begin() + 1);
    arguments.insert(arguments.begin() + std::min<size_t>(2, arguments.size()),
                     "--help");
  }
  return arguments;
}

static void refuseVerb(const CommandLine &line, Diagnostics &diagnostics) {
  llvm::StringRef found = line.arguments()[1];
  std::vector<llvm::StringRef> names;
  for (const Verb *verb : kVerbs)
    names.push_back(verb->command->getName());
  Diagnostic &error = diagnostics.error(
      "E-USAGE", line.at(1),
      found.starts_with("-") ? "expected a verb before " + quote(found)
                             : "there is no verb " + quote(found));
  auto help = [&](std::string message) {
    error.notes.push_back({Severity::Help, "", {}, std::move(message), {}});
  };
  llvm::StringRef nearest = nearestName(found, names);
  if (!nearest.empty())
    help("did you mean " + quote(nearest) + "?");
  help("use " + quoteAll(names));
}

/// What cannot be written in full must not look as if it were, whichever way
/// the process ends.
static void checkStandardOutput() {
  llvm::outs().flush();
  if (!llvm::outs().has_error())
    return;
  Diagnostics diagnostics;
  diagnostics.error("E-OUTPUT", {},
                    "cannot write to standard output: " +
                        llvm::outs().error().message());
  llvm::outs().clear_error();
  ::_exit(finish(diagnostics, ExitFailed));
}

/// Reports what is wrong with the command line, or reads it into the flags.
/// Help and versions end the process.
static const Verb *parse(Diagnostics &diagnostics) {
  const CommandLine &line = commandLine();
  const Verb *verb = findVerb(line.arguments()[1]);
  llvm::StringRef flag = llvm::StringRef(line.arguments()[1]).ltrim('-');
  if (verb)
    checkArguments(line, *verb->command, diagnostics);
  else if (!llvm::is_contained({"help", "h", "version"}, flag))
    refuseVerb(line, diagnostics);
  if (diagnostics.hasErrors())
    return nullptr;
  cl::extrahelp help(verb ? verb->more : kHelp);
  std::vector<const char *> argv;
  for (const std::string &argument : line.arguments())
    argv.push_back(argument.c_str());
  std::string said;
  llvm::raw_string_ostream os(said);
  if (!cl::ParseCommandLineOptions(int(argv.size()), argv.data(), kOverview,
                                   &os))
    diagnostics.error("E-USAGE", {}, llvm::StringRef(said).trim().str());
  return verb;
}

int main(int argc, char **argv) {
  // Without LLVM's handler, a reader that goes away ends kvc as it ends others.
  llvm::InitLLVM init(argc, argv, /*InstallPipeSignalExitHandler=*/false);
  // A file that grows too large is an error of write().
  std::signal(SIGXFSZ, SIG_IGN);
  llvm::setBugReportMsg("");
  addCommonFlags(kVerbs);
  cl::SetVersionPrinter(printVersion);
  cl::HideUnrelatedOptions(verbOptions());
  for (const Verb *verb : kVerbs)
    cl::HideUnrelatedOptions(verbOptions(), *verb->command);
  setCommandLine(CommandLine(argumentsOf(argc, argv)));
  llvm::outs();
  std::atexit(checkStandardOutput);
  if (commandLine().arguments().size() == 1) {
    printVerbs(llvm::errs());
    return ExitUsage;
  }
  if (commandLine().arguments().drop_front() ==
      llvm::ArrayRef<std::string>{"schedule", "--help"}) {
    llvm::outs() << scheduleHelp();
    return ExitOk;
  }
  Diagnostics diagnostics;
  const Verb *verb = parse(diagnostics);
  return diagnostics.hasErrors() ? finish(diagnostics, ExitUsage)
                                 : runGuarded(*verb);
}
