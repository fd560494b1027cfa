//===- Spec.cpp - the facts of the typed form -----------------------------===//
#include "lib/base/Spec/Spec.h"

#include "llvm/Support/ErrorHandling.h"

#include <algorithm>

using namespace kvc;
using namespace kvc::spec;

const char *spec::name(DType type) {
  switch (type) {
  case DType::F32:
    return "f32";
  case DType::F16:
    return "f16";
  case DType::BF16:
    return "bf16";
  }
  llvm_unreachable("no such dtype");
}

const char *spec::name(Fp8Codec::Format format) {
  return format == Fp8Codec::Format::E4M3 ? "fp8_e4m3" : "fp8_e5m2";
}

unsigned spec::bytes(DType type) { return type == DType::F32 ? 4 : 2; }

bool Scope::covers(unsigned layer) const {
  return std::binary_search(layers.begin(), layers.end(), layer);
}

std::vector<unsigned> spec::layerRange(unsigned begin, unsigned end,
                                       unsigned step) {
  std::vector<unsigned> layers;
  for (; begin < end; begin += std::min(step, end - begin))
    layers.push_back(begin);
  return layers;
}

std::optional<unsigned> spec::stepOf(const std::vector<unsigned> &layers) {
  if (layers.size() < 2)
    return 1;
  unsigned step = layers[1] - layers[0];
  for (size_t i = 2; i < layers.size(); ++i)
    if (layers[i] - layers[i - 1] != step)
      return std::nullopt;
  return step;
}
