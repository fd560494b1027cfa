// What has no kernel.
// RUN: kvc-opt %s -kvc-lower-to-tile -split-input-file -verify-diagnostics -allow-unregistered-dialect

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // expected-error@+1 {{expected one kvc op and a return}}
  func.func @f() {
    return
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // expected-error@+1 {{expected one kvc op and a return}}
  func.func private @f()
}

// -----

// An op of another dialect, whatever its attributes.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // expected-error@+1 {{expected one kvc op and a return}}
  func.func @f() {
    "t.t"() {store = @s} : () -> ()
    return
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // expected-error@+1 {{expected one kvc op and a return}}
  func.func @f() {
    "t.t"() : () -> ()
    "t.t"() : () -> ()
    return
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  // expected-error@+1 {{expected one kvc op and a return}}
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    "t.t"() : () -> ()
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    // expected-error@+1 {{has no schedule or no splits: run kvc-plan-schedule first}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x?x2x64xf32>, tensor<?x?x2xf32>) {
    // expected-error@+1 {{has no schedule or no splits: run kvc-plan-schedule first}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 splits 64 : tensor<?x2x64xbf16>, !cache -> tensor<?x?x2x64xf32>, tensor<?x?x2xf32>
    return %o, %lse : tensor<?x?x2x64xf32>, tensor<?x?x2xf32>
  }
}

// -----

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"t", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 2 read(#kvc.read_all) : !cache
  func.func @s.attend(%q: tensor<?x2x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x2x64xbf16>, tensor<?x2xf32>) {
    // expected-error@+1 {{has no schedule or no splits: run kvc-plan-schedule first}}
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 schedule(#kvc.core_schedule<rows = 2>) : tensor<?x2x64xbf16>, !cache -> tensor<?x2x64xbf16>, tensor<?x2xf32>
    return %o, %lse : tensor<?x2x64xbf16>, tensor<?x2xf32>
  }
}
