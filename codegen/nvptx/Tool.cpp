//===- Tool.cpp - programs of the CUDA toolkit, on a leash ----------------===//
#include "codegen/nvptx/Tool.h"

#include "lib/base/Artifact/File.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kvc;
using namespace kvc::nvptx;
using llvm::ArrayRef;
using llvm::StringRef;
using Clock = std::chrono::steady_clock;

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

static std::string systemError(StringRef what, StringRef path) {
  return llvm::formatv("cannot {0} `{1}`: {2}", what, path,
                       std::strerror(errno));
}

ToolFolder::ToolFolder(std::string &error) {
  llvm::SmallString<128> above;
  llvm::sys::path::system_temp_directory(/*ErasedOnReboot=*/true, above);
  std::string name = std::string(above) + "/kvc-XXXXXX";
  // Not LLVM's unique directory, which others may read and which creates
  // folders above it that are missing.
  if (mkdtemp(name.data()))
    root = name;
  else
    error = systemError("create a directory in", above);
}

ToolFolder::~ToolFolder() {
  // LLVM's own removes no pipes.
  std::error_code ignored;
  if (isOpen())
    std::filesystem::remove_all(root, ignored);
}

std::string ToolFolder::path(StringRef file) const {
  return root + "/" + file.str();
}

bool ToolFolder::write(StringRef file, ArrayRef<uint8_t> bytes,
                       std::string &error) const {
  std::string name = path(file);
  int number = open(name.c_str(),
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (number < 0) {
    error = systemError("create", name);
    return false;
  }
  bool written = artifact::writeAll(number, bytes);
  if (!written)
    error = systemError("write", name);
  if (close(number) != 0 && written) {
    error = systemError("write", name);
    written = false;
  }
  return written;
}

static bool readAll(int number, llvm::MutableArrayRef<uint8_t> to) {
  while (!to.empty()) {
    ssize_t n = ::read(number, to.data(), to.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n == 0)
      errno = EIO; // shorter than it was
    if (n <= 0)
      return false;
    to = to.drop_front(size_t(n));
  }
  return true;
}

std::optional<std::vector<uint8_t>> ToolFolder::read(StringRef file,
                                                     std::string &error) const {
  std::string name = path(file);
  // O_NONBLOCK: a pipe must not hang us.
  int number =
      open(name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (number < 0 || fstat(number, &info) != 0) {
    error = systemError("read", name);
    if (number >= 0)
      close(number);
    return std::nullopt;
  }
  std::optional<std::vector<uint8_t>> bytes;
  if (!S_ISREG(info.st_mode) || uint64_t(info.st_size) > kMaxToolFile) {
    error = llvm::formatv("cannot read `{0}`: expected a regular file of at "
                          "most {1} bytes",
                          name, kMaxToolFile);
  } else {
    bytes.emplace(size_t(info.st_size));
    if (!readAll(number, *bytes)) {
      error = systemError("read", name);
      bytes.reset();
    }
  }
  close(number);
  return bytes;
}

//===----------------------------------------------------------------------===//
// A process
//===----------------------------------------------------------------------===//

namespace {

/// A program that runs, with both streams in a pipe.
class Process {
public:
  ~Process() {
    if (pipe >= 0)
      close(pipe);
  }
  bool start(ArrayRef<std::string> args, std::string &error);
  /// Collects what it says until it ends or `end` comes; false with `error`
  /// past a limit. Then it is still there.
  bool listen(Clock::time_point end, std::string &text, std::string &error);
  /// Kills whatever is left of it and its children.
  void end();
  /// "" if it ended with status 0, or how else.
  std::string judge() const;

private:
  /// Takes what is in the pipe; false at its end.
  bool drain(std::string &text);
  bool hasEnded();

  pid_t pid = -1;
  int pipe = -1, status = 0;
  bool lost = false; ///< somebody else has reaped it
};

} // namespace

/// What a child needs until it is another program.
struct Start {
  char *const *argv;
  int output;
  volatile int error = 0; ///< why it could not become one
};

static void lower(__rlimit_resource what, rlim_t most) {
  rlimit now;
  if (getrlimit(what, &now) != 0)
    return;
  now.rlim_max = std::min(now.rlim_max, most);
  now.rlim_cur = std::min(now.rlim_cur, now.rlim_max);
  setrlimit(what, &now);
}

/// In the child of vfork(), in the memory of its parent, which waits: system
/// calls and nothing else.
[[noreturn]] static void become(Start &start) {
  // As at the start of a program, whatever our host has done with its signals.
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number)
    sigaction(number, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // A group of its own, so that its children go with it.
  setpgid(0, 0);
  lower(RLIMIT_FSIZE, kMaxToolFile);
  lower(RLIMIT_AS, kMaxToolMemory);
  lower(RLIMIT_CORE, 0);
  int input = open("/dev/null", O_RDONLY);
  dup2(input, STDIN_FILENO);
  dup2(start.output, STDOUT_FILENO);
  dup2(start.output, STDERR_FILENO);
  if (input > STDERR_FILENO)
    close(input);
  execv(start.argv[0], start.argv);
  start.error = errno;
  _exit(127);
}

/// vfork() because posix_spawn() sets no limits, and fork() would copy the page
/// tables of a host with a large model and run the handlers of its libraries.
/// Signals are blocked, for a handler in the child would run in our memory.
static pid_t spawn(Start &start) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = vfork();
  if (pid == 0)
    become(start);
  if (pid < 0)
    start.error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return pid;
}

bool Process::start(ArrayRef<std::string> args, std::string &error) {
  std::vector<char *> argv;
  for (const std::string &arg : args)
    argv.push_back(const_cast<char *>(arg.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    error = std::string("cannot make a pipe: ") + std::strerror(errno);
    return false;
  }
  pipe = ends[0];
  fcntl(pipe, F_SETFL, O_NONBLOCK);
  // Above the numbers that it becomes, even in a host that has closed those.
  Start start{argv.data(), fcntl(ends[1], F_DUPFD_CLOEXEC, STDERR_FILENO + 1)};
  close(ends[1]);
  if (start.output < 0)
    start.error = errno;
  else
    pid = spawn(start);
  close(start.output);
  if (!start.error)
    return true;
  error = llvm::formatv("cannot run `{0}`: {1}", args.front(),
                        std::strerror(start.error));
  if (pid > 0)
    waitpid(pid, nullptr, 0);
  return false;
}

bool Process::drain(std::string &text) {
  char buffer[16384];
  for (;;) {
    ssize_t n = ::read(pipe, buffer, sizeof(buffer));
    if (n > 0)
      text.append(buffer, size_t(n));
    else if (n == 0)
      return false;
    else if (errno != EINTR)
      return errno == EAGAIN;
    if (text.size() > kMaxToolText)
      return true;
  }
}

bool Process::hasEnded() {
  // Without reaping it: its number, which is its group's, stays taken.
  siginfo_t info = {};
  int failed = waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT);
  // A host that ignores SIGCHLD has the kernel throw the status away.
  lost |= failed && errno == ECHILD;
  return lost || (!failed && info.si_pid == pid);
}

bool Process::listen(Clock::time_point end, std::string &text,
                     std::string &error) {
  bool open = true;
  while (!hasEnded()) {
    // While the pipe is open its end wakes us; after that, or if a child of
    // the program holds it, looking does.
    pollfd wait{pipe, POLLIN, 0};
    if (open)
      poll(&wait, 1, 10);
    else
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    open = open && drain(text);
    if (text.size() > kMaxToolText)
      error = llvm::formatv("it said more than {0} bytes", kMaxToolText);
    else if (Clock::now() >= end)
      error = "it took too long";
    if (!error.empty())
      return false;
  }
  if (open)
    drain(text);
  return true;
}

void Process::end() {
  if (lost)
    return;
  kill(-pid, SIGKILL);
  int result;
  do
    result = int(waitpid(pid, &status, 0));
  while (result < 0 && errno == EINTR);
  lost |= result < 0;
}

std::string Process::judge() const {
  if (lost)
    return "its exit status is lost: this process ignores SIGCHLD, or reaps "
           "children that are not its own";
  if (WIFSIGNALED(status))
    return llvm::formatv("it was ended by signal {0} ({1})", WTERMSIG(status),
                         strsignal(WTERMSIG(status)));
  if (int code = WEXITSTATUS(status))
    return llvm::formatv("exit status {0}", code);
  return "";
}

std::optional<std::string> kvc::nvptx::runTool(ArrayRef<std::string> args,
                                               std::string &error,
                                               std::chrono::milliseconds time) {
  error.clear();
  Process process;
  std::string text;
  if (!process.start(args, error))
    return std::nullopt;
  bool ended = process.listen(Clock::now() + time, text, error);
  process.end();
  if (!ended)
    return std::nullopt;
  error = process.judge();
  if (error.empty())
    return text;
  // Its words say more than its number, if it has any.
  if (StringRef words = StringRef(text).trim(); !words.empty())
    error += ": " + words.take_front(4096).str();
  return std::nullopt;
}
