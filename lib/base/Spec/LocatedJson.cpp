//===- LocatedJson.cpp - the gate, and the tree of located values ---------===//
#include "lib/base/Spec/LocatedJson.h"

#include "lib/base/Support/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/JSON.h"

#include <nlohmann/json.hpp>

using namespace kvc;
using namespace kvc::spec;
using llvm::StringRef;

const Node *Node::find(StringRef key) const {
  for (const Node *child : children)
    if (child->key == key)
      return child;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

Document::Document(std::string_view text, std::string file)
    : source(text), file(std::move(file)), lineStarts{0} {
  for (auto [offset, c] : llvm::enumerate(source))
    if (c == '\n')
      lineStarts.push_back(offset + 1);
}

SourceLoc Document::place(Span span) const {
  size_t line = llvm::upper_bound(lineStarts, span.begin) - lineStarts.begin();
  uint32_t lineEnd =
      line < lineStarts.size() ? lineStarts[line] - 1 : source.size();
  uint32_t end = std::max(std::min(span.end, lineEnd), span.begin + 1);
  SourceLoc loc;
  loc.file = file;
  loc.line = line;
  loc.column = span.begin - lineStarts[line - 1] + 1;
  loc.length = end - span.begin;
  return loc;
}

static std::string pointerTo(const Node &node) {
  if (!node.parent)
    return "";
  std::string pointer = pointerTo(*node.parent) + "/";
  if (node.parent->kind == Node::Kind::Array)
    return pointer + std::to_string(node.index);
  for (char c : node.key) {
    if (c == '~')
      pointer += "~0";
    else if (c == '/')
      pointer += "~1";
    else
      pointer += c;
  }
  return pointer;
}

SourceLoc Document::loc(const Node &node) const {
  SourceLoc loc = place(node.span);
  loc.pointer = pointerTo(node);
  return loc;
}

SourceLoc Document::keyLoc(const Node &node) const {
  SourceLoc loc = place(node.keySpan);
  loc.pointer = pointerTo(node);
  return loc;
}

const Node &Document::nearest(StringRef pointer) const {
  const Node *node = &root();
  while (pointer.consume_front("/")) {
    StringRef step = pointer.take_until([](char c) { return c == '/'; });
    pointer = pointer.drop_front(step.size());
    const Node *next = node->find(step);
    unsigned index = 0;
    if (node->kind == Node::Kind::Array && !step.getAsInteger(10, index) &&
        index < node->children.size())
      next = node->children[index];
    if (!next)
      break;
    node = next;
  }
  return *node;
}

StringRef Document::text(const Node &node) const {
  return StringRef(source).slice(node.span.begin, node.span.end);
}

//===----------------------------------------------------------------------===//
// The gate
//===----------------------------------------------------------------------===//

/// The offset of the quote that closes the string opened at `quote`, or the
/// size of the text.
static size_t closingQuote(StringRef text, size_t quote) {
  size_t i = quote + 1;
  for (; i < text.size() && text[i] != '"'; ++i)
    if (text[i] == '\\')
      ++i;
  return std::min(i, text.size());
}

/// One pass that trusts nothing: brackets and commas outside strings are
/// counted, so that no recursion and no allocation of the steps behind it
/// depends on the text.
bool Document::passesGate(Diagnostics &diagnostics) const {
  auto refuse = [&](const char *code, size_t at, std::string message) {
    diagnostics.error(code, place({uint32_t(at), uint32_t(at + 1)}),
                      std::move(message));
    return false;
  };
  size_t bad = 0;
  if (!llvm::json::isUTF8(source, &bad))
    return refuse("E-UTF8", bad, "the text is not valid UTF-8");
  size_t depth = 0, values = 1;
  for (size_t i = 0; i < source.size(); ++i) {
    char c = source[i];
    if (c == '"') {
      size_t end = closingQuote(source, i);
      if (end - i - 1 > GateLimits::stringBytes)
        return refuse("E-TOO-LARGE", i,
                      "a string has at most " +
                          std::to_string(GateLimits::stringBytes) +
                          " bytes, found " + std::to_string(end - i - 1));
      i = end;
    } else if (c == '[' || c == '{') {
      ++values;
      if (++depth > GateLimits::depth)
        return refuse("E-TOO-LARGE", i,
                      "values are nested at most " +
                          std::to_string(GateLimits::depth) + " deep");
    } else if (c == ']' || c == '}') {
      depth -= depth > 0;
    } else if (c == ',') {
      ++values;
    } else if (!c) {
      // The parser takes it for the end of the text and ignores the rest.
      return refuse("E-SYNTAX", i, "a NUL byte is not JSON");
    }
    if (values > GateLimits::values)
      return refuse("E-TOO-LARGE", i,
                    "a spec has at most " + std::to_string(GateLimits::values) +
                        " values");
  }
  return true;
}

//===----------------------------------------------------------------------===//
// The tree
//===----------------------------------------------------------------------===//

/// Takes the parser's events. The parser calls back for every token in order,
/// so a token begins at the first character after the last one that is not
/// white space, comma or colon.
class kvc::spec::Builder {
public:
  Builder(Document &document, Diagnostics &diagnostics)
      : document(document), diagnostics(diagnostics), text(document.source) {
    if (text.starts_with("\xef\xbb\xbf")) // a byte order mark is no token
      at = 3;
  }

  bool null() {
    add(Node::Kind::Null, takeWord());
    return true;
  }
  bool boolean(bool value) {
    add(Node::Kind::Bool, takeWord()).boolean = value;
    return true;
  }
  bool number_integer(int64_t value) {
    Node &node = add(Node::Kind::Integer, takeWord());
    node.integer = value;
    node.number = double(value);
    return true;
  }
  bool number_unsigned(uint64_t value) {
    Node &node = add(Node::Kind::Integer, takeWord());
    node.integer = int64_t(std::min<uint64_t>(value, INT64_MAX));
    node.number = double(value);
    return true;
  }
  bool number_float(double value, const std::string &) {
    add(Node::Kind::Number, takeWord()).number = value;
    return true;
  }
  bool string(std::string &value) {
    add(Node::Kind::String, takeString()).string = std::move(value);
    return true;
  }
  bool binary(std::vector<uint8_t> &) { llvm_unreachable("not in JSON text"); }

  bool start_object(size_t) { return open(Node::Kind::Object); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(Node::Kind::Array); }
  bool end_array() { return close(); }
  bool key(std::string &value) {
    keySpan = takeString();
    keyText = std::move(value);
    return true;
  }

  bool parse_error(size_t position, const std::string &,
                   const nlohmann::detail::exception &error);

private:
  Span takeToken(size_t length) {
    Span span{uint32_t(at), uint32_t(at + length)};
    at += length;
    return span;
  }
  void skipToToken() {
    at = std::min(text.find_first_not_of(" \t\r\n,:", at), text.size());
  }
  Span takeWord() {
    skipToToken();
    size_t end = text.find_first_of(" \t\r\n,:]}", at);
    return takeToken(std::min(end, text.size()) - at);
  }
  Span takeString() {
    skipToToken();
    return takeToken(closingQuote(text, at) + 1 - at);
  }
  bool open(Node::Kind kind) {
    skipToToken();
    Node &node = add(kind, takeToken(1));
    containers.push_back({&node, {}});
    return true;
  }
  bool close() {
    skipToToken();
    containers.back().node->span.end = takeToken(1).end;
    containers.pop_back();
    return true;
  }
  Node &add(Node::Kind kind, Span span);

  struct Container {
    Node *node;
    llvm::StringMap<const Node *> keys;
  };
  Document &document;
  Diagnostics &diagnostics;
  StringRef text;
  size_t at = 0;
  std::vector<Container> containers;
  std::string keyText;
  Span keySpan;
};

Node &Builder::add(Node::Kind kind, Span span) {
  Node &node = document.nodes.emplace_back();
  node.kind = kind;
  node.span = span;
  if (containers.empty())
    return node;
  Container &container = containers.back();
  node.parent = container.node;
  node.index = container.node->children.size();
  container.node->children.push_back(&node);
  if (container.node->kind == Node::Kind::Array)
    return node;
  node.key = std::move(keyText);
  node.keySpan = keySpan;
  auto [first, isNew] = container.keys.try_emplace(node.key, &node);
  if (!isNew) {
    Diagnostic &diagnostic =
        diagnostics.error("E-DUPLICATE-KEY", document.keyLoc(node),
                          "this object already has the key " +
                              text.slice(keySpan.begin, keySpan.end).str());
    diagnostic.notes.push_back({Severity::Note,
                                "",
                                document.keyLoc(*first->second),
                                "it is first set here",
                                {}});
  }
  return node;
}

/// What the parser does not know that others take for JSON; `at` is where it
/// stopped.
static std::string syntaxHelp(StringRef text, size_t at) {
  StringRef before = text.take_front(at).rtrim(), rest = text.drop_front(at);
  if ((rest.starts_with("}") || rest.starts_with("]")) && before.ends_with(","))
    return "JSON has no trailing commas: leave out the one before " +
           quote(rest.take_front(1));
  if (rest.starts_with("/") || rest.starts_with("#"))
    return "JSON has no comments";
  if (rest.starts_with("'"))
    return "strings and keys stand in double quotes";
  for (auto [other, ours] :
       {std::pair("True", "true"), {"False", "false"}, {"None", "null"}})
    if (rest.starts_with(other))
      return "use " + quote(ours);
  return "";
}

bool Builder::parse_error(size_t position, const std::string &,
                          const nlohmann::detail::exception &error) {
  SourceLoc loc;
  std::string code = "E-SYNTAX", message, help;
  if (error.id == 406) { // out_of_range: the number is beyond a double
    skipToToken();
    Span number = takeWord();
    loc = document.place(number);
    code = "E-NON-FINITE";
    message = "`" + text.slice(number.begin, number.end).str() +
              "` is too large for a double";
  } else {
    uint32_t offset = position ? position - 1 : 0;
    loc = document.place({offset, offset + 1});
    // "[id] parse error at line 1, column 2: syntax error while parsing WHERE -
    // WHAT; last read: TEXT"
    StringRef what(error.what());
    what = what.split("while parsing ").second.split("; last read").first;
    auto [where, reason] = what.split(" - ");
    message = ("syntax error in " + where + ": " + reason).str();
    help = syntaxHelp(text, std::min<size_t>(offset, text.size()));
  }
  if (!containers.empty())
    loc.pointer = pointerTo(*containers.back().node);
  Diagnostic &diagnostic = diagnostics.error(code, loc, message);
  if (!help.empty())
    diagnostic.notes.push_back({Severity::Help, "", loc, help, {}});
  return false;
}

std::unique_ptr<Document> Document::parse(std::string_view text,
                                          std::string file,
                                          Diagnostics &diagnostics) {
  if (text.size() > GateLimits::bytes) {
    SourceLoc loc;
    loc.file = file;
    diagnostics.error("E-TOO-LARGE", loc,
                      "a spec has at most " +
                          std::to_string(GateLimits::bytes) + " bytes");
    return nullptr;
  }
  std::unique_ptr<Document> document(new Document(text, std::move(file)));
  if (!document->passesGate(diagnostics))
    return nullptr;
  Builder builder(*document, diagnostics);
  const std::string &source = document->source;
  if (!nlohmann::json::sax_parse(source.begin(), source.end(), &builder))
    return nullptr;
  return document;
}
