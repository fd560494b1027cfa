//===- ReaderTest.cpp - what the reader accepts, refuses and says ---------===//
#include "lib/base/Spec/Reader.h"
#include "Cases.h"

#include "test/support/Files.h"

#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

using namespace kvc;
using namespace kvc::test;
using testing::HasSubstr;

namespace {

std::string print(const Diagnostics &diagnostics) {
  std::string text;
  llvm::raw_string_ostream os(text);
  diagnostics.print(os, Diagnostics::Format::Text);
  return text;
}

/// Reads and returns the messages.
std::string messages(const std::string &text) {
  Diagnostics diagnostics;
  EXPECT_FALSE(spec::read(text, "a.json", diagnostics));
  return print(diagnostics);
}

spec::Spec mustRead(const nlohmann::json &json) {
  Diagnostics diagnostics;
  auto spec = spec::read(json.dump(2), "a.json", diagnostics);
  EXPECT_TRUE(spec) << print(diagnostics);
  return spec.value_or(spec::Spec());
}

TEST(Reader, FillsEveryField) {
  nlohmann::json json = single();
  json["model"]["head_dim"] = {{"k", 192}, {"v", 128}};
  json["model"]["logit_softcap"] = 50;
  json["layout"]["order"] = "NHD";
  spec::Spec spec = mustRead(json);
  EXPECT_EQ(spec.name, "base");
  EXPECT_EQ(spec.file, "a.json");
  EXPECT_EQ(spec.model.layers, 4u);
  EXPECT_EQ(spec.model.qHeads, 8u);
  EXPECT_EQ(spec.model.kvHeads, 2u);
  EXPECT_EQ(spec.model.dtype, spec::DType::BF16);
  EXPECT_EQ(spec.model.softmaxScale, 1 / std::sqrt(192.0));
  EXPECT_EQ(spec.model.logitSoftcap, 50.0);
  ASSERT_EQ(spec.stores.size(), 1u);
  const spec::Store &store = spec.stores[0];
  EXPECT_EQ(store.name, "main");
  EXPECT_EQ(store.scope.layers, spec::layerRange(0, 4));
  EXPECT_EQ(store.scope.headEnd, 2u);
  EXPECT_EQ(store.k.dim, 192u);
  EXPECT_EQ(store.v.dim, 128u);
  EXPECT_EQ(std::get<spec::IntCodec>(store.k.codec).scaleType,
            spec::ParameterType::F32);
  EXPECT_EQ(std::get<spec::IntCodec>(store.v.codec).scaleType,
            spec::ParameterType::F16);
  EXPECT_EQ(store.v.codecLoc.pointer, "/streams/v/codec");
  EXPECT_TRUE(store.layout.paged);
  EXPECT_EQ(store.layout.page, 16u);
  EXPECT_EQ(store.layout.order, spec::PageOrder::NHD);
  ASSERT_TRUE(store.read.window);
  EXPECT_EQ(store.read.window->sink, 4u);
  EXPECT_EQ(store.read.window->recent, 32u);
}

TEST(Reader, DefaultsAreTheDocumentedOnes) {
  spec::Spec spec = mustRead(several());
  ASSERT_EQ(spec.stores.size(), 2u);
  const spec::Store &low = spec.stores[0];
  EXPECT_EQ(low.scope.headBegin, 0u);
  EXPECT_EQ(low.scope.headEnd, 2u);
  EXPECT_EQ(std::get<spec::FloatCodec>(low.k.codec).type, spec::DType::BF16);
  EXPECT_TRUE(low.layout.paged);
  EXPECT_EQ(low.layout.page, 16u);
  EXPECT_EQ(low.layout.order, spec::PageOrder::HND);
  EXPECT_FALSE(low.read.window);
  EXPECT_FALSE(spec.model.logitSoftcap);
}

TEST(Reader, CanonicalTextSaysEverything) {
  nlohmann::json json = single();
  json["model"]["head_dim"] = {{"k", 16}, {"v", 8}};
  json["model"]["logit_softcap"] = 50;
  EXPECT_EQ(mustRead(json).canonical,
            R"({"kvc":"0.2","model":{"dtype":"bf16","head_dim":{"k":16,"v":8},)"
            R"("kv_heads":2,"layers":4,"logit_softcap":50.0,"q_heads":8,)"
            R"("softmax_scale":0.25},"name":"base","stores":[{"layout":)"
            R"({"kind":"paged","order":"HND","page":16},"name":"main","reads":)"
            R"({"kind":"window","recent":32,"sink":4},"scope":{"heads":[0,2],)"
            R"("layers":[0,4]},"streams":{"k":{"codec":{"kind":"int8","scale":)"
            R"("f32"}},"v":{"codec":{"kind":"int8","scale":"f16"}}}}]})");
}

/// The codec of K in the canonical text of `coded` with another.
static std::string canonicalCodec(const char *codec) {
  nlohmann::json json = coded();
  json["streams"]["k"]["codec"] = nlohmann::json::parse(codec);
  Diagnostics diagnostics;
  auto spec = spec::read(json.dump(), "a.json", diagnostics);
  EXPECT_TRUE(spec);
  return nlohmann::json::parse(
             spec->canonical)["stores"][0]["streams"]["k"]["codec"]
      .dump();
}

// What says the same is one text, and what 0.1 could say is what it was.
TEST(Reader, ZerosAndGroupsAreWrittenWhereTheyAreNotTheDefault) {
  const char *plain = R"({"kind":"int8","scale":"f32"})";
  for (const char *codec :
       {R"("int8")", R"({"kind": "int8", "zero": "none"})",
        R"({"kind": "int8", "zero": {"kind": "none"}, "group": 128})"})
    EXPECT_EQ(canonicalCodec(codec), plain) << codec;
  const char *least =
      R"({"kind":"int4","scale":"f16","zero":{"kind":"min","type":"f16"}})";
  for (const char *codec :
       {R"({"kind": "int4", "scale": "f16", "zero": "min"})",
        R"({"kind": "int4", "scale": "f16", "zero": {"kind": "min"}})", least})
    EXPECT_EQ(canonicalCodec(codec), least) << codec;
  const char *groups = R"({"group":64,"kind":"int2","scale":"f32"})";
  EXPECT_EQ(canonicalCodec(groups), groups);
}

TEST(Reader, ADuplicateKeyIsAnError) {
  std::string text = single().dump();
  text.insert(1, "\"name\": \"base\", ");
  EXPECT_THAT(messages(text), HasSubstr("[E-DUPLICATE-KEY]"));
}

TEST(Reader, AcceptsTheExampleOfTheReadme) {
  std::string text = test::readFile(KVC_SOURCE_DIR "/specs/README.md");
  size_t begin = text.find("```json\n");
  ASSERT_NE(begin, std::string::npos);
  begin += 8;
  mustRead(nlohmann::json::parse(
      text.substr(begin, text.find("```", begin) - begin)));
}

TEST(Reader, AcceptsEveryExample) {
  ASSERT_GE(examples().size(), 6u);
  for (const std::string &path : examples()) {
    Diagnostics diagnostics;
    EXPECT_TRUE(spec::readFile(path, diagnostics)) << print(diagnostics);
  }
}

TEST(Reader, AcceptsGoodEdits) {
  for (const GoodEdit &edit : goodEdits()) {
    SCOPED_TRACE(edit.where);
    mustRead(edit.apply());
  }
}

TEST(Reader, RefusesBadEditsAtTheirPlace) {
  for (const BadEdit &edit : badEdits()) {
    SCOPED_TRACE(std::string(edit.where) + " = " +
                 (edit.value ? edit.value : "(removed)"));
    Diagnostics diagnostics;
    EXPECT_FALSE(spec::read(edit.apply().dump(), "a.json", diagnostics));
    ASSERT_FALSE(diagnostics.all().empty());
    EXPECT_EQ(diagnostics.all()[0].code, edit.code) << print(diagnostics);
    EXPECT_EQ(diagnostics.all()[0].loc.pointer, edit.pointer);
    EXPECT_EQ(diagnostics.all()[0].loc.line, 1u);
  }
}

TEST(Reader, ReportsIndependentErrorsInOneRun) {
  Diagnostics diagnostics;
  nlohmann::json json = several();
  json["model"]["q_heads"] = 7;
  json["stores"][0]["layuot"] = "paged";
  json["stores"][1]["scope"]["layers"] = {1, 4};
  EXPECT_FALSE(spec::read(json.dump(2), "a.json", diagnostics));
  std::vector<std::string> codes;
  for (const Diagnostic &diagnostic : diagnostics.all())
    codes.push_back(diagnostic.code);
  EXPECT_THAT(codes,
              testing::ElementsAre("E-UNKNOWN-KEY", "E-HEADS", "E-OVERLAP"));
}

TEST(Reader, AnUnreadableFieldCausesNoFurtherErrors) {
  for (const char *where : {"/model/layers", "/model/kv_heads",
                            "/model/q_heads", "/model/head_dim"}) {
    Diagnostics diagnostics;
    nlohmann::json json = several();
    json[nlohmann::json::json_pointer(where)] = "?";
    EXPECT_FALSE(spec::read(json.dump(), "a.json", diagnostics));
    EXPECT_EQ(diagnostics.all().size(), 1u) << print(diagnostics);
  }
}

TEST(Reader, StopsCountingErrors) {
  nlohmann::json json = single();
  for (int i = 0; i < 2000; ++i)
    json["unknown" + std::to_string(i)] = i;
  Diagnostics diagnostics;
  EXPECT_FALSE(spec::read(json.dump(), "a.json", diagnostics));
  EXPECT_EQ(diagnostics.all().size(), 51u);
  EXPECT_EQ(diagnostics.all().back().code, "E-TOO-MANY");
}

TEST(Reader, MessageOfAnUnknownKey) {
  std::string text = single().dump(2);
  text.replace(text.find("\"page\""), 6, "\"pgae\"");
  EXPECT_EQ(messages(text), "a.json:5:5: error: unknown key `pgae` [E-UNKNOWN-"
                            "KEY]\n"
                            "    \"pgae\": 16\n"
                            "    ^~~~~~\n"
                            "  at /layout/pgae\n"
                            "a.json:5:5: help: did you mean `page`?\n");
}

TEST(Reader, MessageOfHeads) {
  nlohmann::json json = single();
  json["model"]["q_heads"] = 9;
  EXPECT_EQ(messages(json.dump(2)),
            "a.json:12:16: error: q_heads must be a multiple of kv_heads, "
            "found 9 over 2 [E-HEADS]\n"
            "    \"q_heads\": 9\n"
            "               ^\n"
            "  at /model/q_heads\n"
            "a.json:10:17: note: kv_heads is set here\n"
            "a.json:12:16: help: use 8 or 10\n");
}

TEST(Reader, MessageOfAKeyOfALaterVersion) {
  nlohmann::json json = single();
  json["evict"] = nlohmann::json::array();
  std::string text = messages(json.dump());
  EXPECT_THAT(text, HasSubstr("error: `evict` is not in version 0.2 of the "
                              "language [E-NOT-IN-VERSION]"));
  EXPECT_THAT(text, HasSubstr("help: this version has `streams`, `codec`, "
                              "`layout`, `reads` and `attend`"));
}

/// The canonical form of `layers` of an only store, whose layers they are all.
std::string canonicalLayers(unsigned count, const std::string &layers) {
  nlohmann::json json = dealt();
  json["model"]["layers"] = count;
  json["stores"] = {{{"name", "a"}}, {{"name", "b"}}};
  auto own = nlohmann::json::parse(layers);
  json["stores"][0]["scope"]["layers"] = own;
  // The other store has what is left.
  nlohmann::json alone = json;
  alone["stores"].erase(1);
  Diagnostics ignored;
  if (spec::read(alone.dump(), "a.json", ignored)) {
    json = alone;
  } else {
    std::vector<unsigned> rest;
    for (unsigned i = 0; i < count; ++i)
      if (std::find(own["list"].begin(), own["list"].end(), i) ==
          own["list"].end())
        rest.push_back(i);
    json["stores"][1]["scope"]["layers"]["list"] = rest;
  }
  return nlohmann::json::parse(
             mustRead(json).canonical)["stores"][0]["scope"]["layers"]
      .dump();
}

// One meaning is one text, whatever form it was given in.
TEST(Reader, LayersHaveOneCanonicalForm) {
  EXPECT_EQ(canonicalLayers(4, R"({})"), "[0,4]");
  EXPECT_EQ(canonicalLayers(4, R"({"step": 1})"), "[0,4]");
  EXPECT_EQ(canonicalLayers(4, R"({"list": [0, 1, 2, 3]})"), "[0,4]");
  EXPECT_EQ(canonicalLayers(1, R"({"step": 7})"), "[0,1]");
  EXPECT_EQ(canonicalLayers(9, R"({"list": [3]})"), "[3,4]");
  EXPECT_EQ(canonicalLayers(9, R"({"list": [3, 4]})"), "[3,5]");
  EXPECT_EQ(canonicalLayers(9, R"({"list": [3, 5]})"), R"({"list":[3,5]})");
  EXPECT_EQ(canonicalLayers(9, R"({"list": [3, 5, 7]})"),
            R"({"from":3,"step":2,"to":8})");
  EXPECT_EQ(canonicalLayers(9, R"({"list": [3, 5, 8]})"),
            R"({"list":[3,5,8]})");
  EXPECT_EQ(mustRead(dealt()).stores[1].scope.layers,
            spec::layerRange(1, 6, 2));
}

TEST(Reader, MessageOfAFormOfALaterVersion) {
  nlohmann::json json = dealt();
  json["kvc"] = "0.1";
  std::string text = messages(json.dump());
  EXPECT_THAT(text,
              HasSubstr("error: an object of layers is in the language since "
                        "version 0.2, found it in a spec of version 0.1 "
                        "[E-NOT-IN-VERSION]"));
  EXPECT_THAT(text, HasSubstr("help: write `\"kvc\": \"0.2\"`: all else keeps "
                              "its meaning"));
}

TEST(Reader, ASpecMeansInALaterVersionWhatItMeant) {
  nlohmann::json json = several();
  std::string older = mustRead(json).canonical;
  json["kvc"] = "0.2";
  EXPECT_EQ(mustRead(json).canonical, older);
}

// 1,024 layers of 256 stores, each of which has every layer: with a head of its
// own all is well, with another's each is told once.
TEST(Reader, TheMostLayersOfTheMostStoresAreFast) {
  nlohmann::json json = dealt();
  json["model"]["layers"] = json["model"]["q_heads"] =
      json["model"]["kv_heads"] = 1024;
  json["stores"] = nlohmann::json::array();
  for (int i = 0; i < 256; ++i)
    json["stores"].push_back(
        {{"name", "s" + std::to_string(i)},
         {"scope",
          {{"layers", {{"step", 1}}}, {"heads", {4 * i, 4 * i + 4}}}}});
  auto start = std::chrono::steady_clock::now();
  mustRead(json);
  for (auto &store : json["stores"])
    store["scope"]["heads"][1] = 1024;
  EXPECT_THAT(messages(json.dump()),
              HasSubstr("(layer 0, kv head 4) is already in store `s0`"));
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 2);
}

