//===- CpuCount.cpp - how many threads this process should have -----------===//
#include "runtime/devices/CpuCount.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>
#include <link.h>
#include <memory>
#include <sched.h>
#include <sstream>

using namespace kvc::rt;

/// More than any kernel is built for.
static constexpr uint32_t kMaxCpus = 1u << 16;

/// The whole of a small file; "" if there is none.
static std::string contents(const std::string &path) {
  std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "re"),
                                              std::fclose);
  std::string text;
  char bytes[4096];
  for (size_t n = 1; file && n && text.size() < (1u << 20);) {
    n = std::fread(bytes, 1, sizeof(bytes), file.get());
    text.append(bytes, n);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// Sets of CPUs
//===----------------------------------------------------------------------===//

CpuList kvc::rt::parseCpuList(const std::string &text) {
  CpuList cpus;
  std::istringstream ranges(text);
  for (std::string range; std::getline(ranges, range, ',');) {
    char *end = nullptr;
    unsigned long first = std::strtoul(range.c_str(), &end, 10), last = first;
    if (end == range.c_str())
      return {};
    if (*end == '-')
      last = std::strtoul(end + 1, nullptr, 10);
    if (last < first || last >= kMaxCpus)
      return {};
    for (; first <= last; ++first)
      cpus.push_back(uint32_t(first));
  }
  return cpus;
}

static CpuList unionOf(const CpuList &a, const CpuList &b) {
  CpuList all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(),
                 std::back_inserter(all));
  return all;
}

/// Adds what a thread may run on.
static void addThread(const std::string &status, CpuList &cpus) {
  const std::string key = "\nCpus_allowed_list:";
  size_t at = status.find(key);
  if (at == status.npos)
    return;
  at += key.size();
  CpuList more = parseCpuList(status.substr(at, status.find('\n', at) - at));
  cpus = unionOf(cpus, more);
}

/// Adds the name of a loaded library that is an OpenMP runtime: GCC's, which
/// packages rename to libgomp-24e2ab19.so, LLVM's or Intel's.
static int addOpenMp(dl_phdr_info *info, size_t, void *names) {
  const char *slash = std::strrchr(info->dlpi_name, '/');
  const char *base = slash ? slash + 1 : info->dlpi_name;
  for (const char *prefix : {"libgomp", "libomp", "libiomp"})
    if (std::strncmp(base, prefix, std::strlen(prefix)) == 0)
      static_cast<std::vector<std::string> *>(names)->push_back(
          info->dlpi_name);
  return 0;
}

