// Kernels that the verifier lets pass and that say what no backend has a loop
// for: each is an error on the op that is in the way, the same for all targets.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-cpu
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%part: index, %s: !tile.softmax<64>):
    %n = tile.merge_step %part, %s : !tile.softmax<64>
    // expected-error@+1 {{expected the state after `tile.merge_step`}}
    tile.yield %s : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc, %ks = tile.quantize %k with(#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>, tensor<1xf16>
    tile.store_row k %row, %kc, %ks : tensor<64xi8>, tensor<1xf16>
    %v = tile.load_row v %row : tensor<64xf32>
    %vc, %vs = tile.quantize %v with(#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>, tensor<1xf16>
    // expected-error@+1 {{expected all that was quantized, and in its order}}
    tile.store_row v %row, %vc, %ks : tensor<64xi8>, tensor<1xf16>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  // expected-error@+1 {{`tile.softmax_init` has no part in what the append kernel stores}}
  %idle = tile.softmax_init : !tile.softmax<64>
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<64xf32>
    %kc = tile.quantize %k with(#kvc.float<bf16>) : tensor<64xf32> -> tensor<64xbf16>
    tile.store_row k %row, %kc : tensor<64xbf16>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    // expected-error@+1 {{append is given rows `k` and `v`, found others}}
    %k = tile.load_row w %row : tensor<64xf32>
    %kc = tile.quantize %k with(#kvc.float<bf16>) : tensor<64xf32> -> tensor<64xbf16>
    tile.store_row k %row, %kc : tensor<64xbf16>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 96 by #kvc.int<4, scale = f16 channels = 24>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %k = tile.load_row k %row : tensor<96xf32>
    // expected-error@+1 {{expected boxes of whole rows, or of a power of two of 8 to 256 channels, found 24}}
    %kc, %ks = tile.quantize %k with(#kvc.int<4, scale = f16 channels = 24>) : tensor<96xf32> -> tensor<96xi4>, tensor<4xf16>
    tile.store_row k %row, %kc, %ks : tensor<96xi4>, tensor<4xf16>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %kc = tile.load k %t : tensor<1x64xbf16>
    %k = tile.convert %kc : tensor<1x64xbf16> -> tensor<1x64xf32>
    tile.store_decoded k %t, %k : tensor<1x64xf32>
    // expected-error@+1 {{gather gives rows `k` and `v`, found others}}
    tile.store_decoded w %t, %k : tensor<1x64xf32>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    // expected-error@+1 {{expected an operand that element-wise ops make of loaded rows}}
    %x = tile.load_row w %t : tensor<1x64xf32>
    tile.store_decoded k %t, %x : tensor<1x64xf32>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    // expected-error@+1 {{`tile.load` has no part in what the gather kernel stores}}
    %vc = tile.load v %t : tensor<1x64xbf16>
    %kc = tile.load k %t : tensor<1x64xbf16>
    %k = tile.convert %kc : tensor<1x64xbf16> -> tensor<1x64xf32>
    tile.store_decoded k %t, %k : tensor<1x64xf32>
    tile.yield
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %kc = tile.load k %t : tensor<1x64xbf16>
    %k = tile.convert %kc : tensor<1x64xbf16> -> tensor<1x64xf32>
    %x = tile.map %k {
    ^bb0(%y: f32):
      %zero = arith.constant 0 : i32
      // expected-error@+1 {{gather is given no constants}}
      %c = kvc.constant "gain"[%zero] of 5 : f32
      %z = arith.mulf %y, %c : f32
      kvc.yield %z : f32
    } : tensor<1x64xf32> -> tensor<1x64xf32>
    tile.store_decoded k %t, %x : tensor<1x64xf32>
    tile.yield
  }
}
