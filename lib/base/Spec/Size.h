//===- Size.h - how many bytes a spec costs ---------------------*- C++ -*-===//
//
// Sizes as the host shows them, before there is any IR: `kvc check` and `kvc
// explain` print these, and a test holds them against the artifact's geometry.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_SIZE_H
#define KVC_LIB_BASE_SPEC_SIZE_H

#include "lib/base/Spec/Spec.h"

namespace kvc::spec {

/// Planes and pages start at multiples of this many bytes.
inline constexpr uint64_t kPlaneAlignment = 64;

/// The largest page that an artifact can describe.
inline constexpr uint64_t kMaxPageBytes = uint64_t(1) << 30;

/// Bytes of one (token, kv head) of a stream, by plane and in their order.
struct RowBytes {
  unsigned codes = 0, scales = 0, zeros = 0;
  unsigned total() const { return codes + scales + zeros; }
};
RowBytes rowBytes(const Stream &stream); ///< 0 of V that is of K

/// Bytes of one token in one layer of the store, all of its heads, K and V.
uint64_t tokenBytes(const Store &store);
/// Bytes of one page in one layer: each plane (codes, scales and zeros of K
/// and V) rounded up to kPlaneAlignment. 0 if the layout has no pages.
uint64_t pageBytes(const Store &store);

/// Bytes of one token in all layers of all stores.
uint64_t tokenBytes(const Spec &spec);
/// The same if every element were kept in the model's dtype.
uint64_t plainTokenBytes(const Model &model);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_SIZE_H
