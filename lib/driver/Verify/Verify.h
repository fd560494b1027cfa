//===- Verify.h - proves kernels right --------------------------*- C++ -*-===//
//
// The facade: random specs, one spec on generated data, one spec on captured
// tensors, and the harness on its own planted bugs.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_VERIFY_H
#define KVC_LIB_DRIVER_VERIFY_VERIFY_H

#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Verify/Fault.h"
#include "lib/driver/Verify/Tensors.h"

#include <functional>
#include <set>

namespace kvc::verify {

struct Options {
  CompileOptions compile;
  uint64_t seed = 1;
  uint64_t first = 0, cases = 1; ///< case indices [first, first + cases)
  unsigned jobs = 2;             ///< cases at once
  Fault fault = Fault::None;     ///< planted; tests only
  /// Kernels are compiled from this spec and judged as the other; tests only.
  std::optional<spec::Spec> impostor;
  bool allBounds = false; ///< every case visits every bound that it can afford
  bool untilFailed = false; ///< a case ends with the first check that fails
};

/// A failure of one case, with what makes it again.
struct CaseFailure {
  uint64_t index = 0;
  Failure failure;
  std::string spec; ///< canonical JSON
};

/// A bound that no case stood next to on every side, as it would take too long,
/// or as too few batches were asked for.
struct UnreachedBound {
  std::string store, bound;
  int64_t tokens = 0; ///< of the longest sequence that was not tried
};

struct Summary {
  uint64_t cases = 0;                      ///< that ran
  uint64_t failed = 0;                     ///< of them
  double worstOutput = 0, worstLse = 0;    ///< errors over their bounds
  double worstElement = 0;                 ///< the same, of one element (N2)
  uint64_t rows = 0;                       ///< compared with the reference
  uint64_t exactRows = 0, unnamedRows = 0; ///< see Report
  uint64_t notFinite = 0; ///< rows that had no number to compare with
  int64_t longest = 0;    ///< tokens of the longest sequence attended over
  int64_t splits = 0;     ///< that some sequence was cut into, at most
  std::set<uint32_t> beyondWindow; ///< see Report
  /// Of verifySpec(): what Report::visited says, and what is missing there.
  std::set<std::pair<uint32_t, size_t>> visited;
  std::vector<UnreachedBound> unreached;
  std::vector<CaseFailure> failures; ///< in order of index; a few of each case
  std::vector<LayerReport> layers;   ///< of verifyTensors()
  double seconds = 0;
};

/// Draws spec and batch of every case. `progress(done)` may be called from any
/// thread.
Summary verifyRandom(const Options &options,
                     const std::function<void(uint64_t)> &progress);

/// A spec, compiled or as it stands in `artifact` if that is not empty, on
/// random batches (`options.cases` of them).
Summary verifySpec(const spec::Spec &spec, const std::vector<uint8_t> &artifact,
                   const Options &options);

/// The same on the tensors of a model, token by token.
Summary verifyTensors(const spec::Spec &spec,
                      const std::vector<uint8_t> &artifact,
                      const std::vector<LayerTensors> &layers,
                      const Options &options);

/// What became of one planted bug.
struct Planted {
  FaultInfo fault;
  bool caught = false;     ///< in some case
  uint64_t tried = 0;      ///< cases that the bug could show in
  uint64_t outOfReach = 0; ///< cases whose window or split was too far out
  CaseFailure failure;     ///< that caught it
  /// Faults that no case may miss: the first that did.
  std::optional<uint64_t> missed;
};
/// Plants every fault in turn, into `spec` or, if that is null, into random
/// ones, and tries `options.cases` cases until one fails that does not fail
/// without it. What changes a window has to be caught in each of ten. Of
/// `spec`, faults that cannot make any difference under it are tried in no
/// case.
std::vector<Planted> verifyPlanted(const Options &options,
                                   const spec::Spec *spec);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_VERIFY_H
