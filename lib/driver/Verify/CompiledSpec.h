//===- CompiledSpec.h - a spec compiled, loaded and judged ------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_COMPILEDSPEC_H
#define KVC_LIB_DRIVER_VERIFY_COMPILEDSPEC_H

#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Spec/Spec.h"
#include "lib/driver/Reference/Attend.h"
#include "lib/driver/Verify/Fault.h"

#include "kvc/runtime.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>

namespace kvc::verify {

/// The devices that a worker runs on, as results must not tell them apart: a
/// CPU without threads and one with two, emulated or not, or emulated GPUs
/// whose warps take turns in different orders.
class Devices {
public:
  /// For an artifact of these targets: what the first needs. CPUs load it with
  /// `loader`; null: the runtime's.
  static std::unique_ptr<Devices> create(llvm::ArrayRef<std::string> targets,
                                         const kvc_code_loader *loader,
                                         std::string &error);
  ~Devices();
  static constexpr unsigned kCount = 2;
  kvc_device *device[kCount] = {};
  bool emulated = false; ///< GPUs
};
/// Whether `target` is an emulated GPU, and therefore slow.
bool isEmulatedGpu(llvm::StringRef target);

struct CompiledStore;

/// Memory that kernels may touch, as long as this lives. Only emulated GPUs
/// ask.
class Lent {
public:
  explicit Lent(kvc_device *device) : device(device) {}
  ~Lent() {
    for (const void *base : bases)
      kvc_sim_forget(device, base);
  }
  Lent(const Lent &) = delete;
  Lent &operator=(const Lent &) = delete;

  void read(const void *base, size_t bytes) { lend(base, bytes, 0); }
  void write(void *base, size_t bytes) { lend(base, bytes, 1); }

private:
  void lend(const void *base, size_t bytes, int writable) {
    if (device && kvc_sim_allow(device, base, bytes, writable).code == KVC_OK)
      bases.push_back(base);
  }
  kvc_device *device; ///< null: no need
  llvm::SmallVector<const void *, 16> bases;
};

/// Rows of a constant that each sequence has, and which of them one with so
/// many tokens and query tokens has, wherever in whichever batch it stands.
inline constexpr int64_t kConstantRows = 5;
inline int64_t constantRowOf(int64_t length, int64_t queries) {
  return (3 * length + queries) % kConstantRows;
}

/// One store of a compiled spec: what it means and where it stands.
struct CompiledStore {
  const spec::Store *spec = nullptr;
  uint32_t index = 0; ///< in the program
  reference::AttendProblem problem;
  bool emulated = false; ///< batches must be small
  std::optional<double> softcap;
  /// The read, as the manifest has it: what the store's own and a visible
  /// expression show at most.
  std::optional<spec::Read::Window> window;

  struct Plane {
    llvm::StringRef stream;
    llvm::StringRef role; ///< CodecPlane::role
    mlir::Type type;
    int64_t rowBytes = 0;  ///< of one (token, head)
    int64_t rowStride = 0; ///< bytes
  };
  llvm::SmallVector<Plane, 4> planes;
  /// What calls give the store's expressions, the same for all layers; of
  /// constants that each sequence has, kConstantRows rows.
  std::shared_ptr<const reference::GivenConstants> given;

  /// An attend kernel, as the manifest has it.
  struct Variant {
    std::string name; ///< "attend.decode"
    int64_t minQueries = 0, maxQueries = 0;
    int64_t split = 0; ///< tokens; 0: never split
  };
  llvm::SmallVector<Variant, 2> variants; ///< by minQueries

  CacheType cache() const { return problem.cache; }
  int64_t heads() const { return problem.cache.getHeads(); }
  int64_t kvHeads() const { return problem.qHeads / problem.group; }
  int64_t firstQuery() const { return problem.firstHead * problem.group; }
  int64_t queryHeads() const { return heads() * problem.group; }
  bool paged() const { return spec->layout.paged; }
  int64_t page() const { return spec->layout.page; }
  bool quantised() const {
    return llvm::any_of(
        planes, [](const Plane &plane) { return plane.role != kPlaneCodes; });
  }
  bool covers(unsigned layer) const { return spec->scope.covers(layer); }
  /// Whether logits are an expression: nothing is known of how it orders them.
  bool hasLogits() const { return spec->attend.logits.has_value(); }
  bool hasVisible() const { return spec->attend.visible.has_value(); }
  bool hasSink() const { return spec->attend.sink.has_value(); }
  bool hasExpressions() const {
    return hasLogits() || hasVisible() || hasSink();
  }
  /// Whether tokens of one score weigh what an expression says.
  bool hasWeights() const { return hasLogits() || hasSink(); }
  /// Whether a row is another if its token comes in another step.
  bool dependsOnStep() const;
  /// The kernel that a sequence with that many query tokens gets.
  const Variant &variantFor(int64_t queries) const;
  /// How many splits its kernel cuts a sequence into, those that no query sees
  /// included.
  int64_t splitsOf(int64_t tokens, int64_t queries) const {
    int64_t split = variantFor(queries).split;
    return split ? (tokens + split - 1) / split : 1;
  }
};

/// Owns the program, once per device, and the IR that says what it means.
class CompiledSpec {
public:
  /// Loads `artifact`, which must be `compiled` by its manifest: model, stores
  /// and page geometry are compared. It is judged as `spec`, whose bytes must
  /// lie in the same places; only tests give it another. On failure returns
  /// null and sets `error`.
  static std::unique_ptr<CompiledSpec> create(const spec::Spec &spec,
                                              const spec::Spec &compiled,
                                              llvm::ArrayRef<uint8_t> artifact,
                                              const Devices &devices,
                                              Fault fault, std::string &error);
  ~CompiledSpec();

  spec::Spec spec;
  std::vector<CompiledStore> stores; ///< in the order of the spec
  kvc_program *programs[Devices::kCount] = {};
  Fault fault = Fault::None; ///< planted into every launch
  /// Those of `programs` if they are emulated, null otherwise.
  kvc_device *emulators[Devices::kCount] = {};

private:
  bool describe(const artifact::Manifest &manifest, std::string &error);

  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// `spec` as a buggy compiler would read it.
spec::Spec injectFault(spec::Spec spec, Fault fault);
/// Whether a fault can make any difference under this spec.
bool applies(Fault fault, const spec::Spec &spec);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_COMPILEDSPEC_H
