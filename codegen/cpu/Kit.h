//===- Kit.h - the small vocabulary of CPU kernels --------------*- C++ -*-===//
//
// Loops, addresses, vectors: each helper is one idea and says why where the
// obvious spelling is slow. Everything emitted calls no library.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_CPU_KIT_H
#define KVC_CODEGEN_CPU_KIT_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

namespace kvc::cpu {

class Kit {
public:
  Kit(mlir::OpBuilder &b, mlir::Location loc, int64_t lanes)
      : b(b), loc(loc), lanes(lanes) {}

  mlir::OpBuilder &b;
  mlir::Location loc;
  int64_t lanes; ///< f32 per vector register

  //===--- types ------------------------------------------------------------//
  mlir::Type f32() { return b.getF32Type(); }
  mlir::Type ptr() { return mlir::LLVM::LLVMPointerType::get(b.getContext()); }
  mlir::VectorType vec(int64_t n) { return mlir::VectorType::get(n, f32()); }

  //===--- integers (i64) ---------------------------------------------------//
  mlir::Value i64(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y);
  /// Of non-negative values: unsigned, so powers of two become shifts.
  mlir::Value div(mlir::Value x, int64_t y);
  mlir::Value rem(mlir::Value x, int64_t y);
  mlir::Value ceilDiv(mlir::Value x, int64_t y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  /// A vector of n equal i32, or of the given ones.
  mlir::Value i32s(int64_t n, int32_t value);
  mlir::Value i32s(llvm::ArrayRef<int32_t> values);
  /// n lanes of an i64, truncated to i32.
  mlir::Value truncI32(mlir::Value x); ///< of an i64
  mlir::Value splatI32(mlir::Value x, int64_t n);
  mlir::Value cmp(mlir::arith::CmpIPredicate p, mlir::Value x, mlir::Value y);
  mlir::Value both(mlir::Value x, mlir::Value y);
  mlir::Value either(mlir::Value x, mlir::Value y);
  /// Of a condition.
  mlir::Value negate(mlir::Value x);
  mlir::Value select(mlir::Value c, mlir::Value x, mlir::Value y);
  /// Whether any lane of a vector of conditions holds.
  mlir::Value any(mlir::Value conditions);

  //===--- control ----------------------------------------------------------//
  using Body = llvm::function_ref<void(mlir::Value iv)>;
  using CarryBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value iv, mlir::ValueRange carried)>;
  /// for iv in [low, high) by step. A loop of one constant round is just its
  /// body.
  void loop(mlir::Value low, mlir::Value high, int64_t step, Body body);
  void loop(int64_t low, int64_t high, int64_t step, Body body);
  llvm::SmallVector<mlir::Value> loop(mlir::Value low, mlir::Value high,
                                      int64_t step, mlir::ValueRange init,
                                      CarryBody body);
  void when(mlir::Value condition, llvm::function_ref<void()> then,
            llvm::function_ref<void()> otherwise = nullptr);

  //===--- memory -----------------------------------------------------------//
  mlir::Value at(mlir::Value base, mlir::Value bytes);
  mlir::Value at(mlir::Value base, int64_t bytes);
  /// An address that need not be in an object, and is never loaded from.
  mlir::Value anywhere(mlir::Value base, mlir::Value bytes);
  mlir::Value load(mlir::Type type, mlir::Value address, unsigned align = 0);
  void store(mlir::Value value, mlir::Value address, unsigned align = 0);
  /// i32 sign-extended, or i64.
  mlir::Value loadI32(mlir::Value base, int64_t bytes);
  mlir::Value loadI64(mlir::Value base, int64_t bytes);
  mlir::Value loadPtr(mlir::Value base, int64_t bytes);
  mlir::Value isNotNull(mlir::Value address);
  /// Asks for the line in the caches from `level` on, 1 or 2.
  void prefetch(mlir::Value address, int64_t level);

