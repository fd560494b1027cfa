//===- KvcInterfaces.td - the extension points -------------*- tablegen -*-===//
//
// A new codec, layout or read is a new attribute that implements one of these.
// No pass and no backend asks which attribute it has; it asks the interface.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_INTERFACES
#define KVC_INTERFACES

include "mlir/IR/OpBase.td"

def CodecAttrInterface : AttrInterface<"CodecAttrInterface"> {
  let cppNamespace = "::kvc";
  let description = [{
    How rows of a stream, one per (token, kv head), are stored: in planes, of
    which the first holds the *codes*, one per element, and any others hold what
    a code means: a scale per row, or one per box of tokens and channels.

    `quantizeRows` and `dequantizeRow` are the meaning: scalar, on the host, used
    by the interpreter. `buildDequantize` says the second in tile ops, which is
    all that passes and backends see of a codec where it is read. `emit*` builds
    the first on vectors of any width, bit for bit the same.
  }];
  let methods = [
    InterfaceMethod<[{The planes of rows of `dim` elements, codes first. A codec
        quantizes as many tokens at once as the largest of their boxes has.}],
      "::llvm::SmallVector<::kvc::CodecPlane, 3>", "getPlanes",
      (ins "int64_t":$dim)>,
    InterfaceMethod<[{
        Quantizes `tokens` rows that stand one after another in `rows`: a row
        each, or the box that `getPlanes` says. Each of `planes` is where a
        plane's rows for them go, one after another, little endian.
      }],
      "void", "quantizeRows", (ins "::llvm::ArrayRef<float>":$rows,
        "int64_t":$tokens, "::llvm::ArrayRef<uint8_t *>":$planes)>,
    InterfaceMethod<"Dequantizes one row from the rows of `planes` that it is in.",
      "void", "dequantizeRow", (ins "::llvm::ArrayRef<const uint8_t *>":$planes,
        "::llvm::MutableArrayRef<float>":$row)>,
    InterfaceMethod<[{
        Builds the tile ops that make f32 [t, d] of a tile of each plane, as
        `tile.load` gives them.
      }],
      "::mlir::Value", "buildDequantize",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::ValueRange":$planes)>,

    InterfaceMethod<[{
        Whether `emitScale` and `emitQuantize` are there: rows that are quantized
        one by one, by a factor that their largest absolute value gives.
      }],
      "bool", "canEmitQuantize", (ins)>,
    InterfaceMethod<[{
        From the row's largest absolute value (f32): the scale to store (of the
        scale type) and the f32 factor that each element is multiplied with
        before rounding. Not called where codes are the only plane.
      }],
      "::kvc::QuantizeScale", "emitScale",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::Value":$absmax)>,
    InterfaceMethod<[{
        Quantizes a vector of f32 into a vector of codes, in natural order.
        `factor` is a scalar f32, null where codes are the only plane.
      }],
      "::mlir::Value", "emitQuantize",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::Value":$x, "::mlir::Value":$factor)>,
  ];
}

def LayoutAttrInterface : AttrInterface<"LayoutAttrInterface"> {
  let cppNamespace = "::kvc";
  let description = [{
    Where the rows of a plane stand. A plane's rows are addressed as
    base + outer * outerStride + head * headStride + token * rowStride.
  }];
  let methods = [
    InterfaceMethod<"Tokens per page, or 0 if a sequence is one piece.",
      "int64_t", "getPageTokens", (ins)>,
    InterfaceMethod<"Bytes between rows of one head, given a row's bytes.",
      "int64_t", "getRowStride",
      (ins "int64_t":$rowBytes, "int64_t":$heads)>,
    InterfaceMethod<[{Bytes between heads of one page; 0 where only the runtime
        knows (a contiguous sequence's capacity).}],
      "int64_t", "getHeadStride",
      (ins "int64_t":$rowBytes, "int64_t":$pageRows)>,
    InterfaceMethod<"\"HND\" or \"NHD\".", "::llvm::StringRef", "getOrderName",
      (ins)>,
  ];
}

def ReadAttrInterface : AttrInterface<"ReadAttrInterface"> {
  let cppNamespace = "::kvc";
  let description = [{
    Which cached tokens t a query at position p sees at most: those of
    [0, sink) and of (p - recent, p], and if it is not causal all behind p.
  }];
  let methods = [
    InterfaceMethod<"Whether a query sees no token behind its own.", "bool",
      "isCausal", (ins)>,
    InterfaceMethod<"Whether no token up to the query's own is hidden.", "bool",
      "isAll", (ins)>,
    InterfaceMethod<"Tokens at the start that are always seen.", "int64_t",
      "getSinkTokens", (ins)>,
    InterfaceMethod<"Tokens up to and with the query's own that are seen.",
      "int64_t", "getRecentTokens", (ins)>,
  ];
}

#endif // KVC_INTERFACES
