//===- KvcDialect.cpp - registration --------------------------------------===//
#include "dialect/KvcDialect.h"

using namespace mlir;
using namespace kvc;

#include "dialect/KvcAttrInterfaces.cpp.inc"
#include "dialect/KvcDialect.cpp.inc"
#include "dialect/KvcEnums.cpp.inc"

void KvcDialect::initialize() {
  registerAttributes();
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "dialect/KvcOps.cpp.inc"
      >();
}
