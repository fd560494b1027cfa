//===- Json.cpp - strict JSON for untrusted text --------------------------===//
#include "lib/Artifact/Json.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

using namespace kvc::artifact;
using nlohmann::json;

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
/// Reads through the document without building it: nlohmann's own builder lets
/// the last of two equal keys win.
struct Scan {
  struct Frame {
    std::set<std::string> keys;
    std::string at; ///< pointer token of the member being read
    size_t index = 0;
    bool array = false;
  };
  std::vector<Frame> frames;
  std::string error;
  unsigned values = 0;

  std::string pointer() const {
    std::string out;
    for (const Frame &frame : frames)
      out += '/' + (frame.array ? std::to_string(frame.index) : frame.at);
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
  bool leaf() {
    if (!frames.empty() && frames.back().array)
      ++frames.back().index;
    return count();
  }
  bool open(bool array) {
    frames.push_back({});
    frames.back().array = array;
    return count();
  }
  bool close() {
    frames.pop_back();
    if (!frames.empty() && frames.back().array)
      ++frames.back().index;
    return true;
  }

  // nlohmann's SAX interface.
  bool null() { return leaf(); }
  bool boolean(bool) { return leaf(); }
  bool number_integer(int64_t) { return leaf(); }
  bool number_unsigned(uint64_t) { return leaf(); }
  bool number_float(double number, const std::string &) {
    return std::isfinite(number)
               ? leaf()
               : fail(pointer() + ": expected a finite number");
  }
  bool string(std::string &) { return leaf(); }
  bool binary(json::binary_t &) { return leaf(); }
  bool start_object(size_t) { return open(false); }
  bool key(std::string &key) {
    frames.back().at = pointerToken(key);
    return frames.back().keys.insert(key).second ||
           fail(pointer() + ": duplicate key");
  }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(true); }
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

std::optional<json> kvc::artifact::parseJson(std::string_view text,
                                             std::string &error) {
  Scan scan;
  if (text.size() > kMaxJsonBytes)
    scan.fail("expected at most " + std::to_string(kMaxJsonBytes) +
              " bytes, found " + std::to_string(text.size()));
  else if (unsigned depth = nestingDepth(text); depth > kMaxJsonDepth)
    scan.fail("expected a nesting of at most " + std::to_string(kMaxJsonDepth) +
              ", found " + std::to_string(depth));
  else if (json::sax_parse(text.begin(), text.end(), &scan))
    return json::parse(text.begin(), text.end(), nullptr,
                       /*allow_exceptions=*/false);
  error = scan.error;
  return std::nullopt;
}

void JsonNode::fail(const std::string &message) const {
  // A null value is the echo of an earlier failure.
  if (value && error->empty())
    *error = (pointer.empty() ? "/" : pointer) + ": " + message;
}

JsonNode JsonNode::get(const char *key) const {
  const json *found = nullptr;
  if (value && value->is_object()) {
    if (auto it = value->find(key); it != value->end())
      found = &*it;
    else
      fail("expected a key `" + std::string(key) + "`");
  } else {
    fail("expected an object");
  }
  return {found, pointer + '/' + key, *error};
}

bool JsonNode::has(const char *key) const {
  if (!value || !value->is_object())
    return false;
  auto it = value->find(key);
  return it != value->end() && !it->is_null();
}

std::vector<JsonNode> JsonNode::items(size_t least, size_t most) const {
  std::vector<JsonNode> out;
  if (!value || !value->is_array()) {
    fail("expected an array");
  } else if (value->size() < least || value->size() > most) {
    fail("expected " + std::to_string(least) + " to " + std::to_string(most) +
         " elements, found " + std::to_string(value->size()));
  } else {
    for (const json &element : *value)
      out.push_back(
          {&element, pointer + '/' + std::to_string(out.size()), *error});
  }
  return out;
}

uint64_t JsonNode::integer(uint64_t low, uint64_t high) const {
  std::string range = "expected an integer of " + std::to_string(low) + " to " +
                      std::to_string(high);
  if (value && value->is_number_unsigned()) {
    uint64_t number = value->get<uint64_t>();
    if (number >= low && number <= high)
      return number;
    fail(range + ", found " + std::to_string(number));
  } else {
    fail(range);
  }
  return low;
}

double JsonNode::positive() const {
  if (value && value->is_number())
    if (double number = value->get<double>(); number > 0)
      return number;
  fail("expected a number greater than 0");
  return 1;
}

std::string JsonNode::string(size_t least, size_t most) const {
  if (value && value->is_string())
    if (std::string text = value->get<std::string>();
        text.size() >= least && text.size() <= most)
      return text;
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
  if (value && value->is_string()) {
    std::string found = value->get<std::string>();
    for (const char *choice : legal)
      if (found == choice)
        return found;
  }
  for (const char *choice : legal)
    list += (list.empty() ? "`" : ", `") + std::string(choice) + '`';
  fail("expected one of " + list);
  return {};
}
