//===- CacheTest.cpp - a cache that is damaged, hostile or contended ------===//
#include "lib/driver/Compiler/KernelCache.h"
#include "test/support/Files.h"

#include "llvm/Support/FileSystem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <random>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvc;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace {

class CacheTest : public testing::Test {
protected:
  std::string file(const CacheKey &key) {
    return directory + "/llvmcache-" + key.hex();
  }
  std::string read(const std::string &path) { return test::readFile(path); }
  void write(const std::string &path, const std::string &bytes) {
    ASSERT_TRUE(test::writeFile(path, bytes));
  }
  test::TempDir folder;
  std::string root = folder.path(), directory = folder.path("cache");
  Diagnostics diagnostics;
};

CacheKey keyOf(const std::string &text) {
  return CacheKeyBuilder().add(text).key();
}

std::vector<uint8_t> payloadOf(size_t bytes, uint8_t seed) {
  std::vector<uint8_t> payload(bytes);
  for (size_t i = 0; i < bytes; ++i)
    payload[i] = uint8_t(seed + i * 7 + i / 251);
  return payload;
}

} // namespace

TEST(CacheKeyTest, DependsOnPartsAndWhereTheyEnd) {
  EXPECT_EQ(CacheKeyBuilder().add("ab").add("c").key(),
            CacheKeyBuilder().add("ab").add("c").key());
  EXPECT_NE(CacheKeyBuilder().add("ab").add("c").key(),
            CacheKeyBuilder().add("a").add("bc").key());
  EXPECT_NE(CacheKeyBuilder().add("").key(), CacheKeyBuilder().key());
  EXPECT_NE(keyOf("a"), keyOf("b"));
}

