//===- DiagnosticsTest.cpp - both forms of a message ----------------------===//
#include "lib/base/Support/Diagnostics.h"
#include "lib/base/Support/Version.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kvc;
using testing::HasSubstr;
using testing::Not;

namespace {

std::string print(const Diagnostics &diagnostics, Diagnostics::Format format) {
  std::string text;
  llvm::raw_string_ostream os(text);
  diagnostics.print(os, format);
  return text;
}

Diagnostics pageError() {
  Diagnostics diagnostics;
  diagnostics.addSource("a.json", "{\n  \"page\": 3000\n}\n");
  Diagnostic &error = diagnostics.error(
      "E-RANGE", {"a.json", 2, 11, 4, "/layout/page"}, "too large");
  error.notes.push_back(
      {Severity::Note, "", {"a.json", 1, 1, 1, ""}, "in this object", {}});
  error.notes.push_back({Severity::Help, "", error.loc, "use 256", {}});
  return diagnostics;
}

TEST(Diagnostics, TextHasLineCaretPointerAndNotes) {
  EXPECT_EQ(print(pageError(), Diagnostics::Format::Text),
            "a.json:2:11: error: too large [E-RANGE]\n"
            "  \"page\": 3000\n"
            "          ^~~~\n"
            "  at /layout/page\n"
            "a.json:1:1: note: in this object\n"
            "a.json:2:11: help: use 256\n");
}

TEST(Diagnostics, JsonIsOneObjectPerLine) {
  Diagnostics diagnostics = pageError();
  diagnostics.report(Severity::Remark, "R-SLOW", {}, "no place");
  std::string text = print(diagnostics, Diagnostics::Format::Json);
  auto [first, rest] = llvm::StringRef(text).split('\n');
  auto parsed = llvm::json::parse(first);
  ASSERT_TRUE(bool(parsed));
  EXPECT_EQ(*parsed, llvm::json::Value(llvm::json::Object{
                         {"severity", "error"},
                         {"code", "E-RANGE"},
                         {"file", "a.json"},
                         {"line", 2},
                         {"column", 11},
                         {"pointer", "/layout/page"},
                         {"message", "too large"},
                         {"fix", "use 256"},
                         {"notes", llvm::json::Array{llvm::json::Object{
                                       {"severity", "note"},
                                       {"file", "a.json"},
                                       {"line", 1},
                                       {"column", 1},
                                       {"pointer", ""},
                                       {"message", "in this object"},
                                   }}},
                     }));
  EXPECT_EQ(rest.count('\n'), 1u);
  EXPECT_TRUE(rest.contains("\"severity\":\"remark\""));
}

TEST(Diagnostics, WithoutAPlaceTheMessageStandsAlone) {
  Diagnostics diagnostics;
  diagnostics.error("E-FILE", {"b.json", 0, 0, 1, ""}, "cannot read");
  diagnostics.report(Severity::Warning, "", {}, "nowhere");
  EXPECT_EQ(print(diagnostics, Diagnostics::Format::Text),
            "b.json: error: cannot read [E-FILE]\n"
            "warning: nowhere\n");
}

TEST(Diagnostics, TheSourceCannotDriveTheTerminal) {
  Diagnostics diagnostics;
  diagnostics.addSource("a.json", "{\x1b[31m}");
  diagnostics.error("E-SYNTAX", {"a.json", 1, 2, 1, ""}, "bad");
  EXPECT_THAT(print(diagnostics, Diagnostics::Format::Text),
              Not(HasSubstr("\x1b")));
}

TEST(Diagnostics, APlaceBeyondTheShownLineIsItsEnd) {
  Diagnostics diagnostics;
  diagnostics.addSource("a.json", "{\n  [\r\r\r\r\r\r");
  diagnostics.error("E-SYNTAX", {"a.json", 2, 10, 1, ""}, "unexpected end");
  EXPECT_EQ(print(diagnostics, Diagnostics::Format::Text),
            "a.json:2:4: error: unexpected end [E-SYNTAX]\n  [\n   ^\n");
}

/// The lines below the message, of a value of three bytes.
std::string below(const std::string &line, uint32_t column) {
  Diagnostics diagnostics;
  diagnostics.addSource("a.json", line);
  diagnostics.error("E-SYNTAX", {"a.json", 1, column, 3, ""}, "bad");
  std::string text = print(diagnostics, Diagnostics::Format::Text);
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "a.json:1:" + std::to_string(column) + ": error: bad [E-SYNTAX]");
  return text.substr(text.find('\n') + 1);
}

