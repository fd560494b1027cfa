//===- KernelKeyTest.cpp - manifests are bound to machine code ------------===//
#include "Sample.h"

#include "lib/base/Artifact/KernelKey.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <functional>
#include <regex>
#include <set>

using namespace kvc::artifact;
using nlohmann::json;
using Pointer = json::json_pointer;

TEST(KernelKey, TheHashIsFnv1a) {
  auto hash = [](std::string_view text) {
    Fnv128 state;
    state.add(text);
    return state.hex();
  };
  // From the definition, in Python's whole numbers.
  EXPECT_EQ(hash(""), "6c62272e07bb014262b821756295c58d");
  EXPECT_EQ(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
  EXPECT_EQ(hash("foobar"), "343e1662793c64bf6f0d3597ba446f18");
  EXPECT_EQ(hash("\xff\x80"), "088094195dab1be95aa0733054fef4a2");
}

TEST(KernelKey, SymbolsEndInIt) {
  std::string key(32, 'a');
  EXPECT_EQ(boundSymbol("kvc_main_append", key), "kvc_main_append_" + key);
  EXPECT_EQ(unboundSymbol("kvc_main_append_" + key), "kvc_main_append");
  EXPECT_EQ(unboundSymbol("kvc_main_append"), "kvc_main_append");
  EXPECT_EQ(unboundSymbol("kvc_" + std::string(32, 'g')),
            "kvc_" + std::string(32, 'g'));
  EXPECT_EQ(unboundSymbol("kvc" + key), "kvc" + key);
  EXPECT_EQ(unboundSymbol(key), key);
  EXPECT_EQ(unboundSymbol("_" + key), "");
}

static void walk(const json &value, const std::string &at,
                 const std::function<void(const std::string &)> &visit) {
  if (value.is_structured())
    for (const auto &[key, member] : value.items())
      walk(member, at + "/" + key, visit);
  else
    visit(at);
}

namespace {
/// Fields that may change alone without changing what is run, and why.
struct EquivalentMutant {
  const char *pointer, *reason;
};
} // namespace

static const EquivalentMutant kEquivalentMutants[] = {
    {"/format/minor", "a reader ignores what a later minor version adds"},
    {"/producer", "is shown to people"},
    {"/spec_name", "is shown to people"},
    {"/key", "names the entry of the compiler's cache; is shown to people"},
    {"/kernels/[0-9]+/name", "is in messages and tables"},
    {"/kernels/[0-9]+/blob",
     "where the symbol is looked for: elsewhere it is not found, or it is the "
     "same kernel"},
    {"/kernels/[0-9]+/ptx", "the same"},
    {"/kernels/[0-9]+/sites", "lines of the emulator's findings"},
    {"/kernels/[0-9]+/registers", "what the assembler reported, for tables"},
};

/// Other values that a field could have.
static std::vector<json> others(const json &value) {
  if (value.is_number_float())
    return {value.get<double>() * 2, std::nextafter(value.get<double>(), 99)};
  if (value.is_number()) {
    auto number = value.get<int64_t>();
    std::vector<json> list;
    for (int64_t other :
         {0l, 1l, 32l, 64l, number - 1, number + 1, number / 2, number * 2})
      if (other != number)
        list.push_back(other);
    return list;
  }
  std::vector<json> list;
  for (const char *other :
       {"other",      "k",      "v",      "codes", "scales", "f16",
        "bf16",       "f32",    "i8",     "HND",   "NHD",    "paged",
        "contiguous", "attend", "append", "merge", "plan",   "window",
        "full",       "cpu",    "cuda",   "sim",   "sm_80",  "avx512f"})
    if (value != other)
      list.push_back(other);
  if (value.is_string()) { // one digit of a key, or of any text
    std::string text = value.get<std::string>();
    if (!text.empty()) {
      text.back() = text.back() == '0' ? '1' : '0';
      list.push_back(text);
    }
  }
  return list;
}

/// Changes every value of a manifest, each alone: it is refused, or the table
/// says why not. `idle` is a field that no kernel of this manifest needs.
static void changeEachField(const Manifest &manifest, const std::string &idle,
                            std::set<std::string> &used) {
  json document = json::parse(write(manifest));
  std::vector<std::regex> patterns;
  for (const EquivalentMutant &entry : kEquivalentMutants)
    patterns.emplace_back(entry.pointer);
  walk(document, "", [&](const std::string &at) {
    const EquivalentMutant *equivalent = nullptr;
    for (size_t i = 0; i < patterns.size(); ++i)
      if (std::regex_match(at, patterns[i]))
        equivalent = &kEquivalentMutants[i];
    unsigned taken = 0;
    for (const json &value : others(document[Pointer(at)])) {
      json changed = document;
      changed[Pointer(at)] = value;
      std::string error;
      if (!read(changed.dump(), error))
        continue;
      ++taken;
      EXPECT_TRUE(equivalent || at == idle) << at << " may become " << value;
    }
    if (equivalent && taken)
      used.insert(equivalent->pointer);
  });
}

TEST(KernelKey, NoFieldChangesUnseen) {
  std::set<std::string> used;
  changeEachField(sampleManifest(), "/gpu_abi", used);
  // One of its stores has no kernels, so that nothing can load it.
  Manifest gpu = gpuSampleManifest();
  gpu.stores[0].layers = {0, 1, 2, 3};
  gpu.stores.pop_back();
  changeEachField(gpu, "", used);
  for (const EquivalentMutant &entry : kEquivalentMutants)
    EXPECT_TRUE(used.count(entry.pointer)) << entry.pointer;
}

/// What alone would not add up, changed so that it does.
TEST(KernelKey, NoFieldsChangeUnseenTogether) {
  using Change = std::function<void(Manifest &)>;
  const std::pair<const char *, Change> changes[] = {
      {"page",
       [](Manifest &m) {
         StoreInfo &store = m.stores[0];
         store.page = 32, store.pageBytes *= 2;
         for (PlaneInfo &plane : store.planes)
           plane.headStride *= 2, plane.pageOffset *= 2;
       }},
      {"kv heads",
       [](Manifest &m) {
         m.model.kvHeads = 1;
         for (StoreInfo &store : m.stores) {
           store.headEnd = 1, store.pageBytes /= 2;
           for (PlaneInfo &plane : store.planes) {
             plane.pageOffset /= 2;
             if (store.order == "NHD")
               plane.rowStride /= 2;
           }
         }
       }},
      {"q heads", [](Manifest &m) { m.model.qHeads = 4; }},
      {"order of heads",
       [](Manifest &m) {
         StoreInfo &store = m.stores[0];
         store.order = "NHD";
         for (PlaneInfo &plane : store.planes)
           plane.headStride = plane.rowBytes,
           plane.rowStride = 2 * plane.rowBytes;
       }},
      {"f16 scales",
       [](Manifest &m) {
         PlaneInfo &scales = m.stores[0].planes[1];
         scales.type = "f16";
         scales.rowBytes = scales.rowStride = 2, scales.headStride = 32;
       }},
      {"f16 for bf16", [](Manifest &m) { m.stores[0].planes[2].type = "f16"; }},
      {"no window", [](Manifest &m) { m.stores[0].window = false; }},
      {"another expression",
       [](Manifest &m) { m.stores[0].attend = R"({"logits":"2.0 * s"})"; }},
      {"ABI", [](Manifest &m) { ++m.cpuAbi; }},
      {"a feature less", [](Manifest &m) { m.kernels[2].features.pop_back(); }},
      {"target",
       [](Manifest &m) {
         for (KernelInfo &kernel : m.kernels)
           kernel.target = "x86-64-v4";
       }},
      {"kernels swapped",
       [](Manifest &m) {
         std::swap(m.kernels[2].symbol, m.kernels[3].symbol);
       }},
      {"kernels of stores swapped",
       [](Manifest &m) {
         for (size_t i = 0; i < 4; ++i)
           std::swap(m.kernels[i].symbol, m.kernels[i + 4].symbol);
       }},
  };
  for (const auto &[what, change] : changes) {
    Manifest manifest = sampleManifest();
    change(manifest);
    std::string error;
    EXPECT_FALSE(read(write(manifest), error)) << what;
    EXPECT_NE(error.find("compiled for something else"), error.npos)
        << what << ": " << error;
    // It is only the code that contradicts.
    bindSymbols(manifest);
    EXPECT_TRUE(read(write(manifest), error)) << what << ": " << error;
  }
}

TEST(KernelKey, LayersAndNamesMayChangeTogether) {
  Manifest manifest = sampleManifest();
  manifest.model.layers = 6;
  manifest.stores[0].layers = {0, 2, 3, 5};
  manifest.stores[1].layers = {1, 4};
  manifest.stores[0].name = "near";
  for (KernelInfo &kernel : manifest.kernels)
    if (kernel.store == "window")
      kernel.store = "near", kernel.name += ".near";
  std::string error;
  EXPECT_TRUE(read(write(manifest), error)) << error;
}

// What a query sees is nothing to kernels that append, gather or merge.
TEST(KernelKey, OfAppendGatherAndMergeHasNoWindow) {
  Manifest manifest = sampleManifest();
  manifest.kernels.insert(manifest.kernels.begin(), manifest.kernels[0]);
  manifest.kernels[0].kind = "gather";
  Manifest other = manifest;
  other.stores[0].window = false;
  KernelKeys keys(manifest), others(other);
  for (size_t i = 0; i < 5; ++i) {
    const KernelInfo &kernel = manifest.kernels[i];
    EXPECT_EQ(keys.of(kernel) == others.of(kernel), kernel.kind != "attend")
        << kernel.name;
  }
}

// A plan kernel cuts a batch for the attend kernels beside it.
TEST(KernelKey, OfAPlanHoldsItsAttendKernels) {
  Manifest manifest = gpuSampleManifest();
  KernelInfo &plan = manifest.kernels[1], &attend = manifest.kernels[2];
  ASSERT_EQ(plan.kind + attend.kind, "planattend");
  std::string before = KernelKeys(manifest).of(plan);
  for (uint32_t KernelInfo::*field :
       {&KernelInfo::rows, &KernelInfo::split, &KernelInfo::minQueries}) {
    ++(attend.*field);
    EXPECT_NE(KernelKeys(manifest).of(plan), before);
    --(attend.*field);
  }
  EXPECT_EQ(KernelKeys(manifest).of(plan), before);
  manifest.kernels[4].rows = 32; // of another target
  EXPECT_EQ(KernelKeys(manifest).of(plan), before);
}
