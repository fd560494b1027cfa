//===- FileTest.cpp - files: whole or not at all --------------------------===//
#include "Sample.h"

#include "lib/Artifact/File.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace kvc::artifact;
namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

namespace {
/// A directory of its own, removed afterwards.
class File : public testing::Test {
protected:
  void SetUp() override {
    std::string name = fs::temp_directory_path() / "kvc-file-XXXXXX";
    ASSERT_TRUE(mkdtemp(name.data()));
    folder = name;
  }
  void TearDown() override { fs::remove_all(folder); }
  std::string path(const char *name) const { return folder / name; }
  size_t filesInFolder() const {
    return size_t(std::distance(fs::directory_iterator(folder),
                                fs::directory_iterator()));
  }
  fs::path folder;
  std::string error;
};
} // namespace

TEST_F(File, WritesAndReplaces) {
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes(100000, 7), error)) << error;
  EXPECT_EQ(readFile(path("a")), Bytes(100000, 7));
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes{1, 2}, error)) << error;
  EXPECT_EQ(readFile(path("a")), Bytes({1, 2}));
  EXPECT_EQ(filesInFolder(), 1u);
  struct stat info;
  ASSERT_EQ(stat(path("a").c_str(), &info), 0);
  mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777, 0666 & ~mask);
}

TEST_F(File, RefusalsLeaveNothing) {
  EXPECT_FALSE(writeFileAtomically(path("no/such"), Bytes{1}, error));
  EXPECT_NE(error.find("No such file"), error.npos) << error;
  EXPECT_FALSE(writeFileAtomically(folder, Bytes{1}, error));
  EXPECT_NE(error.find("not a regular file"), error.npos) << error;
  EXPECT_EQ(filesInFolder(), 0u);
  // A FIFO stands for devices: were one replaced, so would be /dev/null.
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(writeFileAtomically(path("fifo"), Bytes{1}, error));
  EXPECT_NE(error.find("not a regular file"), error.npos) << error;
  EXPECT_TRUE(fs::is_fifo(path("fifo")));
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(File, FailureInTheMiddleKeepsTheOldFile) {
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes{1, 2}, error));
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = {4096, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  bool written = writeFileAtomically(path("a"), Bytes(100000, 7), error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(written);
  EXPECT_NE(error.find("File too large"), error.npos) << error;
  EXPECT_EQ(readFile(path("a")), Bytes({1, 2}));
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(File, ConcurrentWritersAndReadersSeeWholeFiles) {
  constexpr size_t kSize = 20000;
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes(kSize, 0), error));
  std::atomic<unsigned> torn{0}, failed{0};
  std::vector<std::thread> threads;
  for (uint8_t id = 1; id <= 3; ++id)
    threads.emplace_back([&, id] {
      std::string mine;
      for (int i = 0; i < 50; ++i) {
        failed += !writeFileAtomically(path("a"), Bytes(kSize, id), mine);
        auto file = MappedFile::open(path("a"), kSize, mine);
        failed += !file;
        if (file)
          for (uint8_t byte : file->bytes())
            torn += byte != file->bytes()[0];
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(torn, 0u);
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(File, MapsWhatWasThere) {
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes(5000, 3), error));
  auto file = MappedFile::open(path("a"), 5000, error);
  ASSERT_TRUE(file) << error;
  // Others may cut the file; what was checked stays.
  ASSERT_EQ(truncate(path("a").c_str(), 0), 0);
  MappedFile moved = std::move(*file);
  EXPECT_EQ(Bytes(moved.bytes().begin(), moved.bytes().end()), Bytes(5000, 3));
  EXPECT_EQ(uintptr_t(moved.bytes().data()) % kBlobAlignment, 0u);
}

TEST_F(File, MapRefusesOtherKinds) {
  ASSERT_TRUE(writeFileAtomically(path("a"), Bytes(5000, 3), error));
  EXPECT_FALSE(MappedFile::open(path("a"), 4999, error));
  EXPECT_NE(error.find("1 to 4999 bytes"), error.npos) << error;
  EXPECT_FALSE(MappedFile::open(path("b"), 5000, error));
  EXPECT_NE(error.find("No such file"), error.npos) << error;
  EXPECT_FALSE(MappedFile::open(folder, 5000, error));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(MappedFile::open(path("fifo"), 5000, error));
  ASSERT_TRUE(writeFileAtomically(path("empty"), {}, error));
  EXPECT_FALSE(MappedFile::open(path("empty"), 5000, error));
}
