//===- ObjectsTest.cpp - kernels that are made side by side ---------------===//
#include "lib/driver/Compiler/Objects.h"
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Reader.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <regex>
#include <thread>

using namespace kvc;
using artifact::KernelInfo;
using testing::ElementsAre;
using testing::SizeIs;

namespace {

/// Kernels by kind, and a module with a function for each and one declaration.
class Objects : public testing::Test {
protected:
  void make(std::initializer_list<const char *> kinds) {
    context.loadDialect<mlir::LLVM::LLVMDialect>();
    mlir::OpBuilder b(&context);
    module = mlir::ModuleOp::create(b.getUnknownLoc());
    (*module)->setAttr("of.all", b.getUnitAttr());
    b.setInsertionPointToStart(module->getBody());
    auto type = mlir::LLVM::LLVMFunctionType::get(
        mlir::LLVM::LLVMVoidType::get(&context), {});
    mlir::LLVM::LLVMFuncOp::create(b, b.getUnknownLoc(), "outside", type);
    for (const char *kind : kinds) {
      KernelInfo &kernel = kernels.emplace_back();
      kernel.kind = kind;
      kernel.name = kernel.symbol = kind + std::to_string(kernels.size());
      auto function = mlir::LLVM::LLVMFuncOp::create(b, b.getUnknownLoc(),
                                                     kernel.symbol, type);
      mlir::OpBuilder body(&context);
      body.setInsertionPointToStart(function.addEntryBlock(body));
      mlir::LLVM::ReturnOp::create(body, b.getUnknownLoc(), mlir::ValueRange());
    }
  }

