//===- Cli.cpp - what every verb of kvc shares ----------------------------===//
#include "tools/kvc/Cli.h"

#include "lib/base/Artifact/OutputFile.h"
#include "lib/base/Support/Words.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"

#include <cerrno>
#include <cstring>
#include <unistd.h>

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

cl::OptionCategory &kvc::cli::verbOptions() {
  static cl::OptionCategory category("Options");
  return category;
}

//===----------------------------------------------------------------------===//
// Flags of every verb
//===----------------------------------------------------------------------===//

namespace {

enum class Color : uint8_t { Auto, Always, Never };

/// Puts a flag into every verb. Not SubCommand::getAll(): that includes the top
/// level, where LLVM has flags of its own by these names.
struct OfEveryVerb {
  llvm::ArrayRef<const Verb *> verbs;
  void apply(cl::Option &option) const {
    for (const Verb *verb : verbs)
      option.addSubCommand(*verb->command);
    option.addCategory(verbOptions());
  }
};

struct CommonFlags {
  explicit CommonFlags(OfEveryVerb everyVerb)
      : format("diagnostics", cl::desc("How messages are printed:"),
               cl::values(clEnumValN(Diagnostics::Format::Text, "text",
                                     "lines with a caret (default)"),
                          clEnumValN(Diagnostics::Format::Json, "json",
                                     "one JSON object per line")),
               cl::init(Diagnostics::Format::Text), everyVerb),
        werror("Werror", cl::desc("A warning makes kvc fail"), everyVerb),
        remarks("remarks",
                cl::desc("Print what was folded, and slower paths with their "
                         "reasons"),
                everyVerb),
        color("color", cl::desc("Colour of messages:"),
              cl::values(clEnumValN(Color::Auto, "auto",
                                    "if a person watches and NO_COLOR is not "
                                    "set (default)"),
                         clEnumValN(Color::Always, "always", ""),
                         clEnumValN(Color::Never, "never", "")),
              cl::init(Color::Auto), everyVerb) {}

  Choice<Diagnostics::Format> format;
  cl::opt<bool> werror, remarks;
  Choice<Color> color;
};

} // namespace

static CommonFlags *flags;

void kvc::cli::addCommonFlags(llvm::ArrayRef<const Verb *> verbs) {
  static CommonFlags instance(OfEveryVerb{verbs});
  flags = &instance;
}

static std::optional<CommandLine> ownCommandLine;

const CommandLine &kvc::cli::commandLine() { return *ownCommandLine; }

void kvc::cli::setCommandLine(CommandLine line) {
  ownCommandLine = std::move(line);
  // A wrong value is reported when the flags are read.
  if (ownCommandLine->valueOf("diagnostics") == "json")
    flags->format = Diagnostics::Format::Json;
  if (ownCommandLine->valueOf("color") == "always")
    flags->color = Color::Always;
  else if (ownCommandLine->valueOf("color") == "never")
    flags->color = Color::Never;
}

SourceLoc kvc::cli::at(const cl::Option &flag) {
  return flag.getNumOccurrences() ? commandLine().at(flag.getPosition())
                                  : SourceLoc();
}

static bool useColor() {
  if (flags->color != Color::Auto)
    return flags->color == Color::Always;
  return llvm::sys::Process::StandardErrHasColors() &&
         !llvm::sys::Process::GetEnv("NO_COLOR");
}

int kvc::cli::finish(const Diagnostics &reported, int code) {
  Diagnostics diagnostics = reported;
  diagnostics.addSource(kCommandLine, commandLine().text());
  // Or LLVM would look at the stream once more.
  llvm::WithColor::setAutoDetectFunction(
      [](const llvm::raw_ostream &) { return useColor(); });
  llvm::errs().enable_colors(useColor());
  diagnostics.print(llvm::errs(), flags->format, useColor());
  bool warned = false;
  for (const Diagnostic &diagnostic : diagnostics.all()) {
    if (diagnostic.code == "E-INTERNAL")
      return ExitBug;
    if (diagnostic.code == "E-NO-DEVICE" || diagnostic.code == "E-NO-ASSEMBLER")
      return ExitMissing;
    warned |= diagnostic.severity == Severity::Warning;
  }
  if (code == ExitOk && (diagnostics.hasErrors() || (flags->werror && warned)))
    return ExitFailed;
  return code;
}

//===----------------------------------------------------------------------===//
// Flags of verbs that compile
//===----------------------------------------------------------------------===//

