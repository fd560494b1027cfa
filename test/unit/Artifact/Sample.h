//===- Sample.h - a small valid artifact for tests --------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_ARTIFACT_SAMPLE_H
#define KVC_TEST_UNIT_ARTIFACT_SAMPLE_H

#include "lib/Artifact/Bundle.h"

namespace kvc::artifact {

/// Two stores (paged HND int8 K with bf16 V and a window; contiguous NHD f16)
/// and kernels for both. Its kernels are all in the blob kSampleBlob.
Manifest sampleManifest();
inline constexpr const char *kSampleBlob = "cpu/x86-64-v3.o";

/// The bytes of a file; fails the test if it cannot be read.
std::vector<uint8_t> readFile(const std::string &path);

/// The bytes of the object compiled from objects/NAME.c.
std::vector<uint8_t> testObject(const std::string &name);

std::string goldenPath();

} // namespace kvc::artifact

#endif // KVC_TEST_UNIT_ARTIFACT_SAMPLE_H
