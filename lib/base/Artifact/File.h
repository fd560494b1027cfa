//===- File.h - artifacts on disk -------------------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_ARTIFACT_FILE_H
#define KVC_LIB_BASE_ARTIFACT_FILE_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace kvc::artifact {

/// Writes all of `bytes` to an open file; false, with errno, on an error. Past
/// the process's limit of a file's size that is EFBIG, and no SIGXFSZ, which
/// would end the process: a library has no say in its host's signals.
bool writeAll(int file, std::span<const uint8_t> bytes);

/// The bytes of a file as they were at open(), read-only, page-aligned. They
/// are a copy: in a mapping of the file itself, another process could change
/// what has just been checked, or cut it short and kill us by SIGBUS.
class MappedFile {
public:
  /// Refuses files that are empty, not regular or over `limit` bytes; sets
  /// `error` to one line.
  static std::optional<MappedFile> open(const std::string &path, size_t limit,
                                        std::string &error);
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {base, size}; }

private:
  MappedFile() = default;
  uint8_t *base = nullptr;
  size_t size = 0;
};

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_FILE_H
