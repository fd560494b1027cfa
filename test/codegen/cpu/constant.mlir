// An element of a constant that the call gives is a load, at an index that is
// within it even where a batch's lengths are wrong.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s --check-prefix=IR
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// IR: kvc.constant "sinks"[%{{.*}}] of 4 : f32
// CHECK-LABEL: func.func @kvc_s_merge
// CHECK: %[[LAST:.*]] = arith.constant dense<3> : vector<1xi32>
// CHECK: %[[I:.*]] = arith.minui %{{.*}}, %[[LAST]] : vector<1xi32>
// CHECK: %[[E:.*]] = vector.extract %[[I]][0]
// CHECK: llvm.load %{{.*}} invariant {{.*}} : !llvm.ptr -> f32
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init sink {
  ^bb0(%h: i32, %g: i32):
    %x = kvc.constant "sinks"[%h] of 4 : f32
    kvc.yield %x : f32
  } : !tile.softmax<64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %s: !tile.softmax<64>):
    %n = tile.merge_step %i, %s : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
