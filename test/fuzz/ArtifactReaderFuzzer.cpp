//===- ArtifactReaderFuzzer.cpp - fuzzes all that reads an artifact -------===//
//
// The first byte selects the reader: checksums would otherwise keep mutations
// from ever reaching the manifest and the objects.
//
//===----------------------------------------------------------------------===//
#include "lib/Artifact/Bundle.h"
#include "lib/Artifact/ElfImage.h"

#include <cstdlib>

using namespace kvc::artifact;

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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  // libFuzzer's buffer is exactly as long as the input, and a view of its tail
  // ends where it ends: ASan sees a read beyond.
  std::span<const uint8_t> bytes(data + 1, size - 1);
  switch (data[0] % 3) {
  case 0:
    fuzzBundle(bytes);
    break;
  case 1:
    fuzzManifest(bytes);
    break;
  case 2:
    fuzzObject(bytes);
    break;
  }
  return 0;
}
