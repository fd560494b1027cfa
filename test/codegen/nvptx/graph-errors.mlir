// Kernels of attention that are not the one sequence of ops that the GPU targets
// have a loop for: each is an error on the op that is in the way.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.sliding_window<sink = 4, recent = 60>) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.sliding_window<sink = 4, recent = 60>) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // expected-error@+1 {{expected the loop's read}}
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // expected-error@+1 {{expected scores that come from a `tile.mask`}}
    %p, %n = tile.softmax_step %x, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %c = tile.logits %m, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    // expected-error@+1 {{expected scores that come from a `tile.mask`}}
    %p, %n = tile.softmax_step %c, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 32, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    // expected-error@+1 {{tiles are of 32 tokens, as the schedule says; found 16}}
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %s : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  // expected-error@+1 {{expected the sink where splits are merged}}
  %init = tile.softmax_init sink {
  ^bb0(%h: i32, %g: i32):
    %f = arith.sitofp %h : i32 to f32
    kvc.yield %f : f32
  } : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype bf16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.18 : tensor<?x64xf32>
  %space = tile.span(k)
  %init = tile.softmax_init : !tile.softmax<64>
  // expected-error@+1 {{no backend lowers loops over a space yet}}
  %end = tile.for_tokens in %space read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc = tile.load k %t : tensor<16x64xbf16>
    %k = tile.convert %kc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %x = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load v %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}

