//===- Cubin.cpp - PTX to a cubin -----------------------------------------===//
//
// By the CUDA toolkit's ptxas as a process of its own, or by its nvJitLink, a
// library that is loaded if it is here. Both are the same assembler, but a
// linker makes code that can be linked (`ptxas -c`): up to twice the registers.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Backend.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"

#include <chrono>
#include <csignal>
#include <dlfcn.h>
#include <thread>

using namespace kvc;
using namespace kvc::nvptx;
using llvm::ArrayRef;
using llvm::StringRef;

/// Longer than any kernel takes.
static constexpr std::chrono::seconds kAssemblerTime(60);

/// Where a CUDA toolkit may be.
static std::vector<std::string> toolkits() {
  std::vector<std::string> list;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (auto path = llvm::sys::Process::GetEnv(variable))
      list.push_back(*path);
  list.push_back("/usr/local/cuda");
  return list;
}

//===----------------------------------------------------------------------===//
// What the assembler says
//===----------------------------------------------------------------------===//

/// Reads `-v` output: for every kernel a line that names it, and lines with its
/// stack, spills and registers.
static llvm::StringMap<AssemblerReport> parseReport(StringRef log) {
  llvm::StringMap<AssemblerReport> kernels;
  llvm::Regex entry("(Compiling entry function|Function properties for) "
                    "'?([A-Za-z0-9_]+)'?");
  llvm::Regex stack("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, "
                    "([0-9]+) bytes spill loads");
  llvm::Regex used("Used ([0-9]+) registers");
  AssemblerReport *current = nullptr;
  auto number = [](StringRef text) {
    unsigned value = 0;
    text.getAsInteger(10, value);
    return value;
  };
  llvm::SmallVector<StringRef> lines, match;
  log.split(lines, '\n');
  for (StringRef line : lines) {
    if (entry.match(line, &match))
      current = &kernels[match[2]];
    if (!current)
      continue;
    if (stack.match(line, &match)) {
      current->stack = number(match[1]);
      current->spillStores = number(match[2]);
      current->spillLoads = number(match[3]);
    }
    if (used.match(line, &match))
      current->registers = number(match[1]);
  }
  return kernels;
}

/// What must not be in the log of a kernel that may be used; "" if nothing.
static std::string complaint(StringRef log) {
  llvm::SmallVector<StringRef> lines;
  log.split(lines, '\n');
  for (StringRef line : lines)
    if (line.contains("serialized"))
      return line.str();
  return "";
}

//===----------------------------------------------------------------------===//
// nvJitLink
//===----------------------------------------------------------------------===//

namespace {

using LinkHandle = void *;
constexpr int kInputPtx = 2; // nvJitLinkInputType

/// The functions that are used, as the library names them.
struct JitLink {
  int (*create)(LinkHandle *, uint32_t, const char **) = nullptr;
  int (*destroy)(LinkHandle *) = nullptr;
  int (*addData)(LinkHandle, int, const void *, size_t, const char *) = nullptr;
  int (*complete)(LinkHandle) = nullptr;
  int (*cubinSize)(LinkHandle, size_t *) = nullptr;
  int (*cubin)(LinkHandle, void *) = nullptr;
  int (*errorSize)(LinkHandle, size_t *) = nullptr;
  int (*error)(LinkHandle, char *) = nullptr;
  int (*infoSize)(LinkHandle, size_t *) = nullptr;
  int (*info)(LinkHandle, char *) = nullptr;
  int (*version)(unsigned *, unsigned *) = nullptr;

  std::string name() const {
    unsigned major = 0, minor = 0;
    version(&major, &minor);
    return "nvJitLink " + std::to_string(major) + "." + std::to_string(minor);
  }

  /// Null if the library is not here.
  static const JitLink *get();
};

} // namespace

