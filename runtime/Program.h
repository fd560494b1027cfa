//===- Program.h - a loaded artifact ----------------------------*- C++ -*-===//
#ifndef KVC_RUNTIME_PROGRAM_H
#define KVC_RUNTIME_PROGRAM_H

#include "runtime/Device.h"
#include "runtime/LayerTable.h"

#include <span>

namespace kvc::rt {

/// The manifest of an artifact and its kernels on one device. Immutable.
class Program : public RefCounted {
public:
  /// Checks the artifact whole; its bytes are not needed afterwards.
  static kvc_status load(Device &device, std::span<const uint8_t> bytes,
                         Program *&program);
  static kvc_status loadFile(Device &device, const char *path,
                             Program *&program);

  const artifact::Manifest &manifest() const { return info; }
  /// What users are told of a store's planes.
  const std::vector<kvc_constant_info> &constants(uint32_t store) const {
    return constantInfos[store];
  }
  const std::vector<kvc_plane_info> &planes(uint32_t store) const {
    return planeInfos[store];
  }
  Device &device() const { return *owner; }
  Executable &executable() const { return *kernels; }
  const LayerTable &layers() const { return table; }
  uint32_t stores() const { return uint32_t(info.stores.size()); }

  /// The checked forms of kvc_append, kvc_gather and kvc_attend; `store` <
  /// stores(). They throw nothing.
  kvc_status move(uint32_t store, const RowCall &call) const;
  kvc_status attend(uint32_t store, const kvc_attend_args &args,
                    const AttendBounds &bounds) const;
  kvc_status plan(uint32_t store, const kvc_attend_args &args,
                  const AttendBounds &bounds) const;
  /// KVC_UNSUPPORTED if the artifact cannot be gathered from `store`.
  kvc_status checkGathers(uint32_t store) const;

private:
  Program(Device &device, const artifact::Manifest &manifest)
      : owner(&device), info(manifest), table(manifest) {
    describePlanes();
  }
  void describePlanes();

  Ref<Device> owner;
  artifact::Manifest info;
  LayerTable table;
  std::vector<std::vector<kvc_plane_info>> planeInfos;       ///< by store
  std::vector<std::vector<kvc_constant_info>> constantInfos; ///< likewise
  std::unique_ptr<Executable> kernels; ///< before its device dies
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_PROGRAM_H
