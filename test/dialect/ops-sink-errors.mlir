// RUN: kvc-opt %s -split-input-file -verify-diagnostics

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !cache
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  // expected-error@+1 {{sink region must take 'i32', 'i32', takes 'i32', 'i32', 'i32', 'i32'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 sink {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %f = arith.sitofp %p : i32 to f32
    kvc.yield %f : f32
  } : tensor<?x9x64xbf16>, !cache -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !cache
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  // expected-error@+1 {{makes splits: their `kvc.merge` has the sink}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 2048 sink {
  ^bb0(%h: i32, %g: i32):
    %f = arith.sitofp %h : i32 to f32
    kvc.yield %f : f32
  } : tensor<?x9x64xbf16>, !cache -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return
}

// -----

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !cache
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{sink region must end in a `kvc.yield` of 'f32'}}
  %o, %lse = kvc.merge @full, %po, %pl sink {
  ^bb0(%h: i32, %g: i32):
    %b = arith.cmpi eq, %h, %g : i32
    kvc.yield %b : i1
  } : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.merge "merge" of @s dtype bf16 {
  // expected-error@+1 {{sink region must take 'i32', 'i32', takes 'f32'}}
  %init = tile.softmax_init sink {
  ^bb0(%s: f32):
    kvc.yield %s : f32
  } : !tile.softmax<64>
}
