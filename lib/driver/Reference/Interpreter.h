//===- Interpreter.h - the meaning of the kvc ops ---------------*- C++ -*-===//
//
// Runs a function of a kvc module on host memory. A kernel is right when it
// agrees with this.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_INTERPRETER_H
#define KVC_LIB_DRIVER_REFERENCE_INTERPRETER_H

#include "lib/driver/Reference/Attend.h"

#include "mlir/IR/BuiltinOps.h"

#include <variant>

namespace kvc::reference {

/// Row i of an append goes to slot[i] = outer * tokens per outer + token; a
/// negative slot skips the row.
using Slots = llvm::ArrayRef<int64_t>;

/// What a value of a function is bound to: k, v or q; a result; slots; a
/// cache; a batch. Views and pointers must outlive the run.
using HostValue =
    std::variant<Rows, Tensor, Slots, HostCache *, const HostBatch *>;

/// Walks one function at a time. Holds nothing between runs but the module,
/// which it does not own; runs may go on in parallel.
class Interpreter {
public:
  explicit Interpreter(mlir::ModuleOp module) : module(module) {}

  /// Runs function `name` ("full.attend") on `arguments`, one per argument of
  /// the function, and returns what it returns. An argument of the wrong kind
  /// or shape, or an op that has no meaning here, is reported as an error at
  /// the op's location through the context's diagnostics; caches may have been
  /// written by ops before it.
  mlir::FailureOr<llvm::SmallVector<HostValue>>
  run(llvm::StringRef name, llvm::ArrayRef<HostValue> arguments) const;

private:
  mlir::ModuleOp module;
};

/// Quantizes row i of `k` and `v` for all kv heads of the store, which begins
/// at the model's kv head `firstHead`. Fails, before it writes anything, if a
/// slot is not in the cache.
llvm::Error append(int64_t firstHead, Rows k, Rows v, Slots slot,
                   HostCache &cache);

/// Decoded rows [rows, kv heads of the model, dim], as f32 before they are
/// rounded to the model's dtype. What is not computed is 0: other stores' heads
/// and rows of negative slots.
struct Gathered {
  Tensor k, v;
};
/// Decodes the token at each slot for all kv heads of the store, as append()
/// encodes. `kvHeads` are the model's. Fails if a slot is not in the cache.
llvm::Expected<Gathered> gather(int64_t firstHead, int64_t kvHeads, Slots slot,
                                const HostCache &cache);

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_INTERPRETER_H
