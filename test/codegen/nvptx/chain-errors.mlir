// Chains of scores and probabilities that the GPU targets have no loop for.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-lower-to-gpu

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %c = tile.logits %d, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    // expected-error@+1 {{with `dot`, scores are multiplied by the scales of K's rows, then made logits, then masked, each once at most and in this order}}
    %x = tile.scale_tokens %c by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %w = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    // expected-error@+1 {{with `dot`, scores are multiplied by the scales of K's rows, then made logits, then masked, each once at most and in this order}}
    %x = tile.scale_tokens %d by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %w = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %c = tile.scale_tokens %d by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    %e = tile.logits %c, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    // expected-error@+1 {{with `dot`, scores are multiplied by the scales of K's rows, then made logits, then masked, each once at most and in this order}}
    %x = tile.logits %e, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %w = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    // expected-error@+1 {{with `dot`, all scales that are loaded are multiplied by}}
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x = tile.logits %d, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %w = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
// expected-error@+1 {{`dot` is for codes of which tensor cores have exact products}}
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %kx = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %k = tile.scale %kx by %ks : tensor<16x64xf32>, tensor<16x1xf16>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x = tile.logits %d, %t { ^bb0(%s_: f32, %p_: i32, %t_: i32, %ctx: i32, %h_: i32, %g_: i32): %cap_ = arith.constant 30.0 : f32 %x_ = arith.divf %s_, %cap_ : f32 %y_ = math.tanh %x_ : f32 %z_ = arith.mulf %cap_, %y_ : f32 kvc.yield %z_ : f32 } : tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %w = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.warp_schedule<tokens = 16, rows = 8, queries = 16, split = 64, dot = true, warps = 2, stages = 2>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load k %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x = tile.scale_tokens %d by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc, %vs = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %y = tile.scale_tokens %p by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    // expected-error@+1 {{with `dot`, probabilities are multiplied by the scales of V's rows, once at most}}
    %w = tile.scale_tokens %y by %vs : tensor<?x16xf32>, tensor<16x1xf16>
    %v = tile.convert %vc : tensor<16x64xi8> -> tensor<16x64xf32>
    %a = tile.accumulate %w, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end last {
    %begin = tile.softmax_init : !tile.softmax<64>
    %all = tile.for_splits init(%begin : !tile.softmax<64>) {
    ^bb0(%i: index, %before: !tile.softmax<64>):
      %after = tile.merge_step %i, %before : !tile.softmax<64>
      tile.yield %after : !tile.softmax<64>
    }
    tile.store_output %all : !tile.softmax<64>
  } : !tile.softmax<64>
}
