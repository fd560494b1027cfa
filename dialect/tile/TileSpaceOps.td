//===- TileSpaceOps.td - spaces, results of tokens, states -*- tablegen -*-===//
//
// A part of TileOps.td, which includes it: what kernels are made of that no
// backend lowers yet, but for those on elements.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TILE_SPACE_OPS
#define KVC_TILE_SPACE_OPS

//===--- spaces -----------------------------------------------------------===//

def Tile_SpanOp : Tile_Op<"span"> {
  let summary = "the tokens that all of some streams have";
  let description = [{
    `%old = tile.span(k_old, v_old)`. Which tokens of a sequence a stream has, is
    data of a call: a cache may keep its newest tokens elsewhere, or in another
    codec. `except_last 4` leaves out the last four of them.
  }];
  let arguments = (ins StrArrayAttr:$streams,
    DefaultValuedAttr<Kvc_Index, "0">:$except_last);
  let results = (outs Tile_SpaceType:$space);
  let assemblyFormat = [{
    `(` custom<StreamNames>($streams) `)` (`except_last` $except_last^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Tile_ListedOp : Tile_Op<"listed"> {
  let summary = "the boxes of tokens that another kernel has listed";
  let description = [{
    `%chosen = tile.listed "pages" of 16`: boxes of 16 tokens at multiples of 16,
    in the order of the list that `tile.store_list` wrote for the sequence and kv
    head. A tile of the loop has as many of them as fill it.
  }];
  let arguments = (ins StrAttr:$list, Kvc_Count:$tokens);
  let results = (outs Tile_SpaceType:$space);
  let assemblyFormat = "$list `of` $tokens attr-dict";
}

//===--- element by element -----------------------------------------------===//

def Tile_SliceOp : Tile_Op<"slice", [Pure]> {
  let summary = "some channels of each row";
  let description = [{
    `%v = tile.slice %x[0 to 512] : tensor<16x576xf32> -> tensor<16x512xf32>`.
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, Kvc_Index:$begin,
                       Kvc_Count:$end);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    $x `[` $begin `to` $end `]` attr-dict `:` type($x) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_MapOp : Tile_Op<"map",
    [IsolatedFromAbove, Kvc_HasScoreRegions, Pure]> {
  let summary = "applies a region to each element of up to six tiles";
  let description = [{
    Operands have the axes of the result, of its size or of size 1, then repeated.
    The region is made of the ops of a score's.

    ```mlir
    %p = tile.map %s, %lse {
    ^bb0(%x: f32, %l: f32):
      %d = arith.subf %x, %l : f32
      %e = math.exp2 %d : f32
      kvc.yield %e : f32
    } : tensor<?x16xf32>, tensor<?x1xf32> -> tensor<?x16xf32>
    ```
  }];
  let arguments = (ins Variadic<RankedTensorOf<[F32]>>:$operands);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $operands $body attr-dict `:` type($operands) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_ContractOp : Tile_Op<"contract",
    [IsolatedFromAbove, Kvc_HasScoreRegions, Pure]> {
  let summary = "sum over channels of a region: z[r, t] = sum_c f(q[r, c], x[t, c], ...)";
  let description = [{
    `tile.dot` with another product. Quest's bound on a page's scores, of the least
    and the largest that each channel of its keys has:

    ```mlir
    %z = tile.contract %q with %lo, %hi {
    ^bb0(%a: f32, %l: f32, %h: f32):
      %x = arith.mulf %a, %l : f32
      %y = arith.mulf %a, %h : f32
      %m = arith.maximumf %x, %y : f32
      kvc.yield %m : f32
    } : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4x64xf32> -> tensor<?x4xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$q,
                       Variadic<RankedTensorOf<[F32]>>:$others);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $q `with` $others $body attr-dict `:` type($q) `,` type($others)
    `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_ReduceOp : Tile_Op<"reduce", [Pure]> {
  let summary = "sum or maximum over rows, or over columns: a column of results";
  let description = [{
    `%c = tile.reduce sum rows %p : tensor<?x16xf32> -> tensor<16x1xf32>` has a
    result for each token; `columns` gives one for each row. A maximum is NaN if
    an element is.
  }];
  let arguments = (ins Tile_ReduceKind:$kind, Tile_Axis:$axis,
                       RankedTensorOf<[F32]>:$x);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    $kind $axis $x attr-dict `:` type($x) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_OuterOp : Tile_Op<"outer", [Pure]> {
  let summary = "products of all elements of two rows: x[i] * y[j]";
  let description = [{
    `%u = tile.outer %v, %k : tensor<8xf32>, tensor<16xf32> -> tensor<8x16xf32>`.
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x, RankedTensorOf<[F32]>:$y);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    $x `,` $y attr-dict `:` type($x) `,` type($y) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===--- token results, selection, eviction -------------------------------===//

def Tile_LoadLseOp : Tile_Op<"load_lse"> {
  let summary = "the natural log-sum-exp of each row, as attention has stored it";
  let description = "`%l = tile.load_lse : tensor<?x1xf32>`.";
  let results = (outs RankedTensorOf<[F32]>:$lse);
  let assemblyFormat = "attr-dict `:` type($lse)";
  let hasVerifier = 1;
}

def Tile_StoreTokensOp : Tile_Op<"store_tokens"> {
  let summary = "writes a tile's rows of a stream";
  let description = [{
    `tile.store_tokens a %tile, %x : tensor<16x1xf32>`, quantized by the stream's
    codec, which must take one row at a time. Tokens that are not in the loop's
    space, or that no row of the work tile sees, keep what they have.
  }];
  let arguments = (ins Tile_TokensType:$tokens, StrAttr:$stream,
                       RankedTensorOf<[F32]>:$x);
  let assemblyFormat = [{
    custom<StreamName>($stream) $tokens `,` $x attr-dict `:` type($x)
  }];
  let hasVerifier = 1;
}

def Tile_TopKInitOp : Tile_Op<"topk_init", [Pure]> {
  let summary = "no boxes yet";
  let description = "`%none = tile.topk_init : <127>`.";
  let results = (outs Tile_TopKType:$state);
  let assemblyFormat = "attr-dict `:` type($state)";
}

def Tile_TopKStepOp : Tile_Op<"topk_step",
    [Pure, AllTypesMatch<["state", "next"]>]> {
  let summary = "offers the boxes of a tile with their scores";
  let description = [{
    `scores` [n, 1] are of the n boxes that a tile is: n divides its tokens. A box
    of which the loop's space has no token is not offered.

    ```mlir
    %next = tile.topk_step %z, %tile, %state : tensor<4x1xf32>, <127>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$scores, Tile_TokensType:$tokens,
                       Tile_TopKType:$state);
  let results = (outs Tile_TopKType:$next);
  let assemblyFormat = [{
    $scores `,` $tokens `,` $state attr-dict `:` type($scores) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Tile_StoreListOp : Tile_Op<"store_list"> {
  let summary = "writes which boxes were chosen, in the order of their tokens";
  let description = [{
    `tile.store_list "pages", %end of 16 last 1 : <127>`: boxes of 16 tokens, for
    `tile.listed`. With `last`, so many boxes at the end of the sequence are on the
    list whatever their score.
  }];
  let arguments = (ins StrAttr:$list, Tile_TopKType:$state, Kvc_Count:$tokens,
                       DefaultValuedAttr<Kvc_Index, "0">:$last);
  let assemblyFormat = [{
    $list `,` $state `of` $tokens (`last` $last^)? attr-dict `:` type($state)
  }];
}

def Tile_MoveTokensOp : Tile_Op<"move_tokens"> {
  let summary = "evicts the chosen tokens: the last ones take their places";
  let description = [{
    `tile.move_tokens(k, v, a) %end : <1>`. From the latest chosen token on, the
    rows of the sequence's last token, of the streams that are named, move to its
    place, and the sequence is one token shorter.
  }];
  let arguments = (ins StrArrayAttr:$streams, Tile_TopKType:$state);
  let assemblyFormat = [{
    `(` custom<StreamNames>($streams) `)` $state attr-dict `:` type($state)
  }];
  let hasVerifier = 1;
}

//===--- recurrence -------------------------------------------------------===//

def Tile_LoadStateOp : Tile_Op<"load_state"> {
  let summary = "the row of a stream that has one per sequence, as a matrix";
  let description = "`%s = tile.load_state state : tensor<8x16xf32>`.";
  let arguments = (ins StrAttr:$stream);
  let results = (outs RankedTensorOf<[F32]>:$x);
  let assemblyFormat = "custom<StreamName>($stream) attr-dict `:` type($x)";
}

def Tile_StoreStateOp : Tile_Op<"store_state"> {
  let summary = "writes the row of a stream that has one per sequence";
  let description = "`tile.store_state state, %x : tensor<8x16xf32>`.";
  let arguments = (ins StrAttr:$stream, RankedTensorOf<[F32]>:$x);
  let assemblyFormat = "custom<StreamName>($stream) `,` $x attr-dict `:` type($x)";
}

def Tile_StoreRowOutputOp : Tile_Op<"store_row_output"> {
  let summary = "writes the output of one query token, in the model's dtype";
  let description = "`tile.store_row_output %row, %o : tensor<?x8xf32>`, [q head, d].";
  let arguments = (ins Tile_TokensType:$row, RankedTensorOf<[F32]>:$o);
  let assemblyFormat = "$row `,` $o attr-dict `:` type($o)";
  let hasVerifier = 1;
}

#endif // KVC_TILE_SPACE_OPS
