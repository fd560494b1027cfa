// What loops of decoded operands do not take: an error on the op in the way.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu=target=sm_90

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// expected-error@+1 {{found dot = 1, K and V that are decoded into f32}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, dot = true, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks = tile.load k %t : tensor<16x64xi4>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi4> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, dot = true, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // expected-error@+1 {{with `dot`, scores are multiplied by the scales}}
    %y = tile.map %x {
    ^bb0(%z: f32):
      %e = arith.negf %z : f32
      kvc.yield %e : f32
    } : tensor<?x16xf32> -> tensor<?x16xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// expected-error@+1 {{`bulk` is for codes that are multiplied as they are, in rows of multiples of 16 bytes; found bulk = 1, K and V that are decoded, or scaled by other than rows}}
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2, bulk = true>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks = tile.load k %t : tensor<16x64xi4>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi4> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    // expected-error@+1 {{expected `tile.scale_tokens`, `tile.logits`, `tile.mask` between `tile.softmax_step` and `tile.accumulate`, found `tile.map`}}
    %pp = tile.map %p {
    ^bb0(%z: f32):
      %e = arith.negf %z : f32
      kvc.yield %e : f32
    } : tensor<?x16xf32> -> tensor<?x16xf32>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %pp, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16> per 4, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    // expected-error@+1 {{the GPU targets load rows of as many tokens as the schedule says, 16; found 16 rows that have 4 each}}
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, mean = 64 by #kvc.float<f32> per sequence, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %kx = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    // expected-error@+1 {{found 1 rows that have 0 each}}
    %mean = tile.load mean %t : tensor<1x64xf32>
    %k = tile.offset %kx by %mean : tensor<16x64xf32>, tensor<1x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %bc = tile.load k %t : tensor<16x64xbf16>
    %b = tile.convert %bc : tensor<16x64xbf16> -> tensor<16x64xf32>
    // expected-error@+1 {{expected one operand beside the query}}
    %x = tile.contract %q with %k, %b {
    ^bb0(%l: f32, %r: f32, %o: f32):
      %d = arith.mulf %l, %r : f32
      %f = arith.mulf %d, %o : f32
      kvc.yield %f : f32
    } : tensor<?x64xf32>, tensor<16x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // expected-error@+1 {{or a `tile.map` of one operand between `tile.dot` and `tile.mask`, found `tile.map`}}
    %y = tile.map %x, %x {
    ^bb0(%z: f32, %w: f32):
      %e = arith.addf %z, %w : f32
      kvc.yield %e : f32
    } : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, w = 1 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %w = tile.load w %t : tensor<16x1xf16>
    %w0 = tile.convert %w : tensor<16x1xf16> -> tensor<16x1xf32>
    // expected-error@+1 {{expected scales of tokens as they are loaded, found `tile.convert`}}
    %y = tile.scale_tokens %x by %w0 : tensor<?x16xf32>, tensor<16x1xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %state : tensor<?x16xf32>, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !s
    tile.yield %a : !s
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !s
    %all = tile.for_splits init(%begin : !s) {
    ^bb0(%i: index, %before: !s):
      %after = tile.merge_step %i, %before : !s
      tile.yield %after : !s
    }
    tile.store_output %all : !s
  } : !s
}
