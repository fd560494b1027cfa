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

const char *spec::name(IntCodec::Rounding rounding) {
  switch (rounding) {
  case IntCodec::Rounding::Even:
    return "even";
  case IntCodec::Rounding::HalfUp:
    return "half_up";
  case IntCodec::Rounding::HalfAway:
    return "half_away";
  }
  llvm_unreachable("no such rounding");
}

const char *spec::name(MinifloatCodec::Format format) {
  switch (format) {
  case MinifloatCodec::Format::E4M3:
    return "fp8_e4m3";
  case MinifloatCodec::Format::E5M2:
    return "fp8_e5m2";
  case MinifloatCodec::Format::E2M1:
    return "fp4_e2m1";
  }
  llvm_unreachable("no such format");
}

unsigned spec::bits(MinifloatCodec::Format format) {
  return format == MinifloatCodec::Format::E2M1 ? 4 : 8;
}

unsigned spec::bytes(DType type) { return type == DType::F32 ? 4 : 2; }

const char *spec::name(ParameterType type) {
  switch (type) {
  case ParameterType::F32:
    return "f32";
  case ParameterType::F16:
    return "f16";
  case ParameterType::E4M3:
    return "e4m3";
  case ParameterType::E8M0:
    return "e8m0";
  }
  llvm_unreachable("no such type");
}

unsigned spec::bytes(ParameterType type) {
  return type == ParameterType::F32 ? 4 : type == ParameterType::F16 ? 2 : 1;
}

bool spec::storesV(const Spec &spec, unsigned layer) {
  return std::any_of(spec.stores.begin(), spec.stores.end(),
                     [&](const Store &store) {
                       return !store.v.ofK && store.scope.covers(layer);
                     });
}

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
