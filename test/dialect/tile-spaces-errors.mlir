// What the tile level refuses in kernels of spaces, token results, selection and
// recurrence.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{expected a stream, found none}}
  %s = "tile.span"() {streams = []} : () -> !tile.space
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{the store's cache has no stream `w`}}
  %s = tile.span(k, w)
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{attribute 'except_last' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative}}
  %s = tile.span(k) except_last -1
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{body must take '!tile.tokens', '!tile.softmax<32>', takes '!tile.tokens'}}
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens):
    tile.yield
  }
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %init = tile.softmax_init : !tile.softmax<32>
  // expected-error@+1 {{expected results of '!tile.softmax<32>', found}}
  "tile.for_splits"(%init) ({
  ^bb0(%i: index, %s: !tile.softmax<32>):
    tile.yield %s : !tile.softmax<32>
  }) : (!tile.softmax<32>) -> ()
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x64xf32>
  // expected-error@+1 {{expected channels 0 to 65 of 'tensor<16x64xf32>', found 'tensor<16x65xf32>'}}
  %y = tile.slice %x[0 to 65] : tensor<16x64xf32> -> tensor<16x65xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x64xf32>
  // expected-error@+1 {{expected channels 0 to 8 of 'tensor<16x64xf32>', found 'tensor<16x7xf32>'}}
  %y = tile.slice %x[0 to 8] : tensor<16x64xf32> -> tensor<16x7xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x2xf32>
  // expected-error@+1 {{expected operands that repeat to 'tensor<16x64xf32>', found 'tensor<16x2xf32>'}}
  %y = tile.map %x {
  ^bb0(%a: f32):
    kvc.yield %a : f32
  } : tensor<16x2xf32> -> tensor<16x64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x64xf32>
  // expected-error@+1 {{element region must take 'f32', 'f32', takes 'f32'}}
  %y = tile.map %x, %x {
  ^bb0(%a: f32):
    kvc.yield %a : f32
  } : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x64xf32>
  // expected-error@+1 {{regions are element-wise and have no `math.sin`}}
  %y = tile.map %x {
  ^bb0(%a: f32):
    %b = math.sin %a : f32
    kvc.yield %b : f32
  } : tensor<16x64xf32> -> tensor<16x64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16x64xf32>
  // expected-error@+1 {{expected 1 to 6 operands, found 7}}
  %y = tile.map %x, %x, %x, %x, %x, %x, %x {
  ^bb0(%a: f32, %b: f32, %c: f32, %d: f32, %e: f32, %f: f32, %g: f32):
    kvc.yield %a : f32
  } : tensor<16x64xf32>, tensor<16x64xf32>, tensor<16x64xf32>, tensor<16x64xf32>, tensor<16x64xf32>, tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x64xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %q = tile.load_query scale 1.0 : tensor<?x64xf32>
  %x = "t.t"() : () -> tensor<4x32xf32>
  // expected-error@+1 {{expected [r, d] with [t, d] -> [r, t], found 'tensor<?x64xf32>' with 'tensor<4x32xf32>' -> 'tensor<?x4xf32>'}}
  %z = tile.contract %q with %x {
  ^bb0(%a: f32, %b: f32):
    %c = arith.mulf %a, %b : f32
    kvc.yield %c : f32
  } : tensor<?x64xf32>, tensor<4x32xf32> -> tensor<?x4xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<?x16xf32>
  // expected-error@+1 {{expected [a, b] -> [b, 1], found 'tensor<?x16xf32>' -> 'tensor<1x16xf32>'}}
  %y = tile.reduce sum rows %x : tensor<?x16xf32> -> tensor<1x16xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<16xf32>
  // expected-error@+1 {{expected [a], [b] -> [a, b], found 'tensor<16xf32>', 'tensor<16xf32>' -> 'tensor<16x8xf32>'}}
  %y = tile.outer %x, %x : tensor<16xf32>, tensor<16xf32> -> tensor<16x8xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{expected [r, 1], found 'tensor<4x1xf32>'}}
  %l = tile.load_lse : tensor<4x1xf32>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{expected at least one box, found 0}}
  %s = tile.topk_init : !tile.topk<0>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %none = tile.topk_init : !tile.topk<3>
  %end = tile.for_tokens read(#kvc.read_all) init(%none : !tile.topk<3>) {
  ^bb0(%t: !tile.tokens, %state: !tile.topk<3>):
  %x = "t.t"() : () -> tensor<4x2xf32>
    // expected-error@+1 {{expected scores [n, 1], found 'tensor<4x2xf32>'}}
    %n = tile.topk_step %x, %t, %state : tensor<4x2xf32>, !tile.topk<3>
    tile.yield %state : !tile.topk<3>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %none = tile.topk_init : !tile.topk<3>
  %end = tile.for_tokens read(#kvc.read_all) init(%none : !tile.topk<3>) {
  ^bb0(%t: !tile.tokens, %state: !tile.topk<3>):
  %x = "t.t"() : () -> tensor<16x32xf32>
    // expected-error@+1 {{x must be [t, 64], as in the store's cache; found 'tensor<16x32xf32>'}}
    tile.store_tokens k %t, %x : tensor<16x32xf32>
    tile.yield %state : !tile.topk<3>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %none = tile.topk_init : !tile.topk<3>
  %end = tile.for_tokens read(#kvc.read_all) init(%none : !tile.topk<3>) {
  ^bb0(%t: !tile.tokens, %state: !tile.topk<3>):
  %x = "t.t"() : () -> tensor<16x64xf32>
    // expected-error@+1 {{expected a codec that takes one row at a time, found #kvc.int<2, scale = f16 tokens = 16 channels = 1>}}
    tile.store_tokens two %t, %x : tensor<16x64xf32>
    tile.yield %state : !tile.topk<3>
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{`k` has rows of tokens, not of sequences}}
  %s = tile.load_state k : tensor<8x8xf32>
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  // expected-error@+1 {{`m` has 64 elements in the store's cache, found 'tensor<8x16xf32>'}}
  %s = tile.load_state m : tensor<8x16xf32>
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %x = "t.t"() : () -> tensor<4x16xf32>
  // expected-error@+1 {{the store's cache has no stream `n`}}
  tile.store_state n, %x : tensor<4x16xf32>
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, two = 64 by #kvc.int<2, scale = f16 tokens = 16 channels = 1>, m = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  %none = tile.topk_init : !tile.topk<1>
  // expected-error@+1 {{the store's cache has no stream `w`}}
  tile.move_tokens(k, w) %none : !tile.topk<1>
}

// -----

tile.kernel @k "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16>) {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = "t.t"() : () -> tensor<8xf32>
    // expected-error@+1 {{expected [q head, d], found 'tensor<8xf32>'}}
    tile.store_row_output %row, %x : tensor<8xf32>
    tile.yield
  }
}

