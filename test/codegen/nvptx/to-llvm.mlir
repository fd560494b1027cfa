// The steps behind -kvc-lower-to-gpu. For PTX loops become branches, and an
// instruction that LLVM lacks stays a line of assembly; for the emulator it is a
// call, and so is each access to memory.
// RUN: kvc-opt %s -kvc-lower-to-gpu=target=sm_90 -kvc-verify-uniform -kvc-gpu-to-llvm -o %t
// RUN: FileCheck %s --input-file=%t --implicit-check-not='{{ (scf|arith|vector|tile)[.]}}'
// RUN: kvc-opt %t -kvc-gpu-to-sim | FileCheck %s --check-prefix=SIM --implicit-check-not=inline_asm

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// CHECK-LABEL: llvm.func @kvc_s_merge
// CHECK: llvm.inline_asm {kvc.op = "TidX"} "mov.u32 $0, %tid.x;"
// CHECK: llvm.cond_br
// CHECK: llvm.inline_asm has_side_effects {kvc.op = "Shfl

// SIM-LABEL: llvm.func @kvc_s_merge(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr)
// SIM: llvm.call %{{.*}}({{.*}}) : !llvm.ptr, (!llvm.ptr, i32, i32) -> ()
// SIM: llvm.cond_br
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : <64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %x: !tile.softmax<64>):
    %n = tile.merge_step %i, %x : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
