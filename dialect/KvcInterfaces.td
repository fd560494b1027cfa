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
    How one (token, kv head) row of a stream is stored. A codec has *codes*
    (one per element) and may have one *scale* per row, in a plane of its own.

    `quantizeRow` and `dequantizeRow` are the meaning: scalar, on the host, used
    by the interpreter. `emit*` builds the same on vectors of any width; the two
    must agree bit for bit.
  }];
  let methods = [
    InterfaceMethod<"Type of one code: f32, f16, bf16, i8.",
      "::mlir::Type", "getCodeType", (ins)>,
    InterfaceMethod<"Type of the row's scale, or null if there is none.",
      "::mlir::Type", "getScaleType", (ins)>,
    InterfaceMethod<"Quantizes `row` into `codes` and `scale` (little endian).",
      "void", "quantizeRow", (ins "::llvm::ArrayRef<float>":$row,
        "uint8_t *":$codes, "uint8_t *":$scale)>,
    InterfaceMethod<"Dequantizes one row.",
      "void", "dequantizeRow", (ins "const uint8_t *":$codes,
        "const uint8_t *":$scale, "::llvm::MutableArrayRef<float>":$row)>,

    InterfaceMethod<[{
        Where the dequantizer would like channels to come out. `channels`
        consecutive channels of a row are dequantized into `channels / lanes`
        vectors of `lanes` f32 each; element i of their concatenation is channel
        order[i].
        Consumers permute the query once instead of every cached element.
      }],
      "::llvm::SmallVector<int64_t>", "getChannelOrder",
      (ins "int64_t":$channels, "int64_t":$lanes)>,
    InterfaceMethod<"How many channels the dequantizer likes to take at once.",
      "int64_t", "getPreferredChannels", (ins "int64_t":$lanes)>,
    InterfaceMethod<[{
        Dequantizes `channels` consecutive channels (a multiple of `lanes`),
        without the scale. `load(byte, type)` loads a vector at that many bytes from the
        first channel's code.
      }],
      "::llvm::SmallVector<::mlir::Value>", "emitDequantize",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::kvc::LoadFn":$load, "int64_t":$channels, "int64_t":$lanes)>,
    InterfaceMethod<[{
        From the row's largest absolute value (f32): the scale to store (of the
        scale type) and the f32 factor that each element is multiplied with
        before rounding. Not called where there is no scale.
      }],
      "::kvc::QuantizeScale", "emitScale",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::Value":$absmax)>,
    InterfaceMethod<[{
        Quantizes a vector of f32 into a vector of codes, in natural order.
        `factor` is a scalar f32, null where there is no scale.
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
    base + outer * outerStride + head * headStride + token * tokenStride.
  }];
  let methods = [
    InterfaceMethod<"Tokens per page, or 0 if a sequence is one piece.",
      "int64_t", "getPageTokens", (ins)>,
    InterfaceMethod<"Bytes between tokens of one head, given a row's bytes.",
      "int64_t", "getTokenStride",
      (ins "int64_t":$rowBytes, "int64_t":$heads)>,
    InterfaceMethod<[{Bytes between heads of one page; 0 where only the runtime
        knows (a contiguous sequence's capacity).}],
      "int64_t", "getHeadStride",
      (ins "int64_t":$rowBytes, "int64_t":$heads)>,
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
