//===- Tensors.h - a model's tensors through a cache ------------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_TENSORS_H
#define KVC_LIB_DRIVER_VERIFY_TENSORS_H

#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/driver/Verify/Report.h"
#include "lib/driver/Verify/Safetensors.h"

namespace kvc::verify {

/// q, k and v of one layer over one text, in f32: [tokens][heads][dim] each.
struct LayerTensors {
  unsigned layer = 0;
  int64_t tokens = 0;
  std::vector<float> q, k, v;
};

/// `layers.<i>.q`, `.k` and `.v` of a file, for every i that it has, rounded to
/// the model's dtype. nullopt, with one line in `error`, if one is missing,
/// does not fit the model, or the file has none. At most `limit` tokens, if it
/// is not 0. No `.v` is asked for where it is of K.
std::optional<std::vector<LayerTensors>> takeLayers(const Safetensors &file,
                                                    const spec::Spec &spec,
                                                    int64_t limit,
                                                    std::string &error);

/// Numbers that look like a model's, for the first and last layer of every
/// store.
std::vector<LayerTensors> makeLayers(const spec::Spec &spec, int64_t tokens,
                                     uint64_t seed);

/// What one store gave on one layer.
struct LayerReport {
  unsigned layer = 0;
  std::string store;
  int64_t tokens = 0;
  /// Largest difference that the codecs make to o, over the largest |o|; 0
  /// where they store what the model computes with. Not an error of a kernel.
  double loss = 0;
  Report report;
};

/// Appends every layer's tokens through one kvc_cache, first one by one, then
/// in chunks as a prefill, attends at every position and compares all with
/// float64.
std::vector<LayerReport> replay(const CompiledSpec &compiledSpec,
                                const std::vector<LayerTensors> &layers);

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_TENSORS_H
