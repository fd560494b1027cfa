//===- KernelBounds.h - how nearly a drawn kernel must agree ----*- C++ -*-===//
//
// The bounds of lib/driver/Verify/Oracle.h (N2 and lse), for bodies that no
// kvc.attend says: what a product may be off by is carried through the body's
// chain.
//
//   after q . k_t    A_t = |scale| |q| |k_t|
//                    E_t = 2u sqrt(d) A_t + u A_t, 16-bit models: + 2^-16 A_t
//   times a scale s  E_t = s E_t + u |x_t|
//   logits           4 E_t is carried through the steps (ScoreProgram.h); the
//                    value is that of the description, which knows no IR
//   L = ln 2 max_t E_t, over the n tokens that the row sees
//
//   |o_j - ref_j| <= (e^(4 (L + 2u sqrt(n) + 17u)) - 1 + 2 u_T) W_j
//                    + 1 ulp of ref_j + F
//   |lse - ref| <= 4 (L + 2u sqrt(n) + 17u + 2u |ref|)
//
// W_j = sum_t p_t |w_t v_tj| with the factor w_t of the probabilities' chain
// and, of integer codes in 16-bit models, 127 for |v_tj|; F as in Oracle.h.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_TILE_KERNELBOUNDS_H
#define KVC_TEST_UNIT_TILE_KERNELBOUNDS_H

#include "test/unit/Tile/KernelInputs.h"

#include "mlir/IR/MLIRContext.h"

namespace kvc::fuzz {

/// What one element or row must be, and how nearly.
struct Expected {
  double value = 0, bound = 0;
};

/// One row of a result: of one query token and q head.
struct ExpectedRow {
  bool empty = true; ///< sees nothing, not even a sink: o = 0, lse = -inf
  Expected lse;
  std::vector<Expected> o;
};

/// How exact a result is asked to be.
enum class Precision : uint8_t {
  Output,  ///< of the model's type
  Partial, ///< f32, by a kernel of the model's type
  Float64, ///< of an interpreter: only what dequantizing rounds
};

/// Attention straight from a kernel's description.
class Formula {
public:
  Formula(const Kernel &kernel, const AttendInputs &inputs);

  /// Row (query token `i` of sequence `b`, q head `column` of the store)
  /// against the tokens [begin, end), and against the sink if that takes part.
  ExpectedRow row(size_t b, int64_t i, int64_t column, int64_t begin,
                  int64_t end, Precision precision, bool sink = false) const;

private:
  /// Rows of one stream, dequantized without their scales.
  struct Stream {
    int64_t dim;
    bool integer;
    std::vector<float> codes, scales;
    std::vector<double> norms;
  };
  Stream dequantize(llvm::StringRef kind) const;
  /// A score before its chain.
  reference::Approx score(llvm::ArrayRef<float> q, size_t row,
                          Precision precision) const;
  reference::Approx logit(reference::Approx score, const ScorePlace &place,
                          size_t row) const;
  double weight(size_t row) const;

  const Kernel &kernel;
  const AttendInputs &inputs;
  std::vector<size_t> firstToken; ///< of each sequence
  Stream streams[2];
  mlir::MLIRContext context; ///< of regions that no kernel has
  std::vector<reference::ScoreProgram> programs; ///< of the scores' chain
};

/// Channel `c` of row `row` of a gather at slot `slot` and kv head `head` of
/// the store. |x - ref| <= what each op rounds, in f32, and then the model's
/// type once.
Expected gatheredElement(const Kernel &kernel, const GatherInputs &inputs,
                         const GatheredRow &row, int64_t slot, int64_t head,
                         int64_t c, Precision precision);

/// A row of a merge; `row` of the partial results' [splits][rows].
ExpectedRow mergedRow(const Kernel &kernel, const MergeInputs &inputs,
                      int64_t row, Precision precision);

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_KERNELBOUNDS_H
