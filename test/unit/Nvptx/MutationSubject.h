//===- MutationSubject.h - kernels that bugs are planted in -----*- C++ -*-===//
#ifndef KVC_TEST_UNIT_NVPTX_MUTATIONSUBJECT_H
#define KVC_TEST_UNIT_NVPTX_MUTATIONSUBJECT_H

#include "test/unit/Nvptx/KernelFixture.h"
#include "test/unit/Nvptx/Mutate.h"

#include "lib/driver/Reference/Host.h"

namespace kvc::nvptx {

/// One store `s` of one layer, and how its decode kernel is scheduled.
struct StoreCase {
  const char *name, *sm;
  spec::DType model;
  spec::Codec k, v;
  unsigned dimK, dimV;
  spec::Layout layout;
  spec::Read read;
  const char *schedule;  ///< fields of the decode kernel
  const char *only = ""; ///< kinds of bugs, the others are in other stores
  unsigned queryHeads = 8;
};

/// Together: all multiplications, all ways to find rows, all reads.
llvm::ArrayRef<StoreCase> mutationStores();

/// Some sequences, with all that their kernels read.
struct Batch {
  Batch(const spec::Spec &spec, CacheType type, uint64_t seed);

  uint64_t seed;
  std::vector<int32_t> cu = {0}, kvLen, table;
  int64_t tableStride = 1;
  std::vector<float> k, v; ///< of all tokens
  std::vector<int64_t> slots;
  AlignedBytes q, modelK, modelV;
  int64_t qStride, kStride, vStride;
  reference::HostArena arena;
  Memory inputs; ///< what of them a kernel may read: no byte more

private:
  bool isHidden(const spec::Store &store, size_t sequence, int32_t token) const;
  void poisonScales(const spec::Store &store);
  void fillTokens(const spec::Spec &spec, Random &random);
  void place(const spec::Store &store, Random &random);
  void permit(CacheType type);
};

/// Kernels as the emulator takes them.
struct Image {
  std::unique_ptr<artifact::ElfImage> code;
  std::vector<std::string> sites;
};

/// What the plan kernel writes.
struct Plan {
  std::vector<KvcGpuWorkTile> workTiles;
  std::vector<uint32_t> splitCounters;
  std::vector<int32_t> counts;
  std::vector<int64_t> splitRow;
};

/// What an attend kernel writes, widened.
struct Attended {
  std::vector<float> o, lse;
};

/// A store's kernels, and what they give without a bug.
class Subject {
public:
  explicit Subject(const StoreCase &from);

  mlir::LLVM::LLVMFuncOp kernel(mlir::ModuleOp in, Suspects which) const {
    return in.lookupSymbol<mlir::LLVM::LLVMFuncOp>(symbolName(nameOf(which)));
  }
  std::vector<Mutation> mutations(Suspects which) const {
    return mutationsOf(kernel(*module, which), which);
  }
  /// What caught the bug: a finding, "output" or "verifyUniform". "": nothing.
  std::string plant(Suspects which, const Mutation &mutation);
  /// A finding of kernels without a bug, or how they fail otherwise.
  const std::string &plain() {
    if (!ran)
      ran = runPlain(6);
    return *ran;
  }

private:
  static std::string nameOf(Suspects which) {
    return which == Suspects::Plan     ? "s.plan"
           : which == Suspects::Append ? "s.append"
                                       : "s.attend.decode";
  }
  std::string launch(const Image &image, Suspects which,
                     const KernelWords &words, int64_t ctas,
                     const Memory &memory, uint64_t seed) const;
  std::string plan(const Image &image, const Batch &batch, Plan &plan) const;
  std::string attend(const Image &image, Batch &batch, const Plan &plan,
                     Attended &attended, uint64_t seed) const;
  std::string append(const Image &image, Batch &batch,
                     std::vector<uint8_t> &bytes) const;
  /// What is wrong with a kernel's work on a batch; "" if nothing.
  std::string judge(const Image &image, Suspects which, size_t batch);
  bool isClose(const Attended &x, const Attended &y) const;
  std::string runPlain(uint64_t seeds);
  /// A copy of one kernel, in a module of its own.
  mlir::OwningOpRef<mlir::ModuleOp> alone(Suspects which);

  spec::Spec spec;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CacheType type;
  LaunchInfos launches;
  std::optional<std::string> ran;
  std::vector<std::unique_ptr<Batch>> batches;
  // Without a bug, by batch.
  std::vector<Plan> plans;
  std::vector<Attended> attends;
  std::vector<std::vector<uint8_t>> appends;
};

} // namespace kvc::nvptx

#endif // KVC_TEST_UNIT_NVPTX_MUTATIONSUBJECT_H
