//===- ExactValues.cpp - numbers that V's codec keeps to the bit ----------===//
#include "lib/driver/Verify/ExactValues.h"

#include "llvm/ADT/APFloat.h"

using namespace kvc;
using namespace kvc::verify;

/// The largest integer up to which bf16 has all.
static constexpr int64_t kMostExact = 256;

/// The largest code that has no sign, of integers up to it that codes all have,
/// times powers of two: of a float the digits of its largest value.
static int64_t mostOf(mlir::Type code) {
  auto type = mlir::dyn_cast<mlir::FloatType>(code);
  if (!type)
    return (int64_t(1) << (code.getIntOrFloatBitWidth() - 1)) - 1;
  const llvm::fltSemantics &semantics = type.getFloatSemantics();
  int digits = int(llvm::APFloat::semanticsPrecision(semantics));
  llvm::APFloat largest =
      llvm::scalbn(llvm::APFloat::getLargest(semantics),
                   digits - 1 - llvm::APFloat::semanticsMaxExponent(semantics),
                   llvm::APFloat::rmTowardZero);
  return std::min(int64_t(largest.convertToDouble()), int64_t(127));
}

ExactValues::ExactValues(const CompiledStore &store) : heads(store.kvHeads()) {
  StreamInfo info = store.cache().stream(kStreamV);
  auto planes = info.planes();
  mlir::Type code = planes[0].type;
  bool scaled = planes.size() > 1;
  group = scaled ? info.dim / planes[1].elements : info.dim;
  fromLeast = llvm::any_of(planes, [](const CodecPlane &plane) {
    return plane.role == kPlaneZeros;
  });
  extreme = info.codec.hasSignedScales();
  // Without a zero the least code is the largest one's negative.
  span = fromLeast ? (int64_t(1) << code.getIntOrFloatBitWidth()) - 1
                   : 2 * mostOf(code);
  unit = int64_t(llvm::bit_floor(uint64_t(kMostExact / (span + 1 + extreme))));
  mark = 127 * 256;
  // Few digits of a float are within the reach of its exponents.
  auto type = mlir::dyn_cast<mlir::FloatType>(code);
  if (type && type.getWidth() <= 8) {
    double largest =
        llvm::APFloat::getLargest(type.getFloatSemantics()).convertToDouble();
    if (!scaled)
      unit = std::min(unit, int64_t(largest) / span);
    mark = float(4 * unit * (span / 2));
    if (!scaled)
      mark = std::min(mark, float(largest));
  }
  ends = fromLeast ? 2 : 1;
  base = fromLeast ? span + 1 : std::min<int64_t>(span, 64);
  constexpr int64_t kAddresses = int64_t(1) << 24;
  for (int64_t count = base; count < kAddresses; count *= base)
    ++places;
}

/// Of neighbours another: a zero of another row or group shows.
int64_t ExactValues::leastOf(int64_t address, int64_t group) const {
  return 1 + (address + group) % std::min<int64_t>(8, kMostExact - span);
}

float ExactValues::address(int64_t head, int64_t token, int64_t channel) const {
  int64_t address = token * heads + head;
  int64_t number = channel / group, at = channel % group;
  int64_t least = leastOf(address, number), most = span / 2;
  if (at == group - 1)
    return float(fromLeast ? least + span : end());
  if (at >= group - ends)
    return float(least);
  int64_t digit = address;
  for (int64_t place = (number * (group - ends) + at) % places; place; --place)
    digit /= base;
  digit %= base;
  if (fromLeast)
    return float(least + digit);
  return float(digit < most ? digit + 1 : most - 1 - digit);
}

double ExactValues::addressRatio() const {
  return double(fromLeast ? leastOf(7, 0) + span : std::abs(end()));
}

void ExactValues::draw(llvm::MutableArrayRef<float> row, Random &random) const {
  int64_t most = span / 2;
  for (int64_t first = 0; first < int64_t(row.size()); first += group) {
    int64_t least = -most * unit;
    if (fromLeast)
      least = random.range(-kMostDrawn, kMostDrawn - span * unit);
    for (int64_t at = 0; at < group; ++at) {
      int64_t code = at == group - 1      ? span
                     : at >= group - ends ? 0
                                          : random.range(0, span);
      row[first + at] = float(least + code * unit);
    }
    if (extreme)
      row[first + group - 1] = float(end() * unit);
  }
}
