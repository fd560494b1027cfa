//===- Cli.h - what every verb of kvc shares --------------------*- C++ -*-===//
//
// A verb is one file: its cl::SubCommand, its flags, its `int runX()` and one
// `const Verb xVerb`; kvc.cpp lists it in one line. What a verb does belongs
// into a library: here are flags and printing only.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TOOLS_KVC_CLI_H
#define KVC_TOOLS_KVC_CLI_H

#include "lib/base/Spec/Spec.h"
#include "lib/base/Support/Diagnostics.h"
#include "lib/driver/Compiler/Compiler.h"
#include "tools/kvc/CommandLine.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/CommandLine.h"

namespace kvc::cli {

/// What a script may rely on; `kvc --help` says it to users.
enum Exit : int {
  ExitOk = 0,
  ExitFailed = 1,  ///< a diagnosed error: the input's or the user's
  ExitUsage = 2,   ///< the command line made no sense
  ExitBug = 3,     ///< kvc's own fault
  ExitMissing = 4, ///< no such device or tool on this machine
};

struct Verb {
  llvm::cl::SubCommand *command;
  int (*run)();     ///< returns an Exit
  const char *more; ///< ends the verb's --help; has an example
};

extern const Verb checkVerb, compileVerb, explainVerb, inspectVerb, verifyVerb,
    benchVerb, targetsVerb, cacheVerb;

/// What `kvc help schedule` prints.
std::string scheduleHelp();

/// The category of the flags that --help shows: every flag of a verb has
/// `cl::cat(verbOptions())`.
llvm::cl::OptionCategory &verbOptions();

/// Gives every verb --diagnostics, -Werror, --remarks and --color; kvc.cpp
/// calls it before it parses.
void addCommonFlags(llvm::ArrayRef<const Verb *> verbs);

/// Keeps the command line for messages, which from now on obey its
/// --diagnostics and --color; kvc.cpp calls it before it parses.
void setCommandLine(CommandLine line);
const CommandLine &commandLine();
/// Where a flag stands on the command line, the last time that it is given;
/// nowhere if it is not given.
SourceLoc at(const llvm::cl::Option &flag);

/// The flags --schedule=KERNEL.FIELD=VALUE, --target=A,B and --no-cache of a
/// verb that compiles.
class CompileFlags {
public:
  explicit CompileFlags(llvm::cl::SubCommand &command);
  /// Options from the flags; reports overrides that are malformed. nullopt:
  /// return finish(diagnostics, ExitUsage).
  std::optional<CompileOptions> options(Diagnostics &diagnostics) const;

private:
  llvm::cl::list<std::string> targets, schedule;
  llvm::cl::opt<bool> noCache;
};

/// Reports E-USAGE and returns false if flags that change code came with
/// `file`, an artifact.
bool checkArtifactFlags(const CompileOptions &options, llvm::StringRef file,
                        Diagnostics &diagnostics);

/// Reports E-USAGE and returns false if a target's kernels do not run on one of
/// `devices` ("cpu", "sim"), with what `verb` would need for it.
bool checkDevices(const CompileOptions &options, llvm::StringRef verb,
                  llvm::ArrayRef<llvm::StringRef> devices,
                  Diagnostics &diagnostics);

/// The same for an artifact, which must hold kernels for a CPU.
bool checkHasCpu(const artifact::Manifest &manifest, llvm::StringRef verb,
                 llvm::StringRef file, Diagnostics &diagnostics);

/// Prints `diagnostics` to standard error as --diagnostics, --color and
/// --remarks say, and returns the exit code: `code` unless it is ExitOk and
/// there was an error, or under -Werror a warning. An error E-INTERNAL makes it
/// ExitBug, E-NO-DEVICE and E-NO-ASSEMBLER ExitMissing.
int finish(const Diagnostics &diagnostics, int code = ExitOk);

/// Writes to `path` ("-": standard output) as artifact::writeOutputFile() does;
/// reports E-OUTPUT and returns false on failure.
bool writeOutput(llvm::StringRef path, llvm::StringRef bytes,
                 Diagnostics &diagnostics);
bool writeOutput(llvm::StringRef path, llvm::ArrayRef<uint8_t> bytes,
                 Diagnostics &diagnostics);

/// Rows of cells in columns as wide as their widest cell; the first row is the
/// heading. Columns whose heading starts with '>' are right-aligned.
class Table {
public:
  explicit Table(std::vector<std::string> heading) : rows{std::move(heading)} {}
  void row(std::vector<std::string> cells) { rows.push_back(std::move(cells)); }
  void print(llvm::raw_ostream &os) const;

private:
  std::vector<std::vector<std::string>> rows;
};

/// What messages call a file: "<stdin>" for "-".
std::string nameOf(llvm::StringRef path);

/// Reads a whole file ("-": standard input) of at most `limit` bytes; reports
/// E-FILE and returns nullopt if it cannot.
std::optional<std::string> readInput(llvm::StringRef path, uint64_t limit,
                                     Diagnostics &diagnostics);

} // namespace kvc::cli

#endif // KVC_TOOLS_KVC_CLI_H
