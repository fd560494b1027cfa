//===- Safetensors.cpp - captured tensors from a file ---------------------===//
#include "lib/Verify/Safetensors.h"
#include "dialect/codecs/HostFloat.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <set>

using namespace kvc;
using namespace kvc::verify;
using nlohmann::json;
using Tensor = Safetensors::Tensor;

/// Bytes before the header, which say how long it is.
static constexpr size_t kPrefix = 8;
/// {"name": {"shape": [..]}} is three deep.
static constexpr unsigned kMaxDepth = 4;

/// Whether `text` nests no deeper than a header may. Brackets in strings do not
/// count. A parser is not asked before this.
static bool isShallow(std::string_view text) {
  unsigned depth = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (inString) {
      i += c == '\\';
      inString = c != '"';
    } else if (c == '"') {
      inString = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth)
        return false;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return true;
}

/// Parses without exceptions; an object that is discarded stands for any error,
/// a key that comes twice among them.
static json parse(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  bool twice = false;
  auto watch = [&](int, json::parse_event_t event, json &value) {
    if (event == json::parse_event_t::object_start)
      keys.emplace_back();
    else if (event == json::parse_event_t::object_end)
      keys.pop_back();
    else if (event == json::parse_event_t::key)
      twice |= !keys.back().insert(value.get<std::string>()).second;
    return true;
  };
  json document = json::parse(text, watch, /*allow_exceptions=*/false);
  return twice ? json(json::value_t::discarded) : document;
}

static std::optional<spec::DType> dtypeFrom(const json &name) {
  if (name == "F32")
    return spec::DType::F32;
  if (name == "F16")
    return spec::DType::F16;
  if (name == "BF16")
    return spec::DType::BF16;
  return std::nullopt;
}

/// Fills `tensor` but for the place of the data; an error text if it cannot.
static std::string readTensor(const json &entry, size_t dataBytes,
                              Tensor &tensor) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets"))
    return "expected an object of dtype, shape and data_offsets";
  auto dtype = dtypeFrom(entry["dtype"]);
  if (!dtype)
    return "expected dtype F32, F16 or BF16";
  tensor.dtype = *dtype;
  const json &shape = entry["shape"];
  if (!shape.is_array() || shape.size() > Safetensors::kMaxRank)
    return "expected a shape of at most " +
           std::to_string(Safetensors::kMaxRank) + " axes";
  // No product below exceeds the file by more than a factor of it, so none
  // overflows.
  size_t size = spec::bytes(*dtype);
  for (const json &axis : shape) {
    if (!axis.is_number_unsigned())
      return "expected a shape of whole numbers";
    uint64_t count = axis.get<uint64_t>();
    if (count && size > dataBytes / count)
      return "the shape needs more bytes than the file has";
    size *= count;
    tensor.shape.push_back(count);
  }
  const json &offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 ||
      !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
    return "expected data_offsets [begin, end]";
  tensor.begin = offsets[0].get<uint64_t>();
  tensor.end = offsets[1].get<uint64_t>();
  if (tensor.begin > tensor.end || tensor.end > dataBytes)
    return "data_offsets are outside of the file";
  if (tensor.end - tensor.begin != size)
    return "the shape needs " + std::to_string(size) +
           " bytes, data_offsets hold " +
           std::to_string(tensor.end - tensor.begin);
  return "";
}

/// Whether the tensors lie one after the other and fill the data.
static bool isTight(const std::map<std::string, Tensor> &tensors,
                    size_t dataBytes) {
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const auto &[name, tensor] : tensors)
    ranges.emplace_back(tensor.begin, tensor.end);
  std::sort(ranges.begin(), ranges.end());
  size_t at = 0;
  for (auto [begin, end] : ranges) {
    if (begin != at)
      return false;
    at = end;
  }
  return at == dataBytes;
}

/// The header as JSON; discarded, with `error` set, if it is not one.
static json readHeader(const std::vector<uint8_t> &bytes, size_t &headerBytes,
                       std::string &error) {
  json none(json::value_t::discarded);
  uint64_t length = 0;
  if (bytes.size() < kPrefix)
    return error = "shorter than a safetensors file can be", none;
  std::memcpy(&length, bytes.data(), kPrefix); // little endian
  if (length > Safetensors::kMaxHeader || length > bytes.size() - kPrefix)
    return error = "a header of " + std::to_string(length) +
                   " bytes: not a safetensors file, or cut off",
           none;
  headerBytes = length;
  std::string_view text(reinterpret_cast<const char *>(bytes.data() + kPrefix),
                        headerBytes);
  if (!isShallow(text))
    return error = "the header is nested too deeply", none;
  json header = parse(text);
  if (!header.is_object() || header.size() > Safetensors::kMaxTensors)
    return error = "the header is not a JSON object of at most " +
                   std::to_string(Safetensors::kMaxTensors) +
                   " entries with different names",
           none;
  return header;
}

std::optional<Safetensors> Safetensors::read(std::vector<uint8_t> bytes,
                                             std::string &error) {
  Safetensors file;
  size_t headerBytes = 0;
  json header = readHeader(bytes, headerBytes, error);
  if (header.is_discarded())
    return std::nullopt;
  size_t dataBegin = kPrefix + headerBytes;
  size_t dataBytes = bytes.size() - dataBegin;
  for (const auto &[name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object())
        return error = "`__metadata__` is not an object", std::nullopt;
      for (const auto &[key, value] : entry.items()) {
        if (!value.is_string())
          return error = "`__metadata__` holds more than strings", std::nullopt;
        file.notes[key] = value.get<std::string>();
      }
      continue;
    }
    Tensor &tensor = file.table[name];
    std::string problem = readTensor(entry, dataBytes, tensor);
    if (!problem.empty())
      return error = "tensor `" + name + "`: " + problem, std::nullopt;
  }
  if (!isTight(file.table, dataBytes))
    return error = "the tensors do not fill the file, each byte once",
           std::nullopt;
  for (auto &[name, tensor] : file.table)
    tensor.begin += dataBegin, tensor.end += dataBegin;
  file.bytes = std::move(bytes);
  return file;
}

std::vector<float> Safetensors::values(const Tensor &tensor) const {
  size_t width = spec::bytes(tensor.dtype);
  std::vector<float> values((tensor.end - tensor.begin) / width);
  const uint8_t *from = bytes.data() + tensor.begin;
  if (tensor.dtype == spec::DType::F32) {
    if (!values.empty())
      std::memcpy(values.data(), from, values.size() * sizeof(float));
    return values;
  }
  for (float &x : values) {
    uint16_t bits;
    std::memcpy(&bits, from, 2);
    x = tensor.dtype == spec::DType::F16 ? fromF16(bits) : fromBF16(bits);
    from += 2;
  }
  return values;
}
