// K and V that element-wise ops make of loaded planes are decoded in registers, a
// block of channels at a time, in whichever order their codes come out of bytes.
// RUN: kvc-opt %s -split-input-file -kvc-lower-to-cpu=target=x86-64-v4 2>&1 \
// RUN:   | FileCheck %s --implicit-check-not=remark --implicit-check-not=tile.

// 4 bits, a scale and a zero for 32 channels. Both planes of f16 are made f32 once
// per tile, 16 tokens of two boxes each; then 32 channels are 16 bytes, whose halves are
// two vectors, and a scale is loaded in all lanes.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16 zero = f16 channels = 32>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// CHECK-LABEL: func.func @kvc_s_attend
// CHECK-COUNT-4: llvm.load %{{.*}} -> vector<16xf16>
// CHECK-NOT: -> vector<16xf16>
// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} -> vector<16xi8>
// CHECK: %[[WORDS:.*]] = arith.extui %[[BYTES]] : vector<16xi8> to vector<16xi32>
// CHECK: %[[LOW:.*]] = arith.andi %[[WORDS]], %{{.*}} : vector<16xi32>
// CHECK: arith.sitofp %[[LOW]] : vector<16xi32> to vector<16xf32>
// CHECK: %[[HIGH:.*]] = arith.shrui %[[WORDS]], %{{.*}} : vector<16xi32>
// CHECK: arith.sitofp %[[HIGH]] : vector<16xi32> to vector<16xf32>
// CHECK: llvm.load %{{.*}} -> vector<1xf32>
// CHECK: llvm.intr.fma({{.*}} -> vector<32xf32>
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 16, rows = 4, keys = 4, split = 64>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks, %kz = tile.load k %t : tensor<16x64xi4>, tensor<16x2xf16>, tensor<16x2xf16>
    %k0 = tile.convert %kc unsigned : tensor<16x64xi4> -> tensor<16x64xf32>
    %k1 = tile.scale %k0 by %ks : tensor<16x64xf32>, tensor<16x2xf16>
    %k = tile.offset %k1 by %kz : tensor<16x64xf32>, tensor<16x2xf16>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

// 3 bits with a sign, whose scales are folded: 16 codes are 6 bytes, of which a
// lane takes one or two. V is the first half of a row of bf16.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<3, scale = f16>, v = 128 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// CHECK-LABEL: func.func @kvc_s_attend
// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} -> vector<6xi8>
// CHECK: vector.shuffle %[[BYTES]], %[[BYTES]] [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5] : vector<6xi8>
// CHECK: vector.shuffle %[[BYTES]], %[[BYTES]] [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5] : vector<6xi8>
// CHECK: arith.shrsi
// CHECK: llvm.intr.fma({{.*}} -> vector<16xf32>
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 16, rows = 4, keys = 4, split = 64>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi3>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi3> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %y = tile.scale_tokens %x by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x128xbf16>
    %v = tile.convert %vc : tensor<16x128xbf16> -> tensor<16x128xf32>
    %half = tile.slice %v[0 to 64] : tensor<16x128xf32> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %half, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}