// So that the canonical text of every spec is within the bounds of a text.
TEST(Reader, ListsAreBoundedTogether) {
  nlohmann::json json = dealt();
  json["model"]["layers"] = json["model"]["q_heads"] =
      json["model"]["kv_heads"] = 1024;
  // All but the second layer: no range says so.
  std::vector<unsigned> most = spec::layerRange(0, 1024);
  most.erase(most.begin() + 1);
  json["stores"] = nlohmann::json::array();
  for (int i = 0; i < 64; ++i)
    json["stores"].push_back(
        {{"name", "s" + std::to_string(i)},
         {"scope", {{"layers", {{"list", most}}}, {"heads", {i, i + 1}}}}});
  json["stores"].push_back(
      {{"name", "second"}, {"scope", {{"layers", {1, 2}}}}});
  json["stores"].push_back(
      {{"name", "rest"},
       {"scope", {{"layers", {0, 1024}}, {"heads", {64, 1024}}}}});
  json["stores"][64]["scope"]["heads"] = {0, 64};
  Diagnostics diagnostics;
  auto spec = spec::read(json.dump(), "a.json", diagnostics);
  ASSERT_TRUE(spec) << print(diagnostics);
  EXPECT_TRUE(spec::read(spec->canonical, "a.json", diagnostics))
      << print(diagnostics);
  json["stores"][65]["scope"]["layers"] = {{"list", most}};
  EXPECT_THAT(messages(json.dump()),
              HasSubstr("the lists of all stores together have at most 65536 "
                        "layers [E-RANGE]"));
}

