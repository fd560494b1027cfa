//===- OpMutations.h - the changes that an op can undergo -------*- C++ -*-===//
//
// An op of a kernel is deleted, given other operands and attributes, and
// exchanged with its neighbour in a chain. So are the ops inside of scores'
// regions, which get other constants and predicates too.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_TILE_OPMUTATIONS_H
#define KVC_TEST_UNIT_TILE_OPMUTATIONS_H

#include "mlir/IR/Operation.h"

#include <functional>
#include <string>
#include <vector>

namespace kvc::test {

/// One change of one op, which stands at a place in the order of a walk.
struct Mutation {
  std::string name;
  std::function<void(mlir::Operation *)> apply;
};

/// All changes of `op`.
std::vector<Mutation> mutationsOf(mlir::Operation *op);

/// What may leave the result as it is, and yet no loop was written for: cores
/// then lower the kernel op by op.
bool mayBeHarmless(mlir::Operation *op, const Mutation &mutation);

/// Whether the op is one of a score's region.
bool isOfScore(mlir::Operation *op);

} // namespace kvc::test

#endif // KVC_TEST_UNIT_TILE_OPMUTATIONS_H