TEST_F(CacheTest, GivesBackWhatWasStored) {
  KernelCache cache(directory, diagnostics);
  ASSERT_TRUE(cache.isOpen());
  EXPECT_EQ(cache.lookup(keyOf("a")), std::nullopt);
  for (size_t bytes : {0, 1, 100'000}) {
    ASSERT_TRUE(cache.store(keyOf("a"), payloadOf(bytes, 3)));
    EXPECT_EQ(cache.lookup(keyOf("a")), payloadOf(bytes, 3));
  }
  EXPECT_EQ(cache.lookup(keyOf("b")), std::nullopt);
  struct stat info;
  ASSERT_EQ(stat(directory.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_THAT(diagnostics.all(), IsEmpty());
}

TEST_F(CacheTest, AnyFlippedBitIsAMiss) {
  KernelCache cache(directory, diagnostics);
  CacheKey key = keyOf("a");
  std::vector<uint8_t> payload = payloadOf(40, 9);
  ASSERT_TRUE(cache.store(key, payload));
  std::string good = read(file(key));
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] ^= 1 << (byte % 8);
    write(file(key), bad);
    EXPECT_EQ(cache.lookup(key), std::nullopt) << "byte " << byte;
    EXPECT_FALSE(llvm::sys::fs::exists(file(key))) << "byte " << byte;
  }
  write(file(key), good);
  EXPECT_EQ(cache.lookup(key), payload);
}

TEST_F(CacheTest, AnyOtherLengthIsAMiss) {
  KernelCache cache(directory, diagnostics);
  CacheKey key = keyOf("a");
  ASSERT_TRUE(cache.store(key, payloadOf(40, 9)));
  std::string good = read(file(key));
  for (size_t bytes = 0; bytes <= good.size() + 1; ++bytes) {
    if (bytes == good.size())
      continue;
    std::string bad = good;
    bad.resize(bytes);
    write(file(key), bad);
    EXPECT_EQ(cache.lookup(key), std::nullopt) << bytes << " bytes";
  }
}

TEST_F(CacheTest, AnotherKeysEntryIsAMiss) {
  KernelCache cache(directory, diagnostics);
  ASSERT_TRUE(cache.store(keyOf("a"), payloadOf(40, 1)));
  ASSERT_TRUE(cache.store(keyOf("b"), payloadOf(40, 2)));
  std::string a = read(file(keyOf("a"))), b = read(file(keyOf("b")));
  write(file(keyOf("a")), b);
  write(file(keyOf("b")), a);
  EXPECT_EQ(cache.lookup(keyOf("a")), std::nullopt);
  EXPECT_EQ(cache.lookup(keyOf("b")), std::nullopt);
}

TEST_F(CacheTest, LinksAndPipesAreMissesAndGo) {
  KernelCache cache(directory, diagnostics);
  CacheKey key = keyOf("a");
  ASSERT_TRUE(cache.store(key, payloadOf(40, 1)));
  std::string elsewhere = root + "/elsewhere";
  ASSERT_EQ(rename(file(key).c_str(), elsewhere.c_str()), 0);
  ASSERT_EQ(symlink(elsewhere.c_str(), file(key).c_str()), 0);
  EXPECT_EQ(cache.lookup(key), std::nullopt);
  EXPECT_TRUE(llvm::sys::fs::exists(elsewhere));
  ASSERT_EQ(mkfifo(file(key).c_str(), 0600), 0);
  EXPECT_EQ(cache.lookup(key), std::nullopt);
  EXPECT_FALSE(llvm::sys::fs::exists(file(key)));
}

TEST_F(CacheTest, AnEntryThatOthersMayWriteIsAMiss) {
  KernelCache cache(directory, diagnostics);
  ASSERT_TRUE(cache.store(keyOf("a"), payloadOf(40, 1)));
  ASSERT_EQ(chmod(file(keyOf("a")).c_str(), 0620), 0);
  EXPECT_EQ(cache.lookup(keyOf("a")), std::nullopt);
}

TEST_F(CacheTest, RefusesADirectoryThatOthersMayWrite) {
  for (mode_t mode : {0770, 0707, 01777}) {
    ASSERT_FALSE(llvm::sys::fs::create_directories(directory));
    ASSERT_EQ(chmod(directory.c_str(), mode), 0);
    diagnostics.clear();
    KernelCache cache(directory, diagnostics);
    EXPECT_FALSE(cache.isOpen());
    EXPECT_FALSE(cache.store(keyOf("a"), payloadOf(1, 1)));
    EXPECT_EQ(cache.lookup(keyOf("a")), std::nullopt);
    EXPECT_THAT(cache.list(), IsEmpty());
    EXPECT_EQ(cache.clear(), 0u);
    ASSERT_THAT(diagnostics.all(), SizeIs(1));
    // No warning: nobody's -Werror is about his machine.
    EXPECT_EQ(diagnostics.all()[0].severity, Severity::Remark);
    EXPECT_EQ(diagnostics.all()[0].code, "R-CACHE-DIR");
    char octal[16];
    snprintf(octal, sizeof(octal), "mode 0%o;", mode);
    EXPECT_THAT(diagnostics.all()[0].message, HasSubstr(octal));
  }
}

TEST_F(CacheTest, RefusesALinkAndAFileInPlaceOfADirectory) {
  ASSERT_FALSE(llvm::sys::fs::create_directories(root + "/real"));
  ASSERT_EQ(symlink((root + "/real").c_str(), directory.c_str()), 0);
  EXPECT_FALSE(KernelCache(directory, diagnostics).isOpen());
  write(root + "/file", "");
  EXPECT_FALSE(KernelCache(root + "/file", diagnostics).isOpen());
  EXPECT_FALSE(KernelCache("/dev/null/cache", diagnostics).isOpen());
  EXPECT_FALSE(KernelCache("", diagnostics).isOpen());
}

TEST_F(CacheTest, RefusesAnotherUsersDirectory) {
  if (geteuid() != 0)
    GTEST_SKIP() << "only root can give a directory away";
  ASSERT_FALSE(llvm::sys::fs::create_directories(directory));
  ASSERT_EQ(chown(directory.c_str(), 12345, 12345), 0);
  ASSERT_EQ(chmod(directory.c_str(), 0700), 0);
  EXPECT_FALSE(KernelCache(directory, diagnostics).isOpen());
}

/// Runs `body` in a process of its own; its result is the exit code.
template <typename Body> pid_t spawn(Body body) {
  pid_t child = fork();
  if (child == 0)
    _exit(body());
  return child;
}
int exitCode(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(CacheTest, ServesReadOnly) {
  {
    KernelCache cache(directory, diagnostics);
    ASSERT_TRUE(cache.store(keyOf("a"), payloadOf(40, 1)));
  }
  // Root may write anywhere: become somebody, to whom it is root's read-only
  // cache. Others own what they see as read-only.
  ASSERT_EQ(chmod(root.c_str(), 0755), 0);
  ASSERT_EQ(chmod(file(keyOf("a")).c_str(), 0444), 0);
  ASSERT_EQ(chmod(directory.c_str(), 0555), 0);
  pid_t child = spawn([&] {
    if (geteuid() == 0 && setuid(65534))
      return 9;
    Diagnostics quiet;
    KernelCache cache(directory, quiet);
    if (cache.lookup(keyOf("a")) != payloadOf(40, 1))
      return 1;
    if (cache.store(keyOf("b"), payloadOf(40, 1)))
      return 2;
    cache.prune(/*now=*/true, quiet);
    return quiet.all().empty() ? 0 : 3;
  });
  EXPECT_EQ(exitCode(child), 0);
  ASSERT_EQ(chmod(directory.c_str(), 0700), 0);
}

TEST_F(CacheTest, ManyProcessesNeverSeeHalfAnEntry) {
  constexpr int kProcesses = 8, kRounds = 200, kKeys = 4;
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process)
    children.push_back(spawn([&] {
      Diagnostics quiet;
      KernelCache cache(directory, quiet);
      int hits = 0;
      for (int round = 0; round < kRounds; ++round) {
        int which = (round + process) % kKeys;
        CacheKey key = keyOf(std::to_string(which));
        // The same key may bring another payload: what is read must be one of
        // them, whole.
        if (!cache.store(key, payloadOf(20'000 + which, process)))
          return 1;
        auto found = cache.lookup(key);
        if (!found)
          continue;
        ++hits;
        if (*found != payloadOf(20'000 + which, found->front()))
          return 2;
      }
      // Entries are never removed here, so every lookup finds one.
      return hits == kRounds && quiet.all().empty() ? 0 : 3;
    }));
  for (pid_t child : children)
    EXPECT_EQ(exitCode(child), 0);
  EXPECT_THAT(KernelCache(directory, diagnostics).list(), SizeIs(kKeys));
}

/// The files below a folder, in its subfolders too.
static std::vector<std::string> filesBelow(const std::string &folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (llvm::sys::fs::recursive_directory_iterator entry(folder, error), end;
       entry != end && !error; entry.increment(error))
    if (entry->type() != llvm::sys::fs::file_type::directory_file)
      files.push_back(entry->path());
  return files;
}

TEST_F(CacheTest, FilesAreTheUsersAlone) {
  mode_t before = umask(0);
  KernelCache cache(directory, diagnostics);
  ASSERT_TRUE(cache.store(keyOf("a"), payloadOf(1000, 0)));
  cache.prune(/*now=*/true, diagnostics);
  umask(before);
  // An entry, and when it was last pruned.
  EXPECT_THAT(filesBelow(directory), SizeIs(2));
  for (const std::string &path : filesBelow(directory)) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u) << path;
  }
  struct stat info;
  ASSERT_EQ(stat((directory + "/tmp").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  EXPECT_EQ(cache.clear(), 1u);
  EXPECT_THAT(filesBelow(directory), IsEmpty());
}

TEST_F(CacheTest, ALimitOfFileSizesFailsAStoreAndKillsNobody) {
  KernelCache cache(directory, diagnostics);
  pid_t child = spawn([&] {
    rlimit limit{30'000, 30'000};
    if (setrlimit(RLIMIT_FSIZE, &limit))
      return 1;
    if (cache.store(keyOf("large"), payloadOf(40'000, 0)))
      return 2;
    if (!cache.store(keyOf("small"), payloadOf(20'000, 0)))
      return 3;
    // What the host does with the signal is as it was.
    sigset_t blocked, pending;
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    return sigismember(&pending, SIGXFSZ) + sigismember(&blocked, SIGXFSZ);
  });
  EXPECT_EQ(exitCode(child), 0);
  EXPECT_THAT(cache.list(), SizeIs(1));
  EXPECT_THAT(filesBelow(directory), SizeIs(1));
}

TEST_F(CacheTest, OpeningSparesWhatALivingWriterHas) {
  KernelCache cache(directory, diagnostics);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  // A writer that never ends.
  ASSERT_EQ(mkdir((directory + "/tmp").c_str(), 0700), 0);
  std::string writing = directory + "/tmp/1-A";
  pid_t child = spawn([&] {
    int file = open(writing.c_str(), O_WRONLY | O_CREAT, 0600);
    if (file < 0 || flock(file, LOCK_EX) || ::write(ready[1], "r", 1) != 1)
      return 1;
    pause();
    return 0;
  });
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_EQ(KernelCache(directory, diagnostics).leftovers(), 0u);
  EXPECT_TRUE(llvm::sys::fs::exists(writing));
  kill(child, SIGKILL);
  exitCode(child);
  EXPECT_EQ(KernelCache(directory, diagnostics).leftovers(), 1u);
  EXPECT_FALSE(llvm::sys::fs::exists(writing));
  close(ready[0]);
  close(ready[1]);
}

namespace {
constexpr int kKilledKeys = 4;

/// Stores entries until it is killed, and does little else: most kills shall
/// come while a file is being written.
int writeForever(const std::string &directory, unsigned seed) {
  std::minstd_rand random(seed);
  std::vector<std::vector<uint8_t>> payloads;
  for (int which = 0; which < kKilledKeys; ++which)
    payloads.push_back(payloadOf(size_t(200'000 + which), uint8_t(random())));
  Diagnostics quiet;
  KernelCache cache(directory, quiet);
  for (;;) {
    unsigned which = random() % kKilledKeys;
    if (!cache.store(keyOf(std::to_string(which)), payloads[which]))
      return 1;
  }
}
} // namespace

/// tools/soak asks for more kills than there is time for here.
TEST_F(CacheTest, KilledWritersLeaveNothingBroken) {
  constexpr int kWriters = 8;
  const char *asked = getenv("KVC_CACHE_KILLS"), *given = getenv("KVC_SEED");
  int kills = asked ? atoi(asked) : 150;
  unsigned seed = given ? unsigned(atoi(given)) : std::random_device()();
  std::cout << kills << " kills, KVC_SEED=" << seed << std::endl;
  std::minstd_rand random(seed);
  KernelCache cache(directory, diagnostics);
  for (int which = 0; which < kKilledKeys; ++which)
    ASSERT_TRUE(cache.store(keyOf(std::to_string(which)),
                            payloadOf(size_t(200'000 + which), 0)));
  auto start = [&] {
    unsigned mine = unsigned(random());
    return spawn([&] { return writeForever(directory, mine); });
  };
  std::vector<pid_t> writers;
  for (int i = 0; i < kWriters; ++i)
    writers.push_back(start());
  int corrupt = 0, ended = 0;
  unsigned leftovers = 0;
  auto look = [&] {
    // No entry is ever removed, so a miss is one that was damaged.
    for (int which = 0; which < kKilledKeys; ++which) {
      auto found = cache.lookup(keyOf(std::to_string(which)));
      corrupt += !found ||
                 *found != payloadOf(size_t(200'000 + which), found->front());
    }
  };
  for (int round = 0; round < kills; ++round) {
    usleep(1000 + random() % 9000);
    pid_t &writer = writers[random() % kWriters];
    ended += waitpid(writer, nullptr, WNOHANG) != 0;
    kill(writer, SIGKILL);
    exitCode(writer);
    // Among others that write and sweep.
    leftovers += KernelCache(directory, diagnostics).leftovers();
    look();
    writer = start();
  }
  for (pid_t writer : writers) {
    ended += waitpid(writer, nullptr, WNOHANG) != 0;
    kill(writer, SIGKILL);
    exitCode(writer);
  }
  look();
  EXPECT_EQ(corrupt, 0);
  EXPECT_EQ(ended, 0) << "writers whose store() failed";
  KernelCache next(directory, diagnostics);
  leftovers += next.leftovers();
  // About one in twenty dies between creating its file and renaming it.
  if (kills >= 1000)
    EXPECT_GT(leftovers, 0u) << "none was killed while it wrote";
  std::cout << leftovers << " files were left and removed" << std::endl;
  EXPECT_THAT(filesBelow(directory), SizeIs(kKilledKeys));
  EXPECT_THAT(next.list(), SizeIs(kKilledKeys));
  EXPECT_EQ(next.clear(), unsigned(kKilledKeys));
  std::error_code error;
  EXPECT_EQ(llvm::sys::fs::directory_iterator(directory, error),
            llvm::sys::fs::directory_iterator());
}

TEST_F(CacheTest, PrunesByPolicy) {
  KernelCache cache(directory, diagnostics);
  for (const char *name : {"a", "b", "c"})
    ASSERT_TRUE(cache.store(keyOf(name), payloadOf(1000, 0)));
  setenv("KVC_CACHE_POLICY", "nonsense", 1);
  cache.prune(/*now=*/true, diagnostics);
  ASSERT_THAT(diagnostics.all(), SizeIs(1));
  EXPECT_EQ(diagnostics.all()[0].code, "W-CACHE-POLICY");
  EXPECT_THAT(cache.list(), SizeIs(3));
  setenv("KVC_CACHE_POLICY", "cache_size_files=2", 1);
  cache.prune(/*now=*/true, diagnostics);
  EXPECT_THAT(cache.list(), SizeIs(2));
  unsetenv("KVC_CACHE_POLICY");
}
