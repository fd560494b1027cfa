//===- TileOps.td - the tile level: how, still for no machine *- tablegen -*-===//
#ifndef KVC_TILE_OPS
#define KVC_TILE_OPS

include "dialect/KvcTypes.td"
include "dialect/tile/TileEnums.td"
include "mlir/IR/OpAsmInterface.td"
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
    uses it. What it has no loop for, it refuses; [Graph.h](../tile/Graph.h) has the
    kernels that backends take. The meaning of each op is
    `lib/driver/Reference/TileInterpreter.cpp`.

    | kernel | work tile | ops, in the order of the data |
    |---|---|---|
    | attend | query tokens of one sequence and kv head, over one split of its cached tokens | `load_query`, `softmax_init`, `for_tokens` { `load`, `convert`, `scale`, `offset`, `dot`, `scale_tokens`, `logits`, `mask`, `softmax_step`, `accumulate`, `yield` }, `store_partial` |
    | merge | query tokens of one sequence and kv head, over all splits | `softmax_init`, `for_splits` { `merge_step`, `yield` }, `store_output` |
    | append | new rows, at all kv heads of the store | `for_rows` { `load_row`, `quantize`, `store_row`, `yield` } |
    | gather | rows of the cache, at all kv heads of the store | `for_rows` { `load`, `convert`, `scale`, `offset`, `store_decoded`, `yield` } |

    In attend kernels CPUs lower any order of these ops, and `slice`, `map`,
    `contract` and `reduce` between them; GPUs any order of what makes K and V of
    loaded planes and scores of products, with `map` there and `contract` in place
    of `dot`. Gather kernels take `slice` and `map`, too. A kernel of any other kind,
    and all other ops, have their meaning and no backend yet: spaces (`span`, `listed`), several
    states, token results (`store_tokens`), selection (`topk_step`, `store_list`),
    eviction (`move_tokens`) and recurrence (`load_state`, `outer`, `store_state`).
    Their work tile is one sequence and kv head.

    In the shapes below, r are the rows of the work tile (query token r / group,
    and of the kv head's q heads number r % group), t the tokens of one tile, d the
    elements of a row of K or V. [README](../README.md) shows a whole kernel.
  }];
  let dependentDialects = ["::kvc::KvcDialect"];
  let useDefaultTypePrinterParser = 1;
}

class Tile_Type<string name, string mnem> : TypeDef<Tile_Dialect, name> {
  let mnemonic = mnem;
}

def Tile_TokensType : Tile_Type<"Tokens", "tokens"> {
  let summary = "the tokens of one tile: which they are and where they stand";
  let description = [{
    What a round of `tile.for_tokens` is for. In append and gather kernels, the one
    row at one kv head that a round of `tile.for_rows` is for.
  }];
}

def Tile_SpaceType : Tile_Type<"Space", "space"> {
  let summary = "tokens of a sequence that a loop goes over, in order";
}

def Tile_TopKType : Tile_Type<"TopK", "topk"> {
  let summary = "the boxes of tokens with the largest scores so far";
  let description = [{
    `!tile.topk<127>`. At most 127; of equal scores the earlier box stays, and a
    score that is no number is below all others.
  }];
  let parameters = (ins TypeParameter<"int64_t", "boxes, at least 1">:$k);
  let assemblyFormat = "`<` $k `>`";
  let genVerifyDecl = 1;
}

