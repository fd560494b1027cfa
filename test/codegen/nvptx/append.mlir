// A box of 32 channels is four lanes wide: they find its range among themselves,
// and the first of them stores its scale and zero.
// RUN: kvc-opt %s -split-input-file -kvc-lower-to-gpu=target=sm_80 | FileCheck %s --implicit-check-not=tile.

// CHECK-LABEL: llvm.func @kvc_s_append
// CHECK-COUNT-4: kvc.op = "ShflBfly"
// CHECK-NOT: kvc.op = "ShflBfly"
// CHECK: %[[ZERO:.*]] = arith.truncf %{{.*}} : f32 to f16
// CHECK: %[[SCALE:.*]] = arith.truncf %{{.*}} : f32 to f16
// CHECK: scf.if
// CHECK: llvm.store %{{.*}} {alignment = 2 : i64} : f16
// CHECK: llvm.store %[[ZERO]], %{{.*}} {alignment = 2 : i64} : f16
// CHECK: %[[FOUR:.*]] = arith.trunci %{{.*}} : i64 to i32
// CHECK: llvm.store %[[FOUR]], %{{.*}} {alignment = 4 : i64} : i32
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16 zero = f16 channels = 32>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc, %ks, %kz = tile.quantize %k with(#kvc.int<4, scale = f16 zero = f16 channels = 32>) : tensor<64xf32> -> tensor<64xi4>, tensor<2xf16>, tensor<2xf16>
    tile.store_row k %row, %kc, %ks, %kz : tensor<64xi4>, tensor<2xf16>, tensor<2xf16>
    tile.yield
  }
}

// -----

// A row of f8 with a scale of its own: its range, its scale, then the rounding by
// integers, 8 elements at a time. Without one there is no range.
// CHECK-LABEL: llvm.func @kvc_s_append
// CHECK-COUNT-5: kvc.op = "ShflBfly"
// CHECK-NOT: kvc.op = "ShflBfly"
// CHECK: arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: llvm.store %{{.*}} {alignment = 4 : i64} : f32
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<8xi8>
// CHECK-NOT: arith.divf
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<8xi8>
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f8E4M3FN, scale = f32>, v = 64 by #kvc.float<f8E5M2>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc, %ks = tile.quantize %k with(#kvc.float<f8E4M3FN, scale = f32>) : tensor<64xf32> -> tensor<64xf8E4M3FN>, tensor<1xf32>
    tile.store_row k %row, %kc, %ks : tensor<64xf8E4M3FN>, tensor<1xf32>
    %v = tile.load_row v %row : tensor<64xf32>
    %vc = tile.quantize %v with(#kvc.float<f8E5M2>) : tensor<64xf32> -> tensor<64xf8E5M2>
    tile.store_row v %row, %vc : tensor<64xf8E5M2>
    tile.yield
  }
}
