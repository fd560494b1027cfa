// Kernels that no loop was written for, which unit test cpu-op-by-op compiles and
// holds against the tile interpreter.
// RUN: kvc-opt %s -kvc-lower-to-cpu 2>&1 | FileCheck %s
// CHECK-COUNT-8: lowered op by op

// Codes of 2 bits, K with a scale and a zero for each channel of 16 tokens, V for
// each half of a row.
kvc.store @two layers 0 to 1 heads 0 to 2 of 2 queries 6 read(#kvc.sliding_window<sink = 3, recent = 20>)
  : !kvc.cache<heads = 2, k = 40 by #kvc.int<2, scale = f16 zero = f16 tokens = 16 channels = 1>,
               v = 32 by #kvc.int<2, scale = f32 zero = f16 channels = 16>, layout = #kvc.paged<16, NHD>>
tile.kernel @two.attend "attend" of @two dtype bf16 schedule(#kvc.core_schedule<tokens = 16, queries = 3, split = 32>) {
  %q = tile.load_query scale 0.2 : tensor<?x40xf32>
  %init = tile.softmax_init : !tile.softmax<32>
  %end = tile.for_tokens read(#kvc.sliding_window<sink = 3, recent = 20>) init(%init : !tile.softmax<32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<32>):
    %kc, %ks, %kz = tile.load k %t : tensor<16x40xi2>, tensor<1x40xf16>, tensor<1x40xf16>
    %k0 = tile.convert %kc unsigned : tensor<16x40xi2> -> tensor<16x40xf32>
    %k1 = tile.scale %k0 by %ks : tensor<16x40xf32>, tensor<1x40xf16>
    %k = tile.offset %k1 by %kz : tensor<16x40xf32>, tensor<1x40xf16>
    %x = tile.dot %q, %k : tensor<?x40xf32>, tensor<16x40xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.sliding_window<sink = 3, recent = 20>) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<32>
    %vc, %vs, %vz = tile.load v %t : tensor<16x32xi2>, tensor<16x2xf32>, tensor<16x2xf16>
    %v0 = tile.convert %vc unsigned : tensor<16x32xi2> -> tensor<16x32xf32>
    %v1 = tile.scale %v0 by %vs : tensor<16x32xf32>, tensor<16x2xf32>
    %v = tile.offset %v1 by %vz : tensor<16x32xf32>, tensor<16x2xf16>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x32xf32>, !tile.softmax<32>
    tile.yield %a : !tile.softmax<32>
  }
  tile.store_partial %end : !tile.softmax<32>
}

// Codes of 3 and 5 bits with a sign, whose rows end within a group of eight, in
// tiles of 12 tokens; K's scales multiply the scores twice.
kvc.store @odd layers 0 to 1 heads 1 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 24 by #kvc.int<3, scale = f32>, v = 16 by #kvc.int<5, scale = f16 channels = 8>,
               w = 8 by #kvc.float<f16>, layout = #kvc.contiguous<HND>>
tile.kernel @odd.attend "attend" of @odd dtype f16 schedule(#kvc.core_schedule<tokens = 12, queries = 4>) {
  %q = tile.load_query scale 0.3 : tensor<?x24xf32>
  %init = tile.softmax_init : !tile.softmax<16>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<16>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<16>):
    %kc, %ks = tile.load k %t : tensor<12x24xi3>, tensor<12x1xf32>
    %k = tile.convert %kc : tensor<12x24xi3> -> tensor<12x24xf32>
    %x = tile.dot %q, %k : tensor<?x24xf32>, tensor<12x24xf32> -> tensor<?x12xf32>
    %y = tile.scale_tokens %x by %ks : tensor<?x12xf32>, tensor<12x1xf32>
    %z = tile.scale_tokens %y by %ks : tensor<?x12xf32>, tensor<12x1xf32>
    %m = tile.mask %z, %t read(#kvc.read_all) visible {
    ^bb0(%p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %three = arith.constant 3 : i32
      %part = arith.floordivsi %t_, %three : i32
      %back = arith.muli %part, %three : i32
      %seen = arith.cmpi ne, %back, %t_ : i32
      kvc.yield %seen : i1
    } : tensor<?x12xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x12xf32>, !tile.softmax<16>
    %vc, %vs = tile.load v %t : tensor<12x16xi5>, tensor<12x2xf16>
    %v0 = tile.convert %vc : tensor<12x16xi5> -> tensor<12x16xf32>
    %v = tile.scale %v0 by %vs : tensor<12x16xf32>, tensor<12x2xf16>
    %a = tile.accumulate %p, %v, %n : tensor<?x12xf32>, tensor<12x16xf32>, !tile.softmax<16>
    tile.yield %a : !tile.softmax<16>
  }
  tile.store_partial %end : !tile.softmax<16>
}

