// Where V's rows are the beginnings of K's, a step copies them once: 160 bytes for
// 16 tokens are 5 copies of each lane.
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 | FileCheck %s

!cache = !kvc.cache<heads = 1, k = 80 by #kvc.float<bf16>, v = 64 of k, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: llvm.func @kvc_s_once
// CHECK-COUNT-5: "CpAsync16"}
// CHECK-NOT: "CpAsync16"}
// CHECK: "CpAsync16Zfill"}
tile.kernel @s.once "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x80xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x80xbf16>
    %k = tile.convert %kc : tensor<16x80xbf16> -> tensor<16x80xf32>
    %x = tile.dot %q, %k : tensor<?x80xf32>, tensor<16x80xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// Exchanged, K's rows are the shorter ones, and the end of V's would be nowhere: of
// either there are copies, 4 and 5.
// CHECK-LABEL: llvm.func @kvc_s_each
// CHECK-COUNT-4: "CpAsync16"}
// CHECK-NOT: "CpAsync16Zfill"}
// CHECK: "CpAsync16"}
tile.kernel @s.each "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<80>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<80>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<80>):
    %kc = tile.load v %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<80>
    %vc = tile.load k %t : tensor<16x80xbf16>
    %v = tile.convert %vc : tensor<16x80xbf16> -> tensor<16x80xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x80xf32>, !tile.softmax<80>
    tile.yield %a : !tile.softmax<80>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<80>
    %all = tile.for_splits init(%begin : !tile.softmax<80>) {
    ^bb0(%i: index, %before: !tile.softmax<80>):
      %after = tile.merge_step %i, %before : !tile.softmax<80>
      tile.yield %after : !tile.softmax<80>
    }
    tile.store_output %all : !tile.softmax<80>
  } : !tile.softmax<80>
}
