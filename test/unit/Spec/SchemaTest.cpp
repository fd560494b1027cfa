//===- SchemaTest.cpp - the schema says what the reader says --------------===//
#include "Cases.h"
#include "lib/base/Spec/Reader.h"

#include <gtest/gtest.h>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include <fstream>

using namespace kvc;
using namespace kvc::test;
using nlohmann::json;
using valijson::adapters::NlohmannJsonAdapter;

namespace {

json load(const std::string &path) {
  std::ifstream file(path);
  return json::parse(file);
}

class SchemaTest : public testing::Test {
protected:
  SchemaTest() : document(load(KVC_SOURCE_DIR "/specs/kvc.schema.json")) {
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(NlohmannJsonAdapter(document), schema);
  }
  bool accepts(const json &spec) {
    valijson::Validator validator(valijson::Validator::kStrongTypes);
    return validator.validate(schema, NlohmannJsonAdapter(spec), nullptr);
  }
  json document;
  valijson::Schema schema;
};

TEST_F(SchemaTest, AcceptsEveryExample) {
  for (const std::string &path : examples()) {
    EXPECT_TRUE(accepts(load(path))) << path;
    EXPECT_EQ(load(path).at("$schema"), "../kvc.schema.json") << path;
  }
}

TEST_F(SchemaTest, AcceptsGoodEditsAndTheirCanonicalText) {
  for (const GoodEdit &edit : goodEdits()) {
    SCOPED_TRACE(std::string(edit.where) + " = " +
                 (edit.value ? edit.value : "(removed)"));
    EXPECT_TRUE(accepts(edit.apply()));
    Diagnostics diagnostics;
    auto spec = spec::read(edit.apply().dump(), "a.json", diagnostics);
    ASSERT_TRUE(spec);
    EXPECT_TRUE(accepts(json::parse(spec->canonical))) << spec->canonical;
  }
}

TEST_F(SchemaTest, RefusesBadEditsUnlessTheyBreakARuleBetweenFields) {
  for (const BadEdit &edit : badEdits()) {
    SCOPED_TRACE(std::string(edit.where) + " = " +
                 (edit.value ? edit.value : "(removed)"));
    EXPECT_EQ(accepts(edit.apply()), edit.refuses == Refuses::ReaderOnly);
  }
}

} // namespace
