//===- Fields.cpp - typed values out of located JSON ----------------------===//
#include "lib/Spec/Fields.h"
#include "lib/Spec/Reader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::ArrayRef;
using llvm::StringLiteral;
using llvm::StringRef;

/// Primitives of the language that this version does not have yet.
static constexpr StringLiteral kLaterPrimitives[] = {
    "position", "state", "score", "evict", "tiers", "sharing"};

std::string spec::quote(StringRef text) {
  constexpr size_t longest = 48;
  std::string quoted = "`";
  size_t end = std::min(text.size(), longest);
  while (end < text.size() && end && (text[end] & 0xc0) == 0x80)
    --end; // not inside a UTF-8 sequence
  for (char c : text.take_front(end))
    quoted += uint8_t(c) < 0x20 || c == 0x7f ? '?' : c;
  return quoted + (end < text.size() ? "...`" : "`");
}

std::string spec::quoteAll(ArrayRef<StringLiteral> names) {
  std::string text;
  for (auto [index, name] : llvm::enumerate(names)) {
    if (index)
      text += index + 1 == names.size() ? " or " : ", ";
    text += quote(name);
  }
  return text;
}

Diagnostic &Context::error(const char *code, SourceLoc loc,
                           std::string message) {
  ++errors;
  if (errors > kMaxErrors) {
    if (errors == kMaxErrors + 1)
      diagnostics.error("E-TOO-MANY", loc,
                        "too many errors, the rest is not shown");
    return dropped = {};
  }
  return diagnostics.error(code, std::move(loc), std::move(message));
}

void Context::addNote(Diagnostic &to, SourceLoc loc, std::string message) {
  to.notes.push_back(
      {Severity::Note, "", std::move(loc), std::move(message), {}});
}

void Context::addHelp(Diagnostic &to, std::string message) {
  to.notes.push_back({Severity::Help, "", to.loc, std::move(message), {}});
}

static std::string found(const Context &context, const Node &node) {
  if (node.kind == Node::Kind::Array)
    return ", found an array";
  if (node.kind == Node::Kind::Object)
    return ", found an object";
  return ", found " + quote(context.document.text(node));
}

static void wrongType(Context &context, const Node &node, std::string wanted) {
  context.error("E-TYPE", context.document.loc(node),
                "expected " + wanted + found(context, node));
}

static std::string range(const std::string &low, const std::string &high) {
  return "[" + low + ", " + high + "]";
}

std::optional<unsigned> spec::readInteger(Context &context, const Node &node,
                                          unsigned low, unsigned high) {
  std::string wanted =
      "an integer in " + range(std::to_string(low), std::to_string(high));
  if (node.kind != Node::Kind::Integer) {
    wrongType(context, node, wanted);
    return std::nullopt;
  }
  if (node.integer < int64_t(low) || node.integer > int64_t(high)) {
    context.error("E-RANGE", context.document.loc(node),
                  "expected " + wanted + found(context, node));
    return std::nullopt;
  }
  return unsigned(node.integer);
}

std::optional<double> spec::readNumber(Context &context, const Node &node,
                                       double low, double high) {
  auto text = [](double x) {
    std::string buffer;
    llvm::raw_string_ostream(buffer) << llvm::format("%g", x);
    return buffer;
  };
  std::string wanted = "a number in " + range(text(low), text(high));
  if (node.kind != Node::Kind::Integer && node.kind != Node::Kind::Number) {
    wrongType(context, node, wanted);
    return std::nullopt;
  }
  if (!(node.number >= low && node.number <= high)) {
    context.error("E-RANGE", context.document.loc(node),
                  "expected " + wanted + found(context, node));
    return std::nullopt;
  }
  return node.number;
}

std::optional<std::string> spec::readName(Context &context, const Node &node) {
  if (node.kind != Node::Kind::String) {
    wrongType(context, node, "a name");
    return std::nullopt;
  }
  StringRef name = node.string;
  bool legal =
      !name.empty() && name.size() <= 64 && llvm::all_of(name, [](char c) {
        return llvm::isAlnum(c) || c == '_' || c == '.' || c == '-';
      });
  if (!legal) {
    context.error("E-NAME", context.document.loc(node),
                  "a name is 1 to 64 letters, digits, `_`, `.` or `-`" +
                      found(context, node));
    return std::nullopt;
  }
  return node.string;
}

