//===- Remarks.h - an artifact's remarks ------------------------*- C++ -*-===//
//
// An artifact carries the remarks that its compilation made, so that a user
// hears of a slower path also when the artifact comes from the cache.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_COMPILER_REMARKS_H
#define KVC_LIB_DRIVER_COMPILER_REMARKS_H

#include "lib/base/Support/Diagnostics.h"

#include "llvm/ADT/StringRef.h"

namespace kvc {

inline constexpr const char *kRemarksName = "remarks.json";

struct Remark {
  std::string code;    ///< "R-FOLDED"
  std::string pointer; ///< JSON pointer into the spec
  std::string message;
};

/// The remarks among `diagnostics`.
std::vector<Remark> remarksOf(const Diagnostics &diagnostics);
/// As a JSON array, and back (empty if it is none).
std::string writeRemarks(const std::vector<Remark> &remarks);
std::vector<Remark> readRemarks(llvm::StringRef json);

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_REMARKS_H
