//===- Diagnostics.h - messages for users -----------------------*- C++ -*-===//
//
// One record type for every error, warning, remark and note that a user sees,
// and the two ways to print it: text with a caret and one JSON object
// per line. Wording: lower case, no full stop, backticks for code,
// what was expected and what was found, then what would be legal.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SUPPORT_DIAGNOSTICS_H
#define KVC_LIB_BASE_SUPPORT_DIAGNOSTICS_H

#include <cstdint>
#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
}

namespace kvc {

/// Where a value stands in a text. Lines, and columns in bytes, count from 1
/// (0: unknown); `pointer` is the RFC 6901 JSON pointer ("" is the whole
/// document).
struct SourceLoc {
  std::string file;
  uint32_t line = 0;
  uint32_t column = 0;
  uint32_t length = 1; ///< bytes of the value on its first line
  std::string pointer;
};

enum class Severity : uint8_t { Error, Warning, Remark, Note, Help };
const char *name(Severity severity);

struct Diagnostic {
  Severity severity = Severity::Error;
  std::string code; ///< stable id, "E-UNKNOWN-KEY"; empty for notes and help
  SourceLoc loc;
  std::string message;
  std::vector<Diagnostic> notes; ///< notes and help that belong to it
};

/// Collects diagnostics; the owner prints them at the end or as they come.
class Diagnostics {
public:
  enum class Format : uint8_t { Text, Json };

  /// Adds one; returns it so that notes can be attached.
  Diagnostic &report(Severity severity, std::string code, SourceLoc loc,
                     std::string message);
  Diagnostic &error(std::string code, SourceLoc loc, std::string message) {
    return report(Severity::Error, std::move(code), std::move(loc),
                  std::move(message));
  }

  bool hasErrors() const { return errors != 0; }
  const std::vector<Diagnostic> &all() const { return list; }
  void clear() { list.clear(), errors = 0; }

  /// Gives the text of `file`, so that text output can show the line.
  void addSource(std::string file, std::string text);

  /// Prints all; `-Werror` is the caller's business. `color` needs a stream
  /// that has colors.
  void print(llvm::raw_ostream &os, Format format, bool color = false) const;

private:
  std::vector<Diagnostic> list;
  std::vector<std::pair<std::string, std::string>> sources;
  unsigned errors = 0;
};

} // namespace kvc

#endif // KVC_LIB_BASE_SUPPORT_DIAGNOSTICS_H
