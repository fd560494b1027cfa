//===- Kit.h - the small vocabulary of GPU kernels --------------*- C++ -*-===//
//
// What a kernel is written in: 32-bit integers, f32, 32-bit addresses of shared
// memory, pointers to global memory, structured control flow, and the
// instructions of lib/base/Simt/Ops.def by name. The same module becomes PTX
// (Ptx.cpp) and an emulated kernel (Sim.cpp).
//
// Every call notes the C++ line that it stands in as the location of what it
// emits, so that the emulator can say which line of a kernel went wrong.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_KIT_H
#define KVC_CODEGEN_NVPTX_KIT_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

#include <source_location>

namespace kvc::nvptx {

/// The instructions of lib/base/Simt/Ops.def.
enum class Ptx : uint32_t {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) NAME,
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
};

enum class OpKind : uint8_t { Pure, Effect, Collective };
struct OpInfo {
  llvm::StringRef name;
  unsigned minSm;
  OpKind kind;
  llvm::StringRef constraints, text;
};
const OpInfo &infoOf(Ptx op);
/// The row that an inline assembly op was made from; nullopt if from none.
std::optional<Ptx> ptxOf(mlir::LLVM::InlineAsmOp op);

/// A place in shared memory: an address that a thread computed and a constant
/// that the instruction adds.
struct Shared {
  mlir::Value base; ///< i32
  int64_t offset = 0;
  Shared operator+(int64_t bytes) const { return {base, offset + bytes}; }
};

class Kit {
public:
  using CodeLoc = std::source_location;
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Values = llvm::SmallVector<mlir::Value>;

  Kit(mlir::OpBuilder &b, mlir::Location kernel) : b(b), kernel(kernel) {}

  mlir::OpBuilder &b;
  mlir::Location kernel; ///< of the whole kernel

  /// A location that names the C++ line.
  mlir::Location at(const CodeLoc &here);

  //===--- types ------------------------------------------------------------//
  mlir::Type i32() { return b.getI32Type(); }
  mlir::Type f32() { return b.getF32Type(); }
  mlir::Type global() { // pointer to global memory
    return mlir::LLVM::LLVMPointerType::get(b.getContext(), 1);
  }
  mlir::VectorType vec(int64_t n, mlir::Type type) {
    return mlir::VectorType::get(n, type);
  }

  //===--- instructions -----------------------------------------------------//
  /// Emits one row of Ops.def. `constants` are its "n" operands, which all come
  /// last. f32, i32, i64 and global pointers as the constraints say; a vector
  /// of 32 or 64 bits is cast.
  Values op(Ptx op, ValueRange operands, llvm::ArrayRef<int64_t> constants = {},
            CodeLoc here = CodeLoc::current());
  /// The one result.
  Value op1(Ptx op, ValueRange operands, llvm::ArrayRef<int64_t> constants = {},
            CodeLoc here = CodeLoc::current());

  Value threadId(CodeLoc here = CodeLoc::current());
  Value shflXor(Value x, int64_t mask, CodeLoc here = CodeLoc::current());

  //===--- integers (i32 unless an operand is i64) ---------------------------//
  Value i32(int64_t value);
  Value i64(int64_t value);
  Value extI64(Value x); ///< i32 sign-extended to i64; i64 as it is
  Value truncI32(Value x);
  Value add(Value x, Value y);
  Value add(Value x, int64_t y);
  Value sub(Value x, Value y);
  Value mul(Value x, Value y);
  Value mul(Value x, int64_t y);
  /// Of non-negative values: unsigned, so powers of two become shifts.
  Value div(Value x, int64_t y);
  Value rem(Value x, int64_t y);
  Value div(Value x, Value y);
  Value rem(Value x, Value y);
  Value ceilDiv(Value x, int64_t y);
  Value min(Value x, Value y);
  Value max(Value x, Value y);
  Value and_(Value x, int64_t mask);
  Value and_(Value x, Value y); ///< also of conditions
  Value or_(Value x, Value y);
  Value xor_(Value x, Value y);
  Value shl(Value x, int64_t bits);
  Value shr(Value x, int64_t bits); ///< unsigned
  Value not_(Value condition);
  Value cmp(mlir::arith::CmpIPredicate p, Value x, Value y);
  Value less(Value x, Value y); ///< signed
  Value select(Value c, Value x, Value y);
  Value bitcast(Value x, mlir::Type type);

