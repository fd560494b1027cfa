// What the verbs refuse.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

// expected-error@+1 {{covers no layer or no head}}
kvc.store @full layers 30 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{covers no layer or no head}}
kvc.store @full layers 0 to 30 heads 3 to 0 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers within 0 to 4096 and a step of at least 1, found -5 to -1 step 1}}
kvc.store @full layers -5 to -1 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers within 0 to 4096 and a step of at least 1, found 0 to 4097 step 1}}
kvc.store @full layers 0 to 4097 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers within 0 to 4096 and a step of at least 1, found 0 to 30 step 0}}
kvc.store @full layers 0 to 30 step 0 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{covers no layer or no head}}
kvc.store @full layers [] heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers in ascending order, each once}}
kvc.store @full layers [0, 5, 5] heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers from 0 to 4095}}
kvc.store @full layers [0, 9223372036854775807] heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected layers from 0 to 4095}}
kvc.store @full layers [-9223372036854775808, 0, 9223372036854775807] heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{attribute 'head_begin' failed to satisfy constraint}}
kvc.store @full layers 0 to 30 heads -3 to 0 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{attribute 'kv_heads' failed to satisfy constraint}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 0 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// A group of no q heads.
// expected-error@+1 {{attribute 'q_heads' failed to satisfy constraint}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 0 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{ends at kv head 3, the model has 2}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 2 queries 8 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{needs a whole number of q heads per kv head, found 8 over 3}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 8 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected a read, found #kvc.float<bf16>}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.float<bf16>) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{expected a read, found 1 : i64}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(1) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{covers 2 heads, its type has 3}}
kvc.store @full layers 0 to 30 heads 1 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// -----

// expected-error@+1 {{attribute 'cache' failed to satisfy constraint}}
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : i32

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{no store named @fool}}
  kvc.append @fool, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

