// Tensor cores multiply codes whose scales are one for each row. Boxes of tokens
// are decoded into f32 first, so no product of codes is planned for them.
// RUN: kvc-opt %s -kvc-plan-schedule | FileCheck %s

!rows = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
!boxes = !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16 tokens = 16 channels = 64>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
module attributes {kvc.target = #kvc.target<"sm_90", lanes = 32, registers = 255 dot = [bf16, f16, i8] shared = 232448 bulk = true>} {
  kvc.store @rows layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !rows
  kvc.store @boxes layers 1 to 2 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !boxes
  // CHECK: @rows.attend.decode
  // CHECK-NEXT: dot = true
  func.func @rows.attend(%q: tensor<?x4x64xbf16>, %cache: !rows, %batch: !kvc.batch) -> (tensor<?x4x64xbf16>, tensor<?x4xf32>) {
    %o, %lse = kvc.attend @rows, %q, %cache, %batch scale 0.125 : tensor<?x4x64xbf16>, !rows -> tensor<?x4x64xbf16>, tensor<?x4xf32>
    return %o, %lse : tensor<?x4x64xbf16>, tensor<?x4xf32>
  }
  // CHECK: @boxes.attend.decode
  // CHECK-NOT: dot = true
  func.func @boxes.attend(%q: tensor<?x4x64xbf16>, %cache: !boxes, %batch: !kvc.batch) -> (tensor<?x4x64xbf16>, tensor<?x4xf32>) {
    %o, %lse = kvc.attend @boxes, %q, %cache, %batch scale 0.125 : tensor<?x4x64xbf16>, !boxes -> tensor<?x4x64xbf16>, tensor<?x4xf32>
    return %o, %lse : tensor<?x4x64xbf16>, tensor<?x4xf32>
  }
}
