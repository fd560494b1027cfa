//===- WordsTest.cpp - names in messages ----------------------------------===//
#include "lib/base/Support/Words.h"

#include <gtest/gtest.h>

#include <climits>

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
  EXPECT_EQ(quote("a\n  b\x01"), "`a b?`");
  EXPECT_EQ(quote(std::string(100, 'x')), "`" + std::string(48, 'x') + "...`");
  EXPECT_EQ(quoteAll({"a"}), "`a`");
  EXPECT_EQ(quoteAll({"a", "b", "c"}), "`a`, `b` or `c`");
}

TEST(Words, Ranges) {
  EXPECT_EQ(rangesOf({}), "");
  EXPECT_EQ(rangesOf({7}), "7");
  EXPECT_EQ(rangesOf({0, 1, 2, 3}), "0-3");
  EXPECT_EQ(rangesOf({0, 5}), "0, 5");
  EXPECT_EQ(rangesOf({0, 2, 4}), "0-4 step 2");
  EXPECT_EQ(rangesOf({1, 3, 5, 7}), "1-7 step 2");
  EXPECT_EQ(rangesOf({0, 5, 11, 12, 13}), "0, 5, 11-13");
  EXPECT_EQ(rangesOf({0, 2, 4, 5, 6}), "0, 2, 4-6");
  EXPECT_EQ(rangesOf({0, 1, 2, 3, 4, 6, 7, 8}), "0-4, 6-8");
  EXPECT_EQ(rangesOf({0, 6, 12, 18, 19}), "0-18 step 6, 19");
  EXPECT_EQ(rangesOf({0, UINT_MAX}), "0, 4294967295");
  EXPECT_EQ(rangeOf(0, 8), "0-7");
  EXPECT_EQ(rangeOf(3, 4), "3");
  EXPECT_EQ(rangeOf(4, 3), "");
}
