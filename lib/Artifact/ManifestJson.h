//===- ManifestJson.h - the parts of a manifest as JSON ---------*- C++ -*-===//
//
// What is written, and what kernels' keys are made of. Internal to
// lib/Artifact.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_ARTIFACT_MANIFESTJSON_H
#define KVC_LIB_ARTIFACT_MANIFESTJSON_H

#include "lib/Artifact/Manifest.h"

#include <nlohmann/json.hpp>

namespace kvc::artifact {

/// Keys in a fixed order.
nlohmann::ordered_json toJson(const ModelInfo &model);
nlohmann::ordered_json toJson(const PlaneInfo &plane);
nlohmann::ordered_json toJson(const StoreInfo &store);
nlohmann::ordered_json toJson(const KernelInfo &kernel);

} // namespace kvc::artifact

#endif // KVC_LIB_ARTIFACT_MANIFESTJSON_H
