// Each kvc op becomes one tile.kernel.
// RUN: kvc-opt %s -kvc-lower-to-tile | FileCheck %s
// RUN: kvc-opt %s -kvc-lower-to-tile --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefix=LOC

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.int<8, scale = f32>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.sliding_window<sink = 4, recent = 60>) : !cache

// CHECK-LABEL: tile.kernel @s.append "append" of @s dtype bf16
// CHECK-NEXT: tile.for_rows {
// CHECK-NEXT: ^bb0(%[[ROW:.*]]: !tile.tokens):
// CHECK-NEXT: %[[K:.*]] = tile.load_row k %[[ROW]] : tensor<64xf32>
// CHECK-NEXT: %[[KC:.*]], %[[KS:.*]] = tile.quantize %[[K]] with(#kvc.int<8, scale = f32>) : tensor<64xf32> -> tensor<64xi8>, tensor<1xf32>
// CHECK-NEXT: tile.store_row k %[[ROW]], %[[KC]], %[[KS]] : tensor<64xi8>, tensor<1xf32>
// CHECK-NEXT: %[[V:.*]] = tile.load_row v %[[ROW]] : tensor<32xf32>
// CHECK-NEXT: %[[VC:.*]] = tile.quantize %[[V]] with(#kvc.float<f16>) : tensor<32xf32> -> tensor<32xf16>
// CHECK-NEXT: tile.store_row v %[[ROW]], %[[VC]] : tensor<32xf16>
// CHECK-NEXT: tile.yield
func.func @s.append(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !cache) {
  kvc.append @s, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !cache
  return
}

// CHECK-LABEL: tile.kernel @s.gather "gather" of @s dtype bf16
// CHECK-NEXT: tile.for_rows {
// CHECK-NEXT: ^bb0(%[[ROW:.*]]: !tile.tokens):
// CHECK-NEXT: %[[KC:.*]], %[[KS:.*]] = tile.load k %[[ROW]] : tensor<1x64xi8>, tensor<1x1xf32>
// CHECK-NEXT: %[[KX:.*]] = tile.convert %[[KC]] : tensor<1x64xi8> -> tensor<1x64xf32>
// CHECK-NEXT: %[[K:.*]] = tile.scale %[[KX]] by %[[KS]] : tensor<1x64xf32>, tensor<1x1xf32>
// CHECK-NEXT: tile.store_decoded k %[[ROW]], %[[K]] : tensor<1x64xf32>
// CHECK-NEXT: %[[VC:.*]] = tile.load v %[[ROW]] : tensor<1x32xf16>
// CHECK-NEXT: %[[V:.*]] = tile.convert %[[VC]] : tensor<1x32xf16> -> tensor<1x32xf32>
// CHECK-NEXT: tile.store_decoded v %[[ROW]], %[[V]] : tensor<1x32xf32>
// CHECK-NEXT: tile.yield
func.func @s.gather(%slot: tensor<?xi64>, %cache: !cache) -> (tensor<?x3x64xbf16>, tensor<?x3x32xbf16>) {
  %k, %v = kvc.gather @s, %slot from %cache : tensor<?xi64>, !cache -> tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
  return %k, %v : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
}

