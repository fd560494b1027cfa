//===- SeenTokens.h - how much of a cache a step sees -----------*- C++ -*-===//
//
// What bytes and operations of a step are counted in. The read and the visible
// region are evaluated at each place, as attention itself does it.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_REFERENCE_SEENTOKENS_H
#define KVC_LIB_DRIVER_REFERENCE_SEENTOKENS_H

#include "lib/driver/Reference/Attend.h"

namespace kvc::reference {

/// What the query tokens of one sequence see at all kv heads of a store.
/// Numbers of pairs are beyond any integer where positions are.
struct SeenTokens {
  double cached = 0;   ///< (kv head, token) that some query row sees
  double scores = 0;   ///< (query row, token) where the row sees the token
  int64_t longest = 0; ///< tokens of the kv head that sees most
};

/// Counts for the last `queries` of a sequence of `length` tokens, which has
/// row 0 of the constants. Takes as long as `placesOf` says.
SeenTokens countSeen(const AttendProblem &problem, int64_t length,
                     int64_t queries);

/// How often countSeen() runs the visible region.
double placesOf(const AttendProblem &problem, int64_t length, int64_t queries);

} // namespace kvc::reference

#endif // KVC_LIB_DRIVER_REFERENCE_SEENTOKENS_H
