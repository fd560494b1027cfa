// A box of channels is read twice: for its range, from which its scale and zero
// come, and to be quantized. Eight codes of four bits leave as four bytes.
// RUN: kvc-opt %s -split-input-file -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s --implicit-check-not=tile.

// CHECK-LABEL: func.func @kvc_s_append
// Of a box:
// CHECK: scf.for {{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>)
// CHECK: %[[ZERO:.*]] = arith.truncf %{{.*}} : f32 to f16
// CHECK: arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: arith.truncf %{{.*}} : f32 to f16
// CHECK: arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: %[[FACTOR:.*]] = arith.select %{{.*}}, %{{.*}}, %{{.*}} : f32
// CHECK: llvm.store %{{.*}} : f16, !llvm.ptr
// CHECK: llvm.store %[[ZERO]], %{{.*}} : f16, !llvm.ptr
// CHECK: scf.for
// CHECK: vector.broadcast %[[FACTOR]]
// CHECK: arith.trunci %{{.*}} : vector<8xi32> to vector<8xi8>
// CHECK: vector.bitcast %{{.*}} : vector<8xi8> to vector<1xi64>
// CHECK-COUNT-3: arith.shrui
// CHECK: %[[FOUR:.*]] = arith.trunci %{{.*}} : i64 to i32
// CHECK: llvm.store %[[FOUR]], %{{.*}} {alignment = 1 : i64} : i32, !llvm.ptr
// V is a row of floats, as it was given.
// CHECK: llvm.store %{{.*}} : vector<8xbf16>
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16 zero = f16 channels = 32>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc, %ks, %kz = tile.quantize %k with(#kvc.int<4, scale = f16 zero = f16 channels = 32>) : tensor<64xf32> -> tensor<64xi4>, tensor<2xf16>, tensor<2xf16>
    tile.store_row k %row, %kc, %ks, %kz : tensor<64xi4>, tensor<2xf16>, tensor<2xf16>
    %v = tile.load_row v %row : tensor<64xf32>
    %vc = tile.quantize %v with(#kvc.float<bf16>) : tensor<64xf32> -> tensor<64xbf16>
    tile.store_row v %row, %vc : tensor<64xbf16>
    tile.yield
  }
}

// -----

// A row of f8 with a scale of its own: its range, its scale, then the rounding by
// integers, 8 elements at a time. Without one there is no range.
// CHECK-LABEL: func.func @kvc_s_append
// CHECK: scf.for {{.*}} iter_args({{.*}}) -> (vector<8xf32>)
// CHECK: arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: %[[SCALE:.*]] = arith.select %{{.*}}, %{{.*}}, %{{.*}} : f32
// CHECK: %[[FACTOR:.*]] = arith.select %{{.*}}, %{{.*}}, %{{.*}} : f32
// CHECK: llvm.store %[[SCALE]], %{{.*}} : f32, !llvm.ptr
// CHECK: scf.for
// CHECK: %[[ALL:.*]] = vector.broadcast %[[FACTOR]]
// CHECK: arith.mulf %{{.*}}, %[[ALL]] : vector<8xf32>
// CHECK: %[[CODES:.*]] = arith.trunci %{{.*}} : vector<8xi32> to vector<8xi8>
// CHECK: llvm.store %[[CODES]], %{{.*}} : vector<8xi8>, !llvm.ptr
// CHECK-NOT: arith.divf
// CHECK-NOT: arith.mulf
// CHECK: llvm.store %{{.*}} : vector<8xi8>, !llvm.ptr
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

// -----

// An element that halves go up from is cut off, not rounded again; a code of the
// extreme has its sign from the scale's.
// CHECK-LABEL: func.func @kvc_s_append
// CHECK: %[[LESS:.*]] = arith.negf %{{.*}} : f32
// CHECK: arith.cmpf olt, %{{.*}}, %[[LESS]] : f32
// CHECK: %[[SCALE:.*]] = arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: arith.truncf %{{.*}} : f32 to f16
// CHECK: arith.divf %{{.*}}, %[[SCALE]] : f32
// CHECK: arith.fptosi %{{.*}} : vector<8xf32> to vector<8xi32>
// The scale of a block of four-bit floats is the exponent of its largest.
// CHECK: %[[BITS:.*]] = arith.bitcast %{{.*}} : f32 to i32
// CHECK: %[[EXPONENT:.*]] = arith.shrui %[[BITS]], %{{.*}} : i32
// CHECK: arith.subi %[[EXPONENT]], %{{.*}} : i32
// CHECK-NOT: arith.divf
// CHECK: llvm.store %{{.*}} : i8, !llvm.ptr
// CHECK: vector.bitcast %{{.*}} : vector<8xi8> to vector<1xi64>
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16 channels = 32 extreme = true exact = true rounding = half_up>, v = 64 by #kvc.float<f4E2M1FN, scale = f8E8M0FNU channels = 32>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc, %ks = tile.quantize %k with(#kvc.int<4, scale = f16 channels = 32 extreme = true exact = true rounding = half_up>) : tensor<64xf32> -> tensor<64xi4>, tensor<2xf16>
    tile.store_row k %row, %kc, %ks : tensor<64xi4>, tensor<2xf16>
    %v = tile.load_row v %row : tensor<64xf32>
    %vc, %vs = tile.quantize %v with(#kvc.float<f4E2M1FN, scale = f8E8M0FNU channels = 32>) : tensor<64xf32> -> tensor<64xf4E2M1FN>, tensor<2xf8E8M0FNU>
    tile.store_row v %row, %vc, %vs : tensor<64xf4E2M1FN>, tensor<2xf8E8M0FNU>
    tile.yield
  }
}
