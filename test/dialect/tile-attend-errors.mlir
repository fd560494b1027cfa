// What the tile level refuses in kernels that attend or merge, and in kernels as such.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

// expected-error@+1 {{expected a kind, found ""}}
tile.kernel @k "" of @s dtype f16 {
}

// -----

// expected-error@+1 {{kernels that attend or go over tokens have a schedule, found none}}
tile.kernel @k "attend" of @s dtype f16 {
}

// -----

// expected-error@+1 {{only kernels that attend or go over tokens have a schedule}}
tile.kernel @k "merge" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 1>) {
}

// -----

// expected-error@+1 {{invalid kind of attribute specified}}
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.read_all) {
}

// -----

// expected-error@+1 {{dtype must be f32, f16 or bf16, found 'f64'}}
tile.kernel @k "attend" of @s dtype f64 schedule(#kvc.core_schedule<tokens = 16>) {
}

// -----

// expected-error@+1 {{no store named @t}}
tile.kernel @k "attend" of @t dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{expected [r, d], found 'tensor<64xf32>'}}
  %q = tile.load_query scale 1.0 : tensor<64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{scale must be finite}}
  %q = tile.load_query scale 0x7FF0000000000000 : tensor<?x64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{must be ranked tensor of 32-bit float values}}
  %q = tile.load_query scale 1.0 : tensor<?x64xf16>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{expected a read, found #kvc.float<f16>}}
  %end = tile.for_tokens read(#kvc.float<f16>) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{body must take '!tile.tokens', '!tile.softmax<32>'}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%s: !tile.softmax<32>, %t: !tile.tokens):
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{body must end in a yield of '!tile.softmax<32>'}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %o = tile.softmax_init : !tile.softmax<8>
    tile.yield %o : !tile.softmax<8>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{body must end in a yield of '!tile.softmax<32>'}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    tile.store_partial %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{expects a non-empty block}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{expects a non-empty block}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{expected planes of 2 axes, all of known size; found 'tensor<64xi8>'}}
    %c, %x = tile.load k %t : tensor<64xi8>, tensor<16x1xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{expected planes of 2 axes, all of known size; found 'tensor<16xf16>'}}
    %c, %x = tile.load k %t : tensor<16x64xi8>, tensor<16xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{codes of `k` must be 'tensor<16x64xi8>', as in the store's cache; found 'tensor<16x32xi8>'}}
    %c, %x = tile.load k %t : tensor<16x32xi8>, tensor<16x1xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{codes of `k` must be 'tensor<16x64xi8>', as in the store's cache; found 'tensor<16x64xf16>'}}
    %c, %x = tile.load k %t : tensor<16x64xf16>, tensor<16x1xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{scales of `k` must be 'tensor<16x1xf16>', as in the store's cache; found 'tensor<16x1xf32>'}}
    %c, %x = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{`k` has 2 planes in the store's cache, found 1}}
    %c = tile.load k %t : tensor<16x64xi8>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{`v` has 1 planes in the store's cache, found 2}}
    %c, %x = tile.load v %t : tensor<16x32xf16>, tensor<16x1xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %c = "t.t"() : () -> tensor<16x64xi16>
    // expected-error@+1 {{expected codes of f32, f16, bf16, f8E4M3FN, f8E5M2, f4E2M1FN, f8E8M0FNU or integers of 1 to 8 bits, found 'tensor<16x64xi16>'}}
    %d = tile.convert %c : tensor<16x64xi16> -> tensor<16x64xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %c = "t.t"() : () -> tensor<16x64xi8>
    // expected-error@+1 {{expected codes in the shape of the result, found 'tensor<16x64xi8>' -> 'tensor<16x32xf32>'}}
    %d = tile.convert %c : tensor<16x64xi8> -> tensor<16x32xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %c = "t.t"() : () -> tensor<16x64xf32>
    %x = "t.t"() : () -> tensor<16x1xi8>
    // expected-error@+1 {{expected floats for boxes of equal size, found 'tensor<16x1xi8>' for 'tensor<16x64xf32>'}}
    %d = tile.scale %c by %x : tensor<16x64xf32>, tensor<16x1xi8>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %c = "t.t"() : () -> tensor<16x64xf32>
    %x = "t.t"() : () -> tensor<3x64xf16>
    // expected-error@+1 {{expected floats for boxes of equal size, found 'tensor<3x64xf16>' for 'tensor<16x64xf32>'}}
    %d = tile.offset %c by %x : tensor<16x64xf32>, tensor<3x64xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x64xf32>, tensor<16x32xf32>)
    // expected-error@+1 {{expected [r, d] by [t, d] -> [r, t], found 'tensor<?x64xf32>' by 'tensor<16x32xf32>' -> 'tensor<?x16xf32>'}}
    %d = tile.dot %a, %b : tensor<?x64xf32>, tensor<16x32xf32> -> tensor<?x16xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x64xf32>, tensor<16x64xf32>)
    // expected-error@+1 {{expected [r, d] by [t, d] -> [r, t], found 'tensor<?x64xf32>' by 'tensor<16x64xf32>' -> 'tensor<?x8xf32>'}}
    %d = tile.dot %a, %b : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x8xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<64xf32>, tensor<16x64xf32>)
    // expected-error@+1 {{expected [r, d] by [t, d] -> [r, t], found 'tensor<64xf32>' by 'tensor<16x64xf32>' -> 'tensor<16xf32>'}}
    %d = tile.dot %a, %b : tensor<64xf32>, tensor<16x64xf32> -> tensor<16xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x16xf32>, tensor<8x1xf16>)
    // expected-error@+1 {{expected [r, t] by float [t, 1], found 'tensor<?x16xf32>' by 'tensor<8x1xf16>'}}
    %d = tile.scale_tokens %a by %b : tensor<?x16xf32>, tensor<8x1xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x16xf32>, tensor<16x1xi8>)
    // expected-error@+1 {{expected [r, t] by float [t, 1], found 'tensor<?x16xf32>' by 'tensor<16x1xi8>'}}
    %d = tile.scale_tokens %a by %b : tensor<?x16xf32>, tensor<16x1xi8>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<f32>, tensor<f32>)
    // expected-error@+1 {{expected [r, t] by float [t, 1], found 'tensor<f32>' by 'tensor<f32>'}}
    %d = tile.scale_tokens %a by %b : tensor<f32>, tensor<f32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a = "t.t"() : () -> tensor<?x16xf32>
    // expected-error@+1 {{logits region must take}}
    %d = tile.logits %a, %t {
    ^bb0(%x: f32):
      kvc.yield %x : f32
    } : tensor<?x16xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a = "t.t"() : () -> tensor<?x16xf32>
    // expected-error@+1 {{expected a read, found "all"}}
    %d = tile.mask %a, %t read("all") : tensor<?x16xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a = "t.t"() : () -> tensor<16xf32>
    // expected-error@+1 {{expected [r, t], found 'tensor<16xf32>'}}
    %d = tile.mask %a, %t read(#kvc.read_all) : tensor<16xf32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a = "t.t"() : () -> tensor<16xf32>
    // expected-error@+1 {{expected [r, t], found 'tensor<16xf32>'}}
    %p, %n = tile.softmax_step %a, %s : tensor<16xf32>, !tile.softmax<32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x16xf32>, tensor<16x64xf32>)
    // expected-error@+1 {{expected p [r, t], v [t, d] and a state of d, found 'tensor<?x16xf32>', 'tensor<16x64xf32>' and '!tile.softmax<32>'}}
    %d = tile.accumulate %a, %b, %s : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %a, %b = "t.t"() : () -> (tensor<?x8xf32>, tensor<16x32xf32>)
    // expected-error@+1 {{expected p [r, t], v [t, d] and a state of d, found 'tensor<?x8xf32>', 'tensor<16x32xf32>' and '!tile.softmax<32>'}}
    %d = tile.accumulate %a, %b, %s : tensor<?x8xf32>, tensor<16x32xf32>, !tile.softmax<32>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "merge" of @s dtype f16 {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{body must take 'index', '!tile.softmax<32>'}}
  %end = tile.for_splits init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{expects parent op to be one of 'tile.for_tokens, tile.for_splits, tile.for_rows'}}
  tile.yield
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %c = "t.t"() : () -> tensor<16x64xf16>
  // expected-error@+1 {{floats have a sign, found `unsigned` and 'tensor<16x64xf16>'}}
  %d = tile.convert %c unsigned : tensor<16x64xf16> -> tensor<16x64xf32>
}

