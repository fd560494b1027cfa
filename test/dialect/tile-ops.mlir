// Every op and type of the tile level survives printing and parsing.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: kvc-opt %s --mlir-print-op-generic | kvc-opt | FileCheck %s

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.sliding_window<sink = 4, recent = 60>)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>

// CHECK-LABEL: tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>)
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.core_schedule<rows = 2>) {
  // CHECK-NEXT: %[[Q:.*]] = tile.load_query scale 1.250000e-01 : tensor<?x64xf32>
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  // CHECK-NEXT: %[[INIT:.*]] = tile.softmax_init : <32>
  %init = tile.softmax_init : !tile.softmax<32>
  // CHECK-NEXT: %[[END:.*]] = tile.for_tokens read(#kvc.sliding_window<sink = 4, recent = 60>) init(%[[INIT]] : !tile.softmax<32>) {
  %end = tile.for_tokens read(#kvc.sliding_window<sink = 4, recent = 60>) init(%init : !tile.softmax<32>) {
  // CHECK-NEXT: ^bb0(%[[T:.*]]: !tile.tokens, %[[STATE:.*]]: !tile.softmax<32>):
  ^bb0(%t: !tile.tokens, %state: !tile.softmax<32>):
    // CHECK-NEXT: %[[KC:.*]], %[[KS:.*]] = tile.load k %[[T]] : tensor<16x64xi8>, tensor<16x1xf16>
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    // CHECK-NEXT: %[[KX:.*]] = tile.convert %[[KC]] : tensor<16x64xi8> -> tensor<16x64xf32>
    // CHECK-NEXT: %[[KY:.*]] = tile.scale %[[KX]] by %[[KS]] : tensor<16x64xf32>, tensor<16x1xf16>
    // CHECK-NEXT: tile.offset %[[KY]] by %[[KS]] : tensor<16x64xf32>, tensor<16x1xf16>
    // CHECK-NEXT: tile.convert %[[KC]] unsigned : tensor<16x64xi8> -> tensor<16x64xf32>
    %scaledx = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %scaled = tile.scale %scaledx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %offset = tile.offset %scaled by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %unsigned = tile.convert %kc unsigned : tensor<16x64xi8> -> tensor<16x64xf32>
    // CHECK-NEXT: %[[K:.*]] = tile.convert %[[KC]] : tensor<16x64xi8> -> tensor<16x64xf32>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    // CHECK-NEXT: %[[S:.*]] = tile.dot %[[Q]], %[[K]] : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %s0 = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // CHECK-NEXT: %[[S1:.*]] = tile.scale_tokens %[[S]] by %[[KS]] : tensor<?x16xf32>, tensor<16x1xf16>
    %s1 = tile.scale_tokens %s0 by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    // CHECK-NEXT: %[[S2:.*]] = tile.logits %[[S1]], %[[T]] {
    // CHECK-NEXT: ^bb0(%[[X:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32):
    // CHECK-NEXT: %[[CAP:.*]] = arith.constant 3.000000e+01 : f32
    // CHECK-NEXT: %[[Y:.*]] = arith.divf %[[X]], %[[CAP]] : f32
    // CHECK-NEXT: %[[Z:.*]] = math.tanh %[[Y]] : f32
    // CHECK-NEXT: kvc.yield %[[Z]] : f32
    // CHECK-NEXT: } : tensor<?x16xf32>
    %s2 = tile.logits %s1, %t {
    ^bb0(%x: f32, %p: i32, %q0: i32, %ctx: i32, %h: i32, %g: i32):
      %cap = arith.constant 30.0 : f32
      %y = arith.divf %x, %cap : f32
      %z = math.tanh %y : f32
      kvc.yield %z : f32
    } : tensor<?x16xf32>
    // CHECK-NEXT: %[[S3:.*]] = tile.mask %[[S2]], %[[T]] read(#kvc.read_all) visible {
    // CHECK-NEXT: ^bb0(%[[P0:.*]]: i32, %[[T0:.*]]: i32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32):
    // CHECK-NEXT: %[[B:.*]] = arith.cmpi ne, %[[P0]], %[[T0]] : i32
    // CHECK-NEXT: kvc.yield %[[B]] : i1
    // CHECK-NEXT: } : tensor<?x16xf32>
    %s3 = tile.mask %s2, %t read(#kvc.read_all) visible {
    ^bb0(%p: i32, %t0: i32, %ctx: i32, %h: i32, %g: i32):
      %b = arith.cmpi ne, %p, %t0 : i32
      kvc.yield %b : i1
    } : tensor<?x16xf32>
    // CHECK-NEXT: %[[P:.*]], %[[NEXT:.*]] = tile.softmax_step %[[S3]], %[[STATE]] : tensor<?x16xf32>, <32>
    %p, %next = tile.softmax_step %s3, %state : tensor<?x16xf32>, !tile.softmax<32>
    // CHECK-NEXT: %[[VC:.*]] = tile.load v %[[T]] : tensor<16x32xf16>
    %vc = tile.load v %t : tensor<16x32xf16>
    // CHECK-NEXT: %[[V:.*]] = tile.convert %[[VC]] : tensor<16x32xf16> -> tensor<16x32xf32>
    %v = tile.convert %vc : tensor<16x32xf16> -> tensor<16x32xf32>
    // CHECK-NEXT: %[[ACC:.*]] = tile.accumulate %[[P]], %[[V]], %[[NEXT]] : tensor<?x16xf32>, tensor<16x32xf32>, <32>
    %acc = tile.accumulate %p, %v, %next : tensor<?x16xf32>, tensor<16x32xf32>, !tile.softmax<32>
    // CHECK-NEXT: tile.yield %[[ACC]] : !tile.softmax<32>
    tile.yield %acc : !tile.softmax<32>
  }
  // CHECK: tile.store_partial %[[END]] : <32>
  tile.store_partial %end : !tile.softmax<32>
}

