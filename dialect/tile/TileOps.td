//===- TileOps.td - the tile level: how, still for no machine *- tablegen -*-===//
#ifndef KVC_TILE_OPS
#define KVC_TILE_OPS

include "dialect/KvcTypes.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::kvc::tile";
  let summary = "one op per kernel, with a structured loop over tiles of tokens";
  let description = [{
    A `tile.kernel` says what one work tile does. Tiles of tokens are tensors:
    rows of queries are dynamic (`?`), tokens per tile come from the schedule.
    There is no vector, no warp and no address here; a backend turns each op into
    its own loop nest, and may dequantize a tile lazily inside the multiply that
    uses it.
  }];
  let dependentDialects = ["::kvc::KvcDialect"];
  let useDefaultTypePrinterParser = 1;
}

class Tile_Type<string name, string mnem> : TypeDef<Tile_Dialect, name> {
  let mnemonic = mnem;
}

def Tile_TokensType : Tile_Type<"Tokens", "tokens"> {
  let summary = "the tokens of one tile: which they are and where they stand";
}

def Tile_SoftmaxType : Tile_Type<"Softmax", "softmax"> {
  let summary = "online softmax state of the work tile's rows: m, l and acc[dim]";
  let parameters = (ins "int64_t":$dim);
  let assemblyFormat = "`<` $dim `>`";
  let genVerifyDecl = 1;
}

class Tile_Op<string mnemonic, list<Trait> traits = []>
    : Op<Tile_Dialect, mnemonic, traits>;

