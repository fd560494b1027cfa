//===- CpuVariant.h - one level's kernels of an artifact, loaded -*- C++
//-*-===//
#ifndef KVC_RUNTIME_DEVICES_CPUVARIANT_H
#define KVC_RUNTIME_DEVICES_CPUVARIANT_H

#include "lib/base/Artifact/Bundle.h"
#include "runtime/AttendPlan.h"
#include "runtime/devices/CpuCode.h"

namespace kvc::rt {

struct CpuKernel {
  void (*function)(const uint64_t *block,
                   const KvcWorkTile *workTile) = nullptr;
  KernelBlock block;
};

/// The kernels of one store.
struct CpuStore {
  AttendShape shape;
  std::vector<CpuKernel> attend;   ///< one per shape.variants
  CpuKernel merge, append, gather; ///< gather: null if there is none
  size_t attendScratch = 0;        ///< bytes per worker, attend and merge
  size_t rowScratch = 0;           ///< append and gather
  size_t blockBytes = 0;   ///< of the blocks of attend kernels and merge
  uint32_t pageTokens = 0; ///< 0: contiguous

  const CpuKernel &of(RowKernel kernel) const {
    return kernel == RowKernel::Append ? append : gather;
  }
};

struct CpuVariant {
  std::string target;
  std::vector<CpuStore> stores; ///< in the manifest's order
  std::vector<CpuCode> code;    ///< one per object
};

/// Loads the variant with the most features of those whose features are all
/// here; with a `level`, the variant of that name, whose features may be
/// emulated. KVC_UNSUPPORTED if there is none, KVC_CORRUPT if it is incomplete
/// or the loader refuses an object. The loader must outlive the variant.
kvc_status loadCpuVariant(const artifact::Manifest &manifest,
                          const artifact::Bundle &bundle,
                          const kvc_code_loader &loader,
                          const std::string &level, CpuVariant &variant);

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CPUVARIANT_H
