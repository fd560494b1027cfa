//===- KernelFixture.h - stores compiled for the emulator -------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_NVPTX_KERNELFIXTURE_H
#define KVC_TEST_UNIT_NVPTX_KERNELFIXTURE_H

#include "codegen/nvptx/Backend.h"
#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Spec/Spec.h"
#include "test/support/AlignedBytes.h"
#include "test/support/KernelWords.h"

#include "gtest/gtest.h"

#include <random>

namespace kvc::nvptx {

struct Random {
  explicit Random(uint64_t seed) : engine(seed) {}
  int32_t pick(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(engine);
  }
  float real(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine);
  }
  std::mt19937_64 engine;
};

/// A spec of one store `s`: one layer, some or all kv heads of the model, any
/// dimensions, codecs, layout and read.
spec::Spec randomSpec(Random &random);

/// Rounds to the model's type; returns what was stored. NaN is quiet.
float storeRounded(uint8_t *to, spec::DType type, float x);
float loadWide(const uint8_t *from, spec::DType type);

/// Global memory that a kernel may touch.
struct Memory {
  struct Range {
    const void *base;
    size_t bytes;
    bool writable;
  };
  std::vector<Range> ranges;

  void reads(llvm::ArrayRef<uint8_t> bytes) {
    ranges.push_back({bytes.data(), bytes.size(), false});
  }
  template <typename T> void reads(const std::vector<T> &values) {
    ranges.push_back({values.data(), values.size() * sizeof(T), false});
  }
  void writes(llvm::ArrayRef<uint8_t> bytes) {
    ranges.push_back({bytes.data(), bytes.size(), true});
  }
  template <typename T> void writes(const std::vector<T> &values) {
    ranges.push_back({values.data(), values.size() * sizeof(T), true});
  }
};

using test::AlignedBytes;
using test::KernelWords;

/// The tile level of a spec, for that GPU.
mlir::OwningOpRef<mlir::ModuleOp> planned(mlir::MLIRContext &context,
                                          const spec::Spec &spec,
                                          std::vector<std::string> overrides,
                                          const SmTarget &sm);

/// What becomes of a store's attend kernels, which other tests are about.
enum class Attends {
  Dropped, ///< there are none
  Planned, ///< the plan knows them, but they are not compiled
};

/// The kernels of a spec's one store.
class Compiled {
public:
  Compiled(const spec::Spec &spec, std::vector<std::string> overrides,
           Attends attends, const SmTarget &sm = *findSmTarget("sm_90"));

  CacheType cacheType() const { return type; }

  /// Runs `ctas` CTAs in the emulator, in an order that no test should depend
  /// on; whatever it finds is a failure.
  void run(const std::string &kernel, const KernelWords &words, int64_t ctas,
           const Memory &memory);

  /// Assembles; the kernels must not spill.
  void expectAssembles(llvm::ArrayRef<std::string> kernels);

private:
  void emulate();

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module; ///< in the LLVM dialect
  CacheType type;
  SmTarget sm;
  LaunchInfos launches;
  std::vector<std::string> sites;
  std::unique_ptr<artifact::ElfImage> image;
  uint64_t runs = 0;
};

} // namespace kvc::nvptx

#endif // KVC_TEST_UNIT_NVPTX_KERNELFIXTURE_H
