//===- LocatedJsonTest.cpp - the gate, the parser, and places -------------===//
#include "lib/base/Spec/LocatedJson.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using namespace kvc::spec;

namespace {

std::unique_ptr<Document> mustParse(std::string_view text) {
  Diagnostics diagnostics;
  auto document = Document::parse(text, "a.json", diagnostics);
  EXPECT_TRUE(document) << diagnostics.all().at(0).message;
  return document;
}

struct Place {
  const char *pointer;
  uint32_t line, column, length;
};

TEST(LocatedJson, EveryValueKnowsItsPlace) {
  auto document = mustParse("{ \"a\" : [1, -2.5e3,\n"
                            "\t\"x\\\"]\", {}, true ]\n"
                            "  ,\r\n"
                            "  \"b/c~\": {\"d\": null\n"
                            "} }\n");
  const Place places[] = {
      {"", 1, 1, 19},     {"/a", 1, 9, 11},  {"/a/0", 1, 10, 1},
      {"/a/1", 1, 13, 6}, {"/a/2", 2, 2, 6}, {"/a/3", 2, 10, 2},
      {"/a/4", 2, 14, 4},
  };
  for (const Place &place : places) {
    SCOPED_TRACE(place.pointer);
    SourceLoc loc = document->loc(document->nearest(place.pointer));
    EXPECT_EQ(loc.file, "a.json");
    EXPECT_EQ(loc.pointer, place.pointer);
    EXPECT_EQ(loc.line, place.line);
    EXPECT_EQ(loc.column, place.column);
    EXPECT_EQ(loc.length, place.length);
  }
  const Node &b = *document->root().find("b/c~");
  EXPECT_EQ(document->loc(b).pointer, "/b~1c~0");
  EXPECT_EQ(document->keyLoc(b).line, 4u);
  EXPECT_EQ(document->keyLoc(b).column, 3u);
  EXPECT_EQ(document->keyLoc(b).length, 6u);
  const Node &d = *b.find("d");
  EXPECT_EQ(document->loc(d).pointer, "/b~1c~0/d");
  EXPECT_EQ(document->text(d), "null");
  EXPECT_EQ(document->text(document->nearest("/a/2")), "\"x\\\"]\"");
}

TEST(LocatedJson, ValuesKeepTheirType) {
  auto document = mustParse("[1, 1.0, 1e3, -7, 18446744073709551615, false, "
                            "\"\\u00e9\\n\"]");
  auto child = [&](unsigned i) { return *document->root().children.at(i); };
  EXPECT_EQ(child(0).kind, Node::Kind::Integer);
  EXPECT_EQ(child(1).kind, Node::Kind::Number);
  EXPECT_EQ(child(2).kind, Node::Kind::Number);
  EXPECT_EQ(child(2).number, 1000);
  EXPECT_EQ(child(3).integer, -7);
  EXPECT_EQ(child(4).integer, INT64_MAX);
  EXPECT_EQ(child(5).kind, Node::Kind::Bool);
  EXPECT_EQ(child(6).string, "\xc3\xa9\n");
}

TEST(LocatedJson, NearestStopsWhereTheTextDoes) {
  auto document = mustParse("{\"a\": [1]}");
  EXPECT_EQ(&document->nearest("/b/c"), &document->root());
  EXPECT_EQ(&document->nearest("/a/7"), document->root().find("a"));
}

TEST(LocatedJson, AByteOrderMarkIsSkipped) {
  auto document = mustParse("\xef\xbb\xbf{\"a\": 1}");
  EXPECT_EQ(document->loc(document->nearest("/a")).column, 10u);
}

struct Bad {
  std::string text;
  const char *code;
  uint32_t line, column;
};

std::string repeat(const char *piece, size_t count) {
  std::string text;
  while (count--)
    text += piece;
  return text;
}

TEST(LocatedJson, RefusesBadTextsAtTheirPlace) {
  const Bad bads[] = {
      {"", "E-SYNTAX", 1, 1},
      {" ", "E-SYNTAX", 1, 2},
      {"{", "E-SYNTAX", 1, 2},
      {"{\"a\"", "E-SYNTAX", 1, 5},
      {"{\"a\" 1}", "E-SYNTAX", 1, 6},
      {"{\"a\": 1,}", "E-SYNTAX", 1, 9},
      {"[1,\n2,,]", "E-SYNTAX", 2, 3},
      {"\"a", "E-SYNTAX", 1, 3},
      {"\"\\", "E-SYNTAX", 1, 3},
      {"\"\\ud800\"", "E-SYNTAX", 1, 8},
      {"\"a\nb\"", "E-SYNTAX", 1, 3},
      {"{'a': 1}", "E-SYNTAX", 1, 2},
      {"[01]", "E-SYNTAX", 1, 3},
      {"[1.]", "E-SYNTAX", 1, 4},
      {"[NaN]", "E-SYNTAX", 1, 2},
      {"[Infinity]", "E-SYNTAX", 1, 2},
      {"[1] // note", "E-SYNTAX", 1, 5},
      {"[1] [2]", "E-SYNTAX", 1, 5},
      {"{}}", "E-SYNTAX", 1, 3},
      {std::string("[1]\0", 4), "E-SYNTAX", 1, 4},
      {"[1,\n 1e400]", "E-NON-FINITE", 2, 2},
      {"[-1e999]", "E-NON-FINITE", 1, 2},
      {"[\"\xff\"]", "E-UTF8", 1, 3},
      {"[\"\xc0\x80\"]", "E-UTF8", 1, 3},
      {"\xfe\xff", "E-UTF8", 1, 1},
      {repeat("[", 65), "E-TOO-LARGE", 1, 65},
      {repeat("[", 1000000), "E-TOO-LARGE", 1, 65},
      {repeat("{\"a\":", 100000), "E-TOO-LARGE", 1, 321},
      {"[1" + repeat(",1", 100000) + "]", "E-TOO-LARGE", 1, 199999},
      {"[\"" + repeat("x", 1025) + "\"]", "E-TOO-LARGE", 1, 2},
      {std::string((1 << 20) + 1, ' '), "E-TOO-LARGE", 0, 0},
  };
  for (const Bad &bad : bads) {
    SCOPED_TRACE(bad.text.substr(0, 40));
    Diagnostics diagnostics;
    EXPECT_FALSE(Document::parse(bad.text, "a.json", diagnostics));
    ASSERT_EQ(diagnostics.all().size(), 1u);
    EXPECT_EQ(diagnostics.all()[0].code, bad.code);
    EXPECT_EQ(diagnostics.all()[0].loc.line, bad.line);
    EXPECT_EQ(diagnostics.all()[0].loc.column, bad.column)
        << diagnostics.all()[0].message;
  }
}

TEST(LocatedJson, BoundsAreInclusive) {
  mustParse(repeat("[", 64) + repeat("]", 64));
  mustParse("[1" + repeat(",1", 99998) + "]");
  mustParse("\"" + repeat("x", 1024) + "\"");
  mustParse("1" + std::string((1 << 20) - 1, ' '));
}

TEST(LocatedJson, DuplicateKeysAreReportedAndTheFirstStays) {
  Diagnostics diagnostics;
  auto document =
      Document::parse("{\"a\": 1, \"b\": {\"a\": 2},\n \"\\u0061\": "
                      "3}",
                      "a.json", diagnostics);
  ASSERT_TRUE(document);
  ASSERT_EQ(diagnostics.all().size(), 1u);
  const Diagnostic &diagnostic = diagnostics.all()[0];
  EXPECT_EQ(diagnostic.code, "E-DUPLICATE-KEY");
  EXPECT_EQ(diagnostic.loc.line, 2u);
  EXPECT_EQ(diagnostic.loc.column, 2u);
  ASSERT_EQ(diagnostic.notes.size(), 1u);
  EXPECT_EQ(diagnostic.notes[0].loc.line, 1u);
  EXPECT_EQ(document->root().find("a")->integer, 1);
}

TEST(LocatedJson, SyntaxErrorsSayWhatJsonLacks) {
  std::string comma = "JSON has no trailing commas: leave out the one before ";
  const std::pair<const char *, std::string> bads[] = {
      {"{\"a\": 1,}", comma + "`}`"},
      {"[1, 2 ,\n ]", comma + "`]`"},
      {"{} // note", "JSON has no comments"},
      {"{\n# note\n}", "JSON has no comments"},
      {"[1, /* two */ 2]", "JSON has no comments"},
      {"{'a': 1}", "strings and keys stand in double quotes"},
      {"[True]", "use `true`"},
      {"[1 2]", ""},
      {"[", ""},
  };
  for (const auto &[text, help] : bads) {
    Diagnostics diagnostics;
    EXPECT_FALSE(Document::parse(text, "a.json", diagnostics));
    ASSERT_EQ(diagnostics.all().size(), 1u) << text;
    const Diagnostic &diagnostic = diagnostics.all().front();
    ASSERT_EQ(diagnostic.notes.size(), help.empty() ? 0u : 1u) << text;
    if (!help.empty()) {
      EXPECT_EQ(diagnostic.notes[0].message, help);
    }
  }
}

TEST(LocatedJson, SyntaxErrorsSayWhatIsExpected) {
  Diagnostics diagnostics;
  EXPECT_FALSE(Document::parse("{\"a\": [1 2]}", "a.json", diagnostics));
  EXPECT_EQ(diagnostics.all().at(0).message,
            "syntax error in array: unexpected number literal; expected ']'");
  EXPECT_EQ(diagnostics.all()[0].loc.pointer, "/a");
}

} // namespace
