//===- ArtifactReaderFuzzer.cpp - fuzzes all that reads an artifact -------===//
//
// The first byte selects the reader: checksums would otherwise keep mutations
// from ever reaching the manifest and the objects. Some inputs are read once
// more with an allocation refused: readers throw std::bad_alloc then, and leave
// nothing behind, or say what they say otherwise.
//
//===----------------------------------------------------------------------===//
#include "lib/Artifact/Bundle.h"
#include "lib/Artifact/ElfImage.h"

#include <cstdlib>
#include <new>

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

static void fuzzManifest(std::span<const uint8_t> bytes) {
  std::string error;
  std::optional<Manifest> manifest =
      read({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, error);
  expect(manifest.has_value() == error.empty());
  if (manifest)
    expect(read(write(*manifest), error) == manifest);
}

static void fuzzObject(std::span<const uint8_t> bytes) {
  std::string error;
  std::unique_ptr<ElfImage> image = ElfImage::load(bytes, error);
  expect((image != nullptr) == error.empty());
  if (image)
    image->symbol("kvc_golden");
}

static void fuzz(uint8_t reader, std::span<const uint8_t> bytes) {
  switch (reader % 3) {
  case 0:
    return fuzzBundle(bytes);
  case 1:
    return fuzzManifest(bytes);
  case 2:
    return fuzzObject(bytes);
  }
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
