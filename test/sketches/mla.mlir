// MLA, decoding with absorbed projections: one row per token, of which all 576
// elements are K and the first 512 are V, under many query heads.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: kvc-opt %s -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: sed -e 's/core_schedule<tokens = 16>/warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>/' \
// RUN:   -e 's/store_partial %%end/& last { %%b = tile.softmax_init : !s %%o = tile.for_splits init(%%b : !s) { ^bb0(%%i: index, %%w: !s): %%g = tile.merge_step %%i, %%w : !s tile.yield %%g : !s } tile.store_output %%o : !s }/' %s \
// RUN:   | kvc-opt -kvc-lower-to-gpu=target=sm_90 2>&1 | FileCheck %s --check-prefix=GPU

!cache = !kvc.cache<heads = 1, c = 576 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<512>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 16 read(#kvc.read_all) : !cache

// CHECK: %[[C:.*]] = tile.load c
// CHECK: %[[X:.*]] = tile.convert %[[C]]
// CHECK: tile.dot %{{.*}}, %[[X]]
// CHECK: %[[V:.*]] = tile.slice %[[X]][0 to 512] : tensor<16x576xf32> -> tensor<16x512xf32>
// CHECK: tile.accumulate %{{.*}}, %[[V]]

// On a CPU K and V are decoded in registers.
// CPU-NOT: remark
// CPU: func.func @kvc_s_attend
// GPU: remark: `s.attend`: K and V are decoded into rows of f32 in shared memory
// GPU: llvm.func @kvc_s_attend
tile.kernel @s.attend "attend" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 16>) {
  %q = tile.load_query scale 0.0721347520444 : tensor<?x576xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %c = tile.load c %t : tensor<16x576xbf16>
    %x = tile.convert %c : tensor<16x576xbf16> -> tensor<16x576xf32>
    %d = tile.dot %q, %x : tensor<?x576xf32>, tensor<16x576xf32> -> tensor<?x16xf32>
    %m = tile.mask %d, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %s = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %v = tile.slice %x[0 to 512] : tensor<16x576xf32> -> tensor<16x512xf32>
    %n = tile.accumulate %p, %v, %s : tensor<?x16xf32>, tensor<16x512xf32>, !s
    tile.yield %n : !s
  }
  tile.store_partial %end : !s
}
