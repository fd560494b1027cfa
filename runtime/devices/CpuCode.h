//===- CpuCode.h - the code of one object, by whoever loads it --*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_CPUCODE_H
#define KVC_RUNTIME_DEVICES_CPUCODE_H

#include "runtime/Fork.h"
#include "runtime/Status.h"

#include <optional>
#include <span>
#include <string>

namespace kvc::rt {

/// The runtime's own loader: lib/base/Artifact/ElfImage.
extern const kvc_code_loader kElfLoader;

/// Code that a loader gave, and gets back when this dies.
class CpuCode {
public:
  /// On failure returns nullopt and sets `error` to one line, and `refused` if
  /// it is the system that does not let code be made, not the object's fault;
  /// throws if memory ran out. The loader must outlive the code.
  static std::optional<CpuCode> load(const kvc_code_loader &loader,
                                     std::span<const uint8_t> object,
                                     std::string &error, bool &refused);
  CpuCode(CpuCode &&other)
      : origin(other.origin), loader(other.loader), handle(other.handle) {
    other.handle = nullptr;
  }
  CpuCode &operator=(CpuCode &&) = delete;
  ~CpuCode() {
    // A caller's loader has locks, which in a child of fork() may be held.
    if (handle && (!origin.isParent() || loader->load == kElfLoader.load))
      loader->release(loader->context, handle);
  }

  /// The address of a global function; null if there is none of that name.
  void *symbol(const std::string &name) const {
    return loader->symbol(loader->context, handle, name.c_str());
  }

private:
  CpuCode(const kvc_code_loader &loader, void *handle)
      : loader(&loader), handle(handle) {}
  Origin origin;
  const kvc_code_loader *loader;
  void *handle; ///< null: moved from
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPUCODE_H