// A minified file has one line, and the place is told by what stands around it.
TEST(Diagnostics, OfALongLineAnExcerptIsShown) {
  std::string x36(36, 'x'), y33(33, 'y'), gap(36, ' ');
  std::string line = std::string(2000, '-') + x36 + "NOW" + y33 + "-----";
  EXPECT_EQ(below(line, 2037),
            "..." + x36 + "NOW" + y33 + "...\n   " + gap + "^~~\n");
  // At its ends, what is there is shown.
  line = "NOW" + std::string(69, 'x') + std::string(2000, '-');
  EXPECT_EQ(below(line, 1), line.substr(0, 72) + "...\n^~~\n");
  line = std::string(2000, '-') + std::string(69, 'x') + "NOW";
  EXPECT_EQ(below(line, 2070), "..." + line.substr(2000) + "\n   " +
                                   std::string(69, ' ') + "^~~\n");
  // A line of 160 is whole.
  line = std::string(157, 'x') + "NOW";
  EXPECT_EQ(below(line, 158), line + "\n" + std::string(157, ' ') + "^~~\n");
}

// An excerpt begins and ends with a whole character, wherever that is.
TEST(Diagnostics, AnExcerptIsUtf8) {
  for (uint32_t shift = 0; shift < 9; ++shift) {
    std::string line(shift, '-');
    for (int i = 0; i < 100; ++i)
      line += "\u2212\u00e9";
    for (uint32_t column = 1; column < 501; ++column)
      EXPECT_TRUE(llvm::json::isUTF8(below(line, column))) << column;
  }
}

// Columns are bytes; the caret stands below the character.
TEST(Diagnostics, TheCaretStandsBelowItsCharacter) {
  EXPECT_EQ(below("p \u2212 t", 3), "p \u2212 t\n  ^\n");
  EXPECT_EQ(below("\u00e9\u2212 now", 7), "\u00e9\u2212 now\n   ^~~\n");
  EXPECT_EQ(below("\u4e2d now", 5), "\u4e2d now\n   ^~~\n"); // two columns wide
  EXPECT_EQ(below("e\u0301 now", 5), "e\u0301 now\n  ^~~\n"); // none wide
  EXPECT_EQ(below("a\tnow", 3), "a       now\n        ^~~\n");
}

/// A stream that says it is a terminal.
struct Terminal : llvm::raw_string_ostream {
  explicit Terminal(std::string &text) : raw_string_ostream(text) {
    enable_colors(true);
  }
  bool has_colors() const override { return true; }
};

TEST(Diagnostics, ColorOnlyWhenAsked) {
  Diagnostics diagnostics = pageError();
  std::string text;
  Terminal terminal(text);
  diagnostics.print(terminal, Diagnostics::Format::Text, /*color=*/false);
  EXPECT_THAT(text, Not(HasSubstr("\x1b[")));
  text.clear();
  diagnostics.print(terminal, Diagnostics::Format::Text, /*color=*/true);
  EXPECT_THAT(text, HasSubstr("\x1b["));
}

TEST(Diagnostics, OnlyErrorsCountAsErrors) {
  Diagnostics diagnostics;
  diagnostics.report(Severity::Warning, "W", {}, "careful");
  EXPECT_FALSE(diagnostics.hasErrors());
  diagnostics.error("E", {}, "bad");
  EXPECT_TRUE(diagnostics.hasErrors());
  diagnostics.clear();
  EXPECT_FALSE(diagnostics.hasErrors());
  EXPECT_TRUE(diagnostics.all().empty());
}

TEST(Version, ProducerNamesBothVersions) {
  EXPECT_THAT(producer(), HasSubstr(version()));
  EXPECT_THAT(producer(), HasSubstr(llvmVersion()));
}

} // namespace