const JitLink *JitLink::get() {
  static JitLink link;
  static const bool loaded = [] {
    static constexpr const char *name = "libnvJitLink.so.13";
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    for (const std::string &toolkit : toolkits())
      for (const char *folder : {"lib64", "lib"})
        if (!library)
          library = dlopen((toolkit + "/" + folder + "/" + name).c_str(),
                           RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return false;
    bool all = true;
    auto load = [&](auto &function, const char *symbol) {
      void *address = dlsym(library, symbol);
      function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
      all &= address != nullptr;
    };
    load(link.create, "nvJitLinkCreate");
    load(link.destroy, "nvJitLinkDestroy");
    load(link.addData, "nvJitLinkAddData");
    load(link.complete, "nvJitLinkComplete");
    load(link.cubinSize, "nvJitLinkGetLinkedCubinSize");
    load(link.cubin, "nvJitLinkGetLinkedCubin");
    load(link.errorSize, "nvJitLinkGetErrorLogSize");
    load(link.error, "nvJitLinkGetErrorLog");
    load(link.infoSize, "nvJitLinkGetInfoLogSize");
    load(link.info, "nvJitLinkGetInfoLog");
    load(link.version, "nvJitLinkVersion");
    return all;
  }();
  return loaded ? &link : nullptr;
}

static std::string readLog(LinkHandle handle, int (*size)(LinkHandle, size_t *),
                           int (*read)(LinkHandle, char *)) {
  size_t bytes = 0;
  if (size(handle, &bytes) || bytes == 0)
    return "";
  std::string text(bytes, 0);
  read(handle, text.data());
  return StringRef(text).rtrim(StringRef("\0\n", 2)).str();
}

static std::optional<Cubin> byJitLink(const JitLink &link, StringRef ptx,
                                      const SmTarget &target,
                                      std::string &error) {
  std::string arch = "-arch=" + target.name;
  const char *options[] = {arch.c_str(), "-verbose"};
  LinkHandle handle = nullptr;
  if (link.create(&handle, 2, options)) {
    error = "nvJitLink knows no " + target.name;
    return std::nullopt;
  }
  llvm::scope_exit destroy([&] { link.destroy(&handle); });
  std::string text = ptx.str(); // ends with a zero
  size_t bytes = 0;
  if (link.addData(handle, kInputPtx, text.data(), text.size() + 1, "kvc") ||
      link.complete(handle) || link.cubinSize(handle, &bytes)) {
    error = "nvJitLink refuses the PTX: " +
            readLog(handle, link.errorSize, link.error);
    return std::nullopt;
  }
  std::string log = readLog(handle, link.infoSize, link.info);
  error = complaint(log);
  if (!error.empty())
    return std::nullopt;
  Cubin cubin;
  cubin.bytes.resize(bytes);
  link.cubin(handle, cubin.bytes.data());
  cubin.kernels = parseReport(log);
  cubin.assembler = link.name();
  return cubin;
}

//===----------------------------------------------------------------------===//
// ptxas
//===----------------------------------------------------------------------===//

static std::string findPtxas() {
  std::vector<std::string> folders;
  for (const std::string &toolkit : toolkits())
    folders.push_back(toolkit + "/bin");
  std::vector<StringRef> views(folders.begin(), folders.end());
  for (auto found : {llvm::sys::findProgramByName("ptxas"),
                     llvm::sys::findProgramByName("ptxas", views)})
    if (found)
      return *found;
  return "";
}

namespace {

/// A file that is gone when this is.
struct TemporaryFile {
  llvm::SmallString<128> path;
  explicit TemporaryFile(StringRef suffix) {
    if (llvm::sys::fs::createTemporaryFile("kvc", suffix, path))
      path.clear();
  }
  ~TemporaryFile() {
    if (!path.empty())
      llvm::sys::fs::remove(path);
  }
  std::string read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? (*buffer)->getBuffer().str() : "";
  }
};

} // namespace

/// Runs a program with its output in a file; its exit status, or what is not 0
/// and a reason. Not llvm::sys::ExecuteAndWait: its time limit is the process's
/// one alarm, and kernels are assembled side by side.
static int run(ArrayRef<StringRef> args, StringRef log, std::string &why) {
  std::optional<StringRef> streams[] = {StringRef(""), log, log};
  llvm::sys::ProcessInfo process = llvm::sys::ExecuteNoWait(
      args.front(), args, std::nullopt, streams, 0, &why);
  if (!process.Pid)
    return -1;
  auto end = std::chrono::steady_clock::now() + kAssemblerTime;
  llvm::sys::ProcessInfo state;
  do {
    std::this_thread::sleep_for(std::chrono::microseconds(500));
    state = llvm::sys::Wait(process, /*SecondsToWait=*/0, &why);
  } while (!state.Pid && std::chrono::steady_clock::now() < end);
  if (state.Pid)
    return state.ReturnCode;
  kill(process.Pid, SIGKILL);
  llvm::sys::Wait(process, std::nullopt);
  why = llvm::formatv("it took more than {0} s", kAssemblerTime.count());
  return -1;
}

/// "ptxas V13.0.88", as the program says; its path if it does not. "" if there
/// is none.
static const std::string &ptxasName() {
  static const std::string name = []() -> std::string {
    std::string program = findPtxas();
    TemporaryFile out("version");
    if (program.empty() || out.path.empty())
      return program;
    std::string why;
    int status = run({program, "--version"}, out.path, why);
    std::string text = out.read();
    llvm::SmallVector<StringRef> match;
    if (status == 0 && llvm::Regex(", (V[0-9.]+)").match(text, &match))
      return "ptxas " + match[1].str();
    return program;
  }();
  return name;
}

static std::optional<Cubin> byPtxas(const std::string &program, StringRef ptx,
                                    const SmTarget &target,
                                    std::string &error) {
  TemporaryFile input("ptx"), output("cubin"), log("log");
  if (input.path.empty() || output.path.empty() || log.path.empty()) {
    error = "cannot create temporary files for ptxas";
    return std::nullopt;
  }
  {
    std::error_code code;
    llvm::raw_fd_ostream os(input.path, code);
    os << ptx;
  }
  std::string arch = "-arch=" + target.name;
  std::string why;
  int status =
      run({program, arch, "-v", input.path, "-o", output.path}, log.path, why);
  std::string text = log.read();
  if (status) {
    error = "ptxas refuses the PTX: " +
            StringRef(why.empty() ? text : why).trim().str();
    return std::nullopt;
  }
  error = complaint(text);
  if (!error.empty())
    return std::nullopt;
  Cubin cubin;
  std::string bytes = output.read();
  cubin.bytes.assign(bytes.begin(), bytes.end());
  cubin.kernels = parseReport(text);
  cubin.assembler = ptxasName();
  return cubin;
}

std::string kvc::nvptx::assemblerName() {
  if (!ptxasName().empty())
    return ptxasName();
  const JitLink *link = JitLink::get();
  return link ? link->name() : "";
}

std::optional<Cubin> kvc::nvptx::assemble(StringRef ptx, const SmTarget &target,
                                          std::string &error,
                                          Assembler assembler) {
  std::string program =
      assembler == Assembler::JitLink ? std::string() : findPtxas();
  if (!program.empty())
    return byPtxas(program, ptx, target, error);
  const JitLink *link = JitLink::get();
  if (link && assembler != Assembler::Ptxas)
    return byJitLink(*link, ptx, target, error);
  error = "there is no assembler here: neither nvJitLink nor ptxas of a CUDA "
          "toolkit was found";
  return std::nullopt;
}
