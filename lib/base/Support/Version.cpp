//===- Version.cpp - who made this ----------------------------------------===//
#include "lib/base/Support/Version.h"

#include "llvm/Config/llvm-config.h"

const char *kvc::version() { return KVC_VERSION; }
const char *kvc::llvmVersion() { return LLVM_VERSION_STRING; }
const char *kvc::producer() {
  return "kvc " KVC_VERSION ", LLVM " LLVM_VERSION_STRING;
}
