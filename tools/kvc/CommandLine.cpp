//===- CommandLine.cpp - argv, checked before LLVM reads it ---------------===//
#include "tools/kvc/CommandLine.h"

#include "lib/base/Support/Words.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

#include <limits>
#include <optional>

using namespace kvc;
using namespace kvc::cli;
using llvm::StringRef;
namespace cl = llvm::cl;

//===----------------------------------------------------------------------===//
// The text
//===----------------------------------------------------------------------===//

CommandLine::CommandLine(std::vector<std::string> arguments)
    : list(std::move(arguments)) {
  llvm::raw_string_ostream os(line);
  for (const std::string &argument : list) {
    os << (columns.empty() ? "" : " ");
    columns.push_back(line.size());
    llvm::sys::printArg(os, argument, /*Quote=*/false);
  }
}

SourceLoc CommandLine::at(size_t index, size_t from) const {
  SourceLoc loc;
  loc.file = kCommandLine;
  loc.line = 1;
  size_t end =
      index + 1 < columns.size() ? columns[index + 1] - 1 : line.size();
  // In a quoted argument the parts stand elsewhere.
  if (end - columns[index] != list[index].size())
    from = 0;
  loc.column = uint32_t(columns[index] + from + 1);
  loc.length = uint32_t(end - columns[index] - from);
  return loc;
}

/// Cuts `-name`, `--name` or `--name=value`; nullopt if it is no flag.
namespace {
struct FlagText {
  StringRef name, value;
  bool hasValue = false;
};
} // namespace

static std::optional<FlagText> parseFlag(StringRef argument) {
  if (argument == "-" || !argument.consume_front("-"))
    return std::nullopt;
  argument.consume_front("-");
  auto [name, value] = argument.split('=');
  return FlagText{name, value, argument.contains('=')};
}