TEST(Reader, AttendIsReadAtTheTopAndInStores) {
  spec::Spec spec = mustRead(scored());
  const spec::Attend &attend = spec.stores[0].attend;
  ASSERT_EQ(attend.constants.size(), 2u);
  const spec::Constant &slope =
      attend.constants[0].scalar ? attend.constants[1] : attend.constants[0];
  EXPECT_EQ(slope.name, "slope");
  EXPECT_EQ(slope.values, (std::vector<double>{0.5, 0.25, 0.125, 0.0625}));
  ASSERT_TRUE(attend.logits && attend.visible);
  EXPECT_EQ(attend.logits->text(),
            "cap * tanh(s / cap) - slope[h] * float(p - t)");
  EXPECT_EQ(attend.visible->text(), "p // 64 == t // 64 || t < 4");
  EXPECT_EQ(attend.loc.pointer, "/attend");

  nlohmann::json json = dealt();
  json["stores"][1]["attend"] = scored()["attend"];
  // A head of the model has a slope, whichever heads the store has.
  json["model"]["q_heads"] = 4;
  spec = mustRead(json);
  EXPECT_FALSE(spec.stores[0].attend.logits || spec.stores[0].attend.visible);
  EXPECT_TRUE(spec.stores[1].attend.logits);
  EXPECT_EQ(spec.stores[1].attend.loc.pointer, "/stores/1/attend");
}

