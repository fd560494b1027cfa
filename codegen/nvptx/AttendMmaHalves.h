//===- AttendMmaHalves.h - operands of 16-bit elements ----------*- C++ -*-===//
//
// Sources whose products are of bf16 or f16: codes as they are, and what codes
// that become such elements have in common.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_ATTENDMMAHALVES_H
#define KVC_CODEGEN_NVPTX_ATTENDMMAHALVES_H

#include "codegen/nvptx/AttendMmaOperands.h"

namespace kvc::nvptx {

/// A 16-bit element of products.
struct HalfFormat {
  mlir::Type (*type)(mlir::MLIRContext *context);
  Ptx product, convert; ///< `convert`: of two f32, the upper one first
  int64_t exponent;     ///< bits that are all set where it is no number
  int64_t ones;         ///< two elements of 1, as a word
};
extern const HalfFormat kBF16Halves, kF16Halves;

/// Two elements of a 16-bit type as f32, the lower one first.
Values unpackHalves(Kit &kit, mlir::Value word, mlir::Type type);
/// The largest |x| of words of two elements of `type`, over the lanes that
/// share a query row, as bits of f32; more than those of any number if one is
/// none.
mlir::Value largestSize(Kit &kit, const Values &words, mlir::Type type);
/// f32: 2^exponent, for an i32 from -126 on; infinity for 128.
mlir::Value powerOfTwo(Kit &kit, mlir::Value exponent);

/// K whose codes are 16-bit elements, or become such with each word of theirs
/// as one or more of fragments.
class HalvesK : public OperandSourceK {
public:
  HalvesK(AttendKernel &a, const HalfFormat &format)
      : OperandSourceK(a), format(format) {}

  int64_t productChannels() const override { return 16; }
  Ptx product(int64_t) const override { return format.product; }
  Value zero() override { return kit.f32(0); }
  Query query(Value row, Value threadInGroup) override;
  bool scalesQuery() const override {
    return format.type(kit.b.getContext()) != a.k.dtype;
  }
  llvm::SmallVector<Fragment, 2> loadInM(const Step &step, int64_t tile,
                                         int64_t load) override;
  Values loadInN(const Step &step, int64_t tile, int64_t load) override;

protected:
  /// Word `part` of a fragment from a word of codes, which a matrix of 8 tokens
  /// and 16 bytes has in this lane; one after the other they are a product's.
  virtual Value elements(Value codes, int64_t /*part*/) { return codes; }
  /// How many there are of a word.
  int64_t partsOfWord() const {
    return 16 / a.body.k.code().getIntOrFloatBitWidth();
  }
  /// i32: the first of the two channels, of a product's 16, that the lane's
  /// first (`half` 0) or second word has.
  virtual Value channelOf(int64_t half, Value threadInGroup);

  const HalfFormat &format;
};

/// V whose codes are 16-bit elements.
class HalvesV : public OperandSourceV {
public:
  HalvesV(AttendKernel &a, const HalfFormat &format)
      : OperandSourceV(a), format(format) {}

  Ptx product() const override { return format.product; }
  Value channelInM(int64_t slot, Value groupId) override;
  Value channelInN(int64_t slot, Value threadInGroup) override;
  llvm::ArrayRef<int64_t> neighboursInM() const override;
  llvm::ArrayRef<int64_t> neighboursInN() const override;
  Value packP(Value low, Value high, int64_t part) override;
  llvm::SmallVector<Fragment, 2> loadInM(const Step &step, int64_t block,
                                         int64_t load) override;
  Values loadInN(const Step &step, int64_t block, int64_t chunk) override;
  int64_t nonFiniteBits() const override { return format.exponent; }
  Value element(Shared row, Value channel, int64_t first) override;

protected:
  const HalfFormat &format;
};

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_ATTENDMMAHALVES_H
