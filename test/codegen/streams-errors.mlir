// A cache may keep any streams. Backends append to those of attention alone, and
// merge what was attended over in whatever streams there are.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-cpu=target=x86-64-v3
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu=target=sm_90

!c = !kvc.cache<heads = 2, w = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
// expected-error@+1 {{no backend lowers a kernel of a cache without a stream `k` yet}}
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %x = tile.load_row w %t : tensor<64xf32>
    %c = tile.quantize %x with(#kvc.float<bf16>) : tensor<64xf32> -> tensor<64xbf16>
    tile.store_row w %t, %c : tensor<64xbf16>
    tile.yield
  }
}

// -----

!c = !kvc.cache<heads = 2, w = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : <64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %x: !tile.softmax<64>):
    %n = tile.merge_step %i, %x : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}

// -----

!c = !kvc.cache<heads = 2, w = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.merge "merge" of @s dtype bf16 {
  // expected-error@+1 {{expected rows of a multiple of 8 elements, at most 576}}
  %init = tile.softmax_init : <60>
  %end = tile.for_splits init(%init : !tile.softmax<60>) {
  ^bb0(%i: index, %x: !tile.softmax<60>):
    %n = tile.merge_step %i, %x : !tile.softmax<60>
    tile.yield %n : !tile.softmax<60>
  }
  tile.store_output %end : !tile.softmax<60>
}
