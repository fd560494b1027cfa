// A cache may keep any streams; the backends know those of attention alone.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 -verify-diagnostics
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 -verify-diagnostics

!c = !kvc.cache<heads = 2, w = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
// expected-error@+1 {{no backend lowers a kernel of a cache without a stream `k` yet}}
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : <64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %x: !tile.softmax<64>):
    %n = tile.merge_step %i, %x : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