// -----

tile.kernel @k "evict" of @s dtype f16 {
  %z = tile.topk_init : <3>
  // expected-error@+1 {{expected a stream, found none}}
  "tile.move_tokens"(%z) {streams = []} : (!tile.topk<3>) -> ()
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%r: !tile.tokens):
    // expected-error@+1 {{expected the name of rows as a word, found `a b, %r : tensor<1xf32>`}}
    %x = "tile.load_row"(%r) {name = "a b, %r : tensor<1xf32>"} : (!tile.tokens) -> tensor<5xf32>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%r: !tile.tokens):
    %x = tile.load_row z %r : tensor<64xf32>
    // expected-error@+1 {{a row of scales is whole bytes; found 0 of 'f16'}}
    %c, %s = tile.quantize %x with(#kvc.int<8, scale = f16 channels = 24>) : tensor<64xf32> -> tensor<64xi8>, tensor<0xf16>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%r: !tile.tokens):
    %x = tile.load_row z %r : tensor<5xf32>
    // expected-error@+1 {{a row of codes is whole bytes; found 5 of 'i3'}}
    %c, %s = tile.quantize %x with(#kvc.int<3, scale = f16>) : tensor<5xf32> -> tensor<5xi3>, tensor<1xf16>
    tile.yield
  }
}
