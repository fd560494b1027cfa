//===- KvcInterfaces.td - the extension points -------------*- tablegen -*-===//
//
// A new codec, layout or read is a new attribute that implements one of these.
// No pass and no backend asks which attribute it has; it asks the interface. A
// new kind of machine has a schedule of its own, and its backend the Scheduler.
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
    the first on vectors of any width, bit for bit the same, for boxes of one
    token: codes that follow from the range of their box.
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

    InterfaceMethod<"Whether scales may be negative.", "bool",
      "hasSignedScales", (ins)>,
    InterfaceMethod<[{
        Whether the range of a box begins with its least element. Otherwise it is
        of absolute values, from 0.
      }],
      "bool", "rangeHasLeast", (ins)>,
    InterfaceMethod<[{
        What a vector of f32 counts as in the range of its box. NaN that is left
        loses to any number. Not called where codes are the only plane.
      }],
      "::mlir::Value", "emitInRange",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::Value":$x)>,
    InterfaceMethod<[{
        From the range of a box (f32 scalars): what is stored of it, and what its
        elements are quantized by. Not called where codes are the only plane.
      }],
      "::kvc::QuantizeBox", "emitBox",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::kvc::QuantizeRange":$range)>,
    InterfaceMethod<[{
        Quantizes a vector of f32 of one box, in natural order: into a vector of
        floats as they are stored, or of i8 whose lowest bits are the codes, with
        anything above them. `box` is empty where codes are the only plane.
      }],
      "::mlir::Value", "emitQuantize",
      (ins "::mlir::OpBuilder &":$b, "::mlir::Location":$loc,
        "::mlir::Value":$x, "const ::kvc::QuantizeBox &":$box)>,
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

def ScheduleAttrInterface : AttrInterface<"ScheduleAttrInterface"> {
  let cppNamespace = "::kvc";
  let description = [{
    How an attend kernel runs, never what it computes: what every pass, the tile
    level and the manifest ask, whatever the machine. Its fields are members of
    a struct, `value`, and rows of `Schedules.def`.
  }];
  let methods = [
    InterfaceMethod<"Cached tokens per tile.", "int64_t", "getTokens", (ins),
      [{ return $_attr.getValue().tokens; }]>,
    InterfaceMethod<"Query rows that are multiplied together.", "int64_t",
      "getRows", (ins), [{ return $_attr.getValue().rows; }]>,
    InterfaceMethod<"Most query tokens of a sequence that it is for.",
      "int64_t", "getQueries", (ins), [{ return $_attr.getValue().queries; }]>,
    InterfaceMethod<"Cached tokens per work tile, at absolute multiples; 0: all.",
      "int64_t", "getSplit", (ins), [{ return $_attr.getValue().split; }]>,
    InterfaceMethod<[{Cached tokens after which a work tile's loop comes round:
        those of a tile, times the warps that take tiles side by side.}],
      "int64_t", "getRoundTokens", (ins)>,
    InterfaceMethod<"All fields, in the order that they are printed in.",
      "::llvm::SmallVector<::kvc::ScheduleField>", "getFields", (ins)>,
    InterfaceMethod<[{
        The same schedule with these fields changed, all at once; null after an
        error if there is no such field or it cannot have the value. Whether a
        machine can run it is not asked.
      }],
      "::kvc::ScheduleAttrInterface", "with",
      (ins "::llvm::function_ref<::mlir::InFlightDiagnostic()>":$emitError,
        "::llvm::ArrayRef<::kvc::FieldValue>":$changes)>,
  ];
  let extraClassDeclaration = [{
    /// All fields, `tokens = 16, pack = false`, as the manifest has them.
    std::string str() const;
  }];
}

def SchedulerAttrInterface : AttrInterface<"SchedulerAttrInterface"> {
  let cppNamespace = "::kvc";
  let description = [{
    What a backend knows of its machine's schedules; it attaches this to the
    attribute when it is registered. All are pure functions of the kernel's
    workload and a schedule, so that a tuner needs nothing else: it takes the
    values of `space`, leaves out what is not `legal`, and measures what is left
    in order of `cost`.
  }];
  let methods = [
    InterfaceMethod<"The best schedule that is known, of this kind of machine.",
      "::kvc::ScheduleAttrInterface", "plan",
      (ins "const ::kvc::Workload &":$workload, "::kvc::AttendKind":$kind)>,
    InterfaceMethod<[{
        Whether a kernel with this schedule is lowered. If not, the lowering
        gives the same reason.
      }],
      "::kvc::Legality", "legal", (ins "const ::kvc::Workload &":$workload)>,
    InterfaceMethod<[{
        For each field that is worth varying, the values that are worth trying,
        this schedule's among them. Not all combinations are legal.
      }],
      "::llvm::SmallVector<::kvc::FieldValues>", "space",
      (ins "const ::kvc::Workload &":$workload, "::kvc::AttendKind":$kind)>,
    InterfaceMethod<[{
        An estimate of the time that a cached token takes, to compare schedules
        of one workload by: less is better. The unit is the backend's.
      }],
      "double", "cost",
      (ins "const ::kvc::Workload &":$workload, "::kvc::AttendKind":$kind)>,
  ];
}

#endif // KVC_INTERFACES
