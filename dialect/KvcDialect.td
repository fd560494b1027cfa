//===- KvcDialect.td - the kvc dialect ---------------------*- tablegen -*-===//
#ifndef KVC_DIALECT
#define KVC_DIALECT

include "mlir/IR/OpBase.td"

def Kvc_Dialect : Dialect {
  let name = "kvc";
  let cppNamespace = "::kvc";
  let summary = "what a KV cache is and what is done with it";
  let description = [{
    Caches are types; codecs, layouts and reads are attributes; ops are verbs.
    Nothing here knows a machine. The meaning of each op is the code that runs
    it in `lib/Reference`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect",
    "::mlir::func::FuncDialect", "::mlir::math::MathDialect"];
  let extraClassDeclaration = [{
    void registerAttributes();
    void registerTypes();
  }];
}

#endif // KVC_DIALECT
