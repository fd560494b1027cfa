//===- ConstantArrays.h - constants as a call gives them --------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_CONSTANTARRAYS_H
#define KVC_LIB_DRIVER_VERIFY_CONSTANTARRAYS_H

#include "lib/driver/Verify/CompiledSpec.h"

namespace kvc::verify {

/// The arrays of a store's given constants, for batches of up to `sequences`.
class ConstantArrays {
public:
  ConstantArrays(const CompiledStore &store, size_t sequences);
  ConstantArrays(ConstantArrays &&) = default;

  /// Gives the sequences of a batch, in order, these rows of the constants that
  /// each has. The arrays stay where they are.
  void setRows(llvm::ArrayRef<int64_t> rows);
  /// In the program's order; live as long as this.
  llvm::ArrayRef<const void *> pointers() const { return arrays; }
  void lend(Lent &lent) const;

private:
  const CompiledStore &store;
  std::vector<std::vector<uint32_t>> words; ///< as the arrays hold them
  llvm::SmallVector<const void *, 2> arrays;
};

/// Draws them: f32 values that differ from element to element, integers that
/// say yes or no, or where.
std::shared_ptr<const reference::GivenConstants>
drawConstants(const spec::Attend &attend);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_CONSTANTARRAYS_H