StringRef CommandLine::valueOf(StringRef name) const {
  StringRef value;
  for (size_t i = 1; i < list.size() && list[i] != "--"; ++i) {
    auto flag = parseFlag(list[i]);
    if (!flag || flag->name != name)
      continue;
    if (flag->hasValue)
      value = flag->value;
    else if (i + 1 < list.size())
      value = list[i + 1];
  }
  return value;
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

using ChoiceMap =
    llvm::DenseMap<const cl::Option *, const cl::generic_parser_base *>;

static ChoiceMap &choices() {
  static ChoiceMap map;
  return map;
}

void kvc::cli::addChoices(const cl::Option &flag,
                          const cl::generic_parser_base &values) {
  choices()[&flag] = &values;
}

static std::vector<StringRef> choicesOf(const cl::Option &flag) {
  std::vector<StringRef> names;
  if (const cl::generic_parser_base *values = choices().lookup(&flag))
    for (unsigned i = 0; i < values->getNumOptions(); ++i)
      names.push_back(values->getOption(i));
  return names;
}

/// Whether `flag` holds values of this type, one or several.
template <class T> static bool holds(const cl::Option &flag) {
  return dynamic_cast<const cl::opt<T> *>(&flag) ||
         dynamic_cast<const cl::list<T> *>(&flag);
}

/// What `flag` takes if that is a whole number of type T; "" if `value` is one,
/// or if it takes something else.
template <class T>
static std::string wantedWhole(const cl::Option &flag, StringRef value) {
  T number;
  if (!holds<T>(flag) || !value.getAsInteger(0, number))
    return "";
  return "a whole number in [" + std::to_string(std::numeric_limits<T>::min()) +
         ", " + std::to_string(std::numeric_limits<T>::max()) + "]";
}

/// What `flag` takes, if `value` is not that; otherwise "".
static std::string wanted(const cl::Option &flag, StringRef value) {
  std::vector<StringRef> names = choicesOf(flag);
  if (!names.empty())
    return llvm::is_contained(names, value) ? "" : quoteAll(names);
  double real;
  if (holds<double>(flag))
    return llvm::to_float(value, real) ? "" : "a number";
  if (holds<bool>(flag))
    return llvm::is_contained({"", "0", "1", "false", "true"}, value.lower())
               ? ""
               : "no value, `true` or `false`";
  for (const std::string &whole :
       {wantedWhole<unsigned>(flag, value), wantedWhole<int>(flag, value),
        wantedWhole<uint64_t>(flag, value), wantedWhole<int64_t>(flag, value)})
    if (!whole.empty())
      return whole;
  return "";
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

namespace {

class Checker {
public:
  Checker(const CommandLine &line, const cl::SubCommand &verb,
          Diagnostics &diagnostics)
      : line(line), verb(verb), diagnostics(diagnostics) {}

  void check();

private:
  Diagnostic &refuse(SourceLoc loc, const std::string &message) {
    return diagnostics.error("E-USAGE", std::move(loc), message);
  }
  static void help(Diagnostic &to, std::string message) {
    to.notes.push_back({Severity::Help, "", {}, std::move(message), {}});
  }
  /// Returns how many arguments the flag takes.
  size_t checkFlag(size_t index, const FlagText &text);
  void checkValue(const cl::Option &flag, StringRef value, size_t index,
                  size_t from);
  void checkPositionals();
  void refuseUnknown(size_t index, StringRef name);

  const CommandLine &line;
  const cl::SubCommand &verb;
  Diagnostics &diagnostics;
  std::vector<size_t> positionals; ///< indices of arguments
  bool wantsHelp = false;
};

} // namespace

/// What --help calls the flag.
static std::string spelling(const cl::Option &flag) {
  return (flag.ArgStr.size() == 1 ? "-" : "--") + flag.ArgStr.str();
}

void Checker::refuseUnknown(size_t index, StringRef name) {
  std::string verbName = verb.getName().str();
  Diagnostic &error = refuse(
      line.at(index),
      "`kvc " + verbName + "` has no flag " +
          quote(StringRef(line.arguments()[index]).take_until([](char c) {
            return c == '=';
          })));
  std::vector<StringRef> names;
  for (const auto &[known, flag] : verb.OptionsMap)
    if (flag->getOptionHiddenFlag() == cl::NotHidden)
      names.push_back(known);
  llvm::sort(names);
  StringRef nearest = nearestName(name, names);
  help(error, nearest.empty()
                  ? "`kvc " + verbName + " --help` lists them"
                  : "did you mean `" +
                        spelling(*verb.OptionsMap.lookup(nearest)) + "`?");
}

void Checker::checkValue(const cl::Option &flag, StringRef value, size_t index,
                         size_t from) {
  llvm::SmallVector<StringRef> parts{value};
  if (flag.getMiscFlags() & cl::CommaSeparated) {
    parts.clear();
    value.split(parts, ',');
  }
  for (StringRef part : parts) {
    std::string takes = wanted(flag, part);
    if (takes.empty())
      continue;
    size_t offset = from + size_t(part.data() - value.data());
    Diagnostic &error =
        refuse(line.at(index, offset), "`" + spelling(flag) + "` takes " +
                                           takes + ", found " + quote(part));
    StringRef nearest = nearestName(part, choicesOf(flag));
    if (!nearest.empty())
      help(error, "did you mean " + quote(nearest) + "?");
  }
}

size_t Checker::checkFlag(size_t index, const FlagText &text) {
  // LLVM adds -h, and --version where it is not ours, when it parses.
  if (text.name == "h" || text.name == "version" ||
      text.name.starts_with("help")) {
    wantsHelp = true;
    return 1;
  }
  const cl::Option *flag = verb.OptionsMap.lookup(text.name);
  if (!flag) {
    refuseUnknown(index, text.name);
    return 1;
  }
  StringRef argument = line.arguments()[index];
  if (text.hasValue) {
    if (flag->getValueExpectedFlag() == cl::ValueDisallowed)
      refuse(line.at(index), "`" + spelling(*flag) + "` takes no value");
    else
      checkValue(*flag, text.value, index,
                 size_t(text.value.data() - argument.data()));
    return 1;
  }
  if (flag->getValueExpectedFlag() != cl::ValueRequired)
    return 1;
  if (index + 1 == line.arguments().size()) {
    std::string takes = wanted(*flag, "");
    refuse(line.at(index), "`" + spelling(*flag) + "` takes " +
                               (takes.empty() ? "a value" : takes) +
                               ", found none");
    return 1;
  }
  checkValue(*flag, line.arguments()[index + 1], index + 1, 0);
  return 2;
}

void Checker::checkPositionals() {
  size_t least = 0, most = 0;
  std::string names;
  for (const cl::Option *positional : verb.PositionalOpts) {
    auto count = positional->getNumOccurrencesFlag();
    least += count == cl::Required || count == cl::OneOrMore;
    bool many = count == cl::OneOrMore || count == cl::ZeroOrMore;
    most = many || most == SIZE_MAX ? SIZE_MAX : most + 1;
    names += " " + positional->HelpStr.trim("[]").str();
  }
  std::string usage = "kvc " + verb.getName().str() + " [options]" + names;
  if (positionals.size() < least) {
    Diagnostic &error =
        refuse(line.at(1), "expected" + names + " after `" +
                               verb.getName().str() + "`, found none");
    help(error, "the usage is `" + usage + "`");
  }
  if (positionals.size() > most) {
    size_t index = positionals[most];
    Diagnostic &error =
        refuse(line.at(index),
               "`kvc " + verb.getName().str() + "` takes " +
                   (most ? "one" + names + ", found " : "no argument, found ") +
                   quote(line.arguments()[index]) + (most ? " as well" : ""));
    help(error, "the usage is `" + usage + "`");
  }
}

void Checker::check() {
  llvm::ArrayRef<std::string> arguments = line.arguments();
  bool flagsEnded = false;
  for (size_t i = 2; i < arguments.size();) {
    auto flag = flagsEnded ? std::nullopt : parseFlag(arguments[i]);
    if (!flag) {
      positionals.push_back(i++);
    } else if (arguments[i] == "--") {
      flagsEnded = true;
      ++i;
    } else {
      i += checkFlag(i, *flag);
    }
  }
  if (!wantsHelp && !diagnostics.hasErrors())
    checkPositionals();
}

void kvc::cli::checkArguments(const CommandLine &line,
                              const cl::SubCommand &verb,
                              Diagnostics &diagnostics) {
  Checker(line, verb, diagnostics).check();
}
