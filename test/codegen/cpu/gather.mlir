// Rows are decoded a vector at a time; rows that a call does not want are not.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s --implicit-check-not=tile.

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: func.func @kvc_s_gather
// A negative slot skips the row.
// CHECK: %[[SLOT:.*]] = llvm.load %{{.*}} : !llvm.ptr -> i64
// CHECK: %[[SOME:.*]] = arith.cmpi sge, %[[SLOT]], %{{.*}} : i64
// CHECK: scf.if %[[SOME]]
// CHECK: %[[WANTED:.*]] = llvm.icmp "ne" %{{.*}}, %{{.*}} : !llvm.ptr
// CHECK: scf.if %[[WANTED]]
// CHECK: scf.for
// Eight codes of four bits are four bytes, of which each goes to two lanes.
// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} -> vector<4xi8>
// CHECK: vector.shuffle %[[BYTES]], %[[BYTES]] [0, 0, 1, 1, 2, 2, 3, 3] : vector<4xi8>
// CHECK: %[[CODES:.*]] = arith.sitofp {{.*}} : vector<8xi32> to vector<8xf32>
// CHECK: llvm.load %{{.*}} -> vector<1xf16>
// CHECK: %[[X:.*]] = arith.mulf %[[CODES]], %{{.*}} : vector<8xf32>
// CHECK: llvm.store %{{.*}} : vector<8xbf16>
// CHECK: llvm.icmp "ne"
// CHECK: llvm.load %{{.*}} -> vector<8xbf16>
// CHECK: llvm.store %{{.*}} : vector<8xbf16>
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c, %s = tile.load k %row : tensor<1x64xi4>, tensor<1x1xf16>
    %x = tile.convert %c : tensor<1x64xi4> -> tensor<1x64xf32>
    %y = tile.scale %x by %s : tensor<1x64xf32>, tensor<1x1xf16>
    tile.store_decoded k %row, %y : tensor<1x64xf32>
    %d = tile.load v %row : tensor<1x32xbf16>
    %v = tile.convert %d : tensor<1x32xbf16> -> tensor<1x32xf32>
    tile.store_decoded v %row, %v : tensor<1x32xf32>
    tile.yield
  }
}
