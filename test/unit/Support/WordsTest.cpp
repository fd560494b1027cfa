//===- WordsTest.cpp - names in messages ----------------------------------===//
#include "lib/Support/Words.h"

#include <gtest/gtest.h>

using namespace kvc;

static llvm::StringRef nearest(llvm::StringRef word) {
  return nearestName(word, {"check", "compile", "sink", "recent", "Werror"});
}

TEST(Words, NearestIsAMisspelling) {
  EXPECT_EQ(nearest("chek"), "check");
  EXPECT_EQ(nearest("chekc"), "check");
  EXPECT_EQ(nearest("CHECK"), "check");
  EXPECT_EQ(nearest("complie"), "compile");
  EXPECT_EQ(nearest("werror"), "Werror");
  // As far from `sink` as half of its letters.
  EXPECT_EQ(nearest("size"), "");
  EXPECT_EQ(nearest("frobnicate"), "");
  EXPECT_EQ(nearest(""), "");
  EXPECT_EQ(nearestName("a", {}), "");
}

TEST(Words, Quotes) {
  EXPECT_EQ(quote("a\nb"), "`a?b`");
  EXPECT_EQ(quote(std::string(100, 'x')), "`" + std::string(48, 'x') + "...`");
  EXPECT_EQ(quoteAll({"a"}), "`a`");
  EXPECT_EQ(quoteAll({"a", "b", "c"}), "`a`, `b` or `c`");
}