CompileFlags::CompileFlags(cl::SubCommand &command)
    : targets("target", cl::CommaSeparated,
              cl::desc("Targets, see `kvc targets` (default: native)"),
              cl::value_desc("A,B"), cl::sub(command), cl::cat(verbOptions())),
      schedule("schedule",
               cl::desc("Override a field of a kernel's schedule, as in "
                        "'*.decode.split=4096'; may be repeated: see `kvc help "
                        "schedule`"),
               cl::value_desc("KERNEL.FIELD=VALUE"), cl::sub(command),
               cl::cat(verbOptions())),
      noCache("no-cache", cl::desc("Do not touch the kernel cache"),
              cl::sub(command), cl::cat(verbOptions())) {}

std::optional<CompileOptions>
CompileFlags::options(Diagnostics &diagnostics) const {
  CompileOptions options;
  if (!targets.empty())
    options.targets.assign(targets.begin(), targets.end());
  options.targetsLoc = at(targets);
  for (std::string &name : options.targets) {
    // An unknown target is the compiler's to report.
    auto serving = servingTarget(name);
    if (!serving)
      continue;
    name = serving->name;
    // Whatever `--remarks` says: it is not what was asked for.
    if (!serving->note.empty())
      diagnostics.report(Severity::Remark, "R-TARGET", {}, serving->note);
  }
  options.useCache = !noCache;
  options.emitRemarks = flags->remarks;
  for (unsigned i = 0; i < schedule.size(); ++i) {
    SourceLoc loc = commandLine().at(schedule.getPosition(i));
    if (auto entry = parseOverride(schedule[i])) {
      entry->loc = std::move(loc);
      options.schedule.push_back(std::move(*entry));
      continue;
    }
    Diagnostic &error = diagnostics.error(
        "E-USAGE", std::move(loc),
        "expected --schedule=KERNEL.FIELD=VALUE with a whole number for VALUE, "
        "or for a flag true or false, found " +
            quote(schedule[i]));
    error.notes.push_back({Severity::Help,
                           "",
                           {},
                           "`kvc help schedule` lists the fields and what each "
                           "takes",
                           {}});
  }
  if (diagnostics.hasErrors())
    return std::nullopt;
  return options;
}

bool kvc::cli::checkArtifactFlags(const CompileOptions &options,
                                  llvm::StringRef file,
                                  Diagnostics &diagnostics) {
  if (options.schedule.empty() && options.targets == CompileOptions().targets)
    return true;
  SourceLoc loc;
  loc.file = nameOf(file);
  diagnostics.error("E-USAGE", loc,
                    "`--target` and `--schedule` change how a spec is "
                    "compiled, found an artifact");
  return false;
}

/// Reports E-NO-DEVICE and returns false if this CPU lacks what the code of
/// `target` needs.
static bool checkRunsHere(llvm::StringRef target, const SourceLoc &loc,
                          Diagnostics &diagnostics) {
  std::vector<CpuTargetInfo> emulated = emulatedCpuTargets();
  std::vector<CpuTargetInfo> all = cpuTargets();
  llvm::append_range(all, emulated);
  for (const CpuTargetInfo &info : all) {
    if (info.name != target || info.whyNot.empty())
      continue;
    Diagnostic &error = diagnostics.error(
        "E-NO-DEVICE", loc,
        "target `" + info.name + "` cannot run here: " + info.whyNot);
    std::string name = "sim:" + info.name;
    bool isEmulated = llvm::any_of(emulated, [&](const CpuTargetInfo &other) {
      return other.name == name && other.whyNot.empty();
    });
    std::string help =
        isEmulated
            ? "`--target=" + name + "` runs the same kernels in an emulator"
        : target.starts_with("sim:")
            ? "only AMX is emulated, and the CPU must have all else; `kvc "
              "targets` lists what runs here"
            : "`kvc targets` lists what runs here";
    error.notes.push_back({Severity::Help, "", {}, help, {}});
    return false;
  }
  return true;
}

bool kvc::cli::checkDevices(const CompileOptions &options, llvm::StringRef verb,
                            llvm::ArrayRef<llvm::StringRef> devices,
                            Diagnostics &diagnostics) {
  for (const std::string &target : options.targets) {
    std::string device = deviceOf(target);
    bool emulated = llvm::StringRef(target).starts_with("sim:");
    // An unknown target is the compiler's to report.
    if (device.empty())
      continue;
    if (llvm::is_contained(devices, emulated ? "sim" : device)) {
      if (!checkRunsHere(target, options.targetsLoc, diagnostics))
        return false;
      continue;
    }
    std::string why =
        emulated
            ? std::string("an emulator's times are not a ") +
                  (device == "cpu" ? "CPU's" : "GPU's")
            : "on a real GPU that is the work of the GPU kit, tools/gpu-kit";
    Diagnostic &error = diagnostics.error(
        "E-USAGE", options.targetsLoc,
        "`kvc " + verb.str() + "` cannot take target `" + target + "`: " + why);
    std::string use = llvm::is_contained(devices, "sim")
                          ? "use a CPU, or emulate it with sim:" + target
                          : "use a CPU; `kvc inspect` counts the instructions "
                            "of GPU kernels";
    error.notes.push_back({Severity::Help, "", {}, use, {}});
    return false;
  }
  return true;
}