def Tile_SoftmaxType : Tile_Type<"Softmax", "softmax"> {
  let summary = "online softmax state of the work tile's rows: m, l and acc[dim]";
  let description = [{
    `!tile.softmax<128>`. For every row r, over the tokens so far: m is their
    largest score, l the sum of 2^(s - m), acc the sum of 2^(s - m) v. Scores are in
    powers of two: log2(e) times the logits.
  }];
  let parameters = (ins
    TypeParameter<"int64_t", "elements of a row of V, at least 1">:$dim);
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
    `kind` says when it runs: "attend", "merge", "append" and "gather" are called,
    and what others there are is a store's business. Whose loops go over tokens has
    a schedule; for the others there is nothing to choose. One call
    handles one work tile (lib/base/Artifact/KernelAbi.h). The rows that it
    loads and stores are those of the store's cache type; `dtype` is the
    model's, of q, k and v as they are given and of the output.

    ```mlir
    tile.kernel @main.merge "merge" of @main dtype bf16 {
      %init = tile.softmax_init : <64>
      %end = tile.for_splits init(%init : !tile.softmax<64>) { ... }
      tile.store_output %end : <64>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$store,
    StrAttr:$kind, TypeAttr:$dtype,
    OptionalAttr<ScheduleAttrInterface>:$schedule);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name $kind `of` $store `dtype` $dtype (`schedule` `(` $schedule^ `)`)?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def Tile_YieldOp : Tile_Op<"yield", [Terminator, Pure,
    ParentOneOf<["ForTokensOp", "ForSplitsOp", "ForRowsOp"]>]> {
  let summary = "ends a round of a loop, and carries the state to the next";
  let description = [{
    `tile.yield %next : !tile.softmax<64>`. The last round's state is the loop's
    result. A loop without a state ends in `tile.yield`.
  }];
  let arguments = (ins Variadic<AnyType>:$state);
  let assemblyFormat = "($state^ `:` type($state))? attr-dict";
}

//===--- attend -----------------------------------------------------------===//

def Tile_LoadQueryOp : Tile_Op<"load_query"> {
  let summary = "the work tile's query rows as f32, times a constant";
  let description = [{
    `%q = tile.load_query scale 0.125 : tensor<?x64xf32>` is [r, d]. `scale` holds
    what is folded in: the softmax scale, and log2(e) where that makes powers of two
    of the logits.
  }];
  let arguments = (ins F64Attr:$scale);
  let results = (outs RankedTensorOf<[F32]>:$q);
  let assemblyFormat = "`scale` $scale attr-dict `:` type($q)";
  let hasVerifier = 1;
}

def Tile_SoftmaxInitOp : Tile_Op<"softmax_init",
    [IsolatedFromAbove, Kvc_HasScoreRegions, Pure]> {
  let summary = "the state of rows that have seen nothing, or a sink alone";
  let description = [{
    `%init = tile.softmax_init : <64>` has m = -inf, l = 0 and acc = 0. With a
    region `sink`, which yields a logit of the row, m = log2(e) * sink and l = 1: as
    after a token of that logit whose v is 0. A sink of -inf is none.

    ```mlir
    %init = tile.softmax_init sink {
    ^bb0(%h: i32, %g: i32):
      %x = kvc.constant "sinks"[%h] of 64
      kvc.yield %x : f32
    } : <64>
    ```
  }];
  let regions = (region MaxSizedRegion<1>:$sink);
  let results = (outs Tile_SoftmaxType:$state);
  let assemblyFormat = "(`sink` $sink^)? attr-dict `:` type($state)";
  let hasVerifier = 1;
}

class Tile_LoopOp<string mnemonic, list<Trait> traits = []>
    : Tile_Op<mnemonic, traits # [SingleBlock]> {
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let hasVerifier = 1;
}

def Tile_ForTokensOp : Tile_LoopOp<"for_tokens",
    [AttrSizedOperandSegments, HasParent<"KernelOp">]> {
  let summary = "runs the body for every tile of the tokens at hand, in order";
  let description = [{
    The body takes a tile and the states, of any types, and yields the states.
    Tiles stand at absolute multiples of the schedule's `tokens`, so that the
    result does not depend on where a split begins. Tiles that `read` hides from
    all rows are skipped. Without `in`, the tokens are all that the split has;
    with it, those of a space, and `tile.mask` hides the others of a tile.

    ```mlir
    %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
    ^bb0(%tile: !tile.tokens, %state: !tile.softmax<64>):
      ...
      tile.yield %next : !tile.softmax<64>
    }
    ```
  }];
  let arguments = (ins Optional<Tile_SpaceType>:$space,
                       Variadic<AnyType>:$inits, AnyAttr:$read);
  let assemblyFormat = [{
    (`in` $space^)? `read` `(` $read `)`
    (`init` `(` custom<LoopStates>($inits, type($inits), type($results))^ `)`)?
    attr-dict-with-keyword $body
  }];
}

def Tile_LoadOp : Tile_Op<"load",
    [DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "the codes of a tile, and what its codec keeps beside them";
  let description = [{
    Of each plane of the stream, in the order of its codec, the rows that have the
    tokens of the tile: codes [t, d], and for boxes of n tokens by m channels
    [t / n, d / m]. Rows of tokens that no row of the work tile sees are undefined.
    In a gather kernel the tile is the one token at the row's slot, of which each
    plane has one row: that of its box.

    ```mlir
    %codes, %scales = tile.load k %tile : tensor<16x64xi8>, tensor<16x1xf16>
    ```
  }];
  let arguments = (ins Tile_TokensType:$tokens, StrAttr:$stream);
  let results = (outs Variadic<AnyRankedTensor>:$planes);
  let assemblyFormat = [{
    custom<StreamName>($stream) $tokens attr-dict `:` type($planes)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Value getCodes() { return getPlanes().front(); }
    /// Which plane of the stream a value is; none if it is not loaded here.
    std::optional<unsigned> planeOf(::mlir::Value value);
  }];
}

def Tile_ConvertOp : Tile_Op<"convert", [Pure]> {
  let summary = "codes, or scales, as f32, each exactly";
  let description = [{
    `%x = tile.convert %codes : tensor<16x64xi8> -> tensor<16x64xf32>`. Integers
    of 2 to 8 bits have a sign unless it says `unsigned`; floats are f32, f16,
    bf16, f8E4M3FN, f8E5M2, f4E2M1FN or f8E8M0FNU.
  }];
  let arguments = (ins AnyRankedTensor:$codes, UnitAttr:$isUnsigned);
  let results = (outs RankedTensorOf<[F32]>:$x);
  let assemblyFormat = [{
    $codes (`unsigned` $isUnsigned^)? attr-dict `:` type($codes) `->` type($x)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$codes,
                                 CArg<"bool", "false">:$isUnsigned)>];
  let hasVerifier = 1;
}

class Tile_BoxOp<string mnemonic> : Tile_Op<mnemonic,
    [Pure, AllTypesMatch<["x", "result"]>]> {
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyRankedTensor:$boxes);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$x `by` $boxes attr-dict `:` type($x) `,` type($boxes)";
  let hasVerifier = 1;
}

def Tile_ScaleOp : Tile_Op<"scale",
    [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "multiplies each box of a tile by its scale";
  let description = [{
    x is [a, b] and the floats `boxes` are [c, d], where c divides a and d divides
    b (1 divides `?`): the result is x[i, j] * boxes[i / (a / c), j / (b / d)].
    They are f32, f16, bf16, f8E4M3FN or f8E8M0FNU.
    So [t, 1] is a scale per token, and [1, d] one per channel of all of the tile.
    None is negative unless it says `signed`: then the scale stays where it is.

    ```mlir
    %y = tile.scale %x by %scales : tensor<16x64xf32>, tensor<16x1xf16>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyRankedTensor:$boxes,
                       UnitAttr:$isSigned);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    $x `by` $boxes (`signed` $isSigned^)? attr-dict `:` type($x) `,`
    type($boxes)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$x, "::mlir::Value":$boxes,
                                 CArg<"bool", "false">:$isSigned), [{
    build($_builder, $_state, x.getType(), x, boxes, isSigned);
  }]>];
  let hasVerifier = 1;
}

