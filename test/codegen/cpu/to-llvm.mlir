// The step behind -kvc-lower-to-cpu: loops become branches, and log2 becomes a
// polynomial, for a kernel calls nothing.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 | FileCheck %s --check-prefix=BEFORE
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v3 -kvc-cpu-to-llvm | FileCheck %s --implicit-check-not='{{ (scf|arith|vector|math|func)[.]}}' --implicit-check-not='llvm.call '

!cache = !kvc.cache<heads = 2, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all) : !cache

// BEFORE: scf.for
// BEFORE: math.log2

// CHECK-LABEL: llvm.func @kvc_s_merge
// CHECK: llvm.cond_br
// CHECK: llvm.intr.fma
tile.kernel @s.merge "merge" of @s dtype bf16 {
  %init = tile.softmax_init : <64>
  %end = tile.for_splits init(%init : !tile.softmax<64>) {
  ^bb0(%i: index, %x: !tile.softmax<64>):
    %n = tile.merge_step %i, %x : !tile.softmax<64>
    tile.yield %n : !tile.softmax<64>
  }
  tile.store_output %end : !tile.softmax<64>
}
