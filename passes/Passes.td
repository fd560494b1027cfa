//===- Passes.td - kvc -> tile -----------------------------*- tablegen -*-===//
#ifndef KVC_PASSES
#define KVC_PASSES

include "mlir/Pass/PassBase.td"

def InferReads : Pass<"kvc-infer-reads", "::mlir::ModuleOp"> {
  let summary = "the window that a visible region implies becomes its store's read";
  let description = [{
    A store that reads all, and whose attend has a `visible` region, gets the
    smallest window that shows every token that the region may show: pages and
    tiles outside it are skipped, and given back. If the two say the same, the
    region goes.

    ```mlir
    kvc.store @full ... read(#kvc.read_all)
    kvc.attend @full ... visible { t > p - 4096 || t < 4 }
    ==>
    kvc.store @full ... read(#kvc.sliding_window<sink = 4, recent = 4096>)
    kvc.attend @full ...
    ```
  }];
}

def PlanSchedule : Pass<"kvc-plan-schedule", "::mlir::ModuleOp"> {
  let summary = "choose how each kernel runs, and cut attend into splits and merge";
  let description = [{
    Reads the machine's facts from the module's `kvc.target`, and asks the backend
    that has attached itself to that kind of machine's schedules for the best one
    that it knows. A store's attend becomes one function per range of query tokens,
    each with its schedule, whose splits one merge function joins, with the sink if
    there is one:

    ```mlir
    func.func @full.attend(%q, %cache, %batch) { kvc.attend @full, ... }
    ==>
    func.func @full.attend.decode(...)  { kvc.attend ... splits 2048 schedule(#kvc.core_schedule<...>) }
    func.func @full.attend.prefill(...) { kvc.attend ... splits 2048 schedule(#kvc.core_schedule<...>) }
    func.func @full.merge(...)          { kvc.merge ... }
    ```

    Splits stand at absolute multiples and kernels are chosen by a sequence's own
    query tokens, so results do not depend on the batch.
  }];
  let options = [
    ListOption<"overrides", "override", "std::string",
      "KERNEL.FIELD=VALUE with a glob for KERNEL, applied in order after "
               "planning; one that matches no kernel, or makes a schedule that "
               "is not legal, is an error; an empty one only keeps its place">,
  ];
}

def LowerToTile : Pass<"kvc-lower-to-tile", "::mlir::ModuleOp"> {
  let summary = "each kvc op becomes one tile.kernel";
  let description = [{
    The softmax scale, and log2(e) where logits are wanted in powers of two, go
    into the query rows; a codec's scale is still multiplied per element:

    ```mlir
    func.func @full.attend.decode(...) { kvc.attend @full, ... }
    ==>
    tile.kernel @full.attend.decode "attend" of @full ... {
      %q = tile.load_query scale 0.18 : tensor<?x64xf32>
      ... tile.for_tokens ... {
        %codes, %scales = tile.load k %t
        %x = tile.convert %codes
        %k = tile.scale %x by %scales
        %s = tile.dot %q, %k
        ...
      }
      tile.store_partial ...
    }
    ```

    Each function must hold one kvc op and a return, and each attend have splits
    and a schedule.
  }];
  let dependentDialects = ["::kvc::tile::TileDialect"];
}

def CombineSplits : Pass<"kvc-combine-splits", "::mlir::ModuleOp"> {
  let summary = "where splits run side by side, the last of a row merges all";
  let description = [{
    For targets with warps (`shared` of `kvc.target` is not 0):

    ```mlir
    tile.kernel @full.merge "merge" of @full ... { ... tile.store_output %s : <64> }
    tile.kernel @full.attend.decode "attend" of @full ... { ... tile.store_partial %1 : <64> }
    ==>
    tile.kernel @full.merge ...
    tile.kernel @full.attend.decode "attend" of @full ... {
      ... tile.store_partial %1 last { ... tile.store_output %s : <64> } : <64>
    }
    ```

    The merge kernel stays, for engines with splits of their own.
  }];
}

def FoldScales : Pass<"kvc-fold-scales", "::mlir::ModuleOp"> {
  let summary = "multiply scores, probabilities or q by a scale, not all elements";
  let description = [{
    A scale per token leaves the sum over channels:

    ```mlir
    %k = tile.scale %x by %scales    // [t, 1]
    %s = tile.dot %q, %k
    ==>
    %d = tile.dot %q, %x
    %s = tile.scale_tokens %d by %scales
    ```

    and likewise for V, whose scales are multiplied with the probabilities:

    ```mlir
    %v = tile.scale %y by %scales    // [t, 1]
    %acc = tile.accumulate %p, %v, %next
    ==>
    %ps = tile.scale_tokens %p by %scales
    %acc = tile.accumulate %ps, %y, %next
    ```

    A scale per channel of K, the same for all tokens of a tile, goes to the
    query, once for the tile:

    ```mlir
    %k = tile.scale %x by %scales    // [1, d], or fewer boxes of channels
    %s = tile.dot %q, %k
    ==>
    %qs = tile.scale %q by %scales
    %s = tile.dot %qs, %x
    ```

    Exact in real numbers: each is constant along the sum that it leaves or
    enters. A scale for which that does not hold stays.
  }];
}

#endif // KVC_PASSES
