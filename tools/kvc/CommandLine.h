//===- CommandLine.h - argv, checked before LLVM reads it -------*- C++ -*-===//
//
// LLVM's parser prints while it reads, in words of its own, whatever
// --diagnostics says, and lists nothing that would be legal. So argv is first
// held against the flags that are registered with it: what passes here, LLVM
// reads without a word.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TOOLS_KVC_COMMANDLINE_H
#define KVC_TOOLS_KVC_COMMANDLINE_H

#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/CommandLine.h"

#include <string>
#include <vector>

namespace kvc::cli {

/// What messages call the command line, as if it were a file.
inline constexpr const char *kCommandLine = "<command line>";

/// The arguments of this process, and where each stands in the text that
/// messages show. The first one is the program's name.
class CommandLine {
public:
  explicit CommandLine(std::vector<std::string> arguments);

  llvm::ArrayRef<std::string> arguments() const { return list; }
  /// All of them as one line, quoted as for a shell.
  const std::string &text() const { return line; }
  /// The place of argument `index`, or of its part that begins with `from`.
  SourceLoc at(size_t index, size_t from = 0) const;
  /// The value of the last `--name=value` or `--name value`; "" if none. It
  /// needs no verb, so that also messages about the verb obey --diagnostics.
  llvm::StringRef valueOf(llvm::StringRef name) const;

private:
  std::vector<std::string> list;
  std::vector<size_t> columns; ///< from 0
  std::string line;
};

/// Reports E-USAGE for each argument of `verb` (from index 2 on) that LLVM
/// would not read: flags that it has not got, values that a flag does not
/// take, too few or too many that are no flags.
void checkArguments(const CommandLine &line, const llvm::cl::SubCommand &verb,
                    Diagnostics &diagnostics);

//===----------------------------------------------------------------------===//
// Flags with a few legal values
//===----------------------------------------------------------------------===//

/// Lets checkArguments() know the legal values of a flag.
void addChoices(const llvm::cl::Option &flag,
                const llvm::cl::generic_parser_base &values);

template <class T> class ChoiceParser : public llvm::cl::parser<T> {
public:
  explicit ChoiceParser(llvm::cl::Option &flag) : llvm::cl::parser<T>(flag) {
    addChoices(flag, *this);
  }
};

/// A flag whose value is one of `cl::values`, or a list of them.
template <class T> using Choice = llvm::cl::opt<T, false, ChoiceParser<T>>;
template <class T> using Choices = llvm::cl::list<T, bool, ChoiceParser<T>>;

} // namespace kvc::cli

#endif // KVC_TOOLS_KVC_COMMANDLINE_H
