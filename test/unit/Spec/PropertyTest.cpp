//===- PropertyTest.cpp - what holds for every spec -----------------------===//
#include "Cases.h"
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"

#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

using namespace kvc;
using namespace kvc::test;
using nlohmann::json;

namespace {

template <typename T> T pick(std::initializer_list<T> values) {
  return *rc::gen::elementOf(std::vector<T>(values));
}
unsigned upTo(unsigned low, unsigned high) {
  return *rc::gen::inRange(low, high + 1);
}

json drawCodec() {
  json kind = pick<const char *>({"f32", "f16", "bf16", "int2", "int4", "int8",
                                  "fp8_e4m3", "fp8_e5m2", "fp4_e2m1"});
  if (*rc::gen::arbitrary<bool>())
    return kind;
  json codec = {{"kind", kind}};
  if (kind.get<std::string>().substr(0, 2) == "fp") {
    if (*rc::gen::arbitrary<bool>())
      codec["scale"] = pick<const char *>({"none", "f32", "f16", "e8m0"});
    if (codec.value("scale", "none") != "none" && *rc::gen::arbitrary<bool>())
      codec["group"] = 8;
    return codec;
  }
  if (kind.get<std::string>().substr(0, 3) != "int")
    return codec;
  if (*rc::gen::arbitrary<bool>())
    codec["scale"] = pick<const char *>({"f32", "f16"});
  if (*rc::gen::arbitrary<bool>())
    codec["zero"] = pick<json>({"none",
                                "min",
                                {{"kind", "none"}},
                                {{"kind", "min"}, {"type", "f32"}}});
  if (*rc::gen::arbitrary<bool>())
    codec["group"] = 8;
  return codec;
}

/// Of constants for `heads` query heads.
json drawAttend(unsigned heads) {
  json attend = json::object(), constants = json::object();
  if (*rc::gen::arbitrary<bool>())
    attend["logits"] =
        pick<const char *>({"s", "s-slope[h]*(p-t)", "(s)*scale+( -1)",
                            "p<t+64?s:s/2", "50*tanh(s/50)-max(0,float(t%4))"});
  if (*rc::gen::arbitrary<bool>())
    attend["visible"] = pick<const char *>(
        {"true", "p-t<100", "(p//64)==(t//64)", "!(t>=4&&p-t>=16)||h==0"});
  if (*rc::gen::arbitrary<bool>())
    attend["sink"] = pick<const char *>({"slope[h]", "1.5", "-(h+g)*scale"});
  for (unsigned i = 0; i < heads; ++i)
    constants["slope"].push_back(1.0 / upTo(1, 1000));
  constants["scale"] = upTo(0, 1000) - 0.1;
  attend["constants"] = constants;
  return attend;
}

json drawCaching(unsigned heads) {
  json store = json::object();
  if (*rc::gen::arbitrary<bool>())
    store["streams"] = {{"k", {{"codec", drawCodec()}}},
                        {"v", {{"codec", drawCodec()}}}};
  if (*rc::gen::arbitrary<bool>())
    store["layout"] = {{"kind", "paged"},
                       {"page", upTo(1, 256)},
                       {"order", pick<const char *>({"HND", "NHD"})}};
  else if (*rc::gen::arbitrary<bool>())
    store["layout"] = "contiguous";
  if (*rc::gen::arbitrary<bool>())
    store["reads"] = {{"kind", "window"},
                      {"sink", upTo(0, 100)},
                      {"recent", upTo(1, 100000)}};
  if (*rc::gen::arbitrary<bool>())
    store["attend"] = drawAttend(heads);
  return store;
}

/// All layers in two parts, cut or dealt; a part of none is null.
std::pair<json, json> drawLayers(unsigned layers, unsigned cut) {
  if (layers < 2 || *rc::gen::arbitrary<bool>())
    return {cut ? json({0, cut}) : json(),
            cut < layers ? json({cut, layers}) : json()};
  if (*rc::gen::arbitrary<bool>())
    return {{{"step", 2}}, {{"from", 1}, {"to", layers}, {"step", 2}}};
  json parts[2] = {json::array(), json::array()};
  for (unsigned i = 0; i < layers; ++i)
    parts[i < 2 ? i : upTo(0, 1)].push_back(i);
  return {{{"list", parts[0]}}, {{"list", parts[1]}}};
}

/// A legal spec; some are cut into stores along the layers and heads.
json drawSpec() {
  unsigned layers = upTo(1, 80), kvHeads = upTo(1, 16);
  json spec = {{"kvc", "0.2"},
               {"name", "drawn"},
               {"model",
                {{"layers", layers},
                 {"kv_heads", kvHeads},
                 {"q_heads", kvHeads * upTo(1, 12)},
                 {"head_dim", {{"k", 8 * upTo(1, 72)}, {"v", 8 * upTo(1, 72)}}},
                 {"dtype", pick<const char *>({"f32", "f16", "bf16"})}}}};
  if (*rc::gen::arbitrary<bool>())
    spec["model"]["softmax_scale"] = 1.0 / upTo(1, 1000);
  unsigned heads = spec["model"]["q_heads"];
  if (*rc::gen::arbitrary<bool>()) {
    spec.update(drawCaching(heads));
    return spec;
  }
  unsigned cut = upTo(0, layers), headCut = upTo(0, kvHeads);
  json stores = json::array();
  auto add = [&](const json &scope, unsigned head, unsigned last) {
    if (scope.is_null() || head == last)
      return;
    json store = drawCaching(heads);
    store["name"] = "s" + std::to_string(stores.size());
    store["scope"] = {{"layers", scope}, {"heads", {head, last}}};
    stores.push_back(store);
  };
  auto [first, second] = drawLayers(layers, cut);
  add(first, 0, kvHeads);
  add(second, 0, headCut);
  add(second, headCut, kvHeads);
  spec["stores"] = stores;
  return spec;
}

spec::Spec mustRead(const std::string &text) {
  Diagnostics diagnostics;
  auto spec = spec::read(text, "a.json", diagnostics);
  std::string messages;
  llvm::raw_string_ostream os(messages);
  diagnostics.print(os, Diagnostics::Format::Text);
  if (!spec)
    RC_FAIL(messages);
  return *spec;
}

TEST(SpecProperty, CanonicalTextIsAFixedPoint) {
  EXPECT_TRUE(rc::check([] {
    spec::Spec spec = mustRead(drawSpec().dump());
    RC_ASSERT(mustRead(spec.canonical).canonical == spec.canonical);
  }));
}

TEST(SpecProperty, CanonicalTextForgetsOnlyTheWriting) {
  EXPECT_TRUE(rc::check([] {
    json drawn = drawSpec();
    std::string canonical = mustRead(drawn.dump()).canonical;
    drawn["$schema"] = "x";
    RC_ASSERT(mustRead(drawn.dump(int(upTo(0, 8)))).canonical == canonical);
    drawn["model"]["layers"] = drawn["model"]["layers"].get<int>() + 1;
    Diagnostics diagnostics;
    auto other = spec::read(drawn.dump(), "a.json", diagnostics);
    RC_ASSERT(!other || other->canonical != canonical);
  }));
}

TEST(SpecProperty, PagesHoldTheirTokens) {
  EXPECT_TRUE(rc::check([] {
    uint64_t sum = 0;
    spec::Spec spec = mustRead(drawSpec().dump());
    for (const spec::Store &store : spec.stores) {
      const spec::Scope &scope = store.scope;
      sum += scope.layers.size() * spec::tokenBytes(store);
      if (!store.layout.paged)
        continue;
      uint64_t used = store.layout.page * spec::tokenBytes(store);
      RC_ASSERT(spec::pageBytes(store) >= used);
      RC_ASSERT(spec::pageBytes(store) < used + 6 * spec::kPlaneAlignment);
      RC_ASSERT(spec::pageBytes(store) % spec::kPlaneAlignment == 0u);
    }
    RC_ASSERT(spec::tokenBytes(spec) == sum);
  }));
}

/// Cutting a legal text anywhere, or changing one byte, never crashes and
/// never loses the reason.
TEST(SpecProperty, BrokenTextsHaveAReason) {
  EXPECT_TRUE(rc::check([] {
    std::string text = drawSpec().dump();
    size_t at = upTo(0, text.size() - 1);
    if (*rc::gen::arbitrary<bool>())
      text.resize(at);
    else
      text[at] = *rc::gen::arbitrary<char>();
    Diagnostics diagnostics;
    auto spec = spec::read(text, "a.json", diagnostics);
    RC_ASSERT(spec.has_value() != diagnostics.hasErrors());
  }));
}

} // namespace
