//===- ManifestCheck.h - whether a manifest adds up -------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_ARTIFACT_MANIFESTCHECK_H
#define KVC_LIB_BASE_ARTIFACT_MANIFESTCHECK_H

#include "lib/base/Artifact/Manifest.h"

namespace kvc::artifact {

inline constexpr uint32_t kMaxStores = 256, kMaxKernels = 32768;
inline constexpr uint32_t kMaxLayers = 4096;
inline constexpr uint64_t kMaxPageBytes = 1u << 30;

/// Checks what no single value shows: scopes that overlap or leave holes,
/// strides and offsets of planes, codes without the scales that they need,
/// tiles and warps that are not whole, blocks whose words do not fit or are of
/// nothing, references between kernels and stores,
/// unique names, and last the kernels' keys. Every value must already be in the
/// range that read() gives it. Returns an empty string or one line that starts
/// with a JSON pointer.
std::string check(const Manifest &manifest);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_MANIFESTCHECK_H
