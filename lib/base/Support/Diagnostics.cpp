//===- Diagnostics.cpp - messages as text with carets, or as JSON lines ---===//
#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Unicode.h"
#include "llvm/Support/WithColor.h"

#include <cstdlib>

using namespace kvc;
using llvm::StringRef;

const char *kvc::name(Severity severity) {
  switch (severity) {
  case Severity::Error:
    return "error";
  case Severity::Warning:
    return "warning";
  case Severity::Remark:
    return "remark";
  case Severity::Note:
    return "note";
  case Severity::Help:
    return "help";
  }
  llvm_unreachable("no such severity");
}

Diagnostic &Diagnostics::report(Severity severity, std::string code,
                                SourceLoc loc, std::string message) {
  errors += severity == Severity::Error;
  return list.emplace_back(Diagnostic{
      severity, std::move(code), std::move(loc), std::move(message), {}});
}

void Diagnostics::addSource(std::string file, std::string text) {
  for (auto &[name, content] : sources)
    if (name == file) {
      content = std::move(text);
      return;
    }
  sources.emplace_back(std::move(file), std::move(text));
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

/// A longer line (a minified file) would drown its own caret: of such a line so
/// much is shown, around the place, as a terminal has in one row.
static constexpr size_t kLongestShownLine = 160, kExcerpt = 72;

static std::string lineOf(StringRef text, uint32_t line) {
  for (; line > 1; --line)
    text = text.split('\n').second;
  std::string content = text.split('\n').first.rtrim('\r').str();
  // What a file says must not drive the terminal it is shown on.
  for (char &c : content)
    if (c != '\t' && (uint8_t(c) < 0x20 || c == 0x7f))
      c = ' ';
  return content;
}

/// Where the character begins that has the byte at `at`.
static size_t characterAt(StringRef text, size_t at) {
  while (at && at < text.size() && (text[at] & 0xc0) == 0x80)
    --at;
  return at;
}

/// Keeps of a long line what stands around the byte at `caret`, which moves
/// along.
static void cutAround(std::string &line, size_t &caret) {
  if (line.size() <= kLongestShownLine)
    return;
  size_t begin = caret - std::min(caret, kExcerpt / 2);
  begin = characterAt(line, std::min(begin, line.size() - kExcerpt));
  size_t end = characterAt(line, begin + kExcerpt);
  std::string before = begin ? "..." : "";
  std::string after = end < line.size() ? "..." : "";
  line = before + line.substr(begin, end - begin) + after;
  caret = caret - begin + before.size();
}

static std::string place(const SourceLoc &loc) {
  if (!loc.line)
    return loc.file;
  return loc.file + ":" + std::to_string(loc.line) + ":" +
         std::to_string(loc.column);
}

static llvm::HighlightColor colorOf(Severity severity) {
  switch (severity) {
  case Severity::Error:
    return llvm::HighlightColor::Error;
  case Severity::Warning:
    return llvm::HighlightColor::Warning;
  case Severity::Remark:
    return llvm::HighlightColor::Remark;
  case Severity::Note:
  case Severity::Help:
    return llvm::HighlightColor::Note;
  }
  llvm_unreachable("no such severity");
}

/// The line that says where, how bad and what.
static void printHeader(llvm::raw_ostream &os, const SourceLoc &loc,
                        Severity severity, StringRef message,
                        llvm::ColorMode mode) {
  std::string where = place(loc);
  if (!where.empty())
    os << where << ": ";
  llvm::WithColor(os, colorOf(severity), mode) << name(severity) << ": ";
  os << message << "\n";
}

/// The line, and below it a caret at the byte `caret`, with a tail for a value
/// of `length` bytes. A caret stands under the column of its character, of
/// which not all take one byte and one column.
static void printLine(llvm::raw_ostream &os, StringRef line, size_t caret,
                      size_t length, llvm::ColorMode mode) {
  constexpr size_t tabStop = 8;
  std::string shown, carets;
  for (size_t at = 0, next; at < line.size(); at = next) {
    next = at + 1;
    while (next < line.size() && characterAt(line, next) == at)
      ++next;
    StringRef character = line.slice(at, next);
    bool tab = character == "\t";
    size_t columns = tab ? tabStop - carets.size() % tabStop
                         : std::abs(llvm::sys::unicode::columnWidthUTF8(
                               character)); // -1: it cannot be printed
    shown += tab ? std::string(columns, ' ') : character.str();
    if (at == caret)
      carets += '^' + std::string(columns - std::min<size_t>(columns, 1), '~');
    else
      carets.append(columns, at > caret && at < caret + length ? '~' : ' ');
  }
  if (caret >= line.size())
    carets += '^';
  os << shown << "\n";
  llvm::WithColor(os, llvm::raw_ostream::GREEN, /*Bold=*/true, /*BG=*/false,
                  mode)
      << StringRef(carets).rtrim(' ');
  os << "\n";
}

static void printText(llvm::raw_ostream &os, const Diagnostic &diagnostic,
                      const std::string *source, bool color) {
  auto mode = color ? llvm::ColorMode::Auto : llvm::ColorMode::Disable;
  SourceLoc loc = diagnostic.loc;
  std::string message = diagnostic.message;
  if (!diagnostic.code.empty())
    message += " [" + diagnostic.code + "]";
  std::string line = source && loc.line ? lineOf(*source, loc.line) : "";
  bool shown = !line.empty() && loc.column && llvm::json::isUTF8(line);
  // Of the end of a text that ends in carriage returns, which are not shown.
  if (shown)
    loc.column = std::min<size_t>(loc.column, line.size() + 1);
  printHeader(os, loc, diagnostic.severity, message, mode);
  if (shown) {
    size_t caret = characterAt(line, loc.column - 1);
    cutAround(line, caret);
    printLine(os, line, caret, std::max(loc.length, 1u), mode);
  }
  if (!loc.pointer.empty())
    os << "  at " << loc.pointer << "\n";
  for (const Diagnostic &note : diagnostic.notes)
    printHeader(os, note.loc, note.severity, note.message, mode);
}

//===----------------------------------------------------------------------===//
// JSON lines
//===----------------------------------------------------------------------===//

static llvm::json::Object toJson(const Diagnostic &diagnostic) {
  llvm::json::Object object;
  auto text = [&](StringRef key, StringRef value) {
    object[key] = llvm::json::fixUTF8(value);
  };
  text("severity", name(diagnostic.severity));
  if (!diagnostic.code.empty())
    text("code", diagnostic.code);
  text("file", diagnostic.loc.file);
  object["line"] = diagnostic.loc.line;
  object["column"] = diagnostic.loc.column;
  text("pointer", diagnostic.loc.pointer);
  text("message", diagnostic.message);
  return object;
}

static void printJson(llvm::raw_ostream &os, const Diagnostic &diagnostic) {
  llvm::json::Object object = toJson(diagnostic);
  llvm::json::Array notes;
  for (const Diagnostic &note : diagnostic.notes) {
    if (note.severity == Severity::Help && !object.get("fix"))
      object["fix"] = llvm::json::fixUTF8(note.message);
    else
      notes.push_back(toJson(note));
  }
  object["notes"] = std::move(notes);
  os << llvm::json::Value(std::move(object)) << "\n";
}

void Diagnostics::print(llvm::raw_ostream &os, Format format,
                        bool color) const {
  for (const Diagnostic &diagnostic : list) {
    if (format == Format::Json) {
      printJson(os, diagnostic);
      continue;
    }
    auto source = llvm::find_if(sources, [&](const auto &entry) {
      return entry.first == diagnostic.loc.file;
    });
    printText(os, diagnostic,
              source == sources.end() ? nullptr : &source->second, color);
  }
}
