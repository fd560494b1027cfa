// A score's region on vectors of scores, and a visible region on the bounds of a
// tile as well: nothing of either is a call, and the factor log2(e) is where
// kvc-lower-to-tile put it.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s --implicit-check-not=' call @' --implicit-check-not='math.exp2'

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// The slope of a head is a power of two by a polynomial; what it takes from the
// score may be one multiply-add.
// CHECK-LABEL: func.func @kvc_s_alibi
// CHECK: %[[SLOPE0:.*]] = arith.sitofp %{{.*}} : vector<8xi32> to vector<8xf32>
// CHECK: llvm.intr.fma
// CHECK: %[[ROOT:.*]] = arith.mulf
// CHECK-NEXT: %[[SLOPE:.*]] = arith.mulf %[[ROOT]], %[[ROOT]] : vector<8xf32>
// CHECK-NEXT: %[[AGE:.*]] = arith.subi %{{.*}}, %{{.*}} : vector<8xi32>
// CHECK-NEXT: %[[AF:.*]] = arith.sitofp %[[AGE]] : vector<8xi32> to vector<8xf32>
// CHECK-NEXT: %[[BIAS:.*]] = arith.mulf %[[SLOPE]], %[[AF]] fastmath<contract> : vector<8xf32>
// CHECK-NEXT: %[[LOGIT:.*]] = arith.subf %{{.*}}, %[[BIAS]] fastmath<contract> : vector<8xf32>
// CHECK-NEXT: llvm.store %[[LOGIT]],
tile.kernel @s.alibi "attend" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 16, rows = 4, queries = 16, split = 64>) {
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
  tile.store_partial %end : !tile.softmax<64>
}

// The chunks of the first and the last of queries and of tokens say whether all
// of a tile is seen, or none; only what is in doubt is masked token by token.
// CHECK-LABEL: func.func @kvc_s_chunks
// CHECK: %[[P0:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[P1:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[T0:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK: %[[T1:.*]] = arith.shrsi %{{.*}}, %{{.*}} : i32
// CHECK-DAG: %[[A:.*]] = arith.cmpi sle, %[[P1]], %[[T0]] : i32
// CHECK-DAG: %[[B:.*]] = arith.cmpi sle, %[[P0]], %[[T1]] : i32
// CHECK-DAG: %[[C:.*]] = arith.cmpi sle, %[[T1]], %[[P0]] : i32
// CHECK-DAG: %[[D:.*]] = arith.cmpi sle, %[[T0]], %[[P1]] : i32
// CHECK: %[[FULL:.*]] = arith.andi %[[A]], %[[C]] : i1
// CHECK: %[[SOME:.*]] = arith.andi %[[B]], %[[D]] : i1
// CHECK: %[[ALL:.*]] = arith.andi %{{.*}}, %[[FULL]] : i1
// CHECK: scf.if %[[ALL]]
// CHECK: %[[P:.*]] = arith.shrsi %{{.*}}, %{{.*}} : vector<8xi32>
// CHECK: %[[T:.*]] = arith.shrsi %{{.*}}, %{{.*}} : vector<8xi32>
// CHECK-NEXT: %[[SAME:.*]] = arith.cmpi eq, %[[P]], %[[T]] : vector<8xi32>
// CHECK-NEXT: %[[SEEN:.*]] = arith.andi %{{.*}}, %[[SAME]] : vector<8xi1>
// CHECK: arith.select %[[SEEN]], %{{.*}}, %{{.*}} : vector<8xi1>, vector<8xf32>
tile.kernel @s.chunks "attend" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 16, rows = 4, queries = 16, split = 64>) {
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
  tile.store_partial %end : !tile.softmax<64>
}
