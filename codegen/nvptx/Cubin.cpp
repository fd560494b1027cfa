//===- Cubin.cpp - PTX to a cubin -----------------------------------------===//
//
// By the CUDA toolkit's ptxas as a process of its own, or by its nvJitLink, a
// library that is loaded if it is here. Both are the same assembler, but a
// linker makes code that can be linked (`ptxas -c`): up to twice the registers.
//
//===----------------------------------------------------------------------===//
#include "codegen/nvptx/Backend.h"
#include "codegen/nvptx/Tool.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"

#include <dlfcn.h>

using namespace kvc;
using namespace kvc::nvptx;
using llvm::ArrayRef;
using llvm::StringRef;

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
// What the assembler makes
//===----------------------------------------------------------------------===//

/// 90 for sm_90 and for sm_90a: the flags of an ELF file's header do not say
/// which. Not by LLVM's own function, which trusts them to name what it knows.
static unsigned smOf(const llvm::object::ELFObjectFileBase &file) {
  using namespace llvm::ELF;
  unsigned flags = file.getPlatformFlags();
  return file.getEIdentABIVersion() <= ELFABIVERSION_CUDA_V1
             ? flags & EF_CUDA_SM
             : (flags & EF_CUDA_SM_MASK) >> EF_CUDA_SM_OFFSET;
}

/// The kernels that a PTX text defines.
static std::vector<StringRef> entriesOf(StringRef ptx) {
  std::vector<StringRef> names;
  llvm::Regex entry("\\.entry[ \t]+([A-Za-z0-9_$]+)");
  for (llvm::SmallVector<StringRef> match; entry.match(ptx, &match);
       ptx = ptx.substr(size_t(match[0].end() - ptx.begin())))
    names.push_back(match[1]);
  return names;
}

/// Whether a symbol is of code that is there.
static llvm::Expected<bool> isCode(const llvm::object::ELFSymbolRef &symbol,
                                   StringRef name) {
  auto type = symbol.getType();
  if (!type)
    return type.takeError();
  auto found = symbol.getName();
  if (!found)
    return found.takeError();
  if (*type != llvm::object::SymbolRef::ST_Function || *found != name)
    return false;
  auto section = symbol.getSection();
  if (!section)
    return section.takeError();
  auto code = (*section)->getContents();
  if (!code)
    return code.takeError();
  return symbol.getSize() > 0 && symbol.getSize() <= code->size();
}

static bool defines(const llvm::object::ELFObjectFileBase &file,
                    StringRef name) {
  return llvm::any_of(file.symbols(), [&](llvm::object::ELFSymbolRef symbol) {
    auto code = isCode(symbol, name);
    if (code)
      return *code;
    llvm::consumeError(code.takeError());
    return false;
  });
}

std::string kvc::nvptx::whyNoCubin(ArrayRef<uint8_t> bytes, StringRef ptx,
                                   const SmTarget &target) {
  if (bytes.empty())
    return "it is empty";
  auto elf = llvm::object::ELF64LEObjectFile::create(
      {llvm::toStringRef(bytes), "cubin"});
  if (!elf)
    return "it is no ELF file of 64 bits: " + llvm::toString(elf.takeError());
  const llvm::object::ELFObjectFileBase &file = *elf;
  if (file.getEMachine() != llvm::ELF::EM_CUDA)
    return llvm::formatv("it is for machine {0} and not for CUDA",
                         file.getEMachine());
  if (unsigned sm = smOf(file); sm != target.version)
    return llvm::formatv("it is for sm_{0} and not for {1}", sm, target.name);
  for (StringRef name : entriesOf(ptx))
    if (!defines(file, name))
      return "it has no kernel `" + name.str() + "`";
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
  if (link.cubin(handle, cubin.bytes.data()))
    cubin.bytes.clear();
  error = whyNoCubin(cubin.bytes, ptx, target);
  if (!error.empty()) {
    error = link.name() + " made no cubin: " + error;
    return std::nullopt;
  }
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

/// "ptxas V13.0.88", as the program says; its path if it does not. "" if there
/// is none.
static const std::string &ptxasName() {
  static const std::string name = []() -> std::string {
    std::string program = findPtxas(), error;
    if (program.empty())
      return program;
    auto text = runTool({program, "--version"}, error);
    llvm::SmallVector<StringRef> match;
    if (text && llvm::Regex(", (V[0-9.]+)").match(*text, &match))
      return "ptxas " + match[1].str();
    return program;
  }();
  return name;
}

static std::optional<Cubin> byPtxas(const std::string &program, StringRef ptx,
                                    const SmTarget &target,
                                    std::string &error) {
  static constexpr const char *kInput = "kernels.ptx";
  static constexpr const char *kOutput = "kernels.cubin";
  ToolFolder folder(error);
  if (!folder.isOpen() ||
      !folder.write(kInput, llvm::arrayRefFromStringRef(ptx), error))
    return std::nullopt;
  auto log = runTool({program, "-arch=" + target.name, "-v",
                      folder.path(kInput), "-o", folder.path(kOutput)},
                     error);
  if (!log) {
    error = "`" + program + "` refuses the PTX: " + error;
    return std::nullopt;
  }
  error = complaint(*log);
  if (!error.empty())
    return std::nullopt;
  auto bytes = folder.read(kOutput, error);
  if (bytes)
    error = whyNoCubin(*bytes, ptx, target);
  if (!error.empty()) {
    error = "`" + program + "` left no cubin: " + error;
    return std::nullopt;
  }
  Cubin cubin;
  cubin.bytes = std::move(*bytes);
  cubin.kernels = parseReport(*log);
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
