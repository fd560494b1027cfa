//===- Diagnostics.cpp - messages as text with carets, or as JSON lines ---===//
#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/WithColor.h"

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

/// A longer line (a minified file) would drown its own caret.
static constexpr size_t kLongestShownLine = 160;

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

static llvm::SourceMgr::DiagKind kindOf(Severity severity) {
  switch (severity) {
  case Severity::Error:
    return llvm::SourceMgr::DK_Error;
  case Severity::Warning:
    return llvm::SourceMgr::DK_Warning;
  case Severity::Remark:
    return llvm::SourceMgr::DK_Remark;
  case Severity::Note:
  case Severity::Help:
    return llvm::SourceMgr::DK_Note;
  }
  llvm_unreachable("no such severity");
}

static std::string place(const SourceLoc &loc) {
  if (!loc.line)
    return loc.file;
  return loc.file + ":" + std::to_string(loc.line) + ":" +
         std::to_string(loc.column);
}

/// A line without a caret: notes, help, and what has no text to show.
static void printPlain(llvm::raw_ostream &os, const Diagnostic &diagnostic,
                       StringRef message, bool color) {
  std::string where = place(diagnostic.loc);
  if (!where.empty())
    os << where << ": ";
  auto mode = color ? llvm::ColorMode::Auto : llvm::ColorMode::Disable;
  auto highlight = diagnostic.severity == Severity::Error
                       ? llvm::HighlightColor::Error
                       : llvm::HighlightColor::Note;
  llvm::WithColor(os, highlight, mode) << name(diagnostic.severity) << ": ";
  os << message << "\n";
}

static void printText(llvm::raw_ostream &os, const Diagnostic &diagnostic,
                      const std::string *source, bool color) {
  const SourceLoc &loc = diagnostic.loc;
  std::string message = diagnostic.message;
  if (!diagnostic.code.empty())
    message += " [" + diagnostic.code + "]";
  std::string line = source && loc.line ? lineOf(*source, loc.line) : "";
  bool shown = !line.empty() && line.size() <= kLongestShownLine &&
               llvm::json::isUTF8(line);
  if (!shown || !loc.column) {
    printPlain(os, diagnostic, message, color);
  } else {
    llvm::SourceMgr manager;
    // Of the end of a text that ends in carriage returns, which are not shown.
    unsigned begin = std::min<size_t>(loc.column - 1, line.size());
    llvm::SMDiagnostic whole(manager, llvm::SMLoc(), loc.file, loc.line, begin,
                             kindOf(diagnostic.severity), message, line,
                             {{begin, begin + std::max(loc.length, 1u)}});
    manager.PrintMessage(os, whole, color);
  }
  if (!loc.pointer.empty())
    os << "  at " << loc.pointer << "\n";
  for (const Diagnostic &note : diagnostic.notes)
    printPlain(os, note, note.message, color);
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
