// Codes of f4E2M1FN are looked up, sixteen in one register, or eight in each of
// two; scales that are powers of two become f32 by a shift, once per tile.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v4 2>&1 \
// RUN:   | FileCheck %s --implicit-check-not=remark --implicit-check-not=tile. --check-prefixes=CHECK,WIDE
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 2>&1 | FileCheck %s --check-prefixes=CHECK,NARROW
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f4E2M1FN, scale = f8E8M0FNU channels = 32>, v = 64 by #kvc.float<f4E2M1FN, scale = f8E4M3FN channels = 16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// CHECK-LABEL: func.func @kvc_s_attend
// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} -> vector<[[LANES:.*]]xi8>
// CHECK: %[[WORDS:.*]] = arith.extui %[[BYTES]] : vector<[[LANES]]xi8> to vector<[[LANES]]xi32>
// CHECK: arith.cmpi eq, %[[WORDS]]
// CHECK: %[[UP:.*]] = arith.shli %[[WORDS]], %{{.*}} : vector<[[LANES]]xi32>
// CHECK: arith.maxsi %[[UP]], %{{.*}} : vector<[[LANES]]xi32>
// WIDE: llvm.call_intrinsic "llvm.x86.avx512.permvar.sf.512"(%{{.*}}, %[[CODES:[0-9]+]])
// WIDE: %[[ODD:.*]] = arith.shrui %[[CODES]], %{{.*}} : vector<16xi32>
// WIDE: llvm.call_intrinsic "llvm.x86.avx512.permvar.sf.512"(%{{.*}}, %[[ODD]])
// NARROW: %[[UPPER:.*]] = llvm.call_intrinsic "llvm.x86.avx2.permps"(%{{.*}}, %[[CODES:[0-9]+]])
// NARROW: %[[LOWER:.*]] = llvm.call_intrinsic "llvm.x86.avx2.permps"(%{{.*}}, %[[CODES]])
// NARROW: arith.select %{{.*}}, %[[UPPER]], %[[LOWER]]
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 16, rows = 4, keys = 4, split = 64>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xf4E2M1FN>, tensor<16x2xf8E8M0FNU>
    %kx = tile.convert %kc : tensor<16x64xf4E2M1FN> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x2xf8E8M0FNU>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xf4E2M1FN>, tensor<16x4xf8E4M3FN>
    %vx = tile.convert %vc : tensor<16x64xf4E2M1FN> -> tensor<16x64xf32>
    %v = tile.scale %vx by %vs : tensor<16x64xf32>, tensor<16x4xf8E4M3FN>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}
