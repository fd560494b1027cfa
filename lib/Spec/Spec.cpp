//===- Spec.cpp - the facts of the typed form -----------------------------===//
#include "lib/Spec/Spec.h"

#include "llvm/Support/ErrorHandling.h"

using namespace kvc;

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

unsigned spec::bytes(DType type) { return type == DType::F32 ? 4 : 2; }
