//===- Report.h - what is known of kernels without a GPU --------*- C++ -*-===//
#ifndef KVC_CODEGEN_NVPTX_REPORT_H
#define KVC_CODEGEN_NVPTX_REPORT_H

#include "codegen/nvptx/Loops.h"
#include "lib/base/Artifact/Bundle.h"

namespace kvc {

/// How many CTAs of a kernel an SM holds at once.
struct Occupancy {
  unsigned ctas = 0;
  const char *limit = ""; ///< "registers", "shared memory", "threads", "CTAs"
};

/// What the assembler had to put into memory, in bytes.
struct Spills {
  unsigned stores = 0, loads = 0, stack = 0;
  bool operator==(const Spills &) const = default;
};

struct GpuKernelReport {
  artifact::KernelInfo kernel; ///< the first store's
  size_t stores = 1;           ///< that share it
  unsigned tokens = 0;         ///< of a warp's tile; 0: it has none
  /// Known where an assembler saw the kernel.
  std::optional<Occupancy> occupancy;
  std::optional<Spills> spills;
  std::optional<Loop> ptx; ///< main loop
  std::vector<Loop> sass;  ///< all loops
};

struct GpuReport {
  std::vector<GpuKernelReport> kernels;
  std::string whyNoSass; ///< "" if SASS was read, or if there is none
};

/// nullopt if the architecture is not in our table or no assembler saw the
/// kernel.
std::optional<Occupancy> occupancyOf(const artifact::KernelInfo &kernel);

/// Only the assembler knows of spills, so an artifact has them in remarks of
/// this code: what one says of a kernel, and what all of them together say of
/// it, zeroes if none names it.
inline constexpr const char *kSpillCode = "R-SPILL";
std::string spillRemark(const artifact::KernelInfo &kernel,
                        const Spills &spills);
Spills spillsOf(const artifact::KernelInfo &kernel,
                llvm::ArrayRef<std::string> spillRemarks);

/// Of each distinct kernel for GPUs, emulated ones included. Runs `nvdisasm` if
/// there is a cubin.
GpuReport reportGpu(const artifact::Bundle &bundle,
                    llvm::ArrayRef<std::string> spillRemarks);

} // namespace kvc

#endif // KVC_CODEGEN_NVPTX_REPORT_H
