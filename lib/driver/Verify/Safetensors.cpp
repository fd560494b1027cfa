//===- Safetensors.cpp - captured tensors from a file ---------------------===//
#include "lib/driver/Verify/Safetensors.h"
#include "dialect/codecs/HostFloat.h"

#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"

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

/// Elements that are widened at a time.
static constexpr size_t kPiece = 1 << 16;

class Safetensors::Source {
public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;
  /// Copies what lies within size(); false, with `error` set, if it cannot.
  virtual bool read(uint64_t at, void *to, size_t bytes,
                    std::string &error) const = 0;
};

namespace {

class MemorySource : public Safetensors::Source {
public:
  explicit MemorySource(std::vector<uint8_t> bytes) : bytes(std::move(bytes)) {}
  uint64_t size() const override { return bytes.size(); }
  bool read(uint64_t at, void *to, size_t count, std::string &) const override {
    if (count)
      std::memcpy(to, bytes.data() + at, count);
    return true;
  }

private:
  std::vector<uint8_t> bytes;
};

/// Not a mapping, whose file another process could cut short under us.
class FileSource : public Safetensors::Source {
public:
  explicit FileSource(llvm::sys::fs::file_t file) : file(file) {
    if (llvm::sys::fs::status(file, info))
      info = llvm::sys::fs::file_status();
  }
  ~FileSource() override { llvm::sys::fs::closeFile(file); }
  bool isRegular() const { return llvm::sys::fs::is_regular_file(info); }
  uint64_t size() const override { return info.getSize(); }
  bool read(uint64_t at, void *to, size_t count,
            std::string &error) const override {
    llvm::MutableArrayRef<char> rest(static_cast<char *>(to), count);
    while (!rest.empty()) {
      auto done = llvm::sys::fs::readNativeFileSlice(file, rest, at);
      if (!done)
        return error = "cannot read: " + llvm::toString(done.takeError()),
               false;
      if (*done == 0)
        return error = "cannot read: the file became shorter", false;
      rest = rest.drop_front(*done);
      at += *done;
    }
    return true;
  }

private:
  llvm::sys::fs::file_t file;
  llvm::sys::fs::file_status info;
};

} // namespace

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
static std::string readTensor(const json &entry, uint64_t dataBytes,
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
  uint64_t size = spec::bytes(*dtype);
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
                    uint64_t dataBytes) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto &[name, tensor] : tensors)
    ranges.emplace_back(tensor.begin, tensor.end);
  std::sort(ranges.begin(), ranges.end());
  uint64_t at = 0;
  for (auto [begin, end] : ranges) {
    if (begin != at)
      return false;
    at = end;
  }
  return at == dataBytes;
}

/// The header as JSON; discarded, with `error` set, if it is not one.
static json readHeader(const Safetensors::Source &source, size_t &headerBytes,
                       std::string &error) {
  json none(json::value_t::discarded);
  uint64_t length = 0;
  if (source.size() < kPrefix)
    return error = "shorter than a safetensors file can be", none;
  if (!source.read(0, &length, kPrefix, error)) // little endian
    return none;
  if (length > Safetensors::kMaxHeader || length > source.size() - kPrefix)
    return error = "a header of " + std::to_string(length) +
                   " bytes: not a safetensors file, or cut off",
           none;
  headerBytes = length;
  std::string text(headerBytes, 0);
  if (!source.read(kPrefix, text.data(), headerBytes, error))
    return none;
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

std::optional<Safetensors> Safetensors::from(std::unique_ptr<Source> source,
                                             std::string &error) {
  Safetensors file(std::move(source));
  size_t headerBytes = 0;
  json header = readHeader(*file.source, headerBytes, error);
  if (header.is_discarded())
    return std::nullopt;
  size_t dataBegin = kPrefix + headerBytes;
  uint64_t dataBytes = file.source->size() - dataBegin;
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
  return file;
}

std::optional<Safetensors> Safetensors::open(const std::string &path,
                                             std::string &error) {
  auto file = llvm::sys::fs::openNativeFileForRead(path);
  if (!file)
    return error = "cannot read: " + llvm::toString(file.takeError()),
           std::nullopt;
  auto source = std::make_unique<FileSource>(*file);
  if (!source->isRegular())
    return error = "not a regular file; a pipe is read as `-`", std::nullopt;
  return from(std::move(source), error);
}

std::optional<Safetensors> Safetensors::read(std::vector<uint8_t> bytes,
                                             std::string &error) {
  return from(std::make_unique<MemorySource>(std::move(bytes)), error);
}

Safetensors::Safetensors(std::unique_ptr<Source> source)
    : source(std::move(source)) {}
Safetensors::Safetensors(Safetensors &&) = default;
Safetensors &Safetensors::operator=(Safetensors &&) = default;
Safetensors::~Safetensors() = default;

std::optional<std::vector<float>>
Safetensors::values(const Tensor &tensor, uint64_t most,
                    std::string &error) const {
  uint64_t width = spec::bytes(tensor.dtype);
  std::vector<float> values(
      std::min(most, (tensor.end - tensor.begin) / width));
  if (tensor.dtype == spec::DType::F32) {
    if (!source->read(tensor.begin, values.data(),
                      values.size() * sizeof(float), error))
      return std::nullopt;
    return values;
  }
  std::vector<uint16_t> bits(std::min(values.size(), kPiece));
  for (size_t at = 0; at < values.size(); at += bits.size()) {
    size_t count = std::min(values.size() - at, bits.size());
    if (!source->read(tensor.begin + at * width, bits.data(), count * width,
                      error))
      return std::nullopt;
    for (size_t i = 0; i < count; ++i)
      values[at + i] = tensor.dtype == spec::DType::F16 ? fromF16(bits[i])
                                                        : fromBF16(bits[i]);
  }
  return values;
}