def Tile_OffsetOp : Tile_BoxOp<"offset"> {
  let summary = "adds to each box of a tile its zero";
  let description = [{
    x[i, j] + boxes[i / (a / c), j / (b / d)], as in `tile.scale`.

    ```mlir
    %y = tile.offset %x by %zeros : tensor<32x64xf32>, tensor<1x64xf16>
    ```
  }];
}

def Tile_DotOp : Tile_Op<"dot", [Pure]> {
  let summary = "products of query rows and keys: scores[r, t] = <q[r], k[t]>";
  let description = [{
    ```mlir
    %s = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$q, RankedTensorOf<[F32]>:$k);
  let results = (outs RankedTensorOf<[F32]>:$scores);
  let assemblyFormat = [{
    $q `,` $k attr-dict `:` type($q) `,` type($k) `->` type($scores)
  }];
  let hasVerifier = 1;
}

def Tile_ScaleTokensOp : Tile_Op<"scale_tokens",
    [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "multiplies each token's column by its scale: x[r, t] * scales[t, 0]";
  let description = [{
    `x` are scores, or probabilities on their way to `tile.accumulate`; `scales`
    are what `tile.load` gives, of f32, f16 or bf16, and not negative: products of
    integers take the largest scaled probability for their unit.

    ```mlir
    %y = tile.scale_tokens %x by %scales : tensor<?x16xf32>, tensor<16x1xf16>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyRankedTensor:$scales);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$x `by` $scales attr-dict `:` type($x) `,` type($scales)";
  let hasVerifier = 1;
}

def Tile_LogitsOp : Tile_Op<"logits",
    [IsolatedFromAbove, Kvc_HasScoreRegions, AllTypesMatch<["x", "result"]>]> {
  let summary = "applies a region to each score: logits(x[r, t], p, t, c, h, g)";
  let description = [{
    The region is that of `kvc.attend`, scaled by `kvc-lower-to-tile` so that its
    result is in powers of two.

    ```mlir
    %y = tile.logits %x, %tile {
    ^bb0(%s: f32, %p: i32, %t: i32, %c: i32, %h: i32, %g: i32):
      %cap = arith.constant 30.0 : f32
      %a = arith.divf %s, %cap : f32
      %b = math.tanh %a : f32
      %out = arith.constant 43.2808495 : f32
      %z = arith.mulf %out, %b : f32
      kvc.yield %z : f32
    } : tensor<?x16xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, Tile_TokensType:$tokens);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let regions = (region SizedRegion<1>:$logits);
  let assemblyFormat = "$x `,` $tokens $logits attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Tile_MaskOp : Tile_Op<"mask",
    [IsolatedFromAbove, Kvc_HasScoreRegions, AllTypesMatch<["x", "result"]>]> {
  let summary = "hides tokens after the row's position, those `read` hides, and "
                "those for which `visible` is false";
  let description = [{
    A hidden score is -inf, its probability 0, and its token reaches no sum, even
    if its v is NaN. That holds for scores and probabilities on their way: what a
    `tile.map`, a slice or a loop hands on is a number like any other.

    ```mlir
    %y = tile.mask %x, %tile read(#kvc.sliding_window<sink = 4, recent = 60>)
      : tensor<?x16xf32>
    ```
  }];
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
    hid have p = 0 and never reach a sum or a product. A row that has seen nothing
    keeps m = -inf and l = 0.

    ```mlir
    %p, %next = tile.softmax_step %s, %state : tensor<?x16xf32>, <64>
    ```
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
  let summary = "adds weighted values: acc[r] += sum_t p[r, t] v[t], in order of t";
  let description = [{
    The state is the one that `tile.softmax_step` gives with p; m and l stay.

    ```mlir
    %acc = tile.accumulate %p, %v, %next
      : tensor<?x16xf32>, tensor<16x64xf32>, <64>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$p, RankedTensorOf<[F32]>:$v,
                       Tile_SoftmaxType:$state);
  let results = (outs Tile_SoftmaxType:$next);
  let assemblyFormat = [{
    $p `,` $v `,` $state attr-dict `:` type($p) `,` type($v) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Tile_StorePartialOp : Tile_Op<"store_partial",
    [IsolatedFromAbove, NoTerminator, HasParent<"KernelOp">]> {
  let summary = "writes acc / l and the natural log-sum-exp of this split";
  let description = [{
    `tile.store_partial %end : <64>` stores f32, as `kvc.attend` with splits gives
    them: a row that saw nothing has o = 0 and lse = -inf.

    A region `last` holds the ops of a merge kernel. The work tile that is the last
    of all splits of its rows to store goes on with them. So nobody waits where
    splits run side by side, and no second kernel is launched.
  }];
  let arguments = (ins Tile_SoftmaxType:$state);
  let regions = (region MaxSizedRegion<1>:$last);
  let assemblyFormat = "$state (`last` $last^)? attr-dict `:` type($state)";
  let hasVerifier = 1;
}

//===--- merge ------------------------------------------------------------===//

def Tile_ForSplitsOp : Tile_LoopOp<"for_splits"> {
  let summary = "runs the body for every split of the work tile's rows, in order";
  let description = [{
    ```mlir
    %end = tile.for_splits init(%init : !tile.softmax<64>) {
    ^bb0(%split: index, %state: !tile.softmax<64>):
      %next = tile.merge_step %split, %state : <64>
      tile.yield %next : !tile.softmax<64>
    }
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$inits);
  let assemblyFormat = [{
    (`init` `(` custom<LoopStates>($inits, type($inits), type($results))^ `)`)?
    attr-dict-with-keyword $body
  }];
}

def Tile_MergeStepOp : Tile_Op<"merge_step",
    [Pure, AllTypesMatch<["state", "next"]>]> {
  let summary = "adds one split to the state as a token with logit lse and value o";
  let description = [{
    `%next = tile.merge_step %split, %state : <64>`. With m' = max(m, log2(e) lse)
    and w = 2^(log2(e) lse - m'), l and acc are multiplied with 2^(m - m'), l gains
    w and acc gains w o. A split that saw nothing (lse = -inf) changes nothing,
    whatever its o.
  }];
  let arguments = (ins Index:$splitIdx, Tile_SoftmaxType:$state);
  let results = (outs Tile_SoftmaxType:$next);
  let assemblyFormat = "$splitIdx `,` $state attr-dict `:` type($state)";
}

def Tile_StoreOutputOp : Tile_Op<"store_output"> {
  let summary = "writes o = acc / l in the model's dtype, and lse if asked for";
  let description = [{
    `tile.store_output %end : <64>`. lse is the natural log-sum-exp in f32,
    ln(2) (m + log2(l)). A row of l = 0 has o = 0 and lse = -inf.
  }];
  let arguments = (ins Tile_SoftmaxType:$state);
  let assemblyFormat = "$state attr-dict `:` type($state)";
}

//===--- append -----------------------------------------------------------===//

def Tile_ForRowsOp : Tile_LoopOp<"for_rows", [HasParent<"KernelOp">]> {
  let summary = "runs the body for every row of the work tile, in order";
  let description = [{
    In append and gather kernels every (row, kv head), but for rows whose slot is
    negative; elsewhere every query token of the sequence.

    ```mlir
    tile.for_rows {
    ^bb0(%row: !tile.tokens):
      ...
      tile.yield
    }
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$inits);
  let assemblyFormat = [{
    (`init` `(` custom<LoopStates>($inits, type($inits), type($results))^ `)`)?
    attr-dict-with-keyword $body
  }];
}

def Tile_LoadRowOp : Tile_Op<"load_row"> {
  let summary = "one new row, as f32";
  let description = [{
    `%x = tile.load_row k %row : tensor<64xf32>`: the row that the call gives as
    `k`, at the kv head. As `tensor<?x64xf32>`, those of its q heads.
  }];
  let arguments = (ins Tile_TokensType:$row, StrAttr:$name);
  let results = (outs RankedTensorOf<[F32]>:$x);
  let assemblyFormat = "custom<StreamName>($name) $row attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Tile_QuantizeOp : Tile_Op<"quantize",
    [Pure, DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "makes codes of f32, and what the codec keeps beside them";
  let description = [{
    [d] to a row of each plane, as the codec's `quantizeRows` does.

    ```mlir
    %codes, %scales = tile.quantize %x with(#kvc.int<8, scale = f16>)
      : tensor<64xf32> -> tensor<64xi8>, tensor<1xf16>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, AnyAttr:$codec);
  let results = (outs Variadic<AnyRankedTensor>:$planes);
  let assemblyFormat = [{
    $x `with` `(` $codec `)` attr-dict `:` type($x) `->` type($planes)
  }];
  let hasVerifier = 1;
}

def Tile_StoreRowOp : Tile_Op<"store_row"> {
  let summary = "writes a row of each plane to where the row's slot says";
  let description = [{
    `tile.store_row k %row, %codes, %scales : tensor<64xi8>, tensor<1xf16>`
  }];
  let arguments = (ins Tile_TokensType:$row, StrAttr:$stream,
    Variadic<AnyRankedTensor>:$planes);
  let assemblyFormat = [{
    custom<StreamName>($stream) $row `,` $planes attr-dict `:` type($planes)
  }];
  let hasVerifier = 1;
}

//===--- gather -----------------------------------------------------------===//

def Tile_StoreDecodedOp : Tile_Op<"store_decoded"> {
  let summary = "writes the row that the call wants as `name`, in the model's dtype";
  let description = [{
    `tile.store_decoded k %row, %x : tensor<1x64xf32>`: rows `k` or `v` of the call,
    at the kv head. A call may want one of them alone.
  }];
  let arguments = (ins Tile_TokensType:$row, StrAttr:$name,
    RankedTensorOf<[F32]>:$x);
  let assemblyFormat = [{
    custom<StreamName>($name) $row `,` $x attr-dict `:` type($x)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Channels of the row.
    int64_t getDim() { return getX().getType().getDimSize(1); }
  }];
}

include "dialect/tile/TileSpaceOps.td"

#endif // KVC_TILE_OPS
