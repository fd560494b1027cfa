//===- Targets.cpp - kvc targets: what is emitted, what runs here ---------===//
#include "kvc/runtime.h"
#include "lib/base/Spec/Reader.h"
#include "tools/kvc/Cli.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("targets",
                              "List targets, and which of them run here");
static cl::opt<bool> asJson("json", cl::desc("Print JSON"), cl::sub(command),
                            cl::cat(verbOptions()));

namespace {

struct Row {
  std::string name, device;
  std::vector<std::string> features;
  std::string whyNot; ///< it does not run here; "" if it does
  std::string remark; ///< of how it runs here: a slower way, say
};

} // namespace

//===----------------------------------------------------------------------===//
// GPUs
//===----------------------------------------------------------------------===//

/// The first line of what the runtime says of its last failure.
static std::string firstLine() {
  return llvm::StringRef(kvc_error_text()).split('\n').first.str();
}

/// Whether kernels for a target load on a GPU: what a user would see. Returns
/// the reason if not, or "" and what the runtime remarks.
static std::string tryToLoad(kvc_device *gpu, const std::string &target,
                             std::string &remark) {
  constexpr const char *kSmall =
      R"({"kvc": "0.1", "name": "probe", "model": {"layers": 1, "q_heads": 1, )"
      R"("kv_heads": 1, "head_dim": 64, "dtype": "bf16"}, "streams": {)"
      R"("k": {"codec": "bf16"}, "v": {"codec": "bf16"}}})";
  Diagnostics diagnostics;
  auto spec = spec::read(kSmall, "probe", diagnostics);
  CompileOptions options;
  options.targets = {target};
  options.useCache = true;
  auto output = spec ? compile(*spec, options, diagnostics) : std::nullopt;
  if (!output)
    return "it cannot be compiled here";
  kvc_program *program = nullptr;
  if (kvc_program_load(gpu, output->artifact.data(), output->artifact.size(),
                       &program)
          .code != KVC_OK)
    return firstLine();
  remark = kvc_program_remarks(program);
  kvc_program_release(program);
  return "";
}

static void addGpus(std::vector<Row> &rows) {
  kvc_device *gpu = nullptr;
  std::string none;
  if (kvc_device_create_cuda(nullptr, &gpu).code != KVC_OK)
    none = firstLine();
  llvm::scope_exit release([&] {
    if (gpu)
      kvc_device_release(gpu);
  });
  for (const std::string &name : gpuTargetNames()) {
    Row &row = rows.emplace_back(Row{name, deviceOf(name), {}, none, ""});
    if (gpu)
      row.whyNot = tryToLoad(gpu, name, row.remark);
  }
  for (const std::string &name : gpuTargetNames())
    rows.push_back({"sim:" + name, deviceOf("sim:" + name), {}, "", ""});
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

static std::string json(llvm::ArrayRef<Row> rows) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream os(stream, 2);
  std::string native = nativeTarget();
  os.object([&] {
    os.attribute("native",
                 native.empty() ? llvm::json::Value(nullptr) : native);
    os.attributeArray("targets", [&] {
      for (const Row &row : rows)
        os.object([&] {
          os.attribute("name", row.name);
          os.attribute("device", row.device);
          os.attribute("runs_here", row.whyNot.empty());
          os.attribute("why_not", row.whyNot);
          os.attribute("remark", row.remark);
          os.attributeArray("features", [&] {
            for (const std::string &feature : row.features)
              os.value(feature);
          });
        });
    });
  });
  stream << "\n";
  return text;
}

static std::string here(const Row &row) {
  if (!row.whyNot.empty())
    return "no: " + row.whyNot;
  auto lines = llvm::split(row.remark, '\n');
  return row.remark.empty() ? "yes" : "yes: " + llvm::join(lines, "; ");
}

static std::string table(llvm::ArrayRef<Row> rows) {
  std::string text;
  llvm::raw_string_ostream os(text);
  Table table({"target", "device", "here", "needs"});
  for (const Row &row : rows)
    table.row({row.name, row.device, here(row), llvm::join(row.features, " ")});
  table.print(os);
  std::string native = nativeTarget();
  os << "native is " << (native.empty() ? "none of them" : native)
     << "; sim is a GPU or AMX emulated on the CPU, for proofs and not for "
        "speed\n";
  return text;
}

static int runTargets() {
  Diagnostics diagnostics;
  std::vector<Row> rows;
  for (const CpuTargetInfo &target : cpuTargets())
    rows.push_back({target.name, "cpu", target.features, target.whyNot, ""});
  for (const CpuTargetInfo &target : emulatedCpuTargets())
    rows.push_back({target.name, "sim", target.features, target.whyNot, ""});
  addGpus(rows);
  writeOutput("-", asJson ? json(rows) : table(rows), diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::targetsVerb{&command, runTargets, R"(
EXAMPLE:
  kvc targets --json
)"};
