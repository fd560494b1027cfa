//===- ElfImage.h - runs an object file without a linker --------*- C++ -*-===//
//
// Loads one x86-64 relocatable object (what codegen/cpu emits) into memory of
// its own. It takes what LLVM makes of a module that calls nothing and has no
// variables, and refuses everything else by name. Loading is safe for any
// bytes; calling what was loaded is as safe as the code in it.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_ELFIMAGE_H
#define KVC_LIB_BASE_ARTIFACT_ELFIMAGE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace kvc::artifact {

inline constexpr size_t kMaxImageBytes = 64u << 20;

class ElfImage {
public:
  /// Copies code and constants, applies the relocations and makes code
  /// executable and constants read-only; nothing is ever writable and
  /// executable at once. `object` is not needed afterwards. On failure returns
  /// null and sets `error` to one line; `errno` is then EACCES or EPERM if the
  /// system has a policy against code that is made at run time, and neither if
  /// the object is at fault.
  static std::unique_ptr<ElfImage> load(std::span<const uint8_t> object,
                                        std::string &error);
  ~ElfImage();
  ElfImage(const ElfImage &) = delete;
  ElfImage &operator=(const ElfImage &) = delete;

  /// The address of a global function; null if there is none of that name.
  /// Valid as long as this image.
  void *symbol(std::string_view name) const;

private:
  friend class ElfLoader;
  ElfImage() = default;
  uint8_t *base = nullptr;
  size_t size = 0;
  std::map<std::string, void *, std::less<>> functions;
};

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_ELFIMAGE_H
