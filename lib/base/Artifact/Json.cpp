//===- Json.cpp - strict JSON for untrusted text --------------------------===//
#include "lib/base/Artifact/Json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

using namespace kvc::artifact;

/// Text from outside, cut and made printable, for one line.
static std::string printable(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, 64))
    out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

/// RFC 6901.
static std::string pointerToken(std::string_view key) {
  std::string out;
  for (char c : printable(key))
    out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

/// The nesting depth of brackets outside strings. Runs before the parser, so it
/// must cope with any bytes; on text that is not JSON its result is unused.
static unsigned nestingDepth(std::string_view text) {
  unsigned depth = 0, deepest = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (inString) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        inString = false;
    } else if (c == '"') {
      inString = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth) {
      --depth;
    }
  }
  return deepest;
}

namespace {
/// Builds the document from nlohmann's events. Its own builder lets the last of
/// two equal keys win, and its values allocate when they die.
struct Builder {
  struct Frame {
    JsonValue value;
    std::set<std::string> keys;
    std::string at; ///< pointer token of the member being read
  };
  std::vector<Frame> frames;
  JsonValue root;
  std::string error;
  unsigned values = 0;

  std::string pointer() const {
    std::string out;
    for (const Frame &frame : frames)
      out += '/' + (frame.value.kind == JsonValue::Array
                        ? std::to_string(frame.value.values.size())
                        : frame.at);
    return out;
  }
  bool fail(const std::string &message) {
    error = message;
    return false;
  }
  bool count() {
    return ++values <= kMaxJsonValues ||
           fail("expected at most " + std::to_string(kMaxJsonValues) +
                " values");
  }
  bool put(JsonValue value) {
    if (frames.empty())
      root = std::move(value);
    else
      frames.back().value.values.push_back(std::move(value));
    return true;
  }
  bool leaf(JsonValue::Kind kind, double number = 0, uint64_t integer = 0) {
    JsonValue value;
    value.kind = kind;
    value.number = number;
    value.integer = integer;
    return count() && put(std::move(value));
  }
  bool open(JsonValue::Kind kind) {
    frames.emplace_back().value.kind = kind;
    return count();
  }
  bool close() {
    JsonValue done = std::move(frames.back().value);
    frames.pop_back();
    return put(std::move(done));
  }

  // nlohmann's SAX interface.
  bool null() { return leaf(JsonValue::Null); }
  bool boolean(bool) { return leaf(JsonValue::Boolean); }
  bool number_integer(int64_t number) {
    return leaf(JsonValue::Number, double(number));
  }
  bool number_unsigned(uint64_t number) {
    return leaf(JsonValue::Unsigned, double(number), number);
  }
  bool number_float(double number, const std::string &) {
    return std::isfinite(number)
               ? leaf(JsonValue::Number, number)
               : fail(pointer() + ": expected a finite number");
  }
  bool string(std::string &text) {
    JsonValue value;
    value.kind = JsonValue::String;
    value.text = std::move(text);
    return count() && put(std::move(value));
  }
  bool binary(nlohmann::json::binary_t &) { return leaf(JsonValue::Null); }
  bool start_object(size_t) { return open(JsonValue::Object); }
  bool key(std::string &key) {
    Frame &frame = frames.back();
    frame.at = pointerToken(key);
    frame.value.keys.push_back(key);
    return frame.keys.insert(std::move(key)).second ||
           fail(pointer() + ": duplicate key");
  }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(JsonValue::Array); }
  bool end_array() { return close(); }
  bool parse_error(size_t position, const std::string &,
                   const nlohmann::detail::exception &what) {
    constexpr int kNumberOverflow = 406;
    return fail((what.id == kNumberOverflow
                     ? "expected a finite number at byte "
                     : "not JSON at byte ") +
                std::to_string(position));
  }
};
} // namespace

std::optional<JsonValue> kvc::artifact::parseJson(std::string_view text,
                                                  std::string &error) {
  Builder builder;
  if (text.size() > kMaxJsonBytes)
    builder.fail("expected at most " + std::to_string(kMaxJsonBytes) +
                 " bytes, found " + std::to_string(text.size()));
  else if (unsigned depth = nestingDepth(text); depth > kMaxJsonDepth)
    builder.fail("expected a nesting of at most " +
                 std::to_string(kMaxJsonDepth) + ", found " +
                 std::to_string(depth));
  else if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
    return std::move(builder.root);
  error = builder.error;
  return std::nullopt;
}