// V is the first part of K's row.
kvc.store @latent layers 0 to 1 heads 0 to 1 of 1 queries 16 read(#kvc.read_all)
  : !kvc.cache<heads = 1, c = 72 by #kvc.float<bf16>, layout = #kvc.paged<8, HND>>
tile.kernel @latent.attend "attend" of @latent dtype bf16 schedule(#kvc.core_schedule<tokens = 16, queries = 2, split = 16>) {
  %q = tile.load_query scale 0.2 : tensor<?x72xf32>
  %init = tile.softmax_init : !tile.softmax<60>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<60>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<60>):
    %c = tile.load c %t : tensor<16x72xbf16>
    %k = tile.convert %c : tensor<16x72xbf16> -> tensor<16x72xf32>
    %x = tile.dot %q, %k : tensor<?x72xf32>, tensor<16x72xf32> -> tensor<?x16xf32>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<60>
    %v = tile.slice %k[4 to 64] : tensor<16x72xf32> -> tensor<16x60xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x60xf32>, !tile.softmax<60>
    tile.yield %a : !tile.softmax<60>
  }
  tile.store_partial %end : !tile.softmax<60>
}

// Another product than a dot, and scores less the mean of those before in their
// tile; a tile is carried beside the state.
kvc.store @other layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 16 by #kvc.int<8, scale = f32>, v = 24 by #kvc.float<f32>, layout = #kvc.paged<16, HND>>
tile.kernel @other.attend "attend" of @other dtype f32 schedule(#kvc.core_schedule<tokens = 8, queries = 2>) {
  %q = tile.load_query scale 0.5 : tensor<?x16xf32>
  %init = tile.softmax_init : !tile.softmax<24>
  %zero = tile.reduce sum columns %q : tensor<?x16xf32> -> tensor<?x1xf32>
  %end, %last = tile.for_tokens read(#kvc.read_all) init(%init, %zero : !tile.softmax<24>, tensor<?x1xf32>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<24>, %before: tensor<?x1xf32>):
    %kc, %ks = tile.load k %t : tensor<8x16xi8>, tensor<8x1xf32>
    %k0 = tile.convert %kc : tensor<8x16xi8> -> tensor<8x16xf32>
    %k = tile.scale %k0 by %ks : tensor<8x16xf32>, tensor<8x1xf32>
    %x = tile.contract %q with %k {
    ^bb0(%a_: f32, %b_: f32):
      %d_ = arith.subf %a_, %b_ : f32
      %e_ = math.absf %d_ : f32
      %f_ = arith.negf %e_ : f32
      kvc.yield %f_ : f32
    } : tensor<?x16xf32>, tensor<8x16xf32> -> tensor<?x8xf32>
    %y = tile.map %x, %before {
    ^bb0(%a_: f32, %b_: f32):
      %tenth = arith.constant 0.1 : f32
      %c_ = arith.mulf %b_, %tenth : f32
      %d_ = arith.subf %a_, %c_ : f32
      kvc.yield %d_ : f32
    } : tensor<?x8xf32>, tensor<?x1xf32> -> tensor<?x8xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x8xf32>
    %next = tile.reduce max columns %x : tensor<?x8xf32> -> tensor<?x1xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x8xf32>, !tile.softmax<24>
    %vc = tile.load v %t : tensor<8x24xf32>
    %v = tile.convert %vc : tensor<8x24xf32> -> tensor<8x24xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x8xf32>, tensor<8x24xf32>, !tile.softmax<24>
    tile.yield %a, %next : !tile.softmax<24>, tensor<?x1xf32>
  }
  tile.store_partial %end : !tile.softmax<24>
}

