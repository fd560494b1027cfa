//===- OutputFile.cpp - what a user names with -o -------------------------===//
//
// Functions here return 0 or an errno.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Artifact/OutputFile.h"
#include "lib/base/Artifact/File.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace kvc::artifact;

namespace {
/// Closes on leaving the scope.
struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
};
} // namespace

static std::string folderOf(const std::string &path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, slash ? slash : 1);
}

static std::string nameOf(const std::string &path) {
  return path.substr(path.rfind('/') + 1); // npos + 1 is 0
}

static int writeBytes(int number, std::span<const uint8_t> bytes) {
  return writeAll(number, bytes) ? 0 : errno;
}

//===----------------------------------------------------------------------===//
// Paths
//===----------------------------------------------------------------------===//

static std::string realPath(const std::string &path) {
  std::unique_ptr<char, void (*)(void *)> real(
      ::realpath(path.c_str(), nullptr), std::free);
  return real ? real.get() : "";
}

/// The number N of this process's /proc/self/fd/N. What stands there looks like
/// a link to a file that could be replaced, and then the descriptor's other
/// users would still write to the old one.
static std::optional<int> descriptorOf(const std::string &path) {
  std::string name = nameOf(path);
  if (name.empty() || name.size() > 9 ||
      !std::all_of(name.begin(), name.end(),
                   [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  std::string own = realPath("/proc/self/fd");
  if (own.empty() || realPath(folderOf(path)) != own)
    return std::nullopt;
  return std::atoi(name.c_str());
}

/// Follows the links that `path` is itself, to the first that is a
/// descriptor's.
static int followLinks(std::string &path) {
  for (unsigned depth = 0; depth < 40; ++depth) {
    if (descriptorOf(path))
      return 0;
    char target[PATH_MAX];
    ssize_t size = ::readlink(path.c_str(), target, sizeof(target));
    if (size < 0) // no link, or nothing at all: whoever opens it will see
      return 0;
    std::string to(target, size_t(size));
    path = to.starts_with("/") ? to : folderOf(path) + "/" + to;
  }
  return ELOOP;
}

//===----------------------------------------------------------------------===//
// Files that are replaced
//===----------------------------------------------------------------------===//

/// A name that does not depend on the file's own, which may be as long as names
/// can be.
static std::string temporaryName() {
  static std::atomic<uint32_t> counter{0};
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  char name[64];
  std::snprintf(name, sizeof(name), ".kvc-%d-%u-%lx.tmp", int(getpid()),
                counter++, now.tv_nsec);
  return name;
}

namespace {
/// A new file in a directory, without a name for as long as that is possible.
class Temporary {
public:
  explicit Temporary(int folder) : folder(folder) {}
  ~Temporary() {
    if (!name.empty())
      ::unlinkat(folder, name.c_str(), 0);
  }
  int create(mode_t mode);
  int keepOwner(const struct stat &old);
  int fill(std::span<const uint8_t> bytes);
  /// Takes the place of `target` in the directory.
  int publish(const std::string &target);

private:
  const int folder;
  Descriptor file;
  std::string name;
};
} // namespace

int Temporary::create(mode_t mode) {
  // A process that is killed leaves nothing of a file that has no name. /proc
  // is needed to give it one.
  if (::access("/proc/self/fd", X_OK) == 0)
    file.number = ::openat(folder, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, mode);
  for (unsigned attempt = 0; file.number < 0 && attempt < 100; ++attempt) {
    name = temporaryName();
    // O_EXCL follows no link and opens nothing that is already there.
    file.number = ::openat(folder, name.c_str(),
                           O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file.number < 0 && errno != EEXIST)
      break;
  }
  if (file.number >= 0)
    return 0;
  name.clear();
  return errno;
}

int Temporary::keepOwner(const struct stat &old) {
  struct stat mine;
  if (::fstat(file.number, &mine) != 0)
    return errno;
  bool same = mine.st_uid == old.st_uid && mine.st_gid == old.st_gid;
  if (!same && ::fchown(file.number, old.st_uid, old.st_gid) != 0)
    return errno;
  return ::fchmod(file.number, old.st_mode & 0777) == 0 ? 0 : errno;
}

int Temporary::fill(std::span<const uint8_t> bytes) {
  if (int failure = writeBytes(file.number, bytes))
    return failure;
  return ::fsync(file.number) == 0 ? 0 : errno;
}

int Temporary::publish(const std::string &target) {
  if (name.empty()) {
    std::string self = "/proc/self/fd/" + std::to_string(file.number);
    std::string unused = temporaryName();
    if (::linkat(AT_FDCWD, self.c_str(), folder, unused.c_str(),
                 AT_SYMLINK_FOLLOW) != 0)
      return errno;
    name = unused;
  }
  // Some file systems tell only now that there was no room.
  if (::close(std::exchange(file.number, -1)) != 0)
    return errno;
  if (::renameat(folder, name.c_str(), folder, target.c_str()) != 0)
    return errno;
  name.clear();
  return 0;
}

/// `old` is the file that stands there, or null.
static int replace(const std::string &path, const struct stat *old,
                   std::span<const uint8_t> bytes) {
  Descriptor folder{
      ::open(folderOf(path).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (folder.number < 0)
    return errno;
  Temporary file(folder.number);
  int failure = file.create(old ? 0600 : 0666);
  if (!failure && old)
    failure = file.keepOwner(*old);
  if (!failure)
    failure = file.fill(bytes);
  if (!failure)
    failure = file.publish(nameOf(path));
  if (failure)
    return failure;
  // Makes the rename last through a power loss. Failure is no error: the file
  // is whole either way, and some file systems cannot sync a directory.
  Descriptor directory{
      ::openat(folder.number, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.number >= 0)
    ::fsync(directory.number);
  return 0;
}

//===----------------------------------------------------------------------===//
// Files that stay where they are
//===----------------------------------------------------------------------===//

static int writeAt(int number, std::span<const uint8_t> bytes) {
  return ::lseek(number, 0, SEEK_SET) < 0 ? errno : writeBytes(number, bytes);
}

/// Bytes beyond the new end are cut off last, so the old file can be restored.
static int overwrite(const std::string &path, std::span<const uint8_t> bytes) {
  Descriptor file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  struct stat info;
  if (file.number < 0 || ::fstat(file.number, &info) != 0)
    return errno;
  std::vector<uint8_t> old(std::min(size_t(info.st_size), bytes.size()));
  for (size_t at = 0; at < old.size();) {
    ssize_t done =
        ::pread(file.number, old.data() + at, old.size() - at, off_t(at));
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return done < 0 ? errno : EIO;
    at += size_t(done);
  }
  int failure = writeAt(file.number, bytes);
  if (!failure && (::ftruncate(file.number, off_t(bytes.size())) != 0 ||
                   ::fsync(file.number) != 0))
    failure = errno;
  if (failure) {
    writeAt(file.number, old);
    if (::ftruncate(file.number, info.st_size) != 0)
      return failure; // the first reason is the one to tell
  }
  return failure;
}

/// Whether a file that `replace` failed on for this reason may still be
/// written.
static bool isFixed(int failure) {
  switch (failure) {
  case EBUSY: // a mount point
  case EXDEV:
  case EACCES: // the directory's permissions
  case EPERM:  // the same, or the owner
  case EROFS:
    return true;
  default:
    return false;
  }
}

static int writeTo(std::string path, std::span<const uint8_t> bytes) {
  if (int failure = followLinks(path))
    return failure;
  if (auto number = descriptorOf(path))
    return writeBytes(*number, bytes);
  struct stat old;
  if (::stat(path.c_str(), &old) != 0)
    return errno == ENOENT ? replace(path, nullptr, bytes) : errno;
  if (S_ISREG(old.st_mode)) {
    int failure = replace(path, &old, bytes);
    return isFixed(failure) ? overwrite(path, bytes) : failure;
  }
  if (S_ISDIR(old.st_mode))
    return EISDIR;
  if (!S_ISFIFO(old.st_mode) && !S_ISCHR(old.st_mode))
    return EINVAL;
  Descriptor file{::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY)};
  return file.number < 0 ? errno : writeBytes(file.number, bytes);
}

bool kvc::artifact::writeOutputFile(const std::string &path,
                                    std::span<const uint8_t> bytes,
                                    std::string &error) {
  int failure = writeTo(path, bytes);
  if (failure)
    error = "cannot write `" + path + "`: " +
            (failure == EINVAL ? "not a file, a FIFO or a character device"
                               : std::generic_category().message(failure));
  return failure == 0;
}
