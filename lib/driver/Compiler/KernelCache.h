//===- KernelCache.h - artifacts on disk, by what changed them --*- C++ -*-===//
//
// One file per entry under $KVC_CACHE_DIR (default: kvc in the user's cache
// directory):
//
//   offset  bytes
//        0      8  "KVCCACHE"
//        8      4  format of this header (1), little endian
//       12      4  zero
//       16     32  key
//       48      8  bytes of the payload, little endian
//       56     32  BLAKE3 of the payload
//       88         payload: an artifact
//
// An entry is code that will run, so the directory must be the user's own:
// owned by the user (or root) and writable by nobody else. An entry is read
// once, into memory, and believed only if all of the header fits; a damaged one
// is a miss and is removed. A directory that cannot be written still serves.
//
// Entries appear whole by rename: processes may race, and die at any point. A
// writer's file stands in the subdirectory `tmp` until then, locked by flock:
// the kernel unlocks what a killed writer left, and whoever opens the cache
// next removes it. Directories are 0700 and files 0600.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_COMPILER_KERNELCACHE_H
#define KVC_LIB_DRIVER_COMPILER_KERNELCACHE_H

#include "lib/base/Support/Diagnostics.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvc {

/// BLAKE3 of everything that changes an artifact.
struct CacheKey {
  std::array<uint8_t, 32> bytes = {};
  std::string hex() const;
  bool operator==(const CacheKey &) const = default;
};

/// Collects what changes an artifact, one part after another; "ab" "c" and "a"
/// "bc" give different keys. Starts from what this build is: kvc's sources,
/// LLVM's version and build.
class CacheKeyBuilder {
public:
  CacheKeyBuilder();
  CacheKeyBuilder &add(std::string_view part);
  CacheKeyBuilder &add(int64_t part) { return add(std::to_string(part)); }
  CacheKey key() const;

private:
  std::string parts;
};

class KernelCache {
public:
  /// The directory in use: $KVC_CACHE_DIR or the default. "" if there is none
  /// (no home).
  static std::string defaultDirectory();

  /// Opens, and creates if need be, the cache in `directory`, and removes what
  /// killed writers left. A directory that is not the user's own is refused
  /// with the remark R-CACHE-DIR; then, and if there is none, the cache is
  /// closed: every lookup misses, nothing is stored. Not a warning: it is about
  /// the machine, and every artifact is the same without a cache.
  KernelCache(std::string directory, Diagnostics &diagnostics);
  ~KernelCache();
  KernelCache(const KernelCache &) = delete;
  KernelCache &operator=(const KernelCache &) = delete;

  bool isOpen() const { return fd >= 0; }
  const std::string &directory() const { return path; }

  /// The payload stored under `key`; nullopt if there is none, or none intact.
  std::optional<std::vector<uint8_t>> lookup(const CacheKey &key);
  /// Stores it; a failure (no space, read-only) leaves no trace and returns
  /// false.
  bool store(const CacheKey &key, std::span<const uint8_t> payload);

  struct EntryInfo {
    CacheKey key;
    uint64_t bytes = 0; ///< of the file
  };
  /// The intact entries, ordered by key.
  std::vector<EntryInfo> list();
  /// How many files of killed writers opening found and removed.
  unsigned leftovers() const { return swept; }
  /// Removes every entry, and what else a cache keeps; returns how many files
  /// went. A writer at work loses its file, and its store() fails.
  unsigned clear();
  /// Applies $KVC_CACHE_POLICY (llvm::parseCachePruningPolicy; default
  /// "cache_size_bytes=2g:prune_after=720h") at most every 20 minutes, or now.
  /// A malformed policy is W-CACHE-POLICY, and nothing is removed.
  void prune(bool now, Diagnostics &diagnostics);

private:
  std::vector<std::string> fileNames();
  /// A new file of `tmp`, locked, and its name in the cache; -1 on an error.
  int createTemporary(std::string &name);
  /// Removes the files of `tmp` that no living writer has, or all; returns how
  /// many went.
  unsigned sweep(bool all);

  std::string path;
  int fd = -1; ///< of the directory: what was checked is what is used
  unsigned swept = 0;
};

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_KERNELCACHE_H
