//===- ReaderTest.cpp - what the reader accepts, refuses and says ---------===//
#include "lib/Spec/Reader.h"
#include "Cases.h"

#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

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
  EXPECT_EQ(store.scope.layerEnd, 4u);
  EXPECT_EQ(store.scope.headEnd, 2u);
  EXPECT_EQ(store.k.dim, 192u);
  EXPECT_EQ(store.v.dim, 128u);
  EXPECT_EQ(std::get<spec::IntCodec>(store.k.codec).scaleType,
            spec::DType::F32);
  EXPECT_EQ(std::get<spec::IntCodec>(store.v.codec).scaleType,
            spec::DType::F16);
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
            R"({"kvc":"0.1","model":{"dtype":"bf16","head_dim":{"k":16,"v":8},)"
            R"("kv_heads":2,"layers":4,"logit_softcap":50.0,"q_heads":8,)"
            R"("softmax_scale":0.25},"name":"base","stores":[{"layout":)"
            R"({"kind":"paged","order":"HND","page":16},"name":"main","reads":)"
            R"({"kind":"window","recent":32,"sink":4},"scope":{"heads":[0,2],)"
            R"("layers":[0,4]},"streams":{"k":{"codec":{"kind":"int8","scale":)"
            R"("f32"}},"v":{"codec":{"kind":"int8","scale":"f16"}}}}]})");
}

TEST(Reader, ADuplicateKeyIsAnError) {
  std::string text = single().dump();
  text.insert(1, "\"name\": \"base\", ");
  EXPECT_THAT(messages(text), HasSubstr("[E-DUPLICATE-KEY]"));
}

TEST(Reader, AcceptsTheExampleOfTheReadme) {
  std::ifstream file(KVC_SOURCE_DIR "/specs/README.md");
  std::string text{std::istreambuf_iterator<char>(file), {}};
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
  EXPECT_THAT(text, HasSubstr("error: `evict` is not in version 0.1 of the "
                              "language [E-NOT-IN-VERSION]"));
  EXPECT_THAT(text, HasSubstr("help: this version has `streams`, `codec`, "
                              "`layout` and `reads`"));
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