bool kvc::cli::checkHasCpu(const artifact::Manifest &manifest,
                           llvm::StringRef verb, llvm::StringRef file,
                           Diagnostics &diagnostics) {
  std::string found;
  for (const artifact::KernelInfo &kernel : manifest.kernels) {
    if (kernel.device == "cpu")
      return true;
    std::string name = (kernel.device == "sim" ? "sim:" : "") + kernel.target;
    if (!llvm::StringRef(found).contains("`" + name + "`"))
      found += (found.empty() ? "`" : ", `") + name + "`";
  }
  SourceLoc loc;
  loc.file = nameOf(file);
  Diagnostic &error = diagnostics.error(
      "E-USAGE", loc,
      "`kvc " + verb.str() +
          "` runs an artifact's kernels for CPUs, found only " + found);
  std::string help =
      verb == "verify"
          ? "`kvc inspect " + file.str() +
                " --extract=spec.json -o SPEC` gives its spec, and `kvc verify "
                "SPEC --target=sim:sm_90` emulates a GPU"
          : "`kvc inspect` counts the instructions of GPU kernels";
  error.notes.push_back({Severity::Help, "", {}, help, {}});
  return false;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

static bool writeToStandardOutput(llvm::StringRef bytes, std::string &error) {
  while (!bytes.empty()) {
    ssize_t n = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) {
      error = std::string("standard output: ") + std::strerror(errno);
      return false;
    }
    bytes = bytes.drop_front(n > 0 ? size_t(n) : 0);
  }
  return true;
}

bool kvc::cli::writeOutput(llvm::StringRef path, llvm::StringRef bytes,
                           Diagnostics &diagnostics) {
  std::string error;
  llvm::outs().flush();
  bool written =
      path == "-" ? writeToStandardOutput(bytes, error)
                  : artifact::writeOutputFile(
                        path.str(), {bytes.bytes_begin(), bytes.size()}, error);
  if (!written)
    diagnostics.error("E-OUTPUT", {}, error);
  return written;
}

bool kvc::cli::writeOutput(llvm::StringRef path, llvm::ArrayRef<uint8_t> bytes,
                           Diagnostics &diagnostics) {
  return writeOutput(path, llvm::toStringRef(bytes), diagnostics);
}

std::string kvc::cli::nameOf(llvm::StringRef path) {
  return path == "-" ? "<stdin>" : path.str();
}

std::optional<std::string> kvc::cli::readInput(llvm::StringRef path,
                                               uint64_t limit,
                                               Diagnostics &diagnostics) {
  auto refuse = [&](const std::string &why) {
    SourceLoc loc;
    loc.file = nameOf(path);
    diagnostics.error("E-FILE", loc, "cannot read: " + why);
    return std::nullopt;
  };
  int file = STDIN_FILENO;
  if (path != "-")
    if (std::error_code error = llvm::sys::fs::openFileForRead(path, file))
      return refuse(error.message());
  // Read on rather than trust a size: a pipe has none, a file may grow.
  std::string bytes;
  std::string failure;
  for (;;) {
    size_t at = bytes.size();
    bytes.resize(at + (1 << 16));
    ssize_t n = ::read(file, bytes.data() + at, 1 << 16);
    bytes.resize(at + (n > 0 ? size_t(n) : 0));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      failure = std::strerror(errno);
    else if (bytes.size() > limit)
      failure = "it has more than " + std::to_string(limit) + " bytes";
    if (n <= 0 || !failure.empty())
      break;
  }
  if (path != "-")
    ::close(file);
  if (!failure.empty())
    return refuse(failure);
  return bytes;
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

void Table::print(llvm::raw_ostream &os) const {
  std::vector<size_t> widths(rows.front().size());
  std::vector<bool> right(widths.size());
  auto cell = [&](size_t row, size_t column) {
    llvm::StringRef text = rows[row][column];
    return row == 0 && right[column] ? text.drop_front() : text;
  };
  for (size_t column = 0; column < widths.size(); ++column) {
    right[column] = llvm::StringRef(rows[0][column]).starts_with(">");
    for (size_t row = 0; row < rows.size(); ++row)
      widths[column] = std::max(widths[column], cell(row, column).size());
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    std::string line;
    for (size_t column = 0; column < widths.size(); ++column) {
      std::string text = cell(row, column).str();
      std::string padding(widths[column] - text.size(), ' ');
      line += "  " + (right[column] ? padding + text : text + padding);
    }
    os << llvm::StringRef(line).rtrim() << "\n";
  }
}