  //===--- f32, scalar or vector ---------------------------------------------//
  mlir::Value constant(double value, mlir::Type type);
  mlir::Value splat(mlir::Value scalar, int64_t n);
  mlir::Value fadd(mlir::Value x, mlir::Value y);
  mlir::Value fsub(mlir::Value x, mlir::Value y);
  mlir::Value fmul(mlir::Value x, mlir::Value y);
  mlir::Value fdiv(mlir::Value x, mlir::Value y);
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  /// The larger or smaller, one instruction on x86: a NaN in y stays, a NaN in
  /// x is lost, so that a NaN anywhere must be found otherwise (as sums do).
  mlir::Value fmaxKeepNaN(mlir::Value x, mlir::Value y);
  mlir::Value fminKeepNaN(mlir::Value x, mlir::Value y);
  /// Vectors of i32 as f32, and back, `scale` times as much, to the nearest
  /// integer (of less than 2^22).
  mlir::Value toF32(mlir::Value x);
  mlir::Value roundToI32(mlir::Value x, double scale = 1);
  mlir::Value fcmp(mlir::arith::CmpFPredicate p, mlir::Value x, mlir::Value y);
  /// 2^x to 2 ulp for x < 128; below 2^-126 it may be 0, NaN stays NaN.
  mlir::Value exp2(mlir::Value x);
  /// tanh to about 2^-22 of itself, for every x.
  mlir::Value tanh(mlir::Value x);

  //===--- products that sum over neighbours ---------------------------------//
  // sum[i] + x[2i] y[2i] + x[2i+1] y[2i+1]: x and y have twice as many elements
  // as sum, or are given as i32 words of them.
  /// bf16 pairs into f32 (avx512bf16).
  mlir::Value dotBF16(mlir::Value sum, mlir::Value x, mlir::Value y);
  /// i16 pairs into i32 (avx512vnni).
  mlir::Value dotI16(mlir::Value sum, mlir::Value x, mlir::Value y);

  //===--- matrix registers (amx-bf16) ---------------------------------------//
  // Eight, by number: rows of 64 bytes of which the configuration says how
  // many. Rows stand `stride` bytes apart in memory.
  /// Reads the configuration, 64 bytes; all registers become 0.
  void configureTiles(mlir::Value address);
  /// Gives the registers back: what comes after has none to save.
  void releaseTiles();
  void zeroTile(int64_t tile);
  void loadTile(int64_t tile, mlir::Value address, int64_t stride);
  void storeTile(int64_t tile, mlir::Value address, int64_t stride);
  /// sum [row][column] f32 += x [row][2 n] * y [n][column][2] of bf16.
  void dotTiles(int64_t sum, int64_t x, int64_t y);

  //===--- lanes ------------------------------------------------------------//
  mlir::Value shuffle(mlir::Value x, mlir::Value y,
                      llvm::ArrayRef<int64_t> lanes);
  mlir::Value extract(mlir::Value x, int64_t lane);
  /// Concatenates equal power-of-two vectors.
  mlir::Value concat(llvm::ArrayRef<mlir::Value> parts);
  /// Repeats the lanes of x until there are n.
  mlir::Value repeat(mlir::Value x, int64_t n);
  /// The sums over the lanes of each vector (f32 or i32), a power of two of
  /// them, as one vector in their order. A tree of shuffles, for a reduction of
  /// each alone is a serial chain; each level is folded as soon as it can be,
  /// so that few of the vectors that `vector` makes are there at a time.
  mlir::Value reduceAdd(int64_t count,
                        llvm::function_ref<mlir::Value(int64_t)> vector);
  mlir::Value reduceAdd(llvm::ArrayRef<mlir::Value> vectors) {
    return reduceAdd(vectors.size(), [&](int64_t i) { return vectors[i]; });
  }
  /// Folds n lanes to m by combining lanes i, i+m, i+2m, ... with `combine`.
  mlir::Value
  fold(mlir::Value x, int64_t m,
       llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

  /// An operand of bf16 products: to nearest even, denormals to 0 as in the
  /// products themselves (avx512bf16).
  mlir::Value roundToBF16(mlir::Value x);
  /// As LookUpFn has it: where a register of f32 holds half of the table or
  /// all.
  mlir::Value lookUp(mlir::Value words, llvm::ArrayRef<float> table);
  /// A row of `type` elements (floats of a byte or more) as f32, and back (f32,
  /// f16, bf16) with rounding to nearest even.
  mlir::Value loadAsF32(mlir::Type type, mlir::Value address, int64_t n);
  void storeFromF32(mlir::Value x, mlir::Type type, mlir::Value address);
};

} // namespace kvc::cpu

#endif // KVC_CODEGEN_CPU_KIT_H
