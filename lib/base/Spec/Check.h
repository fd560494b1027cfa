//===- Check.h - rules between fields ---------------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SPEC_CHECK_H
#define KVC_LIB_BASE_SPEC_CHECK_H

#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Spec.h"

namespace kvc::spec {

/// Reports every broken rule between fields of `spec`, which was read from the
/// context's document. A zero count or an empty scope is a field that could
/// not be read: it has its own error, and rules that need it are skipped.
void check(Context &context, const Spec &spec);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_CHECK_H
