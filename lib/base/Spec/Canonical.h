//===- Canonical.h - one text per meaning -----------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SPEC_CANONICAL_H
#define KVC_LIB_BASE_SPEC_CANONICAL_H

#include "lib/base/Spec/Spec.h"

namespace kvc::spec {

/// The `attend` of a store, keys sorted; "" if it says nothing.
std::string canonicalText(const Attend &attend);

/// `spec` as minified JSON with sorted keys, every default written out and no
/// shorthand. Reading it gives the same text again.
std::string canonicalText(const Spec &spec);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_CANONICAL_H
