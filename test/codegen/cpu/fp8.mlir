// Codes of f8 become f32 by way of f16, 32 of them a load; rows' scales stay with
// the scores and the probabilities.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v4 2>&1 \
// RUN:   | FileCheck %s --implicit-check-not=remark --implicit-check-not=tile.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f8E4M3FN, scale = f32>, v = 64 by #kvc.float<f8E5M2>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// CHECK-LABEL: func.func @kvc_s_attend
// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} -> vector<32xi8>
// CHECK: %[[WORDS:.*]] = arith.extsi %[[BYTES]] : vector<32xi8> to vector<32xi16>
// CHECK: %[[UP:.*]] = arith.shli %[[WORDS]], %{{.*}} : vector<32xi16>
// CHECK: %[[SUM:.*]] = arith.addi %[[UP]], %{{.*}} : vector<32xi16>
// CHECK: %[[CARRY:.*]] = arith.andi %[[SUM]], %{{.*}} : vector<32xi16>
// CHECK: %[[HALVES:.*]] = arith.xori %[[UP]], %[[CARRY]] : vector<32xi16>
// CHECK: %[[LOW:.*]] = vector.shuffle %[[HALVES]], %[[HALVES]] [0, 1,
// CHECK: %[[F16:.*]] = arith.bitcast %[[LOW]] : vector<16xi16> to vector<16xf16>
// CHECK: %[[F32:.*]] = arith.extf %[[F16]] : vector<16xf16> to vector<16xf32>
// CHECK: %[[K:.*]] = arith.mulf %[[F32]], %{{.*}} : vector<16xf32>
// CHECK: llvm.intr.fma(%[[K]],
// Of e5m2 an f16 has all but its lower byte.
// CHECK: %[[EIGHT:.*]] = arith.constant dense<8> : vector<32xi16>
// CHECK: %[[HALVES:.*]] = arith.shli %{{.*}}, %[[EIGHT]] : vector<32xi16>
// CHECK: %[[LOW:.*]] = vector.shuffle %[[HALVES]], %[[HALVES]] [0, 1,
// CHECK: %[[F16:.*]] = arith.bitcast %[[LOW]] : vector<16xi16> to vector<16xf16>
// CHECK: %[[V:.*]] = arith.extf %[[F16]] : vector<16xf16> to vector<16xf32>
// CHECK: llvm.intr.fma(%{{.*}}, %[[V]],
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 16, rows = 4, keys = 4, split = 64>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xf8E4M3FN>, tensor<16x1xf32>
    %k = tile.convert %kc : tensor<16x64xf8E4M3FN> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %y = tile.scale_tokens %x by %ks : tensor<?x16xf32>, tensor<16x1xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xf8E5M2>
    %v = tile.convert %vc : tensor<16x64xf8E5M2> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}