// Two loops hand one state on: every token counts twice, once with another K.
kvc.store @twice layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all<causal = false>)
  : !kvc.cache<heads = 2, k = 16 by #kvc.float<f16>, v = 8 by #kvc.float<bf16>, w = 16 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
tile.kernel @twice.attend "attend" of @twice dtype f32 schedule(#kvc.core_schedule<tokens = 8, queries = 4, split = 16>) {
  %q = tile.load_query scale 0.5 : tensor<?x16xf32>
  %init = tile.softmax_init : !tile.softmax<8>
  %a = tile.for_tokens read(#kvc.read_all<causal = false>) init(%init : !tile.softmax<8>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<8>):
    %kc = tile.load k %t : tensor<8x16xf16>
    %k = tile.convert %kc : tensor<8x16xf16> -> tensor<8x16xf32>
    %x = tile.dot %q, %k : tensor<?x16xf32>, tensor<8x16xf32> -> tensor<?x8xf32>
    %m = tile.mask %x, %t read(#kvc.read_all<causal = false>) : tensor<?x8xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x8xf32>, !tile.softmax<8>
    %vc = tile.load v %t : tensor<8x8xbf16>
    %v = tile.convert %vc : tensor<8x8xbf16> -> tensor<8x8xf32>
    %o = tile.accumulate %p, %v, %n : tensor<?x8xf32>, tensor<8x8xf32>, !tile.softmax<8>
    tile.yield %o : !tile.softmax<8>
  }
  %b = tile.for_tokens read(#kvc.read_all<causal = false>) init(%a : !tile.softmax<8>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<8>):
    %kc = tile.load w %t : tensor<8x16xbf16>
    %k = tile.convert %kc : tensor<8x16xbf16> -> tensor<8x16xf32>
    %x = tile.dot %q, %k : tensor<?x16xf32>, tensor<8x16xf32> -> tensor<?x8xf32>
    %y = tile.logits %x, %t {
    ^bb0(%s_: f32, %p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %d_ = arith.subi %p_, %t_ : i32
      %e_ = arith.sitofp %d_ : i32 to f32
      %f_ = arith.constant -0.05 : f32
      %u_ = arith.mulf %e_, %f_ : f32
      %z_ = arith.addf %s_, %u_ : f32
      kvc.yield %z_ : f32
    } : tensor<?x8xf32>
    %m = tile.mask %y, %t read(#kvc.read_all<causal = false>) : tensor<?x8xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x8xf32>, !tile.softmax<8>
    %vc = tile.load v %t : tensor<8x8xbf16>
    %v = tile.convert %vc : tensor<8x8xbf16> -> tensor<8x8xf32>
    %o = tile.accumulate %p, %v, %n : tensor<?x8xf32>, tensor<8x8xf32>, !tile.softmax<8>
    tile.yield %o : !tile.softmax<8>
  }
  tile.store_partial %b : !tile.softmax<8>
}

// A column of a wider tile scales tokens.
kvc.store @along layers 0 to 1 heads 0 to 1 of 1 queries 2 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 16 by #kvc.float<f32>, v = 8 by #kvc.float<f32>, w = 8 by #kvc.float<f32>, layout = #kvc.paged<16, HND>>
tile.kernel @along.attend "attend" of @along dtype f32 schedule(#kvc.core_schedule<tokens = 16, queries = 3>) {
  %q = tile.load_query scale 0.3 : tensor<?x16xf32>
  %init = tile.softmax_init : !tile.softmax<8>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<8>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<8>):
    %kc = tile.load k %t : tensor<16x16xf32>
    %k = tile.convert %kc : tensor<16x16xf32> -> tensor<16x16xf32>
    %x = tile.dot %q, %k : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %wc = tile.load w %t : tensor<16x8xf32>
    %w = tile.convert %wc : tensor<16x8xf32> -> tensor<16x8xf32>
    %w3 = tile.slice %w[3 to 4] : tensor<16x8xf32> -> tensor<16x1xf32>
    %y = tile.scale_tokens %x by %w3 : tensor<?x16xf32>, tensor<16x1xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<8>
    %vc = tile.load v %t : tensor<16x8xf32>
    %v = tile.convert %vc : tensor<16x8xf32> -> tensor<16x8xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x8xf32>, !tile.softmax<8>
    tile.yield %a : !tile.softmax<8>
  }
  tile.store_partial %end : !tile.softmax<8>
}

// What one mask hides no other shows again, though its v is NaN.
kvc.store @masks layers 0 to 1 heads 0 to 1 of 1 queries 2 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 16 by #kvc.float<f32>, v = 8 by #kvc.float<f32>, layout = #kvc.paged<16, HND>>
tile.kernel @masks.attend "attend" of @masks dtype f32 schedule(#kvc.core_schedule<tokens = 16, queries = 3>) {
  %q = tile.load_query scale 0.3 : tensor<?x16xf32>
  %init = tile.softmax_init : !tile.softmax<8>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<8>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<8>):
    %kc = tile.load k %t : tensor<16x16xf32>
    %k = tile.convert %kc : tensor<16x16xf32> -> tensor<16x16xf32>
    %x = tile.dot %q, %k : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %y = tile.mask %x, %t read(#kvc.read_all) visible {
    ^bb0(%p_: i32, %t_: i32, %c_: i32, %h_: i32, %g_: i32):
      %last = arith.constant 69 : i32
      %seen = arith.cmpi ne, %t_, %last : i32
      kvc.yield %seen : i1
    } : tensor<?x16xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<8>
    %vc = tile.load v %t : tensor<16x8xf32>
    %v = tile.convert %vc : tensor<16x8xf32> -> tensor<16x8xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x8xf32>, !tile.softmax<8>
    tile.yield %a : !tile.softmax<8>
  }
  tile.store_partial %end : !tile.softmax<8>
}

