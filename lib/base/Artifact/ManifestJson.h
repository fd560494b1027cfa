//===- ManifestJson.h - the parts of a manifest as JSON ---------*- C++ -*-===//
//
// What is written, and what kernels' keys are made of. Internal to
// lib/base/Artifact.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_MANIFESTJSON_H
#define KVC_LIB_BASE_ARTIFACT_MANIFESTJSON_H

#include "lib/base/Artifact/Json.h"
#include "lib/base/Artifact/Manifest.h"

namespace kvc::artifact {

/// Keys in a fixed order.
JsonValue toJson(const ModelInfo &model);
JsonValue toJson(const PlaneInfo &plane);
JsonValue toJson(const StoreInfo &store);
JsonValue toJson(const ParamInfo &param);
JsonValue toJson(const KernelInfo &kernel);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_MANIFESTJSON_H
