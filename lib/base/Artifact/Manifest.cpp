//===- Manifest.cpp - the manifest as JSON --------------------------------===//
#include "lib/base/Artifact/Manifest.h"

#include "lib/base/Artifact/Json.h"
#include "lib/base/Artifact/KernelAbi.h"
#include "lib/base/Artifact/ManifestCheck.h"
#include "lib/base/Artifact/ManifestJson.h"

#include <nlohmann/json.hpp>

using namespace kvc::artifact;
using Ordered = nlohmann::ordered_json;

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

JsonValue kvc::artifact::toJson(const ModelInfo &model) {
  JsonValue json = JsonValue::object({{"layers", model.layers},
                                      {"q_heads", model.qHeads},
                                      {"kv_heads", model.kvHeads},
                                      {"head_dim_k", model.headDimK},
                                      {"head_dim_v", model.headDimV},
                                      {"dtype", model.dtype},
                                      {"softmax_scale", model.softmaxScale}});
  return json;
}

JsonValue kvc::artifact::toJson(const PlaneInfo &plane) {
  return JsonValue::object({{"stream", plane.stream},
                            {"role", plane.role},
                            {"type", plane.type},
                            {"elements", plane.elements},
                            {"row_tokens", plane.rowTokens},
                            {"row_bytes", plane.rowBytes},
                            {"row_stride", plane.rowStride},
                            {"head_stride", plane.headStride},
                            {"page_offset", plane.pageOffset}});
}

JsonValue kvc::artifact::toJson(const StoreInfo &store) {
  JsonValue planes = JsonValue::array();
  for (const PlaneInfo &plane : store.planes)
    planes.values.push_back(toJson(plane));
  JsonValue json = JsonValue::object(
      {{"name", store.name},
       {"layers", JsonValue::array({store.layers.begin(), store.layers.end()})},
       {"kv_heads", JsonValue::array({store.headBegin, store.headEnd})},
       {"layout", store.paged ? "paged" : "contiguous"},
       {"page", store.page},
       {"order", store.order},
       {"page_bytes", store.pageBytes},
       {"planes", std::move(planes)}});
  if (store.window)
    json.add("window", JsonValue::object(
                           {{"sink", store.sink}, {"recent", store.recent}}));
  if (!store.causal)
    json.add("mask", "full");
  if (!store.attend.empty())
    json.add("attend", store.attend);
  if (!store.constants.empty()) {
    JsonValue constants = JsonValue::array();
    for (const ConstantInfo &constant : store.constants)
      constants.values.push_back(JsonValue::object(
          {{"name", constant.name},
           {"size", constant.size},
           {"type", constant.type},
           {"per", constant.perSequence ? "sequence" : "call"}}));
    json.add("constants", std::move(constants));
  }
  return json;
}

JsonValue kvc::artifact::toJson(const ParamInfo &param) {
  JsonValue json =
      JsonValue::object({{"offset", param.offset}, {"what", param.what}});
  if (!param.of.empty())
    json.add("of", param.of);
  return json;
}

JsonValue kvc::artifact::toJson(const KernelInfo &kernel) {
  JsonValue params = JsonValue::array();
  for (const ParamInfo &param : kernel.params)
    params.values.push_back(toJson(param));
  JsonValue json = JsonValue::object(
      {{"name", kernel.name},
       {"kind", kernel.kind},
       {"store", kernel.store},
       {"target", kernel.target},
       {"device", kernel.device},
       {"features",
        JsonValue::array({kernel.features.begin(), kernel.features.end()})},
       {"symbol", kernel.symbol},
       {"blob", kernel.blob},
       {"scratch_bytes", kernel.scratchBytes},
       {"param_bytes", kernel.paramBytes},
       {"params", std::move(params)},
       {"min_queries", kernel.minQueries},
       {"max_queries", kernel.maxQueries},
       {"split", kernel.split},
       {"tile_tokens", kernel.tileTokens},
       {"schedule", kernel.schedule}});
  if (kernel.device == "cpu")
    return json;
  json.add("threads", kernel.threads);
  json.add("shared_bytes", kernel.sharedBytes);
  json.add("rows", kernel.rows);
  json.add("registers", kernel.registers);
  if (kernel.device == "cuda")
    json.add("ptx", kernel.ptx);
  else
    json.add("sites", kernel.sites);
  return json;
}

/// As nlohmann's, whose printer is a good one.
static Ordered printable(const JsonValue &value) {
  switch (value.kind) {
  case JsonValue::Unsigned:
    return value.integer;
  case JsonValue::Number:
    return value.number;
  case JsonValue::String:
    return value.text;
  case JsonValue::Array: {
    Ordered json = Ordered::array();
    for (const JsonValue &element : value.values)
      json.push_back(printable(element));
    return json;
  }
  case JsonValue::Object: {
    Ordered json = Ordered::object();
    for (size_t i = 0; i < value.keys.size(); ++i)
      json[value.keys[i]] = printable(value.values[i]);
    return json;
  }
  default:
    return nullptr; // nothing here writes others
  }
}