// A maximum is NaN if an element is, whatever comes behind it.
kvc.store @notnumber layers 0 to 1 heads 0 to 1 of 1 queries 2 read(#kvc.read_all)
  : !kvc.cache<heads = 1, k = 16 by #kvc.float<f32>, v = 8 by #kvc.float<f32>, w = 8 by #kvc.float<f32>, layout = #kvc.paged<16, HND>>
tile.kernel @notnumber.attend "attend" of @notnumber dtype f32 schedule(#kvc.core_schedule<tokens = 16, queries = 3>) {
  %q = tile.load_query scale 0.3 : tensor<?x16xf32>
  %init = tile.softmax_init : !tile.softmax<8>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<8>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<8>):
    %kc = tile.load k %t : tensor<16x16xf32>
    %k = tile.convert %kc : tensor<16x16xf32> -> tensor<16x16xf32>
    %x = tile.dot %q, %k : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %wc = tile.load w %t : tensor<16x8xf32>
    %w = tile.convert %wc : tensor<16x8xf32> -> tensor<16x8xf32>
    %l = tile.map %w {
    ^bb0(%w_: f32):
      %zero = arith.constant 0.0 : f32
      %none = arith.divf %zero, %zero : f32
      %much = arith.constant 2.0 : f32
      %is = arith.cmpf ogt, %w_, %much : f32
      %z = arith.select %is, %none, %w_ : f32
      kvc.yield %z : f32
    } : tensor<16x8xf32> -> tensor<16x8xf32>
    %mx = tile.reduce max columns %l : tensor<16x8xf32> -> tensor<16x1xf32>
    %ok = tile.map %mx {
    ^bb0(%w_: f32):
      %one = arith.constant 1.0 : f32
      %half = arith.constant 0.5 : f32
      %is = arith.cmpf une, %w_, %w_ : f32
      %z = arith.select %is, %half, %one : f32
      kvc.yield %z : f32
    } : tensor<16x1xf32> -> tensor<16x1xf32>
    %y = tile.scale_tokens %x by %ok : tensor<?x16xf32>, tensor<16x1xf32>
    %m = tile.mask %y, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<8>
    %vc = tile.load v %t : tensor<16x8xf32>
    %v = tile.convert %vc : tensor<16x8xf32> -> tensor<16x8xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x8xf32>, !tile.softmax<8>
    tile.yield %a : !tile.softmax<8>
  }
  tile.store_partial %end : !tile.softmax<8>
}
