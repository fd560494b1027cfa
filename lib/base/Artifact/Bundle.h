//===- Bundle.h - the .kvca container ---------------------------*- C++ -*-===//
//
// A .kvca is a stored (uncompressed) ZIP: `manifest.json` first, then blobs.
// `unzip` and Python's zipfile open it. We write one shape and read no other:
//
//   [local header, name, padding][data, 64-byte aligned]   per entry, no gaps
//   [central directory]                                    in the same order
//   [end record]                                           last 22 bytes
//
// The padding is an extra field (0xd935, as Android's zipalign writes it).
// Times are fixed: equal input gives equal bytes.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_BUNDLE_H
#define KVC_LIB_BASE_ARTIFACT_BUNDLE_H

#include "lib/base/Artifact/Manifest.h"

#include <cstddef>
#include <span>

namespace kvc::artifact {

inline constexpr size_t kMaxBundleBytes = 256u << 20;
inline constexpr size_t kMaxEntries = 1024;
inline constexpr size_t kMaxEntryName = 128;
inline constexpr size_t kBlobAlignment = 64;
inline constexpr const char *kManifestName = "manifest.json";

/// One file of a bundle. `bytes` belongs to someone else.
struct Entry {
  std::string name; ///< [A-Za-z0-9_.-/], no leading '/', no ".."
  std::span<const uint8_t> bytes;
};

/// An artifact with the manifest and `blobs` in the given order. Whatever it
/// returns, Bundle::open() accepts; if it would not, returns an empty vector
/// and sets `error`.
std::vector<uint8_t> pack(const Manifest &manifest,
                          std::span<const Entry> blobs, std::string &error);

/// An opened artifact: views into the caller's bytes, which must outlive it.
class Bundle {
public:
  /// Checks every byte that it relies on, the checksums and the manifest. On
  /// failure returns nullopt and sets `error` to one line.
  static std::optional<Bundle> open(std::span<const uint8_t> bytes,
                                    std::string &error);

  const Manifest &manifest() const { return info; }
  /// All entries in file order, `manifest.json` included.
  const std::vector<Entry> &entries() const { return list; }
  /// The bytes of an entry; nullopt if there is none of that name.
  std::optional<std::span<const uint8_t>> find(std::string_view name) const;

private:
  std::vector<Entry> list;
  Manifest info;
};

/// CRC-32 as in ZIP and zlib.
uint32_t crc32(std::span<const uint8_t> bytes);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_BUNDLE_H
