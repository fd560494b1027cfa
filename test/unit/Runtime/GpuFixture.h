//===- GpuFixture.h - the fixture's artifact, for GPUs ----------*- C++ -*-===//
//
//   store     kernel     query tokens  rows per work tile  split
//   `paged`   attend0    from 1        6              8
//             attend1    from 4        10             12
//   `window`  attend0    from 1        4              4
//   `flat`    attend0    from 1        8              never
//
// Every store has an append kernel (64 threads) and a plan kernel (32). A
// sim's kernels are those of gpu_kernels.c.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_RUNTIME_GPUFIXTURE_H
#define KVC_TEST_UNIT_RUNTIME_GPUFIXTURE_H

#include "test/unit/Runtime/Fixture.h"

namespace kvc::test {

/// Kernels of all stores for one target. "cuda": the entries
/// cuda/TARGET.cubin and .ptx; "sim": sim/TARGET.o and .sites.
void addGpuTarget(artifact::Manifest &manifest, const std::string &device,
                  const std::string &target);
/// fixtureManifest() without its kernels, with those targets.
artifact::Manifest gpuManifest(const std::string &device,
                               const std::vector<std::string> &targets);

/// An entry of sites that belongs to an emulator with other instructions.
inline constexpr const char *kStrangeSites = "sim/strange.sites";
/// An artifact with all entries that the kernels name. An object is that of
/// kernels.c or gpu_kernels.c, any other binary's bytes are "CUBIN sm_90a",
/// those of PTX "PTX sm_90a". Symbols get their keys here.
std::vector<uint8_t> packGpu(artifact::Manifest manifest);

/// An emulated sm_80 with the program of gpuManifest("sim", {"sm_80"}).
struct LoadedSim : Loaded {
  explicit LoadedSim(uint64_t seed = 0);
};

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_GPUFIXTURE_H