/// The one of `names` that `word` was probably meant to be, or "".
static StringRef nearestName(StringRef word, ArrayRef<StringLiteral> names) {
  StringRef best;
  unsigned bestDistance = word.size() / 3 + 1;
  for (StringRef name : names) {
    unsigned distance =
        word.lower() == name.lower()
            ? 0
            : word.edit_distance(name, /*AllowReplacements=*/true,
                                 /*MaxEditDistance=*/bestDistance);
    if (distance < bestDistance || (best.empty() && distance == bestDistance)) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

static void addSuggestion(Diagnostic &diagnostic, StringRef word,
                          ArrayRef<StringLiteral> names) {
  StringRef nearest = nearestName(word, names);
  if (!nearest.empty())
    Context::addHelp(diagnostic, "did you mean " + quote(nearest) + "?");
  else
    Context::addHelp(diagnostic, "use " + quoteAll(names));
}

std::optional<unsigned> spec::readEnum(Context &context, const Node &node,
                                       ArrayRef<StringLiteral> names) {
  if (node.kind != Node::Kind::String) {
    wrongType(context, node, quoteAll(names));
    return std::nullopt;
  }
  const auto *it = llvm::find(names, StringRef(node.string));
  if (it != names.end())
    return unsigned(it - names.begin());
  Diagnostic &diagnostic =
      context.error("E-VALUE", context.document.loc(node),
                    "expected " + quoteAll(names) + found(context, node));
  addSuggestion(diagnostic, node.string, names);
  return std::nullopt;
}

std::optional<unsigned> spec::readKind(Context &context, const Node &node,
                                       ArrayRef<StringLiteral> kinds) {
  if (node.kind == Node::Kind::String)
    return readEnum(context, node, kinds);
  if (node.kind != Node::Kind::Object) {
    wrongType(context, node, quoteAll(kinds) + " or an object with `kind`");
    return std::nullopt;
  }
  if (const Node *kind = node.find("kind"))
    return readEnum(context, *kind, kinds);
  Diagnostic &diagnostic = context.error(
      "E-MISSING-KEY", context.document.loc(node), "missing key `kind`");
  Context::addHelp(diagnostic, "use " + quoteAll(kinds));
  return std::nullopt;
}

Fields::Fields(Context &context, const Node &node,
               ArrayRef<StringLiteral> known, Form form)
    : context(context), node(node),
      readable(
          node.kind == Node::Kind::Object ||
          (form == Form::ObjectOrKind && node.kind == Node::Kind::String)) {
  if (!readable)
    wrongType(context, node, "an object");
  if (node.kind != Node::Kind::Object)
    return;
  for (const Node *member : node.children) {
    if (llvm::is_contained(known, StringRef(member->key)))
      continue;
    SourceLoc loc = context.document.keyLoc(*member);
    if (llvm::is_contained(kLaterPrimitives, StringRef(member->key))) {
      Diagnostic &diagnostic =
          context.error("E-NOT-IN-VERSION", loc,
                        quote(member->key) + " is not in version " +
                            kLanguageVersion + " of the language");
      Context::addHelp(diagnostic, "this version has `streams`, `codec`, "
                                   "`layout` and `reads`");
      continue;
    }
    Diagnostic &diagnostic = context.error("E-UNKNOWN-KEY", loc,
                                           "unknown key " + quote(member->key));
    addSuggestion(diagnostic, member->key, known);
  }
}

const Node *Fields::require(StringRef key, StringRef example) {
  const Node *member = node.find(key);
  if (!member && readable) {
    Diagnostic &diagnostic =
        context.error("E-MISSING-KEY", context.document.loc(node),
                      "missing key " + quote(key));
    Context::addHelp(diagnostic, ("for example `" + example + "`").str());
  }
  return member;
}