// The softmax scale and log2(e) go into the query: 0.125 * 1.4427 = 0.18034. A
// codec's scale is still multiplied per element.
// CHECK-LABEL: tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 32, rows = 3, split = 2048>)
// CHECK-NEXT: %[[Q:.*]] = tile.load_query scale 0.18033{{.*}} : tensor<?x64xf32>
// CHECK-NEXT: %[[INIT:.*]] = tile.softmax_init : <32>
// CHECK-NEXT: %[[END:.*]] = tile.for_tokens read(#kvc.sliding_window<sink = 4, recent = 60>) init(%[[INIT]] : !tile.softmax<32>) {
// CHECK-NEXT: ^bb0(%[[T:.*]]: !tile.tokens, %[[STATE:.*]]: !tile.softmax<32>):
// CHECK-NEXT: %[[KC:.*]], %[[KS:.*]] = tile.load k %[[T]] : tensor<32x64xi8>, tensor<32x1xf32>
// CHECK-NEXT: %[[KX:.*]] = tile.convert %[[KC]] : tensor<32x64xi8> -> tensor<32x64xf32>
// CHECK-NEXT: %[[K:.*]] = tile.scale %[[KX]] by %[[KS]] : tensor<32x64xf32>, tensor<32x1xf32>
// CHECK-NEXT: %[[S:.*]] = tile.dot %[[Q]], %[[K]] : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
// CHECK-NEXT: %[[M:.*]] = tile.mask %[[S]], %[[T]] read(#kvc.sliding_window<sink = 4, recent = 60>) : tensor<?x32xf32>
// CHECK-NEXT: %[[P:.*]], %[[STEP:.*]] = tile.softmax_step %[[M]], %[[STATE]] : tensor<?x32xf32>, <32>
// CHECK-NEXT: %[[VC:.*]] = tile.load v %[[T]] : tensor<32x32xf16>
// CHECK-NEXT: %[[V:.*]] = tile.convert %[[VC]] : tensor<32x32xf16> -> tensor<32x32xf32>
// CHECK-NEXT: %[[NEXT:.*]] = tile.accumulate %[[P]], %[[V]], %[[STEP]] : tensor<?x32xf32>, tensor<32x32xf32>, <32>
// CHECK-NEXT: tile.yield %[[NEXT]] : !tile.softmax<32>
// CHECK-NEXT: }
// CHECK-NEXT: tile.store_partial %[[END]] : <32>
// Every op points at the one that it came from.
// LOC: tile.load k {{.*}} loc("{{.*}}lower-to-tile.mlir":[[#@LINE+3]]:14)
// LOC: tile.accumulate {{.*}} loc("{{.*}}lower-to-tile.mlir":[[#@LINE+2]]:14)
func.func @s.attend(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>) {
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 splits 2048 schedule(#kvc.core_schedule<tokens = 32, rows = 3, split = 2048>) : tensor<?x9x64xbf16>, !cache -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return %o, %lse : tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
}

// What does more to the score than add to it gets it plain, and makes powers of
// two itself: 30 * log2(e) = 43.28.
// CHECK-LABEL: tile.kernel @s.capped "attend" of @s dtype f32
// CHECK-NEXT: tile.load_query scale 1.250000e-01 :
// CHECK: %[[S:.*]] = tile.dot
// CHECK-NEXT: %[[C:.*]] = tile.logits %[[S]], %{{.*}} {
// CHECK: %[[CAP:.*]] = arith.constant 3.000000e+01 : f32
// CHECK: %[[IN:.*]] = arith.divf %{{.*}}, %[[CAP]] : f32
// CHECK: %[[TANH:.*]] = math.tanh %[[IN]] : f32
// CHECK: %[[OUT:.*]] = arith.constant 43.28{{.*}} : f32
// CHECK: %[[Y:.*]] = arith.mulf %[[OUT]], %[[TANH]] : f32
// CHECK-NEXT: kvc.yield %[[Y]] : f32
// CHECK-NEXT: } : tensor<?x16xf32>
// CHECK-NEXT: tile.mask %[[C]],
func.func @s.capped(%q: tensor<?x9x64xf32>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>) {
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 splits 2048 schedule(#kvc.core_schedule<split = 2048>) logits { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x9x64xf32>, !cache -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return %o, %lse : tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
}

// What adds to the score takes the factor on its own, once per row where it can:
// the query is scaled, and so is the slope of the head.
// CHECK-LABEL: tile.kernel @s.alibi "attend" of @s dtype f32
// CHECK-NEXT: tile.load_query scale 0.18033{{.*}} :
// CHECK: tile.logits
// CHECK: ^bb0(%[[S:.*]]: f32, %[[P:.*]]: i32, %[[T:.*]]: i32, %{{.*}}: i32, %[[H:.*]]: i32, %{{.*}}: i32):
// CHECK: %[[HF:.*]] = arith.sitofp %[[H]] : i32 to f32
// CHECK: %[[SLOPE:.*]] = math.exp2 %[[HF]] : f32
// CHECK: %[[AGE:.*]] = arith.subi %[[P]], %[[T]] : i32
// CHECK: %[[AF:.*]] = arith.sitofp %[[AGE]] : i32 to f32
// CHECK: %[[E:.*]] = arith.constant 1.442{{.*}} : f32
// CHECK: %[[SE:.*]] = arith.mulf %[[SLOPE]], %[[E]] : f32
// CHECK: %[[B:.*]] = arith.mulf %[[SE]], %[[AF]] : f32
// CHECK: %[[Y:.*]] = arith.subf %[[S]], %[[B]] : f32
// CHECK: kvc.yield %[[Y]] : f32
// CHECK: tile.mask
// CHECK-SAME: visible {
func.func @s.alibi(%q: tensor<?x9x64xf32>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>) {
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 splits 2048 schedule(#kvc.core_schedule<split = 2048>) logits {
  ^bb0(%s: f32, %p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %hf = arith.sitofp %h : i32 to f32
    %slope = math.exp2 %hf : f32
    %age = arith.subi %p, %t : i32
    %af = arith.sitofp %age : i32 to f32
    %b = arith.mulf %slope, %af : f32
    %y = arith.subf %s, %b : f32
    kvc.yield %y : f32
  } visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %even = arith.cmpi ne, %p, %t : i32
    kvc.yield %even : i1
  } : tensor<?x9x64xf32>, !cache -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return %o, %lse : tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
}

// CHECK-LABEL: tile.kernel @s.merge "merge" of @s dtype bf16
// CHECK-NEXT: %[[INIT:.*]] = tile.softmax_init : <32>
// CHECK-NEXT: %[[END:.*]] = tile.for_splits init(%[[INIT]] : !tile.softmax<32>) {
// CHECK-NEXT: ^bb0(%[[PART:.*]]: index, %[[STATE:.*]]: !tile.softmax<32>):
// CHECK-NEXT: %[[NEXT:.*]] = tile.merge_step %[[PART]], %[[STATE]] : <32>
// CHECK-NEXT: tile.yield %[[NEXT]] : !tile.softmax<32>
// CHECK-NEXT: }
// CHECK-NEXT: tile.store_output %[[END]] : <32>
// CHECK-NOT: func.func
// CHECK-NOT: kvc.{{append|attend|merge}}
func.func @s.merge(%po: tensor<?x?x9x32xf32>, %plse: tensor<?x?x9xf32>) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>) {
  %o, %lse = kvc.merge @s, %po, %plse : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return %o, %lse : tensor<?x9x32xbf16>, tensor<?x9xf32>
}