/// The CPUs that OpenMP runtimes of this process bind threads to. Under
/// OMP_PROC_BIND one binds the thread that loads it to a single place, and has
/// no threads in the others before the first parallel region.
static CpuList openMpCpus() {
  std::vector<std::string> names;
  dl_iterate_phdr(addOpenMp, &names);
  CpuList cpus;
  for (const std::string &name : names) {
    void *library = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (!library)
      continue;
    auto places =
        reinterpret_cast<int (*)()>(dlsym(library, "omp_get_num_places"));
    auto procs = reinterpret_cast<int (*)(int)>(
        dlsym(library, "omp_get_place_num_procs"));
    auto ids = reinterpret_cast<void (*)(int, int *)>(
        dlsym(library, "omp_get_place_proc_ids"));
    int count = places && procs && ids ? places() : 0;
    for (int place = 0; place < count; ++place) {
      std::vector<int> found(size_t(std::max(procs(place), 0)));
      if (!found.empty())
        ids(place, found.data());
      cpus.insert(cpus.end(), found.begin(), found.end());
    }
    dlclose(library);
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

CpuList kvc::rt::processCpus(const std::string &root) {
  std::string tasks = root + "/proc/self/task";
  std::unique_ptr<DIR, int (*)(DIR *)> directory(opendir(tasks.c_str()),
                                                 closedir);
  // A thread that was never pinned may run on all that could ever be plugged
  // in.
  CpuList online =
      parseCpuList(contents(root + "/sys/devices/system/cpu/online"));
  CpuList allowed, cpus;
  while (const dirent *entry = directory ? readdir(directory.get()) : nullptr) {
    if (*entry->d_name == '.')
      continue;
    addThread(contents(tasks + "/" + entry->d_name + "/status"), allowed);
    cpus.clear();
    std::set_intersection(allowed.begin(), allowed.end(), online.begin(),
                          online.end(), std::back_inserter(cpus));
    if (cpus.size() == online.size())
      break; // mostly the first thread already
  }
  if (online.empty())
    return allowed;
  if (root.empty() && cpus.size() < online.size()) {
    allowed = unionOf(allowed, openMpCpus());
    cpus.clear();
    std::set_intersection(allowed.begin(), allowed.end(), online.begin(),
                          online.end(), std::back_inserter(cpus));
  }
  return cpus;
}

CpuList kvc::rt::callerCpus() {
  CpuList cpus;
  for (uint32_t count = 1024; count <= kMaxCpus; count *= 2) {
    std::unique_ptr<cpu_set_t, void (*)(cpu_set_t *)> set(
        CPU_ALLOC(count), [](cpu_set_t *set) { CPU_FREE(set); });
    size_t bytes = CPU_ALLOC_SIZE(count);
    // EINVAL: the kernel knows of more.
    if (!set || sched_getaffinity(0, bytes, set.get()))
      continue;
    for (uint32_t cpu = 0; cpu < count; ++cpu)
      if (CPU_ISSET_S(cpu, bytes, set.get()))
        cpus.push_back(cpu);
    break;
  }
  return cpus;
}

//===----------------------------------------------------------------------===//
// Control groups
//===----------------------------------------------------------------------===//

namespace {
/// A hierarchy of control groups that may limit the CPU.
struct Hierarchy {
  bool v2;
  std::string mountPoint;
  std::string mountRoot; ///< the group that the mount point shows
};
} // namespace

static bool contains(const std::string &list, const std::string &item) {
  return ("," + list + ",").find("," + item + ",") != list.npos;
}

/// A path of /proc/self/mountinfo, in which odd characters are "\040".
static std::string unescape(const std::string &text) {
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      path += char(std::strtoul(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      path += text[i];
    }
  }
  return path;
}

static std::vector<Hierarchy> hierarchies(const std::string &root) {
  std::vector<Hierarchy> found;
  std::istringstream mounts(contents(root + "/proc/self/mountinfo"));
  for (std::string line; std::getline(mounts, line);) {
    // id parent device root point options [tag...] - type source options
    std::istringstream words(line);
    std::string skip, group, point, type, options;
    words >> skip >> skip >> skip >> group >> point;
    while (words >> skip && skip != "-")
      ;
    words >> type >> skip >> options;
    bool v2 = type == "cgroup2";
    if (v2 || (type == "cgroup" && contains(options, "cpu")))
      found.push_back({v2, unescape(point), unescape(group)});
  }
  return found;
}

/// The group of this process in a hierarchy, as a path below its mount point.
static std::string groupIn(const Hierarchy &hierarchy,
                           const std::string &root) {
  std::istringstream lines(contents(root + "/proc/self/cgroup"));
  std::string path;
  for (std::string line; std::getline(lines, line);) {
    // id:controllers:path
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos)
      continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    if (hierarchy.v2 ? controllers.empty() : contains(controllers, "cpu"))
      path = line.substr(second + 1);
  }
  const std::string &base = hierarchy.mountRoot;
  if (base != "/" && path.compare(0, base.size(), base) == 0)
    path.erase(0, base.size());
  else if (base != "/")
    path.clear(); // a mount that does not show it: its top is the nearest
  if (path == "/" || path.find("..") != path.npos)
    path.clear();
  return path;
}

/// CPUs' worth of time of one group; 0: no limit.
static double limitOf(const std::string &group, bool v2) {
  double quota = 0, period = 0;
  if (v2) {
    // "200000 100000", or "max 100000", which is no number.
    std::istringstream(contents(group + "/cpu.max")) >> quota >> period;
  } else {
    // -1: no limit.
    std::istringstream(contents(group + "/cpu.cfs_quota_us")) >> quota;
    std::istringstream(contents(group + "/cpu.cfs_period_us")) >> period;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

uint32_t kvc::rt::cpuQuota(const std::string &root) {
  double least = 0;
  for (const Hierarchy &hierarchy : hierarchies(root)) {
    std::string group = groupIn(hierarchy, root);
    for (;;) {
      double limit = limitOf(root + hierarchy.mountPoint + group, hierarchy.v2);
      if (limit > 0 && (least == 0 || limit < least))
        least = limit;
      if (group.empty())
        break;
      group.erase(group.rfind('/') == group.npos ? 0 : group.rfind('/'));
    }
  }
  if (least == 0)
    return 0;
  auto whole = uint32_t(std::min(least, double(kMaxCpus)));
  return whole + (whole < least);
}

uint32_t kvc::rt::defaultThreads(const std::string &root) {
  size_t cpus = processCpus(root).size();
  if (cpus == 0)
    cpus = callerCpus().size();
  uint32_t quota = cpuQuota(root);
  return uint32_t(
      std::clamp<size_t>(quota ? quota : cpus, 1, std::max<size_t>(cpus, 1)));
}
