//===- File.cpp - artifacts on disk ---------------------------------------===//
#include "lib/base/Artifact/File.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

using namespace kvc::artifact;

static std::string systemError(const std::string &what,
                               const std::string &path) {
  return "cannot " + what + " `" + path +
         "`: " + std::generic_category().message(errno);
}

namespace {
/// Closes on leaving the scope.
struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
};

/// Keeps SIGXFSZ from the calling thread, which is the one that it is sent to.
class NoFileSizeSignal {
public:
  NoFileSizeSignal() {
    sigset_t pending;
    sigpending(&pending);
    wasPending = sigismember(&pending, SIGXFSZ);
    sigemptyset(&signal);
    sigaddset(&signal, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal, &before);
  }
  ~NoFileSizeSignal() {
    int error = errno;
    constexpr timespec kNow{};
    if (!wasPending)
      while (sigtimedwait(&signal, nullptr, &kNow) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
  }
  NoFileSizeSignal(const NoFileSizeSignal &) = delete;
  NoFileSizeSignal &operator=(const NoFileSizeSignal &) = delete;

private:
  sigset_t signal, before;
  bool wasPending;
};
} // namespace

bool kvc::artifact::writeAll(int file, std::span<const uint8_t> bytes) {
  NoFileSizeSignal guard;
  while (!bytes.empty()) {
    ssize_t done = ::write(file, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR)
      continue;
    if (done < 0)
      return false;
    bytes = bytes.subspan(size_t(done));
  }
  return true;
}

/// Fills `to`; false on an error or if the file ends early.
static bool readAll(int number, std::span<uint8_t> to) {
  while (!to.empty()) {
    ssize_t done = ::read(number, to.data(), to.size());
    if (done < 0 && errno == EINTR)
      continue;
    if (done == 0)
      errno = EIO;
    if (done <= 0)
      return false;
    to = to.subspan(size_t(done));
  }
  return true;
}

/// Memory that is short is no fault of the file's.
static std::string unlessMemory(const std::string &what,
                                const std::string &path) {
  if (errno == ENOMEM)
    throw std::bad_alloc();
  return systemError(what, path);
}

std::optional<MappedFile> MappedFile::open(const std::string &path,
                                           size_t limit, std::string &error) {
  // O_NONBLOCK: a FIFO must not hang us before we see that it is one.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat info;
  if (file.number < 0 || ::fstat(file.number, &info) != 0) {
    error = unlessMemory("open", path);
    return std::nullopt;
  }
  if (!S_ISREG(info.st_mode) || info.st_size <= 0 ||
      uint64_t(info.st_size) > limit) {
    error = "cannot open `" + path + "`: expected a regular file of 1 to " +
            std::to_string(limit) + " bytes";
    return std::nullopt;
  }
  MappedFile out;
  void *base = ::mmap(nullptr, size_t(info.st_size), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    error = unlessMemory("map", path);
    return std::nullopt;
  }
  out.base = static_cast<uint8_t *>(base);
  out.size = size_t(info.st_size);
  if (!readAll(file.number, {out.base, out.size}) ||
      ::mprotect(out.base, out.size, PROT_READ) != 0) {
    error = unlessMemory("read", path);
    return std::nullopt;
  }
  return out;
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : base(std::exchange(other.base, nullptr)),
      size(std::exchange(other.size, 0)) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(base, other.base);
  std::swap(size, other.size);
  return *this;
}

MappedFile::~MappedFile() {
  if (base)
    ::munmap(base, size);
}