  /// "a.0: attend1 append2" of each job; its functions are its kernels.
  std::vector<std::string> cut(Cut how) {
    std::vector<std::string> lines;
    for (ObjectJob &job : cutIntoJobs(*module, "a", "b/c", how, kernels)) {
      EXPECT_EQ("b/c" + job.name.substr(1), job.entry);
      EXPECT_TRUE((*job.module)->hasAttr("of.all"));
      std::string line = job.name + ":", functions = line;
      for (const KernelInfo *kernel : job.kernels)
        line += " " + kernel->symbol;
      for (auto function : job.module->getOps<mlir::LLVM::LLVMFuncOp>())
        if (!function.isExternal())
          functions += (" " + function.getSymName()).str();
      EXPECT_EQ(functions, line);
      EXPECT_TRUE(job.module->lookupSymbol("outside"));
      lines.push_back(line);
    }
    EXPECT_TRUE(module->getBody()->empty());
    return lines;
  }

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  std::vector<KernelInfo> kernels;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

} // namespace

TEST_F(Objects, AreAsManyAsAttendKernels) {
  make({"append", "attend", "attend", "merge", "attend"});
  EXPECT_THAT(
      cut({.most = 2}),
      ElementsAre("a.0: append1 attend2 merge4 attend5", "a.1: attend3"));
}

TEST_F(Objects, MayHaveOneForTheOthers) {
  make({"append", "attend", "attend", "merge", "attend"});
  EXPECT_THAT(cut({.most = 8, .othersApart = true}),
              ElementsAre("a.0: attend2", "a.1: attend3", "a.2: attend5",
                          "a.3: append1 merge4"));
}

TEST_F(Objects, AreOneForWhoeverWantsOne) {
  make({"append", "attend", "attend"});
  EXPECT_THAT(cut({}), ElementsAre("a: append1 attend2 attend3"));
}

TEST_F(Objects, AreNeverEmpty) {
  make({"append"});
  EXPECT_THAT(cut({.most = 8, .othersApart = true}), ElementsAre("a: append1"));
}

// Though the first is ready last, and one fails.
TEST_F(Objects, ReportInTheirOrder) {
  make({"attend", "attend", "attend", "attend"});
  auto jobs = cutIntoJobs(*module, "a", "b", {.most = 4}, kernels);
  std::vector<std::string> heard;
  mlir::ScopedDiagnosticHandler handler(
      &context, [&](mlir::Diagnostic &d) { heard.push_back(d.str()); });
  PhaseClock clock;
  std::atomic<unsigned> ready = 0;
  runJobs(context, jobs, clock, [&](ObjectJob &job) {
    job.clock.begin(Phase::Llvm);
    std::this_thread::sleep_for(
        std::chrono::milliseconds(job.name == "a.0" ? 40 : 1));
    mlir::emitError((*job.module).getLoc()) << job.name;
    if (job.name == "a.1")
      job.fail();
    ++ready;
  });
  EXPECT_EQ(ready, 4u);
  EXPECT_THAT(heard, ElementsAre("a.0", "a.1", "a.2", "a.3"));
  EXPECT_TRUE(jobs[1].failed);
  // Side by side, time is what the clock on the wall says.
  auto spent = clock.milliseconds();
  ASSERT_THAT(spent, SizeIs(1));
  EXPECT_EQ(spent[0].first, "llvm");
  EXPECT_LE(spent[0].second, clock.now());
}

//===----------------------------------------------------------------------===//
// Of a GPU
//===----------------------------------------------------------------------===//

namespace {

/// From a kernel's directive to its closing brace, with labels as if it were
/// the only one.
std::string kernelOf(const std::string &ptx, const std::string &symbol) {
  size_t begin = ptx.find(".entry " + symbol + "(");
  EXPECT_NE(begin, ptx.npos) << symbol;
  size_t end = ptx.find("\n}\n", begin);
  return std::regex_replace(ptx.substr(begin, end - begin),
                            std::regex("L__BB[0-9]+_"), "L__BB_");
}

CompileOutput compiled(CompileOptions options) {
  Diagnostics diagnostics;
  auto spec = spec::readFile(KVC_SOURCE_DIR "/specs/examples/smollm2.json",
                             diagnostics);
  auto output = compile(*spec, options, diagnostics);
  EXPECT_FALSE(diagnostics.hasErrors());
  return output ? std::move(*output) : CompileOutput();
}

} // namespace

TEST(GpuObjects, HoldTheCodeThatIsShown) {
  CompileOptions options;
  options.targets = {"sm_80", "sim:sm_80"};
  CompileOutput output = compiled(options);
  EXPECT_EQ(compiled(options).artifact, output.artifact);
  options.targets = {"sm_80"};
  options.stopAfter = Phase::Object;
  options.disassemble = true;
  std::string shown = compiled(options).text;
  std::string error;
  auto bundle = artifact::Bundle::open(output.artifact, error);
  ASSERT_TRUE(bundle) << error;
  std::map<std::string, unsigned> attends, others; // kernels of each entry
  for (const KernelInfo &kernel : bundle->manifest().kernels) {
    bool cuda = kernel.device == "cuda";
    ++(kernel.kind == "attend" ? attends
                               : others)[cuda ? kernel.ptx : kernel.sites];
    if (!cuda)
      continue;
    auto ptx = *bundle->find(kernel.ptx);
    EXPECT_EQ(kernelOf(std::string(ptx.begin(), ptx.end()), kernel.symbol),
              kernelOf(shown, kernel.symbol));
  }
  using Entries = std::map<std::string, unsigned>;
  EXPECT_EQ(attends, (Entries{{"cuda/sm_80.0.ptx", 1},
                              {"cuda/sm_80.1.ptx", 1},
                              {"sim/sm_80.0.sites", 1},
                              {"sim/sm_80.1.sites", 1}}));
  EXPECT_EQ(others,
            (Entries{{"cuda/sm_80.2.ptx", 4}, {"sim/sm_80.2.sites", 4}}));
  ASSERT_THAT(output.objectTimes, SizeIs(6));
  EXPECT_EQ(output.objectTimes[0].kernels, "main.attend.decode");
  EXPECT_GT(output.objectTimes[0].ptx, 0);
  EXPECT_EQ(output.objectTimes[2].kernels,
            "main.append, main.gather, main.merge, main.plan");
}
