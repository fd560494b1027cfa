//===- BenchHost.h - what the host does around the kernels ------*- C++ -*-===//
#ifndef KVC_TOOLS_KVC_BENCHHOST_H
#define KVC_TOOLS_KVC_BENCHHOST_H

#include "lib/driver/Compiler/Compiler.h"
#include "tools/kvc/BenchRows.h"

namespace kvc::bench {

/// Milliseconds from a spec's text to a program that is loaded, or to an
/// artifact if it is for GPUs.
struct CompileTimes {
  double first = 0; ///< the first of `cold`
  Spread cold;      ///< nothing of the spec is known
  Spread cached;    ///< from the disk cache
  /// When the code of a GPU's kernels was there while all of them were made.
  /// The assembler takes the difference.
  struct Object {
    std::string kernels;
    Spread ptx;
    std::optional<Spread> cubin; ///< if an assembler is here
  };
  std::vector<Object> objects;
};

/// Compiles `reps` times without the disk cache, then `reps` times from one in
/// a directory of its own. Reports what stops it.
std::optional<CompileTimes> timeCompile(const spec::Spec &spec,
                                        CompileOptions options, unsigned reps,
                                        Diagnostics &diagnostics);

/// Microseconds per sequence of kvc_cache_reserve and kvc_cache_commit of one
/// token each, in steps of `sequences` sequences; nullopt if the runtime
/// refuses (kvc_error_text() says why).
std::optional<Spread> timeSteps(Subject &subject, unsigned sequences,
                                unsigned reps);

} // namespace kvc::bench

#endif // KVC_TOOLS_KVC_BENCHHOST_H
