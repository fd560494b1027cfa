//===- KernelCache.cpp - artifacts on disk, by what changed them ----------===//
#include "lib/driver/Compiler/KernelCache.h"

#include "lib/base/Artifact/File.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/BLAKE3.h"
#include "llvm/Support/CachePruning.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <random>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kvc;
using llvm::StringRef;

// llvm::pruneCache() touches no file of another name.
static constexpr StringRef kEntryPrefix = "llvmcache-";
// What llvm::pruneCache() keeps to know when it came last.
static constexpr const char *kTimestamp = "llvmcache.timestamp";
static constexpr const char *kTempDirectory = "tmp";
static constexpr StringRef kMagic = "KVCCACHE";
static constexpr uint32_t kHeaderFormat = 1;
static constexpr size_t kHeaderBytes = 88;
static constexpr size_t kMaxPayload = size_t(256) << 20;
static constexpr StringRef kDefaultPolicy =
    "cache_size_bytes=2g:prune_after=720h";

//===----------------------------------------------------------------------===//
// Directory
//===----------------------------------------------------------------------===//

std::string KernelCache::defaultDirectory() {
  if (auto directory = llvm::sys::Process::GetEnv("KVC_CACHE_DIR"))
    return *directory;
  llvm::SmallString<128> path;
  if (!llvm::sys::path::cache_directory(path))
    return "";
  llvm::sys::path::append(path, "kvc");
  return std::string(path);
}

/// Whether nobody but the user and root can have written what `info` is of.
static bool isOurs(const struct stat &info) {
  return (info.st_uid == geteuid() || info.st_uid == 0) &&
         !(info.st_mode & (S_IWGRP | S_IWOTH));
}

/// As chmod takes it.
static std::string octal(mode_t mode) {
  char text[16];
  snprintf(text, sizeof(text), "%o", unsigned(mode));
  return text;
}

KernelCache::KernelCache(std::string directory, Diagnostics &diagnostics)
    : path(std::move(directory)) {
  if (path.empty())
    return;
  (void)llvm::sys::fs::create_directories(path, /*IgnoreExisting=*/true,
                                          llvm::sys::fs::owner_all);
  auto refuse = [&](const std::string &why) {
    diagnostics.report(Severity::Remark, "R-CACHE-DIR", {},
                       "kernel cache `" + path + "` is not used: " + why);
    if (fd >= 0)
      close(fd);
    fd = -1;
  };
  fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat info;
  if (fd < 0 || fstat(fd, &info))
    refuse(errno == ELOOP ? "it is a symbolic link" : std::strerror(errno));
  else if (!isOurs(info))
    refuse(llvm::formatv(
        "it holds code that will run, and others may write it: expected a "
        "directory of user {0} with mode 0700, found one of user {1} with mode "
        "0{2}; set KVC_CACHE_DIR to another, or make this one yours",
        geteuid(), info.st_uid, octal(info.st_mode & 07777)));
  swept = sweep(/*all=*/false);
}

