// Where a warp of its own copies rows: the target can, rows are multiples of 16
// bytes and long, and several of a step stand in a row.
// RUN: kvc-opt %s -kvc-plan-schedule -split-input-file | FileCheck %s

!cache = !kvc.cache<heads = 2, k = 128 by #kvc.float<bf16>, v = 128 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
// CHECK: kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 232448, bulk = true>
module attributes {kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 232448, bulk = true>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 16 read(#kvc.read_all) : !cache
  // CHECK: @s.attend.decode(
  // CHECK-NEXT: schedule <{{.*}}bulk = true> :
  // CHECK: @s.attend.prefill(
  // CHECK-NEXT: schedule <{{.*}}byRows = true> :
  func.func @s.attend(%q: tensor<?x16x128xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x128xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x128xbf16>, !cache -> tensor<?x16x128xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x128xbf16>, tensor<?x16xf32>
  }
}

// -----

// The target has none.
!cache = !kvc.cache<heads = 2, k = 128 by #kvc.float<bf16>, v = 128 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
// CHECK: shared = 166912>
module attributes {kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 166912>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 16 read(#kvc.read_all) : !cache
  // CHECK: @s.attend.decode(
  // CHECK-NOT: bulk
  func.func @s.attend(%q: tensor<?x16x128xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x128xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x128xbf16>, !cache -> tensor<?x16x128xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x128xbf16>, tensor<?x16xf32>
  }
}

// -----

// Rows of 264 and 256 bytes.
!cache = !kvc.cache<heads = 2, k = 264 by #kvc.int<8, scale = f32>, v = 128 by #kvc.float<bf16>, layout = #kvc.contiguous<HND>>
// CHECK: bulk = true>
module attributes {kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 232448, bulk = true>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 16 read(#kvc.read_all) : !cache
  // CHECK: @s.attend.decode(
  // CHECK-NOT: bulk
  func.func @s.attend(%q: tensor<?x16x264xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x128xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x264xbf16>, !cache -> tensor<?x16x128xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x128xbf16>, tensor<?x16xf32>
  }
}

// -----

// Short rows.
!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.contiguous<HND>>
// CHECK: bulk = true>
module attributes {kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 232448, bulk = true>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 16 read(#kvc.read_all) : !cache
  // CHECK: @s.attend.decode(
  // CHECK-NOT: bulk
  func.func @s.attend(%q: tensor<?x16x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x64xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x64xbf16>, !cache -> tensor<?x16x64xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x64xbf16>, tensor<?x16xf32>
  }
}

// -----

// Four tokens in a row at most.
!cache = !kvc.cache<heads = 2, k = 128 by #kvc.float<bf16>, v = 128 by #kvc.float<bf16>, layout = #kvc.paged<20, HND>>
// CHECK: bulk = true>
module attributes {kvc.target = #kvc.target<"t", lanes = 32, registers = 255, dot = [bf16], shared = 232448, bulk = true>} {
  kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 16 read(#kvc.read_all) : !cache
  // CHECK: @s.attend.decode(
  // CHECK-NOT: bulk
  func.func @s.attend(%q: tensor<?x16x128xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x128xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x128xbf16>, !cache -> tensor<?x16x128xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x128xbf16>, tensor<?x16xf32>
  }
}
