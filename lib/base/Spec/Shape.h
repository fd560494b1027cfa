//===- Shape.h - the shape of the spec language -----------------*- C++ -*-===//
//
// Between the parser, which knows JSON only, and the rules between fields
// (Check.h) stands what each object may have: its keys, their types, ranges and
// defaults. A field that cannot be read is reported and keeps its zero, so that
// one run finds the errors of the others as well.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_SHAPE_H
#define KVC_LIB_BASE_SPEC_SHAPE_H

#include "lib/base/Spec/Spec.h"

namespace kvc::spec {

class Context;
struct Node;

/// Fills `spec` from the document of `context`, and sets the version that the
/// document is in.
void readShape(Context &context, Spec &spec);

/// The part of a store that is its streams, whose dimensions are known, or 0.
void readStreams(Context &context, const Node &node, Store &store);

/// The part of a store that is expressions. Its indices are checked against the
/// heads of `model`, which has been read.
void readAttend(Context &context, const Node &node, const Model &model,
                Attend &attend);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_SHAPE_H
