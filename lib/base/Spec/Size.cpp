//===- Size.cpp - how many bytes a spec costs -----------------------------===//
#include "lib/base/Spec/Size.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace kvc;
using namespace kvc::spec;

/// How many groups a row has; a group of 0 is all of it.
static unsigned groupsOf(const Stream &stream, unsigned group) {
  return group ? stream.dim / group : 1;
}

RowBytes spec::rowBytes(const Stream &stream) {
  if (stream.ofK)
    return {};
  return std::visit(llvm::makeVisitor(
                        [&](const FloatCodec &stored) -> RowBytes {
                          return {stream.dim * bytes(stored.type), 0, 0};
                        },
                        [&](const IntCodec &quantised) -> RowBytes {
                          unsigned groups = groupsOf(stream, quantised.group);
                          const auto &zero = quantised.zeroType;
                          return {stream.dim * quantised.bits / 8,
                                  groups * bytes(quantised.scaleType),
                                  zero ? groups * bytes(*zero) : 0};
                        },
                        [&](const MinifloatCodec &stored) -> RowBytes {
                          const auto &scale = stored.scaleType;
                          unsigned groups = groupsOf(stream, stored.group);
                          return {stream.dim * bits(stored.format) / 8,
                                  scale ? groups * bytes(*scale) : 0, 0};
                        }),
                    stream.codec);
}

static uint64_t heads(const Store &store) {
  return store.scope.headEnd - store.scope.headBegin;
}

uint64_t spec::tokenBytes(const Store &store) {
  return heads(store) * (rowBytes(store.k).total() + rowBytes(store.v).total());
}

uint64_t spec::pageBytes(const Store &store) {
  if (!store.layout.paged)
    return 0;
  uint64_t sum = 0;
  for (const Stream *stream : {&store.k, &store.v}) {
    RowBytes row = rowBytes(*stream);
    for (uint64_t bytes : {row.codes, row.scales, row.zeros})
      sum += llvm::alignTo(heads(store) * store.layout.page * bytes,
                           kPlaneAlignment);
  }
  return sum;
}

uint64_t spec::tokenBytes(const Spec &spec) {
  uint64_t sum = 0;
  for (const Store &store : spec.stores)
    sum += tokenBytes(store) * store.scope.layers.size();
  return sum;
}

uint64_t spec::plainTokenBytes(const Model &model) {
  return uint64_t(model.layers) * model.kvHeads *
         (model.headDimK + model.headDimV) * bytes(model.dtype);
}