// One meaning is one text: parentheses, spaces and conversions are writing.
TEST(Reader, AttendHasOneCanonicalForm) {
  nlohmann::json json = scored();
  std::string canonical = mustRead(json).canonical;
  EXPECT_EQ(nlohmann::json::parse(canonical)["stores"][0]["attend"].dump(),
            R"({"constants":{"cap":30.0,"slope":[0.5,0.25,0.125,0.0625]},)"
            R"-("logits":"cap * tanh(s / cap) - slope[h] * float(p - t)",)-"
            R"("visible":"p // 64 == t // 64 || t < 4"})");
  EXPECT_EQ(mustRead(nlohmann::json::parse(canonical)).canonical, canonical);
  json["attend"]["logits"] = "(cap*tanh((s/cap)))-slope[(h)]*float((p)-t)";
  json["attend"]["visible"] = "((p//64) == (t//64)) || (t<4)";
  json["attend"]["constants"]["cap"] = 3e1;
  EXPECT_EQ(mustRead(json).canonical, canonical);
  // A sink stands behind the others.
  json["attend"]["sink"] = "((slope[h])+1)";
  EXPECT_EQ(nlohmann::json::parse(
                mustRead(json).canonical)["stores"][0]["attend"]["sink"],
            "slope[h] + 1.0");
  json["attend"].erase("sink");
  // What it says is another matter.
  for (auto [where, value] :
       {std::pair("/attend/logits", "cap * tanh(s / cap) - slope[h] * (t - p)"),
        std::pair("/attend/visible", "p // 64 == t // 64 || t < 5")}) {
    nlohmann::json other = json;
    other[nlohmann::json::json_pointer(where)] = value;
    EXPECT_NE(mustRead(other).canonical, canonical) << where;
  }
  json["attend"]["constants"]["slope"][3] = 0.0625001;
  EXPECT_NE(mustRead(json).canonical, canonical);
  json["attend"] = nlohmann::json::object();
  nlohmann::json without = json;
  without.erase("attend");
  EXPECT_EQ(mustRead(json).canonical, mustRead(without).canonical);
}

TEST(Reader, AnExpressionIsNotJudgedWithoutTheModelsHeads) {
  nlohmann::json json = scored();
  json["model"]["q_heads"] = "?";
  Diagnostics diagnostics;
  EXPECT_FALSE(spec::read(json.dump(), "a.json", diagnostics));
  EXPECT_EQ(diagnostics.all().size(), 1u) << print(diagnostics);
}

TEST(Reader, OverlapAndGapNameThePair) {
  nlohmann::json json = several();
  json["stores"][1]["scope"]["layers"] = {1, 4};
  EXPECT_THAT(messages(json.dump()),
              HasSubstr("(layer 1, kv head 0) is already in store `low`"));
  json["stores"][1]["scope"] = {{"layers", {2, 4}}, {"heads", {1, 2}}};
  EXPECT_THAT(messages(json.dump()),
              HasSubstr("(layer 2, kv head 0) is in no store"));
}

TEST(Reader, AMessageIsNotAsLongAsItsKey) {
  nlohmann::json json = single();
  json[std::string(1000, 'x')] = 1;
  std::string text = messages(json.dump());
  EXPECT_THAT(text, HasSubstr("`" + std::string(48, 'x') + "...`"));
}

TEST(Reader, AMissingFileIsAnError) {
  Diagnostics diagnostics;
  EXPECT_FALSE(spec::readFile("/nowhere/at/all.json", diagnostics));
  EXPECT_EQ(diagnostics.all().at(0).code, "E-FILE");
  diagnostics.clear();
  EXPECT_FALSE(spec::readFile("/", diagnostics));
  EXPECT_EQ(diagnostics.all().at(0).code, "E-FILE");
}

TEST(Reader, AnEndlessFileIsRefused) {
  Diagnostics diagnostics;
  EXPECT_FALSE(spec::readFile("/dev/zero", diagnostics));
  EXPECT_EQ(diagnostics.all().at(0).code, "E-TOO-LARGE");
}

} // namespace
