//===- OpVectors.cpp - what every instruction gives, for a GPU to repeat --===//
//
//   op-vectors TARGET FOLDER
//
// Writes FOLDER/ops.ptx, a kernel per row of lib/base/Simt/Ops.def, and
// FOLDER/ops.json: each kernel's input and what the emulator made of it. A
// GPU that gives other words is one that the emulator does not speak for.
//
//===----------------------------------------------------------------------===//
#include "codegen/cpu/Backend.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Simt/Machine.h"
#include "tools/op-vectors/OpKernels.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Base64.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/WithColor.h"

#include <bit>
#include <nlohmann/json.hpp>
#include <random>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using namespace kvc::opvectors;

namespace {

constexpr uint32_t kCtas = 8;

//===----------------------------------------------------------------------===//
// Input
//===----------------------------------------------------------------------===//

uint16_t halfBits(float x, bool bf16) {
  llvm::APFloat value(x);
  bool lost;
  value.convert(bf16 ? llvm::APFloat::BFloat() : llvm::APFloat::IEEEhalf(),
                llvm::APFloat::rmNearestTiesToEven, &lost);
  return uint16_t(value.bitcastToAPInt().getZExtValue());
}

uint32_t anyFloat(std::mt19937 &random) {
  static constexpr float kSpecial[] = {
      0.0f,       -0.0f,    1.0f,      -1.0f,     INFINITY,
      -INFINITY,  NAN,      0x1p-149f, 0x1p-126f, 0x1.fcp-127f,
      65504.0f,   65519.9f, 65520.0f,  0x1p-24f,  0x1p-25f,
      0x1.8p-25f, 127.99f,  -126.5f,   -149.0f,   3e38f};
  if (random() % 4 == 0)
    return std::bit_cast<uint32_t>(kSpecial[random() % std::size(kSpecial)]);
  float size = random() % 2 ? 4.0f : 140.0f;
  std::uniform_real_distribution<float> real(-size, size);
  return std::bit_cast<uint32_t>(real(random));
}

/// Operands that are f32 take values of f32 whatever the rest is.
uint32_t word(const OpKernel &kernel, bool isFloat, std::mt19937 &random) {
  auto small = [&] {
    std::uniform_real_distribution<float> real(-1, 1);
    return kernel.words == Words::Integers ? float(int(random() % 17) - 8)
                                           : real(random);
  };
  switch (kernel.words) {
  case Words::Random:
    return random();
  case Words::Floats:
    return isFloat ? anyFloat(random) : random();
  case Words::Halves:
  case Words::Integers:
    if (isFloat)
      return std::bit_cast<uint32_t>(small());
    return uint32_t(halfBits(small(), kernel.bf16)) << 16 |
           halfBits(small(), kernel.bf16);
  }
  llvm_unreachable("all kinds are above");
}

std::vector<uint32_t> inputOf(const OpKernel &kernel) {
  std::vector<bool> isFloat;
  SmallVector<StringRef> constraints;
  infoOf(kernel.row).constraints.split(constraints, ',');
  for (StringRef constraint : constraints)
    if (constraint == "f" || constraint == "r")
      isFloat.push_back(constraint == "f");
  isFloat.resize(std::max<size_t>(kernel.inWords, isFloat.size()));
  std::mt19937 random(uint32_t(kernel.row) + 1);
  std::vector<uint32_t> words(kCtas * kernel.threads * kernel.inWords);
  for (size_t i = 0; i < words.size(); ++i)
    words[i] = word(kernel, isFloat[i % kernel.inWords], random);
  return words;
}

//===----------------------------------------------------------------------===//
// The emulator's answer
//===----------------------------------------------------------------------===//

[[noreturn]] void fail(const llvm::Twine &why) {
  llvm::WithColor::error(llvm::errs(), "op-vectors") << why << "\n";
  exit(1);
}

struct Emulated {
  std::unique_ptr<artifact::ElfImage> code;
  std::vector<std::string> sites;
};

Emulated emulate(ModuleOp module) {
  Emulated image;
  auto cpu = *cpu::findCpuTarget("x86-64-v3");
  llvm::LLVMContext context;
  std::string error;
  if (failed(lowerGpuToSim(module, image.sites)))
    fail("cannot lower for the emulator");
  auto llvmModule = cpu::emitLlvm(module, cpu, context);
  if (!llvmModule)
    fail("no LLVM IR");
  auto object = cpu::emitObject(*llvmModule, cpu, error);
  if (error.empty())
    image.code = artifact::ElfImage::load(object, error);
  if (!error.empty())
    fail(error);
  return image;
}

/// 16-byte aligned, as memory of a GPU is.
std::vector<uint32_t> run(const OpKernel &kernel, const Emulated &image,
                          const std::vector<uint32_t> &input) {
  struct alignas(16) Block {
    uint32_t words[4];
  };
  size_t outWords = kCtas * kernel.threads * kernel.outWords;
  std::vector<Block> in(input.size() / 4 + 1), out(outWords / 4 + 1);
  if (!input.empty())
    memcpy(in.data(), input.data(), input.size() * 4);
  Params params{in.data(), out.data()};
  simt::Machine machine;
  machine.allow(in.data(), input.size() * 4, /*writable=*/false);
  machine.allow(out.data(), outWords * 4, /*writable=*/true);
  simt::Launch launch;
  launch.name = kernel.name;
  launch.kernel = reinterpret_cast<simt::Kernel>(
      image.code->symbol(symbolName(kernel.name)));
  launch.grid = kCtas, launch.threads = kernel.threads;
  launch.shared = kernel.shared;
  launch.params = &params;
  launch.sites = image.sites;
  std::string finding;
  if (!machine.launch(launch, finding))
    fail(finding);
  auto *words = reinterpret_cast<const uint32_t *>(out.data());
  return {words, words + outWords};
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

std::string encode(const std::vector<uint32_t> &words) {
  return llvm::encodeBase64(
      ArrayRef(reinterpret_cast<const char *>(words.data()), words.size() * 4));
}

nlohmann::json describe(const OpKernel &kernel, const Emulated &image) {
  static constexpr const char *kChecks[] = {"bits", "ulps", "sums"};
  std::vector<uint32_t> input = inputOf(kernel);
  return {{"name", kernel.name},
          {"symbol", symbolName(kernel.name)},
          {"grid", kCtas},
          {"threads", kernel.threads},
          {"shared", kernel.shared},
          {"check", kChecks[size_t(kernel.check)]},
          {"limit", kernel.limit},
          {"in", encode(input)},
          {"out", encode(run(kernel, image, input))}};
}

void write(StringRef folder, StringRef name, StringRef text) {
  SmallString<128> path(folder);
  llvm::sys::path::append(path, name);
  std::error_code error;
  llvm::raw_fd_ostream os(path, error);
  if (!error)
    os << text;
  if (error || os.has_error())
    fail(path.str() + ": " + (error ? error : os.error()).message());
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  if (argc != 3)
    fail("expected TARGET FOLDER");
  std::string note;
  std::optional<SmTarget> sm = servingSmTarget(argv[1], note);
  if (!sm)
    fail(llvm::Twine("there is no target `") + argv[1] + "`");
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<arith::ArithDialect, LLVM::LLVMDialect, scf::SCFDialect,
                      vector::VectorDialect, cf::ControlFlowDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  auto kernels = emitOpKernels(*module, *sm);
  if (failed(kernels) || failed(verify(*module)) ||
      failed(verifyUniform(*module)) || failed(lowerGpuToLlvm(*module)))
    return 1;
  LaunchInfos launches;
  for (const OpKernel &kernel : *kernels)
    launches[kernel.name] = {kernel.threads, kernel.shared, 0};
  OwningOpRef<ModuleOp> copy = module->clone();
  std::string ptx = emitPtx(*copy, *sm, launches);
  if (ptx.empty())
    return 1;
  Emulated image = emulate(*module);
  nlohmann::json list = nlohmann::json::array();
  for (const OpKernel &kernel : *kernels)
    list.push_back(describe(kernel, image));
  if (std::error_code error = llvm::sys::fs::create_directories(argv[2]))
    fail(argv[2] + llvm::Twine(": ") + error.message());
  write(argv[2], "ops.ptx", ptx);
  write(argv[2], "ops.json",
        nlohmann::json{{"target", sm->name}, {"kernels", list}}.dump(1) + "\n");
  return 0;
}