JsonValue JsonValue::array(std::vector<JsonValue> values) {
  JsonValue value;
  value.kind = Array;
  value.values = std::move(values);
  return value;
}

JsonValue JsonValue::object(std::initializer_list<Member> members) {
  JsonValue value;
  value.kind = Object;
  for (const Member &member : members)
    value.add(member.first, member.second);
  return value;
}

void JsonValue::add(const char *key, JsonValue value) {
  keys.emplace_back(key);
  values.push_back(std::move(value));
}

void JsonValue::erase(std::string_view key) {
  auto found = std::find(keys.begin(), keys.end(), key);
  if (found == keys.end())
    return;
  auto at = found - keys.begin();
  keys.erase(keys.begin() + at);
  values.erase(values.begin() + at);
}

const JsonValue *JsonValue::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key)
      return &values[i];
  return nullptr;
}

void JsonNode::fail(const std::string &message) const {
  // A null value is the echo of an earlier failure.
  if (value && error->empty())
    *error = (pointer.empty() ? "/" : pointer) + ": " + message;
}

JsonNode JsonNode::get(const char *key) const {
  const JsonValue *found = nullptr;
  if (value && value->kind == JsonValue::Object) {
    found = value->find(key);
    if (!found)
      fail("expected a key `" + std::string(key) + "`");
  } else {
    fail("expected an object");
  }
  return {found, pointer + '/' + key, *error};
}

bool JsonNode::has(const char *key) const {
  if (!value || value->kind != JsonValue::Object)
    return false;
  const JsonValue *found = value->find(key);
  return found && found->kind != JsonValue::Null;
}

std::vector<JsonNode> JsonNode::items(size_t least, size_t most) const {
  std::vector<JsonNode> out;
  if (!value || value->kind != JsonValue::Array) {
    fail("expected an array");
  } else if (value->values.size() < least || value->values.size() > most) {
    fail("expected " + std::to_string(least) + " to " + std::to_string(most) +
         " elements, found " + std::to_string(value->values.size()));
  } else {
    for (const JsonValue &element : value->values)
      out.push_back(
          {&element, pointer + '/' + std::to_string(out.size()), *error});
  }
  return out;
}

uint64_t JsonNode::integer(uint64_t low, uint64_t high) const {
  std::string range = "expected an integer of " + std::to_string(low) + " to " +
                      std::to_string(high);
  if (value && value->kind == JsonValue::Unsigned) {
    uint64_t number = value->integer;
    if (number >= low && number <= high)
      return number;
    fail(range + ", found " + std::to_string(number));
  } else {
    fail(range);
  }
  return low;
}

double JsonNode::positive() const {
  if (value &&
      (value->kind == JsonValue::Unsigned || value->kind == JsonValue::Number))
    if (value->number > 0)
      return value->number;
  fail("expected a number greater than 0");
  return 1;
}

std::string JsonNode::string(size_t least, size_t most) const {
  if (value && value->kind == JsonValue::String)
    if (value->text.size() >= least && value->text.size() <= most)
      return value->text;
  fail("expected a string of " + std::to_string(least) + " to " +
       std::to_string(most) + " bytes");
  return {};
}

std::string JsonNode::word(size_t least, size_t most,
                           const char *others) const {
  std::string word = string(least, most);
  for (char c : word) {
    bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9');
    if (!alphanumeric && (!c || !std::strchr(others, c)))
      fail("expected letters, digits and `" + std::string(others) +
           "`, found `" + printable(word) + "`");
  }
  return word;
}

std::string JsonNode::text(size_t most) const {
  std::string text = string(0, most);
  for (char c : text)
    if (c < ' ' || c > '~')
      fail("expected printable ASCII");
  return text;
}

std::string JsonNode::oneOf(std::initializer_list<const char *> legal) const {
  std::string list;
  if (value && value->kind == JsonValue::String)
    for (const char *choice : legal)
      if (value->text == choice)
        return value->text;
  for (const char *choice : legal)
    list += (list.empty() ? "`" : ", `") + std::string(choice) + '`';
  fail("expected one of " + list);
  return {};
}
