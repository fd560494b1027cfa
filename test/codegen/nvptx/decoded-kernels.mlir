// Attend kernels whose K, V and scores are made in ways that no spec says:
// gpu-decoded runs each on the emulated GPU and op by op on the CPU, against the
// tile interpreter.
// RUN: kvc-opt %s -split-input-file -kvc-lower-to-gpu=target=sm_90 -o /dev/null 2>&1 | FileCheck %s
// CHECK-COUNT-10: {{[[]}}R-{{DECODE|NO-MMA}}]

// Boxes that hang on boxes of two widths, of slices at odd channels.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, w = 16 by #kvc.int<3, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k0 = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %w, %ws = tile.load w %t : tensor<16x16xi3>, tensor<16x1xf16>
    %w0 = tile.convert %w : tensor<16x16xi3> -> tensor<16x16xf32>
    %w1 = tile.scale %w0 by %ws : tensor<16x16xf32>, tensor<16x1xf16>
    %k = tile.scale %k0 by %w1 : tensor<16x64xf32>, tensor<16x16xf32>
    %w5 = tile.slice %w0[13 to 14] : tensor<16x16xf32> -> tensor<16x1xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v0 = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %w2 = tile.slice %w0[3 to 7] : tensor<16x16xf32> -> tensor<16x4xf32>
    %v1 = tile.offset %v0 by %w2 : tensor<16x64xf32>, tensor<16x4xf32>
    %w3 = tile.slice %w1[9 to 11] : tensor<16x16xf32> -> tensor<16x2xf32>
    %w4 = tile.scale %w3 by %w5 : tensor<16x2xf32>, tensor<16x1xf32>
    %v = tile.scale %v1 by %w4 : tensor<16x64xf32>, tensor<16x2xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// Codes of five bits that begin anywhere in a byte.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, w = 16 by #kvc.int<5, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k0 = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %w, %ws = tile.load w %t : tensor<16x16xi5>, tensor<16x1xf16>
    %w0 = tile.convert %w : tensor<16x16xi5> -> tensor<16x16xf32>
    %w1 = tile.scale %w0 by %ws : tensor<16x16xf32>, tensor<16x1xf16>
    %k = tile.scale %k0 by %w1 : tensor<16x64xf32>, tensor<16x16xf32>
    %w5 = tile.slice %w0[13 to 14] : tensor<16x16xf32> -> tensor<16x1xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v0 = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %w2 = tile.slice %w0[3 to 7] : tensor<16x16xf32> -> tensor<16x4xf32>
    %v1 = tile.offset %v0 by %w2 : tensor<16x64xf32>, tensor<16x4xf32>
    %w3 = tile.slice %w1[9 to 11] : tensor<16x16xf32> -> tensor<16x2xf32>
    %w4 = tile.scale %w3 by %w5 : tensor<16x2xf32>, tensor<16x1xf32>
    %v = tile.scale %v1 by %w4 : tensor<16x64xf32>, tensor<16x2xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// A map of a tile, of an element per token and of a row per 16 tokens.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, b = 1 by #kvc.float<f16>, ch = 64 by #kvc.float<f32> per 16, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k0 = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %b = tile.load b %t : tensor<16x1xf16>
    %b0 = tile.convert %b : tensor<16x1xf16> -> tensor<16x1xf32>
    %ch = tile.load ch %t : tensor<1x64xf32>
    %k = tile.map %k0, %b0, %ch {
    ^bb0(%x: f32, %y: f32, %z: f32):
      %d = arith.mulf %x, %y : f32
      %e = arith.addf %d, %z : f32
      kvc.yield %e : f32
    } : tensor<16x64xf32>, tensor<16x1xf32>, tensor<1x64xf32> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// Scores by any ops in any order; probabilities scaled twice.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x1 = tile.logits %x, %t {
    ^bb0(%s_: f32, %p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %h = arith.constant 0.25 : f32
      %z = arith.addf %s_, %h : f32
      kvc.yield %z : f32
    } : !S
    %x2 = tile.scale_tokens %x1 by %ks : !S, tensor<16x1xf16>
    %x3 = tile.scale_tokens %x2 by %ks : !S, tensor<16x1xf16>
    %x4 = tile.logits %x3, %t {
    ^bb0(%s_: f32, %p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %h = arith.constant -0.75 : f32
      %z = arith.addf %s_, %h : f32
      kvc.yield %z : f32
    } : !S
    %x5 = tile.map %x4 {
    ^bb0(%z: f32):
      %e = arith.negf %z : f32
      kvc.yield %e : f32
    } : !S -> !S
    %m = tile.mask %x5, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %pp = tile.scale_tokens %p by %vs : !S, tensor<16x1xf16>
    %pq = tile.scale_tokens %pp by %ks : !S, tensor<16x1xf16>
    %a = tile.accumulate %pq, %v, %n : !S, tensor<16x64xf32>, !s
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

// Scores scaled by V's scales and by K's.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x1 = tile.scale_tokens %x by %vs : !S, tensor<16x1xf16>
    %x2 = tile.scale_tokens %x1 by %ks : !S, tensor<16x1xf16>
    %m = tile.mask %x2, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %v0 = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %v = tile.scale %v0 by %vs : tensor<16x64xf32>, tensor<16x1xf16>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// Slices of a row of many boxes, in the middle of boxes.
!cache = !kvc.cache<heads = 2, c = 4096 by #kvc.int<3, scale = f16 channels = 16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %c, %cs = tile.load c %t : tensor<16x4096xi3>, tensor<16x256xf16>
    %w0 = tile.convert %c : tensor<16x4096xi3> -> tensor<16x4096xf32>
    %w = tile.scale %w0 by %cs : tensor<16x4096xf32>, tensor<16x256xf16>
    %k = tile.slice %w[4001 to 4065] : tensor<16x4096xf32> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %v = tile.slice %w[3 to 67] : tensor<16x4096xf32> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// Two planes of other widths, one without a sign.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<4, scale = f16>, w = 64 by #kvc.int<2, scale = f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc, %ks = tile.load k %t : tensor<16x64xi4>, tensor<16x1xf16>
    %wc, %ws = tile.load w %t : tensor<16x64xi2>, tensor<16x1xf16>
    %k0 = tile.convert %kc : tensor<16x64xi4> -> tensor<16x64xf32>
    %w0 = tile.convert %wc unsigned : tensor<16x64xi2> -> tensor<16x64xf32>
    %k = tile.offset %k0 by %w0 : tensor<16x64xf32>, tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// One element of a boxed row, for each token.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f32>, w = 8 by #kvc.int<6, scale = f16 channels = 2>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %k0 = tile.load k %t : tensor<16x64xf32>
    %wc, %ws = tile.load w %t : tensor<16x8xi6>, tensor<16x4xf16>
    %w0 = tile.convert %wc : tensor<16x8xi6> -> tensor<16x8xf32>
    %w1 = tile.scale %w0 by %ws : tensor<16x8xf32>, tensor<16x4xf16>
    %w2 = tile.slice %w1[5 to 6] : tensor<16x8xf32> -> tensor<16x1xf32>
    %k = tile.scale %k0 by %w2 : tensor<16x64xf32>, tensor<16x1xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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

// Probabilities that a region makes more of than 0, where the softmax is sharp.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 200.0 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %pp = tile.logits %p, %t {
    ^bb0(%s_: f32, %p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %h = arith.constant 0.5 : f32
      %z = arith.addf %s_, %h : f32
      kvc.yield %z : f32
    } : !S
    %a = tile.accumulate %pp, %v, %n : !S, tensor<16x64xf32>, !s
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

// Scores scaled by a stream of its own.
// third scale
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<f16>, v = 64 by #kvc.float<bf16>, w = 1 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
!s = !tile.softmax<64>
!S = tensor<?x16xf32>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.kernel "attend" of @s dtype f32 schedule(#kvc.warp_schedule<tokens = 16, rows = 4, queries = 16, split = 64, dot = false, warps = 1, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !s
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !s) {
  ^bb0(%t: !tile.tokens, %state: !s):
    %kc = tile.load k %t : tensor<16x64xf16>
    %k = tile.convert %kc : tensor<16x64xf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %w = tile.load w %t : tensor<16x1xf16>
    %x1 = tile.scale_tokens %x by %w : !S, tensor<16x1xf16>
    %m = tile.mask %x1, %t read(#kvc.read_all)  : !S
    %p, %n = tile.softmax_step %m, %state : !S, !s
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : !S, tensor<16x64xf32>, !s
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
