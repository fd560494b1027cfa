//===- KernelKey.cpp - what a kernel's code was compiled for --------------===//
#include "lib/base/Artifact/KernelKey.h"

#include "lib/base/Artifact/ManifestJson.h"

#include <bit>

using namespace kvc::artifact;

static constexpr size_t kKeyDigits = 32;
static constexpr std::string_view kDigits = "0123456789abcdef";

void Fnv128::add(std::string_view bytes) {
  constexpr auto prime =
      (static_cast<unsigned __int128>(1) << 88) | (1u << 8) | 0x3b;
  for (char byte : bytes)
    state = (state ^ uint8_t(byte)) * prime;
}

std::string Fnv128::hex() const {
  std::string text;
  for (int shift = 124; shift >= 0; shift -= 4)
    text += kDigits[size_t(state >> shift) & 15];
  return text;
}

/// Appends a value as JSON without spaces; of a double, which libraries print
/// in different ways, the bits.
static void append(std::string &text, const JsonValue &value) {
  bool object = value.kind == JsonValue::Object;
  if (value.kind == JsonValue::String) {
    text += '"';
    for (char c : value.text)
      text += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    text += '"';
  } else if (value.kind == JsonValue::Unsigned) {
    text += std::to_string(value.integer);
  } else if (value.kind == JsonValue::Number) {
    text += std::to_string(std::bit_cast<uint64_t>(value.number));
  } else {
    text += object ? '{' : '[';
    for (size_t i = 0; i < value.values.size(); ++i) {
      text += i ? "," : "";
      if (object)
        text += '"' + value.keys[i] + "\":";
      append(text, value.values[i]);
    }
    text += object ? '}' : ']';
  }
}

static std::string textOf(const JsonValue &json) {
  std::string text;
  append(text, json);
  return text;
}

static std::string textOf(const ModelInfo &model) {
  JsonValue json = toJson(model);
  json.erase("layers"); // a kernel is given the planes of one layer
  return textOf(json);
}

static JsonValue storeOf(const StoreInfo &store) {
  JsonValue json = toJson(store);
  for (const char *field : {"name", "layers"})
    json.erase(field);
  return json;
}

/// Whether what a query sees, and what becomes of a score, is nothing to a
/// kernel. A merge has the sink, which the text of `attend` says.
static bool ignoresAttend(const KernelInfo &kernel, bool hasSink) {
  return kernel.kind == "append" || kernel.kind == "gather" ||
         (kernel.kind == "merge" && !hasSink);
}

static std::string textOf(const KernelInfo &kernel) {
  JsonValue json = toJson(kernel);
  for (const char *field :
       {"name", "store", "symbol", "blob", "ptx", "sites", "registers"})
    json.erase(field);
  return textOf(json);
}

KernelKeys::KernelKeys(const Manifest &manifest)
    : cpuAbi(manifest.cpuAbi), gpuAbi(manifest.gpuAbi) {
  Fnv128 model;
  model.add("kvc kernel " + std::to_string(manifest.formatMajor) + "\n");
  model.add(textOf(manifest.model) + "\n");
  for (const StoreInfo &info : manifest.stores) {
    Start start = {model, model,
                   info.attend.find("\"sink\":") != std::string::npos};
    JsonValue store = storeOf(info);
    start.whole.add(textOf(store) + "\n");
    for (const char *field : {"window", "mask", "attend", "constants"})
      store.erase(field);
    start.withoutAttend.add(textOf(store) + "\n");
    stores.emplace(info.name, start);
  }
  for (const KernelInfo &kernel : manifest.kernels)
    if (kernel.kind == "attend")
      attends[groupOf(kernel)].emplace(kernel.minQueries, textOf(kernel));
}

std::string KernelKeys::of(const KernelInfo &kernel) const {
  auto store = stores.find(kernel.store);
  if (store == stores.end())
    return "";
  Fnv128 key = ignoresAttend(kernel, store->second.hasSink)
                   ? store->second.withoutAttend
                   : store->second.whole;
  key.add(textOf(kernel) + "\n");
  key.add(std::to_string(kernel.device == "cpu" ? cpuAbi : gpuAbi) + "\n");
  auto planned = attends.find(groupOf(kernel));
  if (kernel.kind == "plan" && planned != attends.end())
    for (const auto &[queries, text] : planned->second)
      key.add(text + "\n");
  return key.hex();
}

std::string kvc::artifact::boundSymbol(std::string_view name,
                                       std::string_view key) {
  return std::string(name) + "_" + std::string(key);
}

std::string_view kvc::artifact::unboundSymbol(std::string_view symbol) {
  if (symbol.size() <= kKeyDigits)
    return symbol;
  size_t name = symbol.size() - kKeyDigits - 1;
  bool bound = symbol[name] == '_' &&
               symbol.find_first_not_of(kDigits, name + 1) == symbol.npos;
  return bound ? symbol.substr(0, name) : symbol;
}

void kvc::artifact::bindSymbols(Manifest &manifest) {
  KernelKeys keys(manifest);
  for (KernelInfo &kernel : manifest.kernels)
    kernel.symbol = boundSymbol(unboundSymbol(kernel.symbol), keys.of(kernel));
}

std::vector<DistinctKernel>
kvc::artifact::distinctKernels(const Manifest &manifest) {
  std::vector<DistinctKernel> list;
  std::map<std::tuple<std::string, std::string, std::string>, size_t> known;
  for (const KernelInfo &kernel : manifest.kernels) {
    auto [at, isNew] = known.try_emplace(
        {kernel.device, kernel.target, kernel.symbol}, list.size());
    if (isNew)
      list.push_back({&kernel});
    else
      ++list[at->second].stores;
  }
  return list;
}

std::string kvc::artifact::nameOf(const DistinctKernel &kernel) {
  return kernel.info->name +
         (kernel.stores > 1 ? " x" + std::to_string(kernel.stores) : "");
}