KernelCache::~KernelCache() {
  if (fd >= 0)
    close(fd);
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

static std::string entryName(const CacheKey &key) {
  return (kEntryPrefix + key.hex()).str();
}

static std::string header(const CacheKey &key,
                          std::span<const uint8_t> payload) {
  std::string bytes(kHeaderBytes, '\0');
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  llvm::support::endian::write32le(&bytes[8], kHeaderFormat);
  std::memcpy(&bytes[16], key.bytes.data(), key.bytes.size());
  llvm::support::endian::write64le(&bytes[48], payload.size());
  auto digest = llvm::BLAKE3::hash<32>({payload.data(), payload.size()});
  std::memcpy(&bytes[56], digest.data(), digest.size());
  return bytes;
}

static bool readAll(int file, uint8_t *to, size_t bytes) {
  while (bytes) {
    ssize_t n = read(file, to, bytes);
    if (n <= 0 && !(n < 0 && errno == EINTR))
      return false;
    if (n > 0)
      to += n, bytes -= size_t(n);
  }
  return true;
}

/// Reads an entry that claims to be `key`; nullopt unless every byte fits.
static std::optional<std::vector<uint8_t>> readEntry(int file,
                                                     const CacheKey &key) {
  struct stat info;
  if (fstat(file, &info) || !S_ISREG(info.st_mode) || !isOurs(info) ||
      size_t(info.st_size) < kHeaderBytes ||
      size_t(info.st_size) > kHeaderBytes + kMaxPayload)
    return std::nullopt;
  std::string found(kHeaderBytes, '\0');
  std::vector<uint8_t> payload(size_t(info.st_size) - kHeaderBytes);
  if (!readAll(file, reinterpret_cast<uint8_t *>(found.data()), found.size()) ||
      !readAll(file, payload.data(), payload.size()) ||
      found != header(key, payload))
    return std::nullopt;
  return payload;
}

std::optional<std::vector<uint8_t>> KernelCache::lookup(const CacheKey &key) {
  if (!isOpen())
    return std::nullopt;
  std::string name = entryName(key);
  // O_NONBLOCK: a FIFO under that name must not hang us.
  int file =
      openat(fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    if (errno == ELOOP) // a symbolic link: not what we wrote
      unlinkat(fd, name.c_str(), 0);
    return std::nullopt;
  }
  auto payload = readEntry(file, key);
  close(file);
  if (!payload)
    unlinkat(fd, name.c_str(), 0);
  return payload;
}

bool KernelCache::store(const CacheKey &key, std::span<const uint8_t> payload) {
  if (!isOpen() || payload.size() > kMaxPayload)
    return false;
  std::string temporary;
  int file = createTemporary(temporary);
  if (file < 0)
    return false;
  // Not synced: an entry that a power cut tears is found damaged.
  std::string head = header(key, payload);
  bool done = artifact::writeAll(file, llvm::arrayRefFromStringRef(head)) &&
              artifact::writeAll(file, payload);
  // Closing a copy brings what a network's file system says only then, and
  // keeps the lock.
  int copy = done ? fcntl(file, F_DUPFD_CLOEXEC, 0) : -1;
  done = copy >= 0 && close(copy) == 0 &&
         renameat(fd, temporary.c_str(), fd, entryName(key).c_str()) == 0;
  if (!done)
    unlinkat(fd, temporary.c_str(), 0);
  close(file);
  return done;
}

//===----------------------------------------------------------------------===//
// Files that are being written
//===----------------------------------------------------------------------===//

static bool lock(int file, int how) {
  int result;
  do
    result = flock(file, how);
  while (result != 0 && errno == EINTR);
  return result == 0;
}

int KernelCache::createTemporary(std::string &name) {
  std::random_device random;
  for (int attempt = 0; attempt < 100; ++attempt) {
    (void)mkdirat(fd, kTempDirectory, 0700);
    name = std::string(kTempDirectory) + "/" + std::to_string(getpid()) + "-" +
           llvm::utohexstr(random()) + llvm::utohexstr(random());
    int file =
        openat(fd, name.c_str(),
               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0 && errno == ENOENT) // clear() took the directory away
      continue;
    if (file < 0)
      return -1;
    // Where there are no locks, age decides. Whoever sweeps may have come
    // before the lock did; then the name is gone.
    struct stat info;
    (void)lock(file, LOCK_EX);
    if (fstat(file, &info) == 0 && info.st_nlink > 0)
      return file;
    close(file);
  }
  return -1;
}

/// Whether nobody is writing a file. Where the file system has no locks:
/// whether it is so old that nobody can be.
static bool isAbandoned(int file) {
  constexpr time_t kLongerThanAnyWrite = 3600;
  struct stat info;
  if (lock(file, LOCK_EX | LOCK_NB))
    return true;
  return errno != EWOULDBLOCK && fstat(file, &info) == 0 &&
         info.st_mtime < time(nullptr) - kLongerThanAnyWrite;
}

/// The names in a directory, which it closes; none if it is -1.
static std::vector<std::string> namesIn(int number) {
  std::vector<std::string> names;
  DIR *directory = number < 0 ? nullptr : fdopendir(number);
  if (!directory)
    return names;
  while (const dirent *entry = readdir(directory))
    if (StringRef name = entry->d_name; name != "." && name != "..")
      names.push_back(name.str());
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

unsigned KernelCache::sweep(bool all) {
  constexpr int kFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int folder = isOpen() ? openat(fd, kTempDirectory, kFolder) : -1;
  if (folder < 0)
    return 0;
  unsigned removed = 0;
  for (const std::string &name : namesIn(openat(folder, ".", kFolder))) {
    int file = openat(folder, name.c_str(),
                      O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    // Under the lock: a writer that comes for it now sees that the name is
    // gone.
    if (all || (file >= 0 && isAbandoned(file)))
      removed += !unlinkat(folder, name.c_str(), 0);
    if (file >= 0)
      close(file);
  }
  close(folder);
  return removed;
}

//===----------------------------------------------------------------------===//
// Upkeep
//===----------------------------------------------------------------------===//

std::vector<std::string> KernelCache::fileNames() {
  std::vector<std::string> names = namesIn(
      isOpen() ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1);
  llvm::erase_if(names, [](const std::string &name) {
    return !StringRef(name).starts_with(kEntryPrefix);
  });
  return names;
}

std::vector<KernelCache::EntryInfo> KernelCache::list() {
  std::vector<EntryInfo> entries;
  for (const std::string &name : fileNames()) {
    EntryInfo info;
    std::string bytes;
    if (!llvm::tryGetFromHex(StringRef(name).substr(kEntryPrefix.size()),
                             bytes) ||
        bytes.size() != info.key.bytes.size())
      continue;
    std::copy(bytes.begin(), bytes.end(), info.key.bytes.begin());
    if (auto payload = lookup(info.key)) {
      info.bytes = kHeaderBytes + payload->size();
      entries.push_back(info);
    }
  }
  return entries;
}

unsigned KernelCache::clear() {
  unsigned removed = 0;
  for (const std::string &name : fileNames())
    removed += !unlinkat(fd, name.c_str(), 0);
  removed += sweep(/*all=*/true);
  if (isOpen()) {
    unlinkat(fd, kTempDirectory, AT_REMOVEDIR);
    unlinkat(fd, kTimestamp, 0);
  }
  return removed;
}

void KernelCache::prune(bool now, Diagnostics &diagnostics) {
  if (!isOpen())
    return;
  std::string text = llvm::sys::Process::GetEnv("KVC_CACHE_POLICY")
                         .value_or(kDefaultPolicy.str());
  auto policy = llvm::parseCachePruningPolicy(text);
  if (!policy) {
    diagnostics.report(Severity::Warning, "W-CACHE-POLICY", {},
                       "$KVC_CACHE_POLICY `" + text + "` is not used: " +
                           llvm::toString(policy.takeError()));
    return;
  }
  if (now)
    policy->Interval = std::chrono::seconds(0);
  // Or LLVM would create it, for all to read; older than any interval.
  int stamp =
      openat(fd, kTimestamp,
             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  constexpr timespec kLongAgo[2] = {};
  if (stamp >= 0) {
    futimens(stamp, kLongAgo);
    close(stamp);
  }
  llvm::pruneCache(path, *policy);
}
