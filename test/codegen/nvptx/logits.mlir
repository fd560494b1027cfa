// A score's region on the scores that a lane has, and a visible region on the
// bounds of a step as well: nothing of either is a call, and the factor log2(e)
// is where kvc-lower-to-tile put it.
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 | FileCheck %s --implicit-check-not='llvm.call' --implicit-check-not='math.'

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// The slope of a head is one instruction; what it takes from the score, and the
// score's own scale, may be multiply-adds.
// CHECK-LABEL: llvm.func @kvc_s_alibi
// CHECK: %[[HEAD:.*]] = arith.sitofp %{{.*}} : i32 to f32
// CHECK-NEXT: %[[SLOPE:.*]] = llvm.inline_asm {kvc.op = "Ex2"} {{.*}} %[[HEAD]]
// CHECK-NEXT: %[[AGE:.*]] = arith.subi %{{.*}}, %{{.*}} : i32
// CHECK-NEXT: %[[AF:.*]] = arith.sitofp %[[AGE]] : i32 to f32
// CHECK-NEXT: %[[BIAS:.*]] = arith.mulf %[[SLOPE]], %[[AF]] fastmath<contract> : f32
// CHECK-NEXT: %[[SCALE:.*]] = arith.constant 1.800000e-01 : f32
// CHECK-NEXT: %[[S:.*]] = arith.mulf %{{.*}}, %[[SCALE]] fastmath<contract> : f32
// CHECK-NEXT: %{{.*}} = arith.subf %[[S]], %[[BIAS]] fastmath<contract> : f32
tile.kernel @s.alibi "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %l = tile.logits %d, %t {
    ^bb0(%s: f32, %p: i32, %u: i32, %ctx: i32, %h: i32, %g: i32):
      %hf = arith.sitofp %h : i32 to f32
      %slope = math.exp2 %hf : f32
      %age = arith.subi %p, %u : i32
      %af = arith.sitofp %age : i32 to f32
      %b = arith.mulf %slope, %af : f32
      %y = arith.subf %s, %b : f32
      kvc.yield %y : f32
    } : tensor<?x16xf32>
    %m = tile.mask %l, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !tile.softmax<64>
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

// The chunks of the first and the last of the warp's queries and of the step's
// tokens say whether all of it is seen: then it has no masks. Else sub-steps of
// which nothing is seen are skipped, and the others are masked token by token.
// CHECK-LABEL: llvm.func @kvc_s_chunks
// CHECK: %[[P0:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[P1:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[T0:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[T1:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK-DAG: %[[A:.*]] = arith.cmpi sle, %[[P1]], %[[T0]] : i32
// CHECK-DAG: %[[C:.*]] = arith.cmpi sle, %[[T1]], %[[P0]] : i32
// CHECK: %[[FULL:.*]] = arith.andi %[[A]], %[[C]] : i1
// CHECK: scf.if %[[FULL]] ->
// CHECK-NOT: arith.shrsi
// CHECK: MmaBF16
// CHECK: } else {
// CHECK: scf.for
// CHECK: %[[NONE:.*]] = arith.ori %{{.*}}, %{{.*}} : i1
// CHECK-NEXT: scf.if %[[NONE]] ->
// CHECK-NEXT: scf.yield
// CHECK: MmaBF16
// CHECK: %[[P:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[T:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK-NEXT: %[[SAME:.*]] = arith.cmpi eq, %[[P]], %[[T]] : i32
// CHECK-NEXT: %[[SEEN:.*]] = arith.andi %{{.*}}, %[[SAME]] : i1
// CHECK: arith.select %[[SEEN]],
tile.kernel @s.chunks "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %d, %t read(#kvc.read_all) visible {
    ^bb0(%p: i32, %u: i32, %ctx: i32, %h: i32, %g: i32):
      %n64 = arith.constant 64 : i32
      %a0 = arith.floordivsi %p, %n64 : i32
      %b0 = arith.floordivsi %u, %n64 : i32
      %same = arith.cmpi eq, %a0, %b0 : i32
      kvc.yield %same : i1
    } : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !tile.softmax<64>
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