// A symbol, but no store.
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{no store named @f}}
  kvc.append @f, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{cache type differs from that of store @full}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x2x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{k must be 'tensor<?x3x64xf32>' or the same in f16 or bf16, found 'tensor<?x2x64xbf16>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x2x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xi8>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{k must be 'tensor<?x3x64xf32>' or the same in f16 or bf16, found 'tensor<?x3x64xi8>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xi8>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xf64>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{k must be 'tensor<?x3x64xf32>' or the same in f16 or bf16, found 'tensor<?x3x64xf64>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xf64>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<4x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{k must be 'tensor<?x3x64xf32>' or the same in f16 or bf16, found 'tensor<4x3x64xbf16>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<4x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x64xbf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{v must be 'tensor<?x3x32xbf16>', found 'tensor<?x3x64xbf16>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x64xbf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

// One dtype for the whole model.
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xf16>, %slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{v must be 'tensor<?x3x32xbf16>', found 'tensor<?x3x32xf16>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xf16>, tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%k: tensor<?x3x64xbf16>, %v: tensor<?x3x32xbf16>, %slot: tensor<?xi32>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{must be 1D tensor of 64-bit signless integer values, but got 'tensor<?xi32>'}}
  kvc.append @full, %k, %v at %slot into %cache : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi32>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{no store named @fool}}
  %o, %lse = kvc.attend @fool, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, NHD>>, %batch: !kvc.batch) {
  // expected-error@+1 {{cache type differs from that of store @full}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, NHD>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x3x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{q must be 'tensor<?x9x64xf32>' or the same in f16 or bf16, found 'tensor<?x3x64xbf16>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x3x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{o must be 'tensor<?x9x32xbf16>', found 'tensor<?x9x64xbf16>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x64xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{o must be 'tensor<?x9x32xbf16>', found 'tensor<?x9x32xf32>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xf32>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{lse must be 'tensor<?x9xf32>', found 'tensor<?x9xbf16>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xbf16>
  return
}

// -----

// Parts have an axis of their own, and are f32.
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{o must be 'tensor<?x?x9x32xf32>', found 'tensor<?x9x32xbf16>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 64 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{o must be 'tensor<?x?x9x32xf32>', found 'tensor<?x?x9x32xbf16>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 64 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{lse must be 'tensor<?x?x9xf32>', found 'tensor<?x9xf32>'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 64 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x?x9x32xf32>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{attribute 'splits' failed to satisfy constraint}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 0 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{attribute 'splits' failed to satisfy constraint}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits -1 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{splits hold 64 tokens, its schedule splits at 128}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 splits 64 schedule(#kvc.core_schedule<split = 128>) : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x?x9x32xf32>, tensor<?x?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{scale must be finite}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0x7FF0000000000000 : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{no store named @fool}}
  %o, %lse = kvc.merge @fool, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{partial_o must be 'tensor<?x?x9x32xf32>', found 'tensor<?x9x32xf32>'}}
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x?x9x32xbf16>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{partial_o must be 'tensor<?x?x9x32xf32>', found 'tensor<?x?x9x32xbf16>'}}
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xbf16>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x8xf32>) {
  // expected-error@+1 {{partial_lse must be 'tensor<?x?x9xf32>', found 'tensor<?x?x8xf32>'}}
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x8xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{o must be 'tensor<?x9x32xf32>' or the same in f16 or bf16, found 'tensor<?x9x32xi8>'}}
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xi8>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  // expected-error@+1 {{lse must be 'tensor<?x9xf32>', found 'tensor<?x9xf16>'}}
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf16>
  return
}

// -----

// A broken store is reported as such, not looked into by those who use it
// before its own checks, whatever their order.
func.func @f(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) {
  %o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}
// expected-error@+1 {{requires attribute 'cache'}}
"kvc.store"() {sym_name = "full", layers = array<i64: 0>, head_begin = 0 : i64, head_end = 3 : i64, kv_heads = 3 : i64, q_heads = 9 : i64, read = #kvc.read_all} : () -> ()

// -----

%po, %pl = "t.t"() : () -> (tensor<?x?x9x32xf32>, tensor<?x?x9xf32>)
%o, %lse = kvc.merge @full, %po, %pl : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
// expected-error@+1 {{attribute 'cache' failed to satisfy constraint}}
"kvc.store"() {sym_name = "full", layers = array<i64: 0>, head_begin = 0 : i64, head_end = 3 : i64, kv_heads = 3 : i64, q_heads = 9 : i64, read = #kvc.read_all, cache = i32} : () -> ()

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{logits region must take 'f32', 'i32', 'i32', 'i32', 'i32', 'i32', takes 'f32', 'i32'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits {
  ^bb0(%s: f32, %p: i32):
    kvc.yield %s : f32
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{visible region must take 'i32', 'i32', 'i32', 'i32', 'i32', takes 'f32'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%s: f32):
    %b = arith.constant true
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{logits region must end in a `kvc.yield` of 'f32'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits {
  ^bb0(%s: f32, %p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.constant true
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{visible region must end in a `kvc.yield` of 'i1'}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.constant 1.0 : f32
    kvc.yield %b : f32
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  // expected-error@+1 {{regions are element-wise and have no `arith.divsi`}}
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits {
  ^bb0(%s: f32, %p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %d = arith.divsi %p, %t : i32
    %f = arith.sitofp %d : i32 to f32
    kvc.yield %f : f32
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits {
  ^bb0(%s: f32, %p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{expected f32, i32 and i1 in a logits region, found 'f64'}}
    %d = arith.sitofp %p : i32 to f64
    %f = arith.truncf %d : f64 to f32
    kvc.yield %f : f32
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{expected i32 and i1 in a visible region, found 'f32'}}
    %d = arith.sitofp %p : i32 to f32
    %b = arith.cmpf olt, %d, %d : f32
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{expected a positive constant divisor}}
    %d = arith.floordivsi %p, %t : i32
    %b = arith.cmpi eq, %d, %t : i32
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{expected a signed comparison}}
    %b = arith.cmpi ult, %p, %t : i32
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{combines booleans in a score's region}}
    %d = arith.andi %p, %t : i32
    %b = arith.cmpi eq, %d, %t : i32
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{has no part in what its region yields}}
    %d = arith.addi %p, %t : i32
    %b = arith.constant true
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

func.func @f(%h: i32) {
  // expected-error@+1 {{'kvc.constant' op stands in a region of a score, and nowhere else}}
  %x = kvc.constant "sinks"[%h] of 4 : f32
  return
}

// -----

// expected-error@+1 {{a cache has each stream once, found `k` twice}}
func.func private @f(!kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, k = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{a row has 1 to 65536 elements, found -12}}
func.func private @f(!kvc.cache<heads = 3, codes = -12 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

!only_k = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !only_k
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !only_k, %batch: !kvc.batch) {
  // expected-error@+1 {{needs a cache with a stream `v`}}
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x9x64xbf16>, !only_k -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @s layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
tile.kernel @s.append "append" of @s dtype bf16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = "t.t"() : () -> tensor<64xbf16>
    // expected-error@+1 {{the store's cache has no stream `w`}}
    tile.store_row w %row, %x : tensor<64xbf16>
    tile.yield
  }
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 logits {
  ^bb0(%s: f32, %p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    // expected-error@+1 {{expected one of oeq, olt, ole, ogt, oge and une, as the operators of a spec's expressions}}
    %n = arith.cmpf uno, %s, %s : f32
    %x = arith.select %n, %s, %s : f32
    kvc.yield %x : f32
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{no store named @fool}}
  %k, %v = kvc.gather @fool, %slot from %cache : tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%slot: tensor<?xi64>, %cache: !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{cache type differs from that of store @full}}
  %k, %v = kvc.gather @full, %slot from %cache : tensor<?xi64>, !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{k must be 'tensor<?x3x64xf32>' or the same in f16 or bf16, found 'tensor<?x2x64xbf16>'}}
  %k, %v = kvc.gather @full, %slot from %cache : tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x2x64xbf16>, tensor<?x3x32xbf16>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%slot: tensor<?xi64>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>) {
  // expected-error@+1 {{v must be 'tensor<?x3x32xbf16>', found 'tensor<?x3x32xf16>'}}
  %k, %v = kvc.gather @full, %slot from %cache : tensor<?xi64>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x3x64xbf16>, tensor<?x3x32xf16>
  return
}

// -----

!c = !kvc.cache<heads = 1, k = 576 by #kvc.float<bf16>, v = 512 of k, layout = #kvc.paged<64, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 1 read(#kvc.read_all) : !c
func.func @f(%k: tensor<?x1x576xbf16>, %v: tensor<?x1x512xbf16>, %slot: tensor<?xi64>, %cache: !c) {
  // expected-error@+1 {{is given rows of v, which are of k in its cache}}
  kvc.append @s, %k, %v at %slot into %cache : tensor<?x1x576xbf16>, tensor<?x1x512xbf16>, tensor<?xi64>, !c
  return
}

// -----

!c = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 1 read(#kvc.read_all) : !c
func.func @f(%k: tensor<?x1x64xbf16>, %slot: tensor<?xi64>, %cache: !c) {
  // expected-error@+1 {{needs rows of v}}
  kvc.append @s, %k at %slot into %cache : tensor<?x1x64xbf16>, tensor<?xi64>, !c
  return
}

// -----

!c = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 1 read(#kvc.read_all) : !c
func.func @f(%k: tensor<?x1x64xbf16>, %slot: tensor<?xi64>, %cache: !c) {
  // expected-error@+1 {{expected the types of k, v (if there is one), slot and cache, found 2}}
  kvc.append @s, %k at %slot into %cache : tensor<?x1x64xbf16>, tensor<?xi64>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %a = arith.cmpi slt, %p, %t : i32
    %c = arith.cmpi sgt, %p, %t : i32
    // expected-error@+1 {{is of integers of 32 bits in a score's region, found booleans}}
    %b = arith.cmpi slt, %a, %c : i1
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}

// -----

kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
func.func @f(%q: tensor<?x9x64xbf16>, %cache: !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %a = arith.cmpi slt, %p, %t : i32
    // expected-error@+1 {{is of integers of 32 bits in a score's region, found booleans}}
    %b = arith.maxsi %a, %a : i1
    kvc.yield %b : i1
  } : tensor<?x9x64xbf16>, !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return
}
