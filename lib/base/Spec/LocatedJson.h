//===- LocatedJson.h - JSON values that know their place --------*- C++ -*-===//
//
// Text from anywhere passes three steps, each of which only sees what the one
// before let through: the gate (bounds on size, depth, values, strings; UTF-8),
// the parser (nlohmann's SAX events; strict JSON, finite numbers), and the
// checks made while the tree is built (no duplicate keys).
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_LOCATEDJSON_H
#define KVC_LIB_BASE_SPEC_LOCATEDJSON_H

#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/StringRef.h"

#include <deque>
#include <memory>
#include <string_view>
#include <vector>

namespace kvc::spec {

/// Bounds of the gate. No spec needs a tenth of them.
struct GateLimits {
  static constexpr size_t bytes = 1 << 20;
  static constexpr size_t depth = 64;
  static constexpr size_t values = 100'000;
  static constexpr size_t stringBytes = 1024;
};

/// Half-open range of bytes of the text.
struct Span {
  uint32_t begin = 0, end = 0;
};

/// One JSON value. Owned by its document, at a fixed address.
struct Node {
  enum class Kind : uint8_t {
    Null,
    Bool,
    Integer,
    Number,
    String,
    Array,
    Object
  };
  Kind kind = Kind::Null;
  bool boolean = false;
  int64_t integer = 0; ///< clamped to the type's range; only if Integer
  double number = 0;   ///< of an Integer or Number; finite
  std::string string;  ///< unescaped UTF-8, may hold NUL
  Span span;           ///< from its first to its last character

  const Node *parent = nullptr; ///< null for the root
  std::string key;              ///< if the parent is an object
  Span keySpan;                 ///< with the quotes
  uint32_t index = 0;           ///< in the parent's children
  std::vector<const Node *> children;

  /// The first member called `key` of an object, or null.
  const Node *find(llvm::StringRef key) const;
};

/// A parsed text. Locations are computed when asked for.
class Document {
public:
  /// Returns null after a report if the text did not pass the gate or the
  /// parser. Duplicate keys are reported, the first one stays, and the
  /// document is returned.
  static std::unique_ptr<Document>
  parse(std::string_view text, std::string file, Diagnostics &diagnostics);

  const Node &root() const { return nodes.front(); }
  /// Where the value stands; where its key stands, with the pointer of the
  /// value.
  SourceLoc loc(const Node &node) const;
  SourceLoc keyLoc(const Node &node) const;
  /// The deepest node on the way to `pointer` that exists.
  const Node &nearest(llvm::StringRef pointer) const;
  /// The characters of the value as they stand in the text.
  llvm::StringRef text(const Node &node) const;

private:
  friend class Builder;
  Document(std::string_view text, std::string file);
  SourceLoc place(Span span) const;
  bool passesGate(Diagnostics &diagnostics) const;

  std::string source, file;
  std::vector<uint32_t> lineStarts;
  std::deque<Node> nodes;
};

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_LOCATEDJSON_H
