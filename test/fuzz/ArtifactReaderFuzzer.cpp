//===- ArtifactReaderFuzzer.cpp - fuzzes all that reads an artifact -------===//
//
// The first byte selects the reader: checksums would otherwise keep mutations
// from ever reaching the manifest and the objects. What ties parts together is
// mended, as who tampers with an artifact would: checksums of a bundle, and the
// keys that symbols end in. Some inputs are read once more with an allocation
// refused: readers throw std::bad_alloc then, and leave nothing behind, or say
// what they say otherwise.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Artifact/KernelKey.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <cstring>
#include <new>
#include <random>

using namespace kvc::artifact;

/// Allocations until one is refused; 0: none is.
static size_t untilRefused = 0;

void *operator new(size_t size) {
  if (untilRefused && --untilRefused == 0)
    throw std::bad_alloc();
  if (void *memory = std::malloc(size ? size : 1))
    return memory;
  throw std::bad_alloc();
}
void *operator new(size_t size, const std::nothrow_t &) noexcept {
  return std::malloc(size ? size : 1);
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

/// A reader that fails says why, one that succeeds says nothing.
static void expect(bool condition) {
  if (!condition)
    std::abort();
}

static void fuzzBundle(std::span<const uint8_t> bytes) {
  std::string error;
  std::optional<Bundle> bundle = Bundle::open(bytes, error);
  expect(bundle.has_value() == error.empty());
  if (!bundle)
    return;
  for (const Entry &entry : bundle->entries())
    expect(entry.bytes.data() >= bytes.data() &&
           entry.bytes.data() + entry.bytes.size() <=
               bytes.data() + bytes.size());
}

/// Gives a kernel of the manifest the key that the reader expects of it; false
/// if it is not a key that the reader misses.
static bool mendKey(std::string &text, const std::string &error) {
  unsigned kernel = 0;
  char key[33] = "";
  if (std::sscanf(error.c_str(),
                  "/kernels/%u/symbol: expected the key %32[0-9a-f] of",
                  &kernel, key) != 2)
    return false;
  nlohmann::json json = nlohmann::json::parse(text);
  json["kernels"][kernel]["symbol"] = boundSymbol("kvc", key);
  text = json.dump();
  return true;
}

static void fuzzManifest(std::span<const uint8_t> bytes) {
  std::string text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  std::string error;
  std::optional<Manifest> manifest;
  // One kernel is mended by each round.
  do {
    manifest = read(text, error);
    expect(manifest.has_value() == error.empty());
  } while (!manifest && mendKey(text, error));
  if (manifest)
    expect(read(write(*manifest), error) == manifest);
}

static uint32_t get(const std::vector<uint8_t> &bytes, size_t at, size_t size) {
  uint32_t value = 0;
  if (at <= bytes.size() && size <= bytes.size() - at)
    std::memcpy(&value, bytes.data() + at, size);
  return value;
}

/// Makes the checksums of a bundle's entries anew, in both headers of each, as
/// far as there are such.
static void fuzzMended(std::span<const uint8_t> given) {
  std::vector<uint8_t> bytes(given.begin(), given.end());
  if (bytes.size() < 22)
    return;
  size_t central = get(bytes, bytes.size() - 6, 4);
  unsigned count = get(bytes, bytes.size() - 12, 2);
  for (; count && get(bytes, central, 4) == 0x02014b50; --count) {
    size_t size = get(bytes, central + 24, 4);
    size_t local = get(bytes, central + 42, 4);
    size_t data =
        local + 30 + get(bytes, local + 26, 2) + get(bytes, local + 28, 2);
    if (data <= bytes.size() && size <= bytes.size() - data &&
        central + 20 <= bytes.size() && local + 18 <= bytes.size()) {
      uint32_t crc = crc32(std::span(bytes).subspan(data, size));
      std::memcpy(&bytes[central + 16], &crc, 4);
      std::memcpy(&bytes[local + 14], &crc, 4);
    }
    central += 46 + get(bytes, central + 28, 2);
  }
  fuzzBundle(bytes);
}

static void fuzzObject(std::span<const uint8_t> bytes) {
  std::string error;
  std::unique_ptr<ElfImage> image = ElfImage::load(bytes, error);
  expect((image != nullptr) == error.empty());
  if (image)
    image->symbol("kvc_golden");
}

static void fuzz(uint8_t reader, std::span<const uint8_t> bytes) {
  switch (reader % 4) {
  case 0:
    return fuzzBundle(bytes);
  case 1:
    return fuzzManifest(bytes);
  case 2:
    return fuzzObject(bytes);
  case 3:
    return fuzzMended(bytes);
  }
}

/// The places of all values that are no object and no array.
static void findLeaves(const nlohmann::json &json,
                       const nlohmann::json::json_pointer &at,
                       std::vector<nlohmann::json::json_pointer> &leaves) {
  if (!json.is_structured())
    return leaves.push_back(at);
  for (const auto &[key, value] : json.items())
    findLeaves(value, at / key, leaves);
}

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

/// A word more or less in the block of one kernel; false if it has none.
static bool changeBlock(nlohmann::json &document, std::minstd_rand &random) {
  nlohmann::json &kernels = document["kernels"];
  if (!kernels.is_array() || kernels.empty())
    return false;
  nlohmann::json &kernel = kernels[random() % kernels.size()];
  if (!kernel.is_object() || !kernel["params"].is_array() ||
      kernel["params"].empty())
    return false;
  nlohmann::json &params = kernel["params"];
  size_t at = random() % params.size();
  if (random() % 2)
    params.erase(at);
  else
    params.insert(params.begin() + std::ptrdiff_t(random() % params.size()),
                  nlohmann::json(params[at]));
  return true;
}

/// Every second mutant of a manifest is JSON with one value exchanged, for
/// another of the document or a number, or with another number of words in a
/// block: bytes alone seldom make such.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size,
                                          size_t most, unsigned seed) {
  auto plain = [&] { return LLVMFuzzerMutate(data, size, most); };
  if (size < 2 || data[0] % 4 != 1 || seed % 2)
    return plain();
  using nlohmann::json;
  json document = json::parse(data + 1, data + size, nullptr, false);
  std::vector<json::json_pointer> leaves;
  if (!document.is_object())
    return plain();
  findLeaves(document, json::json_pointer(), leaves);
  if (leaves.empty())
    return plain();
  std::minstd_rand random(seed);
  // Blocks are most of a manifest's values.
  bool changed = random() % 4 == 0 && changeBlock(document, random);
  auto leaf = [&]() -> json & {
    return document[leaves[random() % leaves.size()]];
  };
  constexpr int64_t numbers[] = {-1, 0, 1, 2, 31, 64, 4096, UINT32_MAX};
  json value = leaf();
  if (random() % 2)
    value = numbers[random() % std::size(numbers)];
  else if (value.is_number_unsigned())
    value = value.get<uint64_t>() * 2 + random() % 2;
  if (!changed)
    leaf() = value;
  std::string text = document.dump();
  if (text.size() >= most)
    return plain();
  std::memcpy(data + 1, text.data(), text.size());
  return text.size() + 1;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  // libFuzzer's buffer is exactly as long as the input, and a view of its tail
  // ends where it ends: ASan sees a read beyond.
  std::span<const uint8_t> bytes(data + 1, size - 1);
  fuzz(data[0], bytes);
  uint32_t digest = crc32({data, size});
  if (digest % 4)
    return 0;
  // Readers that refuse early allocate little.
  untilRefused = 1 + (digest >> 2) % (digest & 4 ? 16 : 512);
  try {
    fuzz(data[0], bytes);
  } catch (const std::bad_alloc &) {
  }
  untilRefused = 0;
  return 0;
}
