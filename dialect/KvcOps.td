//===- KvcOps.td - the verbs -------------------------------*- tablegen -*-===//
#ifndef KVC_OPS
#define KVC_OPS

include "dialect/KvcTypes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Kvc_Op<string mnemonic, list<Trait> traits = []>
    : Op<Kvc_Dialect, mnemonic, traits>;

/// What an op of a store says must fit the store, which is looked at only once
/// it is known to be valid itself.
defvar Kvc_StoreUser = DeclareOpInterfaceMethods<SymbolUserOpInterface>;

def Kvc_StoreOp : Kvc_Op<"store", [Symbol]> {
  let summary = "declares a store: which layers and kv heads share one cache type";
  let description = [{
    ```mlir
    kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9
      read(#kvc.read_all) : !kvc.cache<...>
    ```
    `layers` are ascending: `0 to 30` (without 30), `0 to 41 step 2` or
    `[0, 5, 11]`. `heads` are the kv heads [begin, end) of the model's number, `of`;
    `queries` is its number of q heads, of which `queries` / `of` share a kv head
    (the group). `read` says which cached tokens a query sees, and the type how
    they are kept. An op that names a store is checked against it.

    An attribute `attend` is the user's text of what the store's attention does
    with scores: it tells apart stores whose kernels differ by nothing else.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name,
    DenseI64ArrayAttr:$layers,
    Kvc_Index:$head_begin, Kvc_Index:$head_end,
    Kvc_Count:$kv_heads, Kvc_Count:$q_heads,
    AnyAttr:$read, TypeAttrOf<Kvc_CacheType>:$cache);
  let assemblyFormat = [{
    $sym_name `layers` custom<Layers>($layers) `heads` $head_begin `to` $head_end
    `of` $kv_heads `queries` $q_heads `read` `(` $read `)` attr-dict `:` $cache
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::kvc::ReadAttrInterface read();
    /// q heads per kv head.
    int64_t getGroup() { return getQHeads() / getKvHeads(); }
  }];
}

def Kvc_AppendOp : Kvc_Op<"append", [Kvc_StoreUser]> {
  let summary = "quantizes rows of K and V into a cache";
  let description = [{
    ```mlir
    kvc.append @main, %k, %v at %slot into %cache
      : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>, tensor<?xi64>, !cache
    ```
    `k` is [rows, kv heads of the model, dim of K], `v` [rows, kv heads of the
    model, dim of V], both of the model's dtype, and `slot` [rows]. Row i of each
    is quantized by its stream's codec, for the kv heads of the store, and written
    to where `slot[i]` says (page * page tokens + token in page; of a contiguous
    cache, slot * capacity + token). A negative slot skips the row. Where v is of k
    in the cache, there is no `v`:

    ```mlir
    kvc.append @main, %k at %slot into %cache
      : tensor<?x1x576xbf16>, tensor<?xi64>, !cache
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, AnyRankedTensor:$k,
    Optional<AnyRankedTensor>:$v, 1DTensorOf<[I64]>:$slot, Kvc_CacheType:$cache);
  let assemblyFormat = [{
    $store `,` $k (`,` $v^)? `at` $slot `into` $cache attr-dict
    `:` custom<AppendTypes>(type($k), type($v), type($slot), type($cache))
  }];
}

def Kvc_GatherOp : Kvc_Op<"gather", [Kvc_StoreUser]> {
  let summary = "decodes rows of K and V from a cache";
  let description = [{
    ```mlir
    %k, %v = kvc.gather @main, %slot from %cache
      : tensor<?xi64>, !cache -> tensor<?x3x64xbf16>, tensor<?x3x64xbf16>
    ```
    The inverse of `kvc.append`, up to what its codec loses: row i of `k` and `v`
    is what the codes at `slot[i]` stand for, as f32 and then as the model's dtype,
    at the kv heads of the store. Only these are computed, and of a row whose slot
    is negative none.
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, 1DTensorOf<[I64]>:$slot,
    Kvc_CacheType:$cache);
  let results = (outs AnyRankedTensor:$k, AnyRankedTensor:$v);
  let assemblyFormat = [{
    $store `,` $slot `from` $cache attr-dict
    `:` type($slot) `,` type($cache) `->` type($k) `,` type($v)
  }];
}

def Kvc_AttendOp : Kvc_Op<"attend",
    [IsolatedFromAbove, Kvc_StoreUser, Kvc_HasScoreRegions]> {
  let summary = "softmax attention of a ragged batch of query tokens over a cache";
  let description = [{
    For query token i of sequence b at position p = c + i, where c = len(b) - n(b)
    (it has n(b) of the batch's query tokens and len(b) in the cache), and q head h
    of kv head g = h / group, over the tokens that the store's `read` shows it:

    ```
    s_t = logits(scale * <q, k_t>, p, t, c, h, g)
    lse = log sum_t exp(s_t)          o = sum_t exp(s_t - lse) v_t
    ```

    `q` is [rows, q heads of the model, dim of K], with the query tokens of all
    sequences one after another; `o` is [rows, q heads, dim of V] of q's dtype,
    `lse` [rows, q heads] of f32. Only the q heads of the store's kv heads are
    computed. A row that sees no token has o = 0 and lse = -inf, or its sink.

    The regions, told of above under `Regions of a score`, are optional. Without
    `logits`, s_t is the scaled product. `visible` hides the tokens for which it
    yields false. `sink` is one more logit of the sum in lse, of a token that is
    not there and whose v is 0. A softcap, and a mask:

    ```mlir
    kvc.attend @main, %q, %cache, %batch scale 0.125 logits {
    ^bb0(%s: f32, %p: i32, %t: i32, %c: i32, %h: i32, %g: i32):
      %cap = arith.constant 5.0e+01 : f32
      %x = arith.divf %s, %cap : f32
      %y = math.tanh %x : f32
      %z = arith.mulf %cap, %y : f32
      kvc.yield %z : f32
    } visible {
    ^bb0(%p: i32, %t: i32, %c: i32, %h: i32, %g: i32):
      %other = arith.cmpi ne, %p, %t : i32
      kvc.yield %other : i1
    } : tensor<?x9x64xbf16>, !cache -> tensor<?x9x64xbf16>, tensor<?x9xf32>
    ```

    With `splits n`, which `kvc-plan-schedule` sets together with `schedule`, the
    tokens are cut at absolute multiples of n. The results are then the partial o
    [splits, rows, q heads, dim of V] and lse [splits, rows, q heads] of every
    split, both f32, for `kvc.merge`, which has the sink.
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, AnyRankedTensor:$q,
    Kvc_CacheType:$cache, Kvc_BatchType:$batch, F64Attr:$scale,
    OptionalAttr<Kvc_Count>:$splits, OptionalAttr<ScheduleAttrInterface>:$schedule);
  let regions = (region MaxSizedRegion<1>:$logits, MaxSizedRegion<1>:$visible,
                        MaxSizedRegion<1>:$sink);
  let results = (outs AnyRankedTensor:$o, AnyRankedTensor:$lse);
  let assemblyFormat = [{
    $store `,` $q `,` $cache `,` $batch `scale` $scale
    (`splits` $splits^)? (`schedule` `(` $schedule^ `)`)?
    (`logits` $logits^)? (`visible` $visible^)? (`sink` $sink^)? attr-dict
    `:` type($q) `,` type($cache) `->` type($o) `,` type($lse)
  }];
  let hasVerifier = 1;
}

def Kvc_ConstantOp : Kvc_Op<"constant", [Pure]> {
  let summary = "an element of a constant of the store that each call gives";
  let description = [{
    `%x = kvc.constant "sinks"[%h] of 64 : f32` is element `%h` of the 64 values
    that a call gives as `sinks`; with `per_sequence`, of the 64 that it gives for
    the row's sequence. `index` is within them. In a score's region only.
  }];
  let arguments = (ins StrAttr:$name, I32:$index, Kvc_Count:$size,
    UnitAttr:$per_sequence);
  let results = (outs AnyTypeOf<[F32, I32]>:$result);
  let assemblyFormat = "$name `[` $index `]` `of` $size (`per_sequence` $per_sequence^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Kvc_ScoreYieldOp : Kvc_Op<"yield", [Pure, Terminator]> {
  let summary = "ends a score's region with its result";
  let description = [{
    `kvc.yield %z : f32` in a `logits` or `sink` region, `kvc.yield %b : i1` in a
    `visible` one.
  }];
  let arguments = (ins AnyTypeOf<[F32, I1]>:$result);
  let assemblyFormat = "$result attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Kvc_MergeOp : Kvc_Op<"merge",
    [IsolatedFromAbove, Kvc_StoreUser, Kvc_HasScoreRegions, Pure]> {
  let summary = "joins partial attention results by their log-sum-exp";
  let description = [{
    Over the leading axis of splits p, in order:

    ```
    lse = log sum_p exp(lse_p)        o = sum_p exp(lse_p - lse) o_p
    ```

    `partial_o` is [splits, rows, q heads, dim of V] and `partial_lse` [splits,
    rows, q heads], both f32; `o` and `lse` are without the first axis, o of the
    model's dtype. A split that saw nothing (lse_p = -inf) counts for nothing, and
    a row of which that holds for all splits has o = 0 and lse = -inf. A region
    `sink` is the lse of one split more, whose o is 0: no other split has it.

    ```mlir
    %o, %lse = kvc.merge @main, %po, %plse
      : tensor<?x?x9x64xf32>, tensor<?x?x9xf32> -> tensor<?x9x64xbf16>, tensor<?x9xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, AnyRankedTensor:$partial_o,
    AnyRankedTensor:$partial_lse);
  let regions = (region MaxSizedRegion<1>:$sink);
  let results = (outs AnyRankedTensor:$o, AnyRankedTensor:$lse);
  let hasVerifier = 1;
  let assemblyFormat = [{
    $store `,` $partial_o `,` $partial_lse (`sink` $sink^)? attr-dict
    `:` type($partial_o) `,` type($partial_lse) `->` type($o) `,` type($lse)
  }];
}

#endif // KVC_OPS