// CHECK-LABEL: tile.kernel @s.merge "merge" of @s dtype bf16
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : !tile.softmax<32>
  // CHECK: %[[END:.*]] = tile.for_splits init(%{{.*}} : !tile.softmax<32>) {
  %end = tile.for_splits init(%init : !tile.softmax<32>) {
  // CHECK-NEXT: ^bb0(%[[PART:.*]]: index, %[[STATE:.*]]: !tile.softmax<32>):
  ^bb0(%part: index, %state: !tile.softmax<32>):
    // CHECK-NEXT: tile.merge_step %[[PART]], %[[STATE]] : <32>
    %next = tile.merge_step %part, %state : !tile.softmax<32>
    tile.yield %next : !tile.softmax<32>
  }
  // CHECK: tile.store_output %[[END]] : <32>
  tile.store_output %end : !tile.softmax<32>
}

// CHECK-LABEL: tile.kernel @s.gather "gather" of @s dtype f32
tile.kernel @s.gather "gather" of @s dtype f32 {
  // CHECK-NEXT: tile.for_rows {
  tile.for_rows {
  // CHECK-NEXT: ^bb0(%[[ROW:.*]]: !tile.tokens):
  ^bb0(%row: !tile.tokens):
    // CHECK-NEXT: %[[C:.*]], %[[S:.*]] = tile.load k %[[ROW]] : tensor<1x64xi8>, tensor<1x1xf16>
    %c, %s = tile.load k %row : tensor<1x64xi8>, tensor<1x1xf16>
    // CHECK-NEXT: %[[X:.*]] = tile.convert %[[C]]
    %x = tile.convert %c : tensor<1x64xi8> -> tensor<1x64xf32>
    // CHECK-NEXT: %[[Y:.*]] = tile.scale %[[X]] by %[[S]]
    %y = tile.scale %x by %s : tensor<1x64xf32>, tensor<1x1xf16>
    // CHECK-NEXT: tile.store_decoded k %[[ROW]], %[[Y]] : tensor<1x64xf32>
    tile.store_decoded k %row, %y : tensor<1x64xf32>
    tile.yield
  }
}

// CHECK-LABEL: tile.kernel @s.append "append" of @s dtype f32
tile.kernel @s.append "append" of @s dtype f32 {
  // CHECK-NEXT: tile.for_rows {
  tile.for_rows {
  // CHECK-NEXT: ^bb0(%[[ROW:.*]]: !tile.tokens):
  ^bb0(%row: !tile.tokens):
    // CHECK-NEXT: %[[X:.*]] = tile.load_row k %[[ROW]] : tensor<64xf32>
    %x = tile.load_row k %row : tensor<64xf32>
    // CHECK-NEXT: %[[C:.*]], %[[S:.*]] = tile.quantize %[[X]] with(#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>, tensor<1xf16>
    %c, %s = tile.quantize %x with (#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>, tensor<1xf16>
    // CHECK-NEXT: tile.store_row k %[[ROW]], %[[C]], %[[S]] : tensor<64xi8>, tensor<1xf16>
    tile.store_row k %row, %c, %s : tensor<64xi8>, tensor<1xf16>
    %y = tile.load_row v %row : tensor<32xf32>
    // CHECK: %[[D:.*]] = tile.quantize %{{.*}} with(#kvc.float<f16>) : tensor<32xf32> -> tensor<32xf16>
    %d = tile.quantize %y with (#kvc.float<f16>) : tensor<32xf32> -> tensor<32xf16>
    // CHECK-NEXT: tile.store_row v %[[ROW]], %[[D]] : tensor<32xf16>
    tile.store_row v %row, %d : tensor<32xf16>
    // CHECK-NEXT: tile.yield
    tile.yield
  }
}
