// A warp decodes one row at one kv head, a lane eight channels of it at a time;
// rows that a call does not want are not.
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_80 | FileCheck %s --implicit-check-not=tile.

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: llvm.func @kvc_s_gather
// CHECK: %[[SLOT:.*]] = {{.*}}load {{.*}} -> i64
// CHECK: %[[SOME:.*]] = arith.cmpi sge, %[[SLOT]], %{{.*}} : i64
// CHECK: scf.if %[[SOME]]
// CHECK: %[[WANTED:.*]] = arith.cmpi ne, %{{.*}}, %{{.*}} : i64
// CHECK: scf.if %[[WANTED]]
// CHECK-COUNT-8: -> i8
// CHECK-NOT: -> i8
// CHECK: store {{.*}} vector<8xbf16>
// CHECK: arith.cmpi ne, %{{.*}}, %{{.*}} : i64
// CHECK: store {{.*}} vector<8xbf16>
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c, %s = tile.load k %row : tensor<1x64xi8>, tensor<1x1xf16>
    %x = tile.convert %c : tensor<1x64xi8> -> tensor<1x64xf32>
    %y = tile.scale %x by %s : tensor<1x64xf32>, tensor<1x1xf16>
    tile.store_decoded k %row, %y : tensor<1x64xf32>
    %d = tile.load v %row : tensor<1x32xbf16>
    %v = tile.convert %d : tensor<1x32xbf16> -> tensor<1x32xf32>
    tile.store_decoded v %row, %v : tensor<1x32xf32>
    tile.yield
  }
}
