//===- OutputFileTest.cpp - outputs: whole or not at all ------------------===//
#include "lib/base/Artifact/OutputFile.h"
#include "test/support/Files.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace kvc::artifact;
namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

static int renameFailure = 0;
/// Bytes that may still be written; then the disk is full once.
static std::atomic<size_t> failWritesAfter{SIZE_MAX};

// These come before the C library's.
extern "C" int renameat(int from, const char *oldName, int to,
                        const char *newName) noexcept {
  if (renameFailure) {
    errno = renameFailure;
    return -1;
  }
  return int(syscall(SYS_renameat2, from, oldName, to, newName, 0));
}

extern "C" ssize_t write(int file, const void *bytes, size_t size) {
  size_t left = failWritesAfter;
  if (left != SIZE_MAX && !left) {
    failWritesAfter = SIZE_MAX;
    errno = ENOSPC;
    return -1;
  }
  if (left != SIZE_MAX) {
    size = std::min(size, left);
    failWritesAfter = left - size;
  }
  return syscall(SYS_write, file, bytes, size);
}

static Bytes read(const std::string &path) {
  return kvc::test::readFile<Bytes>(path);
}

namespace {
class OutputFile : public testing::Test {
protected:
  void TearDown() override {
    renameFailure = 0;
    failWritesAfter = SIZE_MAX;
  }
  std::string path(const std::string &name) const { return folder.path(name); }
  size_t filesInFolder() const { return folder.files().size(); }
  kvc::test::TempDir folder;
  std::string error;
};
} // namespace

TEST_F(OutputFile, WritesAndReplaces) {
  ASSERT_TRUE(writeOutputFile(path("a"), Bytes(100000, 7), error)) << error;
  EXPECT_EQ(read(path("a")), Bytes(100000, 7));
  ASSERT_TRUE(writeOutputFile(path("a"), Bytes{1, 2}, error)) << error;
  EXPECT_EQ(read(path("a")), Bytes({1, 2}));
  EXPECT_EQ(filesInFolder(), 1u);
  struct stat info;
  ASSERT_EQ(stat(path("a").c_str(), &info), 0);
  mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777, 0666 & ~mask);
}

TEST_F(OutputFile, RefusalsNameThePathAndLeaveNothing) {
  EXPECT_FALSE(writeOutputFile(path("no/such"), Bytes{1}, error));
  EXPECT_EQ(error, "cannot write `" + path("no/such") +
                       "`: No such file or directory");
  EXPECT_FALSE(writeOutputFile(folder.path(), Bytes{1}, error));
  EXPECT_EQ(error, "cannot write `" + folder.path() + "`: Is a directory");
  EXPECT_FALSE(writeOutputFile(path(std::string(256, 'x')), Bytes{1}, error));
  EXPECT_NE(error.find("File name too long"), error.npos) << error;
  EXPECT_FALSE(writeOutputFile("", Bytes{1}, error));
  EXPECT_EQ(filesInFolder(), 0u);
}

TEST_F(OutputFile, TakesTheLongestNames) {
  for (size_t size : {250, 255}) {
    std::string name = path(std::string(size, 'x'));
    ASSERT_TRUE(writeOutputFile(name, Bytes{1, 2}, error)) << error;
    EXPECT_EQ(read(name), Bytes({1, 2}));
  }
  EXPECT_EQ(filesInFolder(), 2u);
}

