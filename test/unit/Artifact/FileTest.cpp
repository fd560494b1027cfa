//===- FileTest.cpp - artifacts on disk -----------------------------------===//
#include "Sample.h"

#include "lib/base/Artifact/File.h"
#include "test/support/Files.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

using namespace kvc::artifact;
using kvc::test::writeFile;
using Bytes = std::vector<uint8_t>;

namespace {
class File : public testing::Test {
protected:
  std::string path(const char *name) const { return folder.path(name); }
  kvc::test::TempDir folder;
  std::string error;
};
} // namespace

TEST_F(File, MapsWhatWasThere) {
  ASSERT_TRUE(writeFile(path("a"), Bytes(5000, 3)));
  auto file = MappedFile::open(path("a"), 5000, error);
  ASSERT_TRUE(file) << error;
  // Others may cut the file; what was checked stays.
  ASSERT_EQ(truncate(path("a").c_str(), 0), 0);
  MappedFile moved = std::move(*file);
  EXPECT_EQ(Bytes(moved.bytes().begin(), moved.bytes().end()), Bytes(5000, 3));
  EXPECT_EQ(uintptr_t(moved.bytes().data()) % kBlobAlignment, 0u);
}

TEST_F(File, MapRefusesOtherKinds) {
  ASSERT_TRUE(writeFile(path("a"), Bytes(5000, 3)));
  EXPECT_FALSE(MappedFile::open(path("a"), 4999, error));
  EXPECT_NE(error.find("1 to 4999 bytes"), error.npos) << error;
  EXPECT_FALSE(MappedFile::open(path("b"), 5000, error));
  EXPECT_NE(error.find("No such file"), error.npos) << error;
  EXPECT_FALSE(MappedFile::open(folder.path(), 5000, error));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(MappedFile::open(path("fifo"), 5000, error));
  ASSERT_TRUE(writeFile(path("empty"), Bytes()));
  EXPECT_FALSE(MappedFile::open(path("empty"), 5000, error));
}
