//===- Inspect.cpp - kvc inspect: what is in an artifact ------------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/KernelKey.h"
#include "lib/base/Support/Words.h"
#include "lib/driver/Compiler/Remarks.h"
#include "tools/kvc/Cli.h"
#include "tools/kvc/InspectGpu.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("inspect", "Show what is in an artifact");
static cl::opt<std::string> file(cl::Positional, cl::Required,
                                 cl::desc("OUT.kvca"), cl::sub(command),
                                 cl::cat(verbOptions()));
static cl::opt<bool> asJson("json",
                            cl::desc("Print the manifest and the entries as "
                                     "JSON"),
                            cl::sub(command), cl::cat(verbOptions()));
static cl::opt<std::string> extract("extract",
                                    cl::desc("Write one entry to -o"),
                                    cl::value_desc("NAME"), cl::sub(command),
                                    cl::cat(verbOptions()));
static cl::opt<std::string>
    output("o", cl::desc("Output file (default: standard output)"),
           cl::value_desc("FILE"), cl::init("-"), cl::sub(command),
           cl::cat(verbOptions()));

static llvm::StringRef textOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

static void printStores(llvm::raw_ostream &os, const artifact::Manifest &m) {
  Table table({"store", "layers", "kv heads", "plane", "type", ">per token",
               ">at", ">page bytes"});
  for (const artifact::StoreInfo &store : m.stores)
    for (const artifact::PlaneInfo &plane : store.planes) {
      bool first = &plane == &store.planes.front();
      table.row({first ? store.name : "", first ? rangesOf(store.layers) : "",
                 first ? rangeOf(store.headBegin, store.headEnd) : "",
                 plane.stream + " " + plane.role, plane.type,
                 std::to_string(plane.rowBytes) + " B",
                 store.paged ? std::to_string(plane.pageOffset) : "-",
                 !first        ? ""
                 : store.paged ? std::to_string(store.pageBytes)
                               : "contiguous"});
    }
  table.print(os);
}

static void printKernels(llvm::raw_ostream &os, const artifact::Manifest &m) {
  Table table(
      {"kernel", "target", "device", "queries", ">scratch", "schedule"});
  for (const artifact::DistinctKernel &distinct : distinctKernels(m)) {
    const artifact::KernelInfo &kernel = *distinct.info;
    table.row({nameOf(distinct), kernel.target, kernel.device,
               kernel.kind != "attend"
                   ? ""
                   : std::to_string(kernel.minQueries) + "+, by " +
                         std::to_string(kernel.maxQueries),
               std::to_string(kernel.scratchBytes) + " B",
               kernel.kind == "attend" ? kernel.schedule : ""});
  }
  table.print(os);
}

static std::vector<Remark> remarksOf(const artifact::Bundle &bundle) {
  auto entry = bundle.find(kRemarksName);
  return entry ? readRemarks(textOf(*entry)) : std::vector<Remark>();
}

static GpuReport gpuReportOf(const artifact::Bundle &bundle) {
  std::vector<std::string> spills;
  for (const Remark &remark : remarksOf(bundle))
    if (remark.code == kSpillCode)
      spills.push_back(remark.message);
  return reportGpu(bundle, spills);
}

static std::string asText(const artifact::Bundle &bundle) {
  const artifact::Manifest &m = bundle.manifest();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << m.specName << ": " << m.producer << ", format " << m.formatMajor << "."
     << m.formatMinor << ", CPU kernel ABI " << m.cpuAbi;
  if (m.gpuAbi)
    os << ", GPU kernel ABI " << m.gpuAbi;
  os << "\nkey " << m.key << "\n\n";
  printStores(os, m);
  os << "\n";
  printKernels(os, m);
  os << "\n";
  if (m.gpuAbi) {
    printGpu(os, gpuReportOf(bundle));
    os << "\n";
  }
  Table entries({"entry", ">bytes"});
  for (const artifact::Entry &entry : bundle.entries())
    entries.row({entry.name, std::to_string(entry.bytes.size())});
  entries.print(os);
  for (const Remark &remark : remarksOf(bundle))
    os << "\nremark: " << remark.message << " [" << remark.code << "]";
  return text + (llvm::StringRef(text).ends_with("\n") ? "" : "\n");
}

static std::string jsonText(const artifact::Bundle &bundle) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream os(stream);
  os.object([&] {
    os.attributeBegin("manifest");
    os.rawValue(textOf(*bundle.find(artifact::kManifestName)).trim());
    os.attributeEnd();
    os.attributeArray("entries", [&] {
      for (const artifact::Entry &entry : bundle.entries())
        os.object([&] {
          os.attribute("name", entry.name);
          os.attribute("bytes", uint64_t(entry.bytes.size()));
        });
    });
    if (bundle.manifest().gpuAbi)
      printGpu(os, gpuReportOf(bundle));
  });
  stream << "\n";
  return text;
}

static int runInspect() {
  Diagnostics diagnostics;
  auto bytes = readInput(file, artifact::kMaxBundleBytes, diagnostics);
  if (!bytes)
    return finish(diagnostics);
  std::string error;
  auto bundle = artifact::Bundle::open(
      {reinterpret_cast<const uint8_t *>(bytes->data()), bytes->size()}, error);
  SourceLoc loc;
  loc.file = nameOf(file);
  if (!bundle) {
    diagnostics.error("E-ARTIFACT", loc, error);
  } else if (!extract.getNumOccurrences()) {
    writeOutput(output, asJson ? jsonText(*bundle) : asText(*bundle),
                diagnostics);
  } else if (auto entry = bundle->find(extract)) {
    writeOutput(output, textOf(*entry), diagnostics);
  } else {
    std::vector<std::string> names;
    for (const artifact::Entry &known : bundle->entries())
      names.push_back(known.name);
    Diagnostic &missing =
        diagnostics.error("E-ENTRY", loc, "no entry `" + extract + "`");
    missing.notes.push_back(
        {Severity::Help, "", {}, "it has " + llvm::join(names, ", "), {}});
  }
  return finish(diagnostics);
}

const Verb kvc::cli::inspectVerb{&command, runInspect, R"(
For GPU kernels: what the assembler gave each and how many CTAs fit an SM, and
how many instructions of which kind a warp issues in a round of the main loop, in
PTX, and in SASS if nvdisasm is in PATH.

EXAMPLE:
  kvc inspect smollm2.kvca
  kvc inspect smollm2.kvca --extract=cpu/x86-64-v4.0.o -o kernels.o
)"};