TEST_F(OutputFile, KeepsPermissions) {
  for (mode_t mode : {0600, 0444, 0755}) {
    ASSERT_TRUE(writeOutputFile(path("a"), Bytes{1}, error)) << error;
    ASSERT_EQ(chmod(path("a").c_str(), mode), 0);
    ASSERT_TRUE(writeOutputFile(path("a"), Bytes{2, 3}, error)) << error;
    struct stat info;
    ASSERT_EQ(stat(path("a").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, mode);
    EXPECT_EQ(read(path("a")), Bytes({2, 3}));
  }
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(OutputFile, WritesThroughLinks) {
  fs::create_directory(path("sub"));
  ASSERT_TRUE(writeOutputFile(path("sub/a"), Bytes{1}, error)) << error;
  fs::create_symlink("sub/a", path("relative"));
  fs::create_symlink(path("relative"), path("absolute"));
  fs::create_symlink("sub/new", path("dangling"));
  fs::create_symlink("loop", path("loop"));
  ASSERT_TRUE(writeOutputFile(path("absolute"), Bytes{2, 3}, error)) << error;
  EXPECT_EQ(read(path("sub/a")), Bytes({2, 3}));
  EXPECT_TRUE(fs::is_symlink(path("absolute")));
  EXPECT_TRUE(fs::is_symlink(path("relative")));
  ASSERT_TRUE(writeOutputFile(path("dangling"), Bytes{4}, error)) << error;
  EXPECT_TRUE(fs::is_symlink(path("dangling")));
  EXPECT_EQ(read(path("sub/new")), Bytes({4}));
  EXPECT_FALSE(writeOutputFile(path("loop"), Bytes{4}, error));
  EXPECT_NE(error.find("Too many levels"), error.npos) << error;
  EXPECT_EQ(filesInFolder(), 5u);
}

TEST_F(OutputFile, WritesToWhatIsNoFile) {
  ASSERT_TRUE(writeOutputFile("/dev/null", Bytes{1}, error)) << error;
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_FALSE(writeOutputFile("/dev/full", Bytes{1}, error));
  EXPECT_EQ(error, "cannot write `/dev/full`: No space left on device");
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  Bytes seen;
  std::thread reader([&] { seen = read(path("fifo")); });
  EXPECT_TRUE(writeOutputFile(path("fifo"), Bytes(100000, 7), error)) << error;
  reader.join();
  EXPECT_EQ(seen, Bytes(100000, 7));
  EXPECT_TRUE(fs::is_fifo(path("fifo")));
  EXPECT_EQ(filesInFolder(), 1u);
}

// Were the file behind a descriptor replaced, the descriptor's other users
// would write to one that nobody sees.
TEST_F(OutputFile, WritesToDescriptors) {
  int number = open(path("a").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(number, 0);
  ASSERT_EQ(write(number, "<", 1), 1);
  fs::create_symlink("/dev/fd/" + std::to_string(number), path("link"));
  EXPECT_TRUE(
      writeOutputFile("/dev/fd/" + std::to_string(number), Bytes{'1'}, error))
      << error;
  EXPECT_TRUE(writeOutputFile(path("link"), Bytes{'2'}, error)) << error;
  ASSERT_EQ(write(number, ">", 1), 1);
  close(number);
  EXPECT_EQ(read(path("a")), Bytes({'<', '1', '2', '>'}));
  EXPECT_FALSE(writeOutputFile(path("link"), Bytes{'2'}, error));
  EXPECT_EQ(filesInFolder(), 2u);
}

// A file that is a mount point cannot be replaced.
TEST_F(OutputFile, OverwritesWhatCannotBeReplaced) {
  for (int reason : {EBUSY, EXDEV}) {
    for (Bytes old : {Bytes(10, 1), Bytes(100000, 1)}) {
      renameFailure = 0;
      ASSERT_TRUE(writeOutputFile(path("a"), old, error)) << error;
      auto inode = [&] {
        struct stat info = {};
        stat(path("a").c_str(), &info);
        return info.st_ino;
      };
      auto before = inode();
      renameFailure = reason;
      ASSERT_TRUE(writeOutputFile(path("a"), Bytes(5000, 2), error)) << error;
      EXPECT_EQ(read(path("a")), Bytes(5000, 2));
      EXPECT_EQ(inode(), before);
      EXPECT_EQ(filesInFolder(), 1u);
    }
    // One that does not exist cannot be mounted on.
    EXPECT_FALSE(writeOutputFile(path("b"), Bytes{1}, error));
    EXPECT_EQ(filesInFolder(), 1u);
  }
}

TEST_F(OutputFile, FailureWhileOverwritingGivesTheOldBytesBack) {
  Bytes old(5000);
  for (size_t i = 0; i < old.size(); ++i)
    old[i] = uint8_t(i * 7);
  ASSERT_TRUE(writeOutputFile(path("a"), old, error));
  // A new file may not even have its first page, the old one may.
  renameFailure = EBUSY;
  failWritesAfter = 4096;
  // The temporary one counts as well: let it through.
  failWritesAfter += 100000;
  EXPECT_FALSE(writeOutputFile(path("a"), Bytes(100000, 9), error));
  failWritesAfter = SIZE_MAX;
  EXPECT_NE(error.find("No space left"), error.npos) << error;
  EXPECT_EQ(read(path("a")), old);
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(OutputFile, FailureInTheMiddleKeepsTheOldFile) {
  ASSERT_TRUE(writeOutputFile(path("a"), Bytes{1, 2}, error));
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = {4096, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  bool written = writeOutputFile(path("a"), Bytes(100000, 7), error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(written);
  EXPECT_NE(error.find("File too large"), error.npos) << error;
  EXPECT_EQ(read(path("a")), Bytes({1, 2}));
  EXPECT_EQ(filesInFolder(), 1u);
}

TEST_F(OutputFile, ConcurrentWritersAndReadersSeeWholeFiles) {
  constexpr size_t kSize = 20000;
  ASSERT_TRUE(writeOutputFile(path("a"), Bytes(kSize, 0), error));
  std::atomic<unsigned> torn{0}, failed{0};
  std::vector<std::thread> threads;
  for (uint8_t id = 1; id <= 3; ++id)
    threads.emplace_back([&, id] {
      std::string mine;
      for (int i = 0; i < 50; ++i) {
        failed += !writeOutputFile(path("a"), Bytes(kSize, id), mine);
        Bytes seen = read(path("a"));
        failed += seen.size() != kSize;
        for (uint8_t byte : seen)
          torn += byte != seen[0];
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(torn, 0u);
  EXPECT_EQ(filesInFolder(), 1u);
}