  //===--- f32, scalar or vector --------------------------------------------//
  Value f32(double value);
  Value constant(double value, mlir::Type type);
  Value fadd(Value x, Value y);
  Value fsub(Value x, Value y);
  Value fmul(Value x, Value y);
  Value fma(Value x, Value y, Value z);
  /// One instruction each; the number wins over a NaN.
  Value fmax(Value x, Value y);
  Value fmin(Value x, Value y);
  Value fcmp(mlir::arith::CmpFPredicate p, Value x, Value y);
  Value ex2(Value x, CodeLoc here = CodeLoc::current());
  Value lg2(Value x, CodeLoc here = CodeLoc::current());
  Value rcp(Value x, CodeLoc here = CodeLoc::current());
  /// tanh to about 2^-22 of itself, for every x.
  Value tanh(Value x, CodeLoc here = CodeLoc::current());
  /// The same, to the bit, for |x| below kTanhNear.
  static constexpr double kTanhNear = 0.55;
  Value tanhNear(Value x);

  //===--- control ----------------------------------------------------------//
  using Body = llvm::function_ref<void(Value iv)>;
  using CarryBody = llvm::function_ref<Values(Value iv, ValueRange carried)>;
  /// for iv in [low, high) by step, in i32.
  void loop(Value low, Value high, Value step, Body body);
  Values loop(Value low, Value high, Value step, ValueRange init,
              CarryBody body);
  /// For iv in [0, n), in a loop that the assembler leaves as it is: of one of
  /// few rounds it would repeat the body.
  Values loopNoUnroll(int64_t n, ValueRange init, CarryBody body);
  /// Emits the body n times; iv is a C++ number.
  void unroll(int64_t n, llvm::function_ref<void(int64_t)> body) {
    for (int64_t i = 0; i < n; ++i)
      body(i);
  }
  void when(Value condition, llvm::function_ref<void()> then,
            llvm::function_ref<void()> otherwise = nullptr);
  /// Both sides give the same types.
  Values choose(Value condition, llvm::function_ref<Values()> then,
                llvm::function_ref<Values()> otherwise);

  //===--- global memory ----------------------------------------------------//
  /// base + bytes, where bytes is i32 (sign-extended) or i64.
  Value ptr(Value base, Value bytes);
  Value ptr(Value base, int64_t bytes);
  Value load(mlir::Type type, Value address, unsigned align,
             CodeLoc here = CodeLoc::current());
  /// Of memory that no one writes while the kernel runs.
  Value loadReadOnly(mlir::Type type, Value address, unsigned align,
                     CodeLoc here = CodeLoc::current());
  void store(Value value, Value address, unsigned align,
             CodeLoc here = CodeLoc::current());
  /// Of a row of `type` elements (f32, f16, bf16): n of them as a vector of
  /// f32, and back with rounding to nearest even.
  Value loadAsF32(mlir::Type type, Value address, int64_t n,
                  CodeLoc here = CodeLoc::current());
  void storeFromF32(Value x, mlir::Type type, Value address,
                    CodeLoc here = CodeLoc::current());

  //===--- shared memory ----------------------------------------------------//
  /// Of 1 (as i32), 2 (as i32), 4, 8 or 16 bytes in all, naturally aligned.
  Value loadShared(mlir::Type type, Shared from,
                   CodeLoc here = CodeLoc::current());
  void storeShared(Value value, Shared to, CodeLoc here = CodeLoc::current());

  //===--- vectors ----------------------------------------------------------//
  Value splat(Value scalar, int64_t n);
  Value extract(Value x, int64_t lane);
  Value concat(llvm::ArrayRef<Value> scalars);
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_KIT_H
