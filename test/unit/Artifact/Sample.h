//===- Sample.h - a small valid artifact for tests --------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_ARTIFACT_SAMPLE_H
#define KVC_TEST_UNIT_ARTIFACT_SAMPLE_H

#include "lib/base/Artifact/Bundle.h"

namespace kvc::artifact {

/// Two stores (paged HND int8 K with bf16 V and a window; contiguous NHD f16)
/// and kernels for both. Its kernels are all in the blob kSampleBlob.
Manifest sampleManifest();
inline constexpr const char *kSampleBlob = "cpu/x86-64-v3.o";

/// The same stores with an append kernel for the CPU and, for GPUs, plan and
/// attend of one store: for `sm_90a` as a binary with its PTX, for `sm_100a` as
/// PTX alone, for `sm_90a` emulated.
Manifest gpuSampleManifest();
/// What its kernels beyond sampleManifest()'s are in.
std::vector<Entry> gpuSampleEntries();

/// The bytes of a file; fails the test if it cannot be read.
std::vector<uint8_t> readFile(const std::string &path);

/// The bytes of the object compiled from objects/NAME.c.
std::vector<uint8_t> testObject(const std::string &name);

/// The golden file of a format version.
std::string goldenPath(const char *version = "5.0");

} // namespace kvc::artifact

#endif // KVC_TEST_UNIT_ARTIFACT_SAMPLE_H
