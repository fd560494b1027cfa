// A cache may keep any streams. Backends append to those of attention alone,
// gather rows as long as K's and V's of any, and merge what was attended over in
// whatever streams there are.
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

// -----

// Of these, one may gather rows of any stream, and a token's row of several.
!c = !kvc.cache<heads = 2, k = 64 by #kvc.int<2, scale = f16 zero = f16 tokens = 16 channels = 1>, v = 24 by #kvc.int<4, scale = f16 tokens = 4>, w = 20 by #kvc.float<bf16>, mean = 64 by #kvc.float<bf16> per 16, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %kc, %ks, %kz = tile.load k %t : tensor<1x64xi2>, tensor<1x64xf16>, tensor<1x64xf16>
    %kx = tile.convert %kc unsigned : tensor<1x64xi2> -> tensor<1x64xf32>
    %ky = tile.scale %kx by %ks : tensor<1x64xf32>, tensor<1x64xf16>
    %kd = tile.offset %ky by %kz : tensor<1x64xf32>, tensor<1x64xf16>
    %mc = tile.load mean %t : tensor<1x64xbf16>
    %m = tile.convert %mc : tensor<1x64xbf16> -> tensor<1x64xf32>
    %k = tile.map %kd, %m {
    ^bb0(%x: f32, %y: f32):
      %z = arith.addf %x, %y : f32
      kvc.yield %z : f32
    } : tensor<1x64xf32>, tensor<1x64xf32> -> tensor<1x64xf32>
    tile.store_decoded k %t, %k : tensor<1x64xf32>
    %vc, %vs = tile.load v %t : tensor<1x24xi4>, tensor<1x1xf16>
    %vx = tile.convert %vc : tensor<1x24xi4> -> tensor<1x24xf32>
    %v = tile.scale %vx by %vs : tensor<1x24xf32>, tensor<1x1xf16>
    tile.store_decoded v %t, %v : tensor<1x24xf32>
    tile.yield
  }
}

// -----

!c = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 20 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %vc = tile.load v %t : tensor<1x20xbf16>
    %v = tile.convert %vc : tensor<1x20xbf16> -> tensor<1x20xf32>
    // expected-error@+1 {{expected a row of a multiple of 8 elements, found 20}}
    tile.store_decoded v %t, %v : tensor<1x20xf32>
    tile.yield
  }
}

// -----

!c = !kvc.cache<heads = 2, w = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    %c = tile.load w %t : tensor<1x64xbf16>
    %x = tile.convert %c : tensor<1x64xbf16> -> tensor<1x64xf32>
    // expected-error@+1 {{expected a cache with a stream `k`}}
    tile.store_decoded k %t, %x : tensor<1x64xf32>
    tile.yield
  }
}

// -----

!c = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, state = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    // expected-error@+1 {{expected a stream that has rows of tokens}}
    %x = tile.load state %t : tensor<1x64xf32>
    tile.store_decoded k %t, %x : tensor<1x64xf32>
    tile.yield
  }
}

// -----

// A tile of a gather is one token.
!c = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16 tokens = 4>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !c
tile.kernel @s.gather "gather" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%t: !tile.tokens):
    // expected-error@+1 {{codes of `k` must be 'tensor<1x64xi4>', as in the store's cache; found 'tensor<4x64xi4>'}}
    %c, %s = tile.load k %t : tensor<4x64xi4>, tensor<1x1xf16>
    tile.yield
  }
}
