//===- ExactValues.h - numbers that V's codec keeps to the bit --*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_EXACTVALUES_H
#define KVC_LIB_DRIVER_VERIFY_EXACTVALUES_H

#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/driver/Verify/Random.h"

namespace kvc::verify {

/// Rows of V that its codec keeps to the bit, and that every float type has:
/// integers of up to 256. The last channels of each group that shares a scale
/// hold the ends of what its codes span, so that its scale is a power of two
/// and its zero an integer. Of floats those are integers that have the digits
/// of the largest value, times a power of two.
class ExactValues {
public:
  explicit ExactValues(const CompiledStore &store);

  /// What a row that says where it stands has in a channel: an end, or a digit
  /// of (token, kv head of the model), in as many values as there are codes.
  /// None is 0: what others may still weigh under a softcap is lost beside it.
  float address(int64_t head, int64_t token, int64_t channel) const;
  /// By how much the largest address exceeds the least, in magnitude.
  double addressRatio() const;

  /// The largest magnitude that is drawn.
  static constexpr int64_t kMostDrawn = 128;
  void draw(llvm::MutableArrayRef<float> row, Random &random) const;
  /// A large number, where all of a row are that.
  float markOfRow() const { return mark; }

private:
  /// What the last channel of a group holds, if codes have a sign, in units.
  int64_t end() const { return extreme ? -(span / 2 + 1) : span / 2; }
  /// The least element of a group of an address, if codes have no sign.
  int64_t leastOf(int64_t address, int64_t group) const;

  int64_t heads;
  int64_t group;  ///< channels that share a scale
  bool fromLeast; ///< codes count from a zero; else they have a sign
  bool extreme;   ///< the least code has no negative, and is what has the end
  int64_t span;   ///< from the least code to the largest
  /// Between what is drawn: as far apart as codes of 8 bits, so that one token
  /// more shows as well.
  int64_t unit;
  float mark;
  int64_t ends;       ///< channels of a group that hold them
  int64_t base;       ///< of digits
  int64_t places = 1; ///< digits of an address
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_EXACTVALUES_H
