// What cannot be planned.
// RUN: kvc-opt %s -kvc-plan-schedule -split-input-file -verify-diagnostics -allow-unregistered-dialect

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
// expected-error@+1 {{no `kvc.target`: a backend must say what it runs on}}
module {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
// expected-error@+1 {{no `kvc.target`: a backend must say what it runs on}}
module attributes {kvc.target = "x86-64-v4"} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}

// -----

// Outside of any function.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  %q, %cache, %batch = "t.t"() : () -> (tensor<?x2x64xbf16>, !cache, !kvc.batch)
  // expected-error@+1 {{cannot plan an attend unless it is whole and alone in a function}}
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    // expected-error@+1 {{cannot plan an attend unless it is whole and alone in a function}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    "t.t"() : () -> ()
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x?x2x64xf32>, tensor<?x?x2xf32>) {
    // expected-error@+1 {{cannot plan an attend unless it is whole and alone in a function}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 splits 64 : tensor<?x2x64xbf16>, !cache -> tensor<?x?x2x64xf32>, tensor<?x?x2xf32>
    return %o, %lse : tensor<?x?x2x64xf32>, tensor<?x?x2xf32>
  }
}

// -----

// What is returned must be what attend gives, in its order.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> tensor<?x2x64xbf16> {
    // expected-error@+1 {{cannot plan an attend unless it is whole and alone in a function}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o : tensor<?x2x64xbf16>
  }
}
