//===- CpuCountTest.cpp - how many threads this process should have -------===//
#include "runtime/devices/CpuCount.h"
#include "test/support/Files.h"
#include "test/unit/Runtime/Fixture.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sched.h>
#include <set>
#include <sstream>
#include <thread>
#include <unistd.h>

using namespace kvc::rt;
using kvc::test::Loaded;

namespace {

/// A machine made of files.
struct Machine {
  kvc::test::TempDir root;

  Machine() {
    write("/sys/devices/system/cpu/online", "0-7\n");
    thread(100, "0-7");
    write("/proc/self/cgroup", "0::/\n");
  }
  void write(const std::string &path, const std::string &text) {
    std::filesystem::path file = root.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void thread(int id, const std::string &cpus) {
    write("/proc/self/task/" + std::to_string(id) + "/status",
          "Name:\tengine\nCpus_allowed:\tff\nCpus_allowed_list:\t" + cpus +
              "\nMems_allowed:\t1\n");
  }
  void mount(const std::string &type, const std::string &group,
             const std::string &point, const std::string &options) {
    write("/proc/self/mountinfo",
          "23 1 0:20 / / rw - ext4 /dev/vda rw\n31 23 0:28 " + group + " " +
              point + " rw,relatime shared:5 - " + type + " cgroup " + options +
              "\n");
  }
  uint32_t threads() const { return defaultThreads(root.path()); }
  uint32_t quota() const { return cpuQuota(root.path()); }
};

std::set<std::string> tasks() {
  std::set<std::string> ids;
  for (auto &entry : std::filesystem::directory_iterator("/proc/self/task"))
    ids.insert(entry.path().filename().string());
  return ids;
}

std::string allowed(const std::string &task) {
  std::ifstream file("/proc/self/task/" + task + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("Cpus_allowed_list:", 0) == 0)
      return line.substr(line.find('\t') + 1);
  return "";
}

} // namespace

TEST(CpuCount, ListsAreRead) {
  EXPECT_EQ(parseCpuList("0-2,5\n"), (CpuList{0, 1, 2, 5}));
  EXPECT_EQ(parseCpuList("7"), CpuList{7});
  EXPECT_EQ(parseCpuList("0-2047").size(), 2048u);
  for (const char *wrong : {"", "\n", "none", "3-1", "0-4294967295", "1,,2"})
    EXPECT_EQ(parseCpuList(wrong), CpuList{}) << wrong;
}

TEST(CpuCount, TheProcesssCpusAreThoseOfAnyThread) {
  Machine machine;
  EXPECT_EQ(machine.threads(), 8u);
  // A team of OpenMP, each thread pinned.
  machine.thread(100, "0");
  EXPECT_EQ(machine.threads(), 1u) << "so says taskset, too";
  machine.thread(101, "1");
  machine.thread(102, "2-3");
  EXPECT_EQ(machine.threads(), 4u);
  EXPECT_EQ(processCpus(machine.root.path()), (CpuList{0, 1, 2, 3}));
  machine.thread(103, "0-1023");
  EXPECT_EQ(machine.threads(), 8u) << "of which 8 are there";
}

TEST(CpuCount, MoreThanAThousandAndTwentyFour) {
  Machine machine;
  machine.write("/sys/devices/system/cpu/online", "0-1791\n");
  machine.thread(100, "0-1791");
  EXPECT_EQ(machine.threads(), 1792u);
}

TEST(CpuCount, QuotasOfBothVersions) {
  Machine machine;
  EXPECT_EQ(machine.quota(), 0u) << "no control groups";
  machine.mount("cgroup2", "/", "/sys/fs/cgroup", "rw");
  EXPECT_EQ(machine.quota(), 0u) << "the root has no limit";
  machine.write("/proc/self/cgroup", "0::/pods/engine\n");
  std::string group = "/sys/fs/cgroup/pods";
  machine.write(group + "/engine/cpu.max", "max 100000\n");
  EXPECT_EQ(machine.quota(), 0u);
  machine.write(group + "/cpu.max", "250000 100000\n");
  EXPECT_EQ(machine.quota(), 3u) << "a group above, rounded up";
  EXPECT_EQ(machine.threads(), 3u);
  machine.write(group + "/engine/cpu.max", "20000 50000\n");
  EXPECT_EQ(machine.threads(), 1u) << "the tightest";
  machine.write(group + "/engine/cpu.max", "9000000 100000\n");
  machine.write(group + "/cpu.max", "max 100000\n");
  EXPECT_EQ(machine.threads(), 8u) << "no more than there are CPUs";

  Machine old;
  old.mount("cgroup", "/", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct");
  old.write("/proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/pods/a\n0::/\n");
  std::string v1 = "/sys/fs/cgroup/cpu,cpuacct/pods/a";
  old.write(v1 + "/cpu.cfs_quota_us", "-1\n");
  old.write(v1 + "/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(old.quota(), 0u);
  old.write(v1 + "/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(old.quota(), 2u);
  EXPECT_EQ(old.threads(), 2u);
}

// Without a namespace of its own a container sees the host's path, and its
// group mounted as if it were the root.
TEST(CpuCount, QuotasInContainers) {
  Machine machine;
  machine.mount("cgroup", "/docker/8a", "/sys/fs/cgroup/cpu", "rw,cpu");
  machine.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  machine.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  for (const char *path : {"/docker/8a", "/docker/8a/", "/other", "/../x"}) {
    machine.write("/proc/self/cgroup", std::string("2:cpu:") + path + "\n");
    EXPECT_EQ(machine.quota(), 2u) << path;
  }
  machine.mount("cgroup2", "/", "/sys/fs/cgroup\\040two", "rw");
  machine.write("/proc/self/cgroup", "0::/../../x\n");
  machine.write("/sys/fs/cgroup two/cpu.max", "400000 100000\n");
  EXPECT_EQ(machine.quota(), 4u);
}

TEST(CpuCount, NothingReadableIsTheCallersMask) {
  EXPECT_EQ(defaultThreads("/nowhere"), callerCpus().size());
}

// GCC's OpenMP binds the thread that loads it, before any other is made.
TEST(CpuCount, OpenMpThatHasNoThreadsYet) {
  CpuList cpus = processCpus();
  if (cpus.size() < 2)
    GTEST_SKIP() << "needs two CPUs";
  // In a process of its own: what is bound and loaded stays so.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto bound = [&cpus] {
    setenv("OMP_PROC_BIND", "true", 1);
    if (!dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL))
      std::exit(2);
    std::exit(callerCpus().size() == 1 && processCpus() == cpus ? 0 : 1);
  };
  if (void *library = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NOLOAD)) {
    dlclose(library);
    GTEST_SKIP() << "OpenMP is loaded already";
  }
  EXPECT_EXIT(bound(), testing::ExitedWithCode(0), "");
}

// A caller that OpenMP has pinned gets as many threads as any other, and they
// do not share its CPU.
TEST(CpuCount, APinnedCallerGetsAllCpus) {
  CpuList cpus = processCpus();
  ASSERT_EQ(cpus, callerCpus());
  if (cpus.size() < 2)
    GTEST_SKIP() << "needs two CPUs";
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpus[0], &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    ASSERT_EQ(callerCpus(), CpuList{cpus[0]});
    EXPECT_EQ(processCpus(), cpus);
    std::set<std::string> before = tasks();
    for (uint32_t threads : {0u, 2u}) {
      Loaded loaded(threads);
      uint32_t made = 0;
      for (const std::string &task : tasks())
        if (!before.count(task)) {
          ++made;
          EXPECT_EQ(parseCpuList(allowed(task)), cpus);
        }
      EXPECT_EQ(made + 1, threads ? threads : defaultThreads());
    }
    // Of two threads' room, one does for a pool that fits in it.
    Loaded loaded(1);
    EXPECT_EQ(tasks(), before);
  }).join();
}