// -----

// A box must not end within a tile.
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<2, scale = f16 zero = f16 tokens = 32 channels = 1>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<32, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{a row of the scales of `k` is for 32 tokens, which must divide those of the tile, 16}}
    %c, %x, %z = tile.load k %t : tensor<16x64xi2>, tensor<1x64xf16>, tensor<1x64xf16>
    tile.yield %s : !tile.softmax<32>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
// expected-error@+1 {{expected at most one `tile.store_partial`}}
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %a = tile.softmax_init : !tile.softmax<32>
  tile.store_partial %a : !tile.softmax<32>
  %b = tile.softmax_init : !tile.softmax<64>
  tile.store_partial %b : !tile.softmax<64>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    // expected-error@+1 {{expects parent op 'tile.kernel'}}
    %e = tile.for_tokens read(#kvc.read_all) init(%s : !tile.softmax<32>) {
    ^bb0(%u: !tile.tokens, %r: !tile.softmax<32>):
      tile.yield %r : !tile.softmax<32>
    }
    tile.yield %e : !tile.softmax<32>
  }
}

// -----

// expected-error@+1 {{expected '<'}}
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule) {
}

// -----

// The runtime gives back the pages that the store's read hides.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.sliding_window<sink = 4, recent = 60>) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<64>
  // expected-error@+1 {{expected the store's read, #kvc.sliding_window<sink = 4, recent = 60>, found #kvc.read_all}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    tile.yield %s : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}
