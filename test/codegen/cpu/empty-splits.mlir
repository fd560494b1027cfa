// A split that saw nothing changes nothing, whatever its o holds: 0 times NaN
// would be NaN.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s

// CHECK-LABEL: func.func @kvc_s_merge
// CHECK: %[[NONE:.*]] = vector.extract %{{.*}}[0] : i1 from vector<1xi1>
// CHECK: %[[O:.*]] = arith.select %[[NONE]], %{{.*}}, %{{.*}} : vector<8xf32>
// CHECK: llvm.intr.fma(%{{.*}}, %[[O]], %{{.*}}) : (vector<8xf32>

!cache = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%split: index, %s: !tile.softmax<64>):
    %n = tile.merge_step %split, %s : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
