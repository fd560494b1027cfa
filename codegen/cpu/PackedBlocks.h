//===- PackedBlocks.h - many query rows, in blocks --------------*- C++ -*-===//
//
// Where the arrays of a work tile stand that the loop of many query rows and
// its operand sources share. Query rows come in blocks of two vectors:
//
//   block of rows:  scores [token][row]  acc [row][width v]  m, l, alpha [row]
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_PACKEDBLOCKS_H
#define KVC_CODEGEN_CPU_PACKEDBLOCKS_H

#include "codegen/cpu/Attend.h"

#include "llvm/Support/MathExtras.h"

namespace kvc::cpu {

/// The matrix registers of the core, all eight with 16 rows of 64 bytes. They
/// are the work tile's from configure() to release(), if a source took them.
class MatrixRegisters {
public:
  explicit MatrixRegisters(Kernel &k) : k(k) {}
  void take() { taken = true; }
  bool areTaken() const { return taken; }
  void plan() { config = k.scratch.reserve(64); }
  void configure();
  void release();

private:
  Kernel &k;
  bool taken = false;
  int64_t config = 0; ///< scratch
};

class PackedBlocks {
public:
  using Value = mlir::Value;

  explicit PackedBlocks(AttendKernel &a)
      : a(a), kit(a.kit), k(a.k), blockRows(2 * kit.lanes),
        tileRows(a.schedule.rows),
        maxBlocks(llvm::divideCeil(a.schedule.queries * a.group, blockRows)),
        registers(a.k) {}

  AttendKernel &a;
  Kit &kit;
  Kernel &k;
  int64_t blockRows;
  int64_t tileRows; ///< tokens or rows of a register tile
  int64_t maxBlocks;
  int64_t widthV = 0; ///< f32 of an accumulator, of which dim v count
  MatrixRegisters registers;
  Value blocks;        ///< of this work tile
  bool scaled = false; ///< V has scales, which are gathered
  /// Scratch of all blocks, and of a tile's scales.
  int64_t s = 0, acc = 0, m = 0, l = 0, alpha = 0, scaleK = 0, scaleV = 0;

  int64_t maxRows() const { return maxBlocks * blockRows; }
  void forBlocks(Kit::Body body) { kit.loop(kit.i64(0), blocks, 1, body); }
  void forTokens(int64_t step, Kit::Body body) {
    kit.loop(kit.i64(0), kit.i64(a.tileTokens), step, body);
  }
  /// Element `index` of an array of 32-bit elements in scratch.
  Value element(int64_t offset, Value index) {
    return kit.at(k.scratchAt(offset), kit.mul(index, 4));
  }
  Value perRow(int64_t offset, Value block) {
    return element(offset, kit.mul(block, blockRows));
  }
  Value score(Value block, Value token) {
    Value row = kit.add(kit.mul(block, a.tileTokens), token);
    return element(s, kit.mul(row, blockRows));
  }
  Value accumulator(Value block, Value row, Value channel) {
    Value first = kit.add(kit.mul(block, blockRows), row);
    return element(acc, kit.add(kit.mul(first, widthV), channel));
  }
  /// The weights of a block's rows for a token, from their probabilities at
  /// `at`: V's scales in them.
  Value weight(Value at, Value token, int64_t lanes);
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_PACKEDBLOCKS_H