std::string kvc::artifact::write(const Manifest &manifest) {
  JsonValue stores = JsonValue::array(), kernels = JsonValue::array();
  for (const StoreInfo &store : manifest.stores)
    stores.values.push_back(toJson(store));
  for (const KernelInfo &kernel : manifest.kernels)
    kernels.values.push_back(toJson(kernel));
  JsonValue json = JsonValue::object(
      {{"format", JsonValue::object({{"major", manifest.formatMajor},
                                     {"minor", manifest.formatMinor}})},
       {"cpu_abi", manifest.cpuAbi},
       {"gpu_abi", manifest.gpuAbi},
       {"producer", manifest.producer},
       {"spec_name", manifest.specName},
       {"key", manifest.key},
       {"model", toJson(manifest.model)},
       {"stores", std::move(stores)},
       {"kernels", std::move(kernels)}});
  // Text that is not UTF-8 must not abort: read() refuses what replaces it.
  return printable(json).dump(2, ' ', false,
                              Ordered::error_handler_t::replace) +
         "\n";
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

static constexpr uint32_t kMaxHeads = 4096, kMaxDim = 4096;
static constexpr uint32_t kMaxElements = 65536, kMaxPage = 256;
/// As long as a spec may be.
static constexpr size_t kMaxAttend = 1 << 20;
static constexpr uint32_t kMaxConstantSize = 1 << 24;
static constexpr uint32_t kMaxTokens = INT32_MAX; ///< kernels count in int32
static constexpr uint32_t kMaxTile = 4096;
static constexpr uint64_t kMaxScratch = 1u << 30;
static constexpr const char *kNameChars = "_.-";

static ModelInfo readModel(const JsonNode &node) {
  ModelInfo model;
  model.layers = node.get("layers").integer32(1, kMaxLayers);
  model.qHeads = node.get("q_heads").integer32(1, kMaxHeads);
  model.kvHeads = node.get("kv_heads").integer32(1, kMaxHeads);
  model.headDimK = node.get("head_dim_k").integer32(1, kMaxDim);
  model.headDimV = node.get("head_dim_v").integer32(1, kMaxDim);
  model.dtype = node.get("dtype").oneOf({"f32", "f16", "bf16"});
  model.softmaxScale = node.get("softmax_scale").positive();
  return model;
}

static PlaneInfo readPlane(const JsonNode &node) {
  PlaneInfo plane;
  plane.stream = node.get("stream").word(1, 32, "_");
  plane.role = node.get("role").word(1, 32, "_");
  plane.type = node.get("type").oneOf(
      {"f32", "f16", "bf16", "f8E4M3FN", "f8E5M2", "f8E8M0FNU", "f4E2M1FN",
       "i8", "i7", "i6", "i5", "i4", "i3", "i2", "i1"});
  plane.elements = node.get("elements").integer32(1, kMaxElements);
  plane.rowTokens = node.get("row_tokens").integer32(1, kMaxPage);
  plane.rowBytes = node.get("row_bytes").integer32(1, UINT32_MAX);
  plane.rowStride = node.get("row_stride").integer32(1, UINT32_MAX);
  plane.headStride = node.get("head_stride").integer32(0, UINT32_MAX);
  plane.pageOffset = node.get("page_offset").integer(0, kMaxPageBytes);
  return plane;
}

static std::vector<uint32_t> readLayers(const JsonNode &node) {
  std::vector<uint32_t> layers;
  for (const JsonNode &layer : node.items(1, kMaxLayers))
    layers.push_back(layer.integer32(0, kMaxLayers - 1));
  return layers;
}

static void readRange(const JsonNode &node, uint32_t &begin, uint32_t &end) {
  std::vector<JsonNode> bounds = node.items(2, 2);
  if (bounds.empty())
    return;
  begin = bounds[0].integer32(0, UINT32_MAX);
  end = bounds[1].integer32(0, UINT32_MAX);
}

static StoreInfo readStore(const JsonNode &node) {
  StoreInfo store;
  store.name = node.get("name").word(1, 64, kNameChars);
  store.layers = readLayers(node.get("layers"));
  readRange(node.get("kv_heads"), store.headBegin, store.headEnd);
  store.paged = node.get("layout").oneOf({"paged", "contiguous"}) == "paged";
  store.page = node.get("page").integer32(store.paged ? 1 : 0,
                                          store.paged ? kMaxPage : 0);
  store.order = node.get("order").oneOf({"HND", "NHD"});
  store.pageBytes =
      node.get("page_bytes")
          .integer(store.paged ? 1 : 0, store.paged ? kMaxPageBytes : 0);
  for (const JsonNode &plane : node.get("planes").items(1, kMaxPlanes))
    store.planes.push_back(readPlane(plane));
  if (node.has("attend"))
    store.attend = node.get("attend").text(kMaxAttend);
  if (node.has("constants"))
    for (const JsonNode &constant :
         node.get("constants").items(1, kMaxConstants))
      store.constants.push_back(
          {constant.get("name").word(1, 64, kNameChars),
           constant.get("size").integer32(1, kMaxConstantSize),
           constant.get("type").oneOf({"f32", "i32"}),
           constant.get("per").oneOf({"call", "sequence"}) == "sequence"});
  store.causal = !node.has("mask") ||
                 node.get("mask").oneOf({"causal", "full"}) == "causal";
  store.window = node.has("window");
  if (store.window) {
    JsonNode window = node.get("window");
    store.sink = window.get("sink").integer32(0, kMaxTokens);
    store.recent = window.get("recent").integer32(1, kMaxTokens);
  }
  return store;
}

static ParamInfo readParam(const JsonNode &node) {
  ParamInfo param;
  param.offset = node.get("offset").integer32(0, kMaxParamBytes);
  param.what = node.get("what").word(1, 64, kNameChars);
  if (node.has("of"))
    param.of = node.get("of").word(1, 64, kNameChars);
  return param;
}

/// What a kernel has that is not for the CPU.
static void readGpuKernel(const JsonNode &node, KernelInfo &kernel) {
  kernel.threads = node.get("threads").integer32(32, 1024);
  kernel.sharedBytes = node.get("shared_bytes").integer32(0, 1u << 20);
  bool attend = kernel.kind == "attend";
  kernel.rows = node.get("rows").integer32(attend, attend ? 1024 : 0);
  kernel.registers = node.get("registers").integer32(0, 255);
  if (kernel.device == "cuda")
    kernel.ptx = node.get("ptx").word(1, 128, "_.-/");
  else
    kernel.sites = node.get("sites").word(1, 128, "_.-/");
}

static KernelInfo readKernel(const JsonNode &node) {
  KernelInfo kernel;
  kernel.name = node.get("name").word(1, 128, kNameChars);
  kernel.kind = node.get("kind").word(1, 32, kNameChars);
  kernel.store = node.get("store").word(1, 64, kNameChars);
  kernel.target = node.get("target").word(1, 64, kNameChars);
  kernel.device = node.get("device").oneOf({"cpu", "cuda", "sim"});
  for (const JsonNode &feature : node.get("features").items(0, 64))
    kernel.features.push_back(feature.word(1, 32, kNameChars));
  kernel.symbol = node.get("symbol").word(1, 256, "_");
  kernel.blob = node.get("blob").word(0, 128, "_.-/");
  kernel.scratchBytes = node.get("scratch_bytes").integer(0, kMaxScratch);
  kernel.paramBytes = node.get("param_bytes").integer32(0, kMaxParamBytes);
  for (const JsonNode &param :
       node.get("params").items(0, kMaxParamBytes / kWordBytes))
    kernel.params.push_back(readParam(param));
  bool attend = kernel.kind == "attend";
  uint32_t least = attend ? 1 : 0, most = attend ? kMaxTokens : 0;
  kernel.minQueries = node.get("min_queries").integer32(least, most);
  kernel.maxQueries = node.get("max_queries").integer32(least, most);
  kernel.split = node.get("split").integer32(0, most);
  kernel.tileTokens =
      node.get("tile_tokens").integer32(attend, attend ? kMaxTile : 0);
  kernel.schedule = node.get("schedule").text(4096);
  if (kernel.device != "cpu")
    readGpuKernel(node, kernel);
  return kernel;
}

std::optional<Manifest> kvc::artifact::read(std::string_view text,
                                            std::string &error) {
  error.clear();
  std::optional<JsonValue> json = parseJson(text, error);
  if (!json)
    return std::nullopt;
  JsonNode root(&*json, "", error);
  Manifest manifest;
  JsonNode format = root.get("format");
  // First: in another major nothing below need hold.
  manifest.formatMajor = format.get("major").integer32(0, UINT32_MAX);
  if (error.empty() && manifest.formatMajor != kFormatMajor)
    format.get("major").fail(
        "expected an artifact of format " + std::to_string(kFormatMajor) +
        ", found " + std::to_string(manifest.formatMajor) +
        (manifest.formatMajor < kFormatMajor
             ? ", of an earlier kvc: compile its spec again"
             : ", of a later kvc"));
  manifest.formatMinor = format.get("minor").integer32(0, UINT32_MAX);
  manifest.cpuAbi = root.get("cpu_abi").integer32(0, UINT32_MAX);
  manifest.gpuAbi = root.get("gpu_abi").integer32(0, UINT32_MAX);
  manifest.producer = root.get("producer").text(256);
  manifest.specName = root.get("spec_name").word(1, 64, kNameChars);
  manifest.key = root.get("key").word(1, 128, "");
  manifest.model = readModel(root.get("model"));
  for (const JsonNode &store : root.get("stores").items(1, kMaxStores))
    manifest.stores.push_back(readStore(store));
  for (const JsonNode &kernel : root.get("kernels").items(0, kMaxKernels))
    manifest.kernels.push_back(readKernel(kernel));
  if (error.empty())
    error = check(manifest);
  if (!error.empty())
    return std::nullopt;
  return manifest;
}
