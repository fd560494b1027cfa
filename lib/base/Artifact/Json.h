//===- Json.h - strict JSON for untrusted text ------------------*- C++ -*-===//
//
// The gate before nlohmann's parser, and a cursor that reads values by type and
// range and remembers the first error. Internal to lib/base/Artifact.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_JSON_H
#define KVC_LIB_BASE_ARTIFACT_JSON_H

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvc::artifact {

inline constexpr size_t kMaxJsonBytes = 64u << 20;
inline constexpr unsigned kMaxJsonDepth = 32;
inline constexpr unsigned kMaxJsonValues = 4000000;

/// A value of a document, its members in order. Dies without memory, unlike
/// nlohmann's: what a load leaves behind when memory runs out must not need
/// any.
struct JsonValue {
  enum Kind : uint8_t {
    Null,
    Boolean,
    Number,
    Unsigned,
    String,
    Array,
    Object
  };

  Kind kind = Null;
  uint64_t integer = 0;          ///< Unsigned
  double number = 0;             ///< Unsigned, Number
  std::string text;              ///< String
  std::vector<std::string> keys; ///< Object: of `values`, all different
  std::vector<JsonValue> values; ///< Array, Object

  JsonValue() = default;
  JsonValue(uint64_t integer)
      : kind(Unsigned), integer(integer), number(double(integer)) {}
  JsonValue(uint32_t integer) : JsonValue(uint64_t(integer)) {}
  JsonValue(double number) : kind(Number), number(number) {}
  JsonValue(std::string text) : kind(String), text(std::move(text)) {}
  JsonValue(const char *text) : JsonValue(std::string(text)) {}
  static JsonValue array(std::vector<JsonValue> values = {});
  using Member = std::pair<const char *, JsonValue>;
  static JsonValue object(std::initializer_list<Member> members);

  /// The member of an object; null if there is none of that key.
  const JsonValue *find(std::string_view key) const;
  /// Adds a member that an object does not have.
  void add(const char *key, JsonValue value);
  /// Takes a member, if the object has it.
  void erase(std::string_view key);
};

/// Parses one JSON document. Refuses what is too large or too deep before any
/// parser sees it, then duplicate keys, too many values and numbers that are
/// not finite. On failure returns nullopt and sets `error` to one line.
std::optional<JsonValue> parseJson(std::string_view text, std::string &error);

/// A value of a document and its JSON pointer. The first failure is kept in the
/// caller's `error`; after it, reads give zeros and empty strings, so that a
/// reader needs one check at its end. `value` and `error` must outlive this.
class JsonNode {
public:
  JsonNode(const JsonValue *value, std::string pointer, std::string &error)
      : value(value), pointer(std::move(pointer)), error(&error) {}

  /// The member `key`; a failure if there is none.
  JsonNode get(const char *key) const;
  /// Whether this is an object with a member `key` that is not null.
  bool has(const char *key) const;
  /// The elements of an array of `least` to `most`; empty after a failure.
  std::vector<JsonNode> items(size_t least, size_t most) const;

  /// An integer (1.0 and 1e3 are not) in [low, high].
  uint64_t integer(uint64_t low, uint64_t high) const;
  uint32_t integer32(uint32_t low, uint32_t high) const {
    return uint32_t(integer(low, high));
  }
  /// A number greater than zero.
  double positive() const;
  /// A string of `least` to `most` bytes, all of which are letters, digits or
  /// in `others`.
  std::string word(size_t least, size_t most, const char *others) const;
  /// A string of at most `most` bytes of printable ASCII.
  std::string text(size_t most) const;
  /// One of the given strings.
  std::string oneOf(std::initializer_list<const char *> legal) const;

  void fail(const std::string &message) const;

private:
  std::string string(size_t least, size_t most) const;

  const JsonValue *value; ///< null after a failure
  std::string pointer;
  std::string *error;
};

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_JSON_H
