// KIVI-2: K in 2 bits grouped along 32 tokens of a channel, V in 2 bits grouped
// along 32 channels of a token, the newest tokens of each in bf16, one softmax.
// K and V need not end at the same token.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s
// RUN: kvc-opt %s -kvc-fold-scales | FileCheck %s --check-prefix=FOLD
// RUN: not kvc-opt %s -kvc-fold-scales -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not kvc-opt %s -kvc-fold-scales -kvc-lower-to-gpu 2>&1 | FileCheck %s --check-prefix=GPU

!cache = !kvc.cache<heads = 2,
  k = 64 by #kvc.int<2, scale = f16 zero = f16 tokens = 32 channels = 1>,
  v = 64 by #kvc.int<2, scale = f16 zero = f16 channels = 32>,
  k_new = 64 by #kvc.float<bf16>, v_new = 64 by #kvc.float<bf16>, layout = #kvc.paged<32, HND>>
!s = !tile.softmax<64>
!scores = tensor<?x32xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 6 read(#kvc.read_all) : !cache

// CHECK: k = 64 by #kvc.int<2, scale = f16 zero = f16 tokens = 32 channels = 1>
// CHECK-COUNT-3: tile.span(
// CHECK: %[[A:.*]] = tile.for_tokens in %{{.*}} read(#kvc.read_all) init(%{{.*}} : !tile.softmax<64>) {
// CHECK: %[[B:.*]] = tile.for_tokens in %{{.*}} read(#kvc.read_all) init(%[[A]] : !tile.softmax<64>) {
// CHECK: %[[C:.*]] = tile.for_tokens in %{{.*}} read(#kvc.read_all) init(%[[B]] : !tile.softmax<64>) {
// CHECK: tile.store_partial %[[C]]

// The scale of each channel is multiplied with q, once for 32 tokens.
// FOLD: %[[Q:.*]] = tile.load_query
// FOLD: %[[C:.*]], %[[S:.*]], %[[Z:.*]] = tile.load k
// FOLD: %[[X:.*]] = tile.scale %{{.*}} by %[[S]] : tensor<32x64xf32>, tensor<1x64xf16>
// FOLD: tile.offset %[[X]] by %[[Z]]

// CPU: kivi.mlir:[[#@LINE+2]]:1: remark: `s.attend`: lowered op by op
// GPU: kivi.mlir:[[#@LINE+1]]:1: error: attend kernels have one `tile.for_tokens`, found 3
tile.kernel @s.attend "attend" of @s dtype f32 schedule(#kvc.core_schedule<tokens = 32>) {
  %q = tile.load_query scale 0.18033688 : tensor<?x64xf32>
  // CPU: kivi.mlir:[[#@LINE+1]]:10: error: the CPU target does not lower `tile.span` yet
  %old = tile.span(k, v)
  %mixed = tile.span(k, v_new)
  %new = tile.span(k_new, v_new)
  %init = tile.softmax_init : !s
  %a = tile.for_tokens in %old read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks, %kz = tile.load k %t : tensor<32x64xi2>, tensor<1x64xf16>, tensor<1x64xf16>
    %kx = tile.convert %kc unsigned : tensor<32x64xi2> -> tensor<32x64xf32>
    %ky = tile.scale %kx by %ks : tensor<32x64xf32>, tensor<1x64xf16>
    %k = tile.offset %ky by %kz : tensor<32x64xf32>, tensor<1x64xf16>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<32x64xf32> -> !scores
    %m = tile.mask %d, %t read(#kvc.read_all) : !scores
    %p, %s = tile.softmax_step %m, %state : !scores, !s
    %vc, %vs, %vz = tile.load v %t : tensor<32x64xi2>, tensor<32x2xf16>, tensor<32x2xf16>
    %vx = tile.convert %vc unsigned : tensor<32x64xi2> -> tensor<32x64xf32>
    %vy = tile.scale %vx by %vs : tensor<32x64xf32>, tensor<32x2xf16>
    %v = tile.offset %vy by %vz : tensor<32x64xf32>, tensor<32x2xf16>
    %n = tile.accumulate %p, %v, %s : !scores, tensor<32x64xf32>, !s
    tile.yield %n : !s
  }
  %b = tile.for_tokens in %mixed read(#kvc.read_all) init(%a : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks, %kz = tile.load k %t : tensor<32x64xi2>, tensor<1x64xf16>, tensor<1x64xf16>
    %kx = tile.convert %kc unsigned : tensor<32x64xi2> -> tensor<32x64xf32>
    %ky = tile.scale %kx by %ks : tensor<32x64xf32>, tensor<1x64xf16>
    %k = tile.offset %ky by %kz : tensor<32x64xf32>, tensor<1x64xf16>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<32x64xf32> -> !scores
    %m = tile.mask %d, %t read(#kvc.read_all) : !scores
    %p, %s = tile.softmax_step %m, %state : !scores, !s
    %vc = tile.load v_new %t : tensor<32x64xbf16>
    %v = tile.convert %vc : tensor<32x64xbf16> -> tensor<32x64xf32>
    %n = tile.accumulate %p, %v, %s : !scores, tensor<32x64xf32>, !s
    tile.yield %n : !s
  }
  %c = tile.for_tokens in %new read(#kvc.read_all) init(%b : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k_new %t : tensor<32x64xbf16>
    %k = tile.convert %kc : tensor<32x64xbf16> -> tensor<32x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<32x64xf32> -> !scores
    %m = tile.mask %d, %t read(#kvc.read_all) : !scores
    %p, %s = tile.softmax_step %m, %state : !scores, !s
    %vc = tile.load v_new %t : tensor<32x64xbf16>
    %v = tile.convert %vc : tensor<32x64xbf16> -> tensor<32x64xf32>
    %n = tile.accumulate %p, %v, %s : !scores, tensor<32x64xf32>, !s
    tile.yield %n : !s
  }
  tile.store_partial %c : !s
}
