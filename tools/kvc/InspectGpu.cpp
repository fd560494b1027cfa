//===- InspectGpu.cpp - the GPU kernels of an artifact --------------------===//
#include "tools/kvc/InspectGpu.h"

#include "lib/base/Artifact/KernelKey.h"
#include "tools/kvc/Cli.h"

#include "llvm/Support/FormatVariadic.h"

using namespace kvc;
using namespace kvc::cli;

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static std::string orDash(unsigned value) {
  return value ? std::to_string(value) : "-";
}

static std::string nameOf(const GpuKernelReport &row) {
  return artifact::nameOf({&row.kernel, row.stores});
}

static void printResources(llvm::raw_ostream &os, const GpuReport &report) {
  Table table({"GPU kernel", "target", "device", ">registers", ">spills",
               ">stack", ">shared", ">threads", ">CTAs/SM", "limit"});
  for (const GpuKernelReport &row : report.kernels) {
    std::string spills = "-", stack = "-", ctas = "-", limit;
    if (row.spills) {
      spills = std::to_string(row.spills->stores + row.spills->loads) + " B";
      stack = std::to_string(row.spills->stack) + " B";
    }
    if (row.occupancy) {
      ctas = std::to_string(row.occupancy->ctas);
      limit = row.occupancy->limit;
    }
    table.row({nameOf(row), row.kernel.target, row.kernel.device,
               orDash(row.kernel.registers), spills, stack,
               std::to_string(row.kernel.sharedBytes) + " B",
               std::to_string(row.kernel.threads), ctas, limit});
  }
  table.print(os);
}

static std::string perToken(const GpuKernelReport &row, const Loop &loop) {
  // Of loops inside, nothing says how many rounds they take.
  bool isKnown = loop.count(Work::Mma) || !loop.hasLoops;
  return row.tokens && isKnown
             ? llvm::formatv("{0:F1}", double(loop.instructions()) / row.tokens)
                   .str()
             : "-";
}

static std::vector<std::string> heading(const char *first,
                                        std::vector<std::string> last) {
  std::vector<std::string> cells{first, "target"};
  for (size_t work = 0; work < kWorks; ++work)
    cells.push_back(std::string(">") + name(Work(work)));
  llvm::append_range(cells, last);
  return cells;
}

static std::vector<std::string> cells(const GpuKernelReport &row,
                                      const Loop &loop,
                                      std::vector<std::string> last) {
  std::vector<std::string> cells{nameOf(row), row.kernel.target};
  for (unsigned count : loop.counts)
    cells.push_back(std::to_string(count));
  llvm::append_range(cells, last);
  return cells;
}

static void printPtx(llvm::raw_ostream &os, const GpuReport &report) {
  Table table(
      heading("main loop (PTX)", {">all but mov", ">tokens", ">per token"}));
  for (const GpuKernelReport &row : report.kernels)
    if (row.ptx)
      table.row(cells(row, *row.ptx,
                      {std::to_string(row.ptx->instructions()),
                       orDash(row.tokens), perToken(row, *row.ptx)}));
  table.print(os);
}

static void printSass(llvm::raw_ostream &os, const GpuReport &report) {
  Table table(heading("loop (SASS)", {">all", "at"}));
  bool any = false;
  for (const GpuKernelReport &row : report.kernels)
    for (const Loop &loop : row.sass) {
      any = true;
      table.row(
          cells(row, loop, {std::to_string(loop.instructions()), loop.place}));
    }
  os << "\n";
  if (any)
    table.print(os);
  else
    os << "no SASS: " << report.whyNoSass << "\n";
}

void kvc::cli::printGpu(llvm::raw_ostream &os, const GpuReport &report) {
  printResources(os, report);
  if (llvm::none_of(report.kernels,
                    [](const GpuKernelReport &row) { return row.ptx; }))
    return;
  os << "\n";
  printPtx(os, report);
  if (llvm::any_of(report.kernels, [](const GpuKernelReport &row) {
        return !row.kernel.blob.empty() && row.kernel.device == "cuda";
      }))
    printSass(os, report);
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

static void printLoop(llvm::json::OStream &os, const GpuKernelReport &row,
                      const Loop &loop) {
  os.object([&] {
    os.attribute("place", loop.place);
    os.attribute("instructions", loop.instructions());
    if (row.tokens)
      os.attribute("per_token", double(loop.instructions()) / row.tokens);
    for (size_t work = 0; work < kWorks; ++work)
      os.attribute(name(Work(work)), loop.counts[work]);
  });
}

static void printKernel(llvm::json::OStream &os, const GpuKernelReport &row) {
  os.object([&] {
    os.attribute("name", row.kernel.name);
    os.attribute("stores", uint64_t(row.stores));
    os.attribute("target", row.kernel.target);
    os.attribute("device", row.kernel.device);
    os.attribute("threads", row.kernel.threads);
    os.attribute("shared_bytes", row.kernel.sharedBytes);
    if (row.kernel.registers)
      os.attribute("registers", row.kernel.registers);
    if (row.spills) {
      os.attribute("spill_store_bytes", row.spills->stores);
      os.attribute("spill_load_bytes", row.spills->loads);
      os.attribute("stack_bytes", row.spills->stack);
    }
    if (row.occupancy) {
      os.attribute("ctas_per_sm", row.occupancy->ctas);
      os.attribute("limit", row.occupancy->limit);
    }
    if (row.tokens)
      os.attribute("tokens", row.tokens);
    if (row.ptx) {
      os.attributeBegin("ptx_main_loop");
      printLoop(os, row, *row.ptx);
      os.attributeEnd();
    }
    if (!row.sass.empty())
      os.attributeArray("sass_loops", [&] {
        for (const Loop &loop : row.sass)
          printLoop(os, row, loop);
      });
  });
}

void kvc::cli::printGpu(llvm::json::OStream &os, const GpuReport &report) {
  os.attributeArray("gpu_kernels", [&] {
    for (const GpuKernelReport &row : report.kernels)
      printKernel(os, row);
  });
  if (!report.whyNoSass.empty())
    os.attribute("no_sass", report.whyNoSass);
}