def Tile_KernelOp : Tile_Op<"kernel",
    [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator,
     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one kernel of a store";
  let description = [{
    `kind` is "attend", "merge" or "append". One call handles one work tile
    (lib/Artifact/KernelAbi.h). The rows that it loads and stores are those of
    the store's cache type.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$store,
    StrAttr:$kind, TypeAttr:$dtype, Kvc_ScheduleAttr:$schedule);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name $kind `of` $store `dtype` $dtype `schedule` $schedule
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Tile_YieldOp : Tile_Op<"yield", [Terminator, Pure,
    ParentOneOf<["ForTokensOp", "ForSplitsOp", "ForRowsOp"]>]> {
  let summary = "carries the state to the next round";
  let arguments = (ins Variadic<AnyType>:$state);
  let assemblyFormat = "($state^ `:` type($state))? attr-dict";
}

//===--- attend -----------------------------------------------------------===//

def Tile_LoadQueryOp : Tile_Op<"load_query"> {
  let summary = "the work tile's query rows as f32, times a constant";
  let description = [{
    Row r is q head r % group of the kv head, query token r / group. `scale`
    holds what is folded in: the softmax scale, and log2(e) where the logits are
    wanted in powers of two.
  }];
  let arguments = (ins F64Attr:$scale);
  let results = (outs RankedTensorOf<[F32]>:$q);
  let assemblyFormat = "`scale` $scale attr-dict `:` type($q)";
  let hasVerifier = 1;
}

def Tile_SoftmaxInitOp : Tile_Op<"softmax_init", [IsolatedFromAbove, Pure]> {
  let summary = "m = -inf, l = 0, acc = 0 for every row; with a sink, l = 1";
  let description = [{
    A region `sink` (dialect/Score.h) is a natural logit of the row: m = log2(e) *
    sink and l = 1, as after a token of that logit whose value is 0.
  }];
  let regions = (region MaxSizedRegion<1>:$sink);
  let results = (outs Tile_SoftmaxType:$state);
  let assemblyFormat = "(`sink` $sink^)? attr-dict `:` type($state)";
  let hasVerifier = 1;
}

def Tile_ForTokensOp : Tile_Op<"for_tokens",
    [SingleBlock, AllTypesMatch<["init", "result"]>]> {
  let summary = "runs the body for every tile of the tokens at hand, in order";
  let description = [{
    Tiles stand at absolute multiples of the schedule's `tokens`, so that the
    result does not depend on where a split begins. Tiles that `read` hides from
    all rows are skipped.
  }];
  let arguments = (ins Tile_SoftmaxType:$init, AnyAttr:$read);
  let results = (outs Tile_SoftmaxType:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `read` `(` $read `)` `init` $init `:` type($init) attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Tile_LoadOp : Tile_Op<"load"> {
  let summary = "the codes, and the scales if the codec has them, of a tile";
  let arguments = (ins Tile_TokensType:$tokens, Kvc_StreamKind:$stream);
  let results = (outs AnyRankedTensor:$codes,
                      Optional<AnyRankedTensor>:$scales);
  let assemblyFormat = [{
    $stream $tokens attr-dict `:` type($codes) (`,` type($scales)^)?
  }];
  let hasVerifier = 1;
}

def Tile_DequantizeOp : Tile_Op<"dequantize", [Pure]> {
  let summary = "codes to f32; with scales, each row times its own";
  let arguments = (ins AnyRankedTensor:$codes, Optional<AnyRankedTensor>:$scales,
                       AnyAttr:$codec);
  let results = (outs RankedTensorOf<[F32]>:$x);
  let assemblyFormat = [{
    $codes (`scaled` `by` $scales^)? `with` `(` $codec `)` attr-dict
    `:` type($codes) (`,` type($scales)^)? `->` type($x)
  }];
  let hasVerifier = 1;
}

def Tile_DotOp : Tile_Op<"dot", [Pure]> {
  let summary = "scores[r, t] = <q[r], k[t]>";
  let arguments = (ins RankedTensorOf<[F32]>:$q, RankedTensorOf<[F32]>:$k);
  let results = (outs RankedTensorOf<[F32]>:$scores);
  let assemblyFormat = [{
    $q `,` $k attr-dict `:` type($q) `,` type($k) `->` type($scores)
  }];
  let hasVerifier = 1;
}

def Tile_ScaleTokensOp : Tile_Op<"scale_tokens",
    [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "x[r, t] * scales[t]";
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyRankedTensor:$scales);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$x `by` $scales attr-dict `:` type($x) `,` type($scales)";
  let hasVerifier = 1;
}

def Tile_LogitsOp : Tile_Op<"logits",
    [IsolatedFromAbove, AllTypesMatch<["x", "result"]>]> {
  let summary = "x[r, t] -> logits(x[r, t], p, t, h, g), a region of dialect/Score.h";
  let arguments = (ins RankedTensorOf<[F32]>:$x, Tile_TokensType:$tokens);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let regions = (region SizedRegion<1>:$logits);
  let assemblyFormat = "$x `,` $tokens $logits attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Tile_MaskOp : Tile_Op<"mask", [IsolatedFromAbove, AllTypesMatch<["x", "result"]>]> {
  let summary = "hides tokens after the row's position, those `read` hides, and "
                "those for which `visible` is false";
  let arguments = (ins RankedTensorOf<[F32]>:$x, Tile_TokensType:$tokens,
                       AnyAttr:$read);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let regions = (region MaxSizedRegion<1>:$visible);
  let assemblyFormat = [{
    $x `,` $tokens `read` `(` $read `)` (`visible` $visible^)? attr-dict
    `:` type($x)
  }];
  let hasVerifier = 1;
}

def Tile_SoftmaxStepOp : Tile_Op<"softmax_step",
    [Pure, AllTypesMatch<["state", "next"]>, AllTypesMatch<["scores", "p"]>]> {
  let summary = "online softmax: p = 2^(s - m'), state scaled by 2^(m - m')";
  let description = [{
    Scores are in powers of two. The largest seen is m' = max(m, max_t s); l and
    acc are multiplied with 2^(m - m') and l gains sum_t p. Tokens that a mask
    hid have p = 0 and never reach a sum or a product.
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$scores, Tile_SoftmaxType:$state);
  let results = (outs RankedTensorOf<[F32]>:$p, Tile_SoftmaxType:$next);
  let assemblyFormat = [{
    $scores `,` $state attr-dict `:` type($scores) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Tile_AccumulateOp : Tile_Op<"accumulate",
    [Pure, AllTypesMatch<["state", "next"]>]> {
  let summary = "acc[r] += sum_t p[r, t] v[t], in order of t";
  let arguments = (ins RankedTensorOf<[F32]>:$p, RankedTensorOf<[F32]>:$v,
                       Tile_SoftmaxType:$state);
  let results = (outs Tile_SoftmaxType:$next);
  let assemblyFormat = [{
    $p `,` $v `,` $state attr-dict `:` type($p) `,` type($v) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Tile_StorePartialOp : Tile_Op<"store_partial",
    [IsolatedFromAbove, NoTerminator]> {
  let summary = "writes acc / l and the natural log-sum-exp of this split";
  let description = [{
    `last` is what the work tile goes on with that is the last of all splits of
    its rows: the ops of a merge kernel. Where splits run side by side nobody has
    to wait, and no second kernel is launched.
  }];
  let arguments = (ins Tile_SoftmaxType:$state);
  let regions = (region MaxSizedRegion<1>:$last);
  let assemblyFormat = "$state (`last` $last^)? attr-dict `:` type($state)";
}

//===--- merge ------------------------------------------------------------===//

def Tile_ForSplitsOp : Tile_Op<"for_splits",
    [SingleBlock, AllTypesMatch<["init", "result"]>]> {
  let summary = "runs the body for every split of the work tile's rows, in order";
  let arguments = (ins Tile_SoftmaxType:$init);
  let results = (outs Tile_SoftmaxType:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `init` $init `:` type($init) attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Tile_MergeStepOp : Tile_Op<"merge_step",
    [Pure, AllTypesMatch<["state", "next"]>]> {
  let summary = "adds one split to the state as a token with logit lse and value o";
  let description = [{
    A split that saw nothing (lse = -inf) changes nothing.
  }];
  let arguments = (ins Index:$splitIdx, Tile_SoftmaxType:$state);
  let results = (outs Tile_SoftmaxType:$next);
  let assemblyFormat = "$splitIdx `,` $state attr-dict `:` type($state)";
}

def Tile_StoreOutputOp : Tile_Op<"store_output"> {
  let summary = "writes o = acc / l in the model's dtype, and lse if asked for";
  let arguments = (ins Tile_SoftmaxType:$state);
  let assemblyFormat = "$state attr-dict `:` type($state)";
}

//===--- append -----------------------------------------------------------===//

def Tile_ForRowsOp : Tile_Op<"for_rows", [SingleBlock]> {
  let summary = "runs the body for every (row, kv head) of the work tile";
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "attr-dict-with-keyword $body";
  let hasVerifier = 1;
}

def Tile_LoadRowOp : Tile_Op<"load_row"> {
  let summary = "one new row of a stream as f32";
  let arguments = (ins Tile_TokensType:$row, Kvc_StreamKind:$stream);
  let results = (outs RankedTensorOf<[F32]>:$x);
  let assemblyFormat = "$stream $row attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Tile_QuantizeOp : Tile_Op<"quantize", [Pure]> {
  let summary = "f32 to codes, and to a scale if the codec has one";
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyAttr:$codec);
  let results = (outs AnyRankedTensor:$codes, Optional<AnyRankedTensor>:$scale);
  let assemblyFormat = [{
    $x `with` `(` $codec `)` attr-dict `:` type($x) `->` type($codes)
    (`,` type($scale)^)?
  }];
  let hasVerifier = 1;
}

def Tile_StoreRowOp : Tile_Op<"store_row"> {
  let summary = "writes codes and scale to the row's slot";
  let arguments = (ins Tile_TokensType:$row, Kvc_StreamKind:$stream,
    AnyRankedTensor:$codes, Optional<AnyRankedTensor>:$scale);
  let assemblyFormat = [{
    $stream $row `,` $codes (`,` $scale^)? attr-dict
    `:` type($codes) (`,` type($scale)^)?
  }];
  let hasVerifier = 1;
}

#endif // KVC_TILE_OPS
