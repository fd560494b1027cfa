// What a visible region shows at most becomes the store's read; a region that
// says no more goes.
// RUN: kvc-opt %s -kvc-infer-reads | FileCheck %s

!cache = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>

// t > p - 4096 is a window and nothing else.
// CHECK-LABEL: kvc.store @window {{.*}} read(#kvc.sliding_window<sink = 0, recent = 4096>)
// CHECK: kvc.attend @window,
// CHECK-NOT: visible
// CHECK: return
kvc.store @window layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @window.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @window, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 4096 : i32
    %a = arith.subi %p, %n : i32
    %b = arith.cmpi sgt, %t, %a : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// p - t < 4096 || t < 4.
// CHECK-LABEL: kvc.store @sinks {{.*}} read(#kvc.sliding_window<sink = 4, recent = 4096>)
// CHECK: kvc.attend @sinks,
// CHECK-NOT: visible
// CHECK: return
kvc.store @sinks layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @sinks.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @sinks, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 4096 : i32
    %k = arith.constant 4 : i32
    %a = arith.subi %p, %t : i32
    %b = arith.cmpi slt, %a, %n : i32
    %d = arith.cmpi slt, %t, %k : i32
    %e = arith.ori %b, %d : i1
    kvc.yield %e : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// p // 8192 == t // 8192: at most the last 8,192, and the region says which.
// CHECK-LABEL: kvc.store @chunks {{.*}} read(#kvc.sliding_window<sink = 0, recent = 8192>)
// CHECK: kvc.attend @chunks,
// CHECK-SAME: visible {
// CHECK: return
kvc.store @chunks layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @chunks.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @chunks, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 8192 : i32
    %a = arith.floordivsi %p, %n : i32
    %b = arith.floordivsi %t, %n : i32
    %d = arith.cmpi eq, %a, %b : i32
    kvc.yield %d : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// !(p - t >= 16) && !false.
// CHECK-LABEL: kvc.store @negated {{.*}} read(#kvc.sliding_window<sink = 0, recent = 16>)
// CHECK: kvc.attend @negated,
// CHECK-NOT: visible
// CHECK: return
kvc.store @negated layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @negated.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @negated, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 16 : i32
    %x = arith.subi %p, %t : i32
    %b = arith.cmpi sge, %x, %n : i32
    %yes = arith.constant true
    %no = arith.constant false
    %d = arith.xori %b, %yes : i1
    %e = arith.xori %no, %yes : i1
    %f = arith.andi %d, %e : i1
    kvc.yield %f : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// (p - t) % 2 == 0: anything may be seen.
// CHECK-LABEL: kvc.store @dilated {{.*}} read(#kvc.read_all)
// CHECK: kvc.attend @dilated,
// CHECK-SAME: visible {
// CHECK: return
kvc.store @dilated layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @dilated.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @dilated, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 2 : i32
    %z = arith.constant 0 : i32
    %x = arith.subi %p, %t : i32
    %a = arith.floordivsi %x, %n : i32
    %b = arith.muli %a, %n : i32
    %m = arith.subi %x, %b : i32
    %d = arith.cmpi eq, %m, %z : i32
    kvc.yield %d : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// p - t < 8 * (h + 1): the widest head counts.
// CHECK-LABEL: kvc.store @heads {{.*}} read(#kvc.sliding_window<sink = 0, recent = 32>)
// CHECK: kvc.attend @heads,
// CHECK-SAME: visible {
// CHECK: return
kvc.store @heads layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @heads.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @heads, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 8 : i32
    %one = arith.constant 1 : i32
    %a = arith.addi %h, %one : i32
    %b = arith.muli %a, %n : i32
    %x = arith.subi %p, %t : i32
    %d = arith.cmpi slt, %x, %b : i32
    kvc.yield %d : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// true hides nothing.
// CHECK-LABEL: kvc.store @everything {{.*}} read(#kvc.read_all)
// CHECK: kvc.attend @everything,
// CHECK-NOT: visible
// CHECK: return
kvc.store @everything layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @everything.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @everything, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.constant true
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// t <= p is what holds anyway.
// CHECK-LABEL: kvc.store @causal {{.*}} read(#kvc.read_all)
// CHECK: kvc.attend @causal,
// CHECK-NOT: visible
// CHECK: return
kvc.store @causal layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @causal.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @causal, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.cmpi sle, %t, %p : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// p < t: no token is seen, and the region still says so.
// CHECK-LABEL: kvc.store @nothing {{.*}} read(#kvc.sliding_window<sink = 0, recent = 1>)
// CHECK: kvc.attend @nothing,
// CHECK-SAME: visible {
// CHECK: return
kvc.store @nothing layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @nothing.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @nothing, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.cmpi slt, %p, %t : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// t > p - 64 && t > p - 32.
// CHECK-LABEL: kvc.store @both {{.*}} read(#kvc.sliding_window<sink = 0, recent = 32>)
// CHECK: kvc.attend @both,
// CHECK-NOT: visible
// CHECK: return
kvc.store @both layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @both.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @both, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 64 : i32
    %k = arith.constant 32 : i32
    %a = arith.subi %p, %n : i32
    %b = arith.subi %p, %k : i32
    %d = arith.cmpi sgt, %t, %a : i32
    %e = arith.cmpi sgt, %t, %b : i32
    %f = arith.andi %d, %e : i1
    kvc.yield %f : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// 3 * t < 64 || 2 * (p - t) <= 9: divided, and rounded down.
// CHECK-LABEL: kvc.store @early {{.*}} read(#kvc.sliding_window<sink = 22, recent = 5>)
// CHECK: kvc.attend @early,
// CHECK-NOT: visible
// CHECK: return
kvc.store @early layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @early.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @early, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 64 : i32
    %k = arith.constant 9 : i32
    %th = arith.constant 3 : i32
    %tw = arith.constant 2 : i32
    %a = arith.muli %t, %th : i32
    %x = arith.subi %p, %t : i32
    %b = arith.muli %tw, %x : i32
    %d = arith.cmpi slt, %a, %n : i32
    %e = arith.cmpi sle, %b, %k : i32
    %f = arith.ori %d, %e : i1
    kvc.yield %f : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// p < 100 shows what stands before 100.
// CHECK-LABEL: kvc.store @prefix {{.*}} read(#kvc.sliding_window<sink = 100, recent = 1>)
// CHECK: kvc.attend @prefix,
// CHECK-SAME: visible {
// CHECK: return
kvc.store @prefix layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @prefix.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @prefix, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 100 : i32
    %b = arith.cmpi slt, %p, %n : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// A read that is there already stays, and the region with it.
// CHECK-LABEL: kvc.store @kept {{.*}} read(#kvc.sliding_window<sink = 0, recent = 9>)
// CHECK: kvc.attend @kept,
// CHECK-SAME: visible {
kvc.store @kept layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.sliding_window<sink = 0, recent = 9>) : !cache
func.func @kept.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @kept, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %n = arith.constant 4 : i32
    %a = arith.subi %p, %n : i32
    %b = arith.cmpi sgt, %t, %a : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// Of tokens behind the query no window says anything: the region stays.
// CHECK-LABEL: kvc.store @ahead {{.*}} read(#kvc.sliding_window<sink = 0, recent = 4, causal = false>)
// CHECK: kvc.attend @ahead,
// CHECK-SAME: visible {
kvc.store @ahead layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all<causal = false>) : !cache
func.func @ahead.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @ahead, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %c: i32, %h: i32, %g: i32):
    %n = arith.constant 4 : i32
    %a = arith.subi %p, %n : i32
    %b = arith.cmpi sgt, %t, %a : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}

// The step may begin anywhere at or before p, so that what is near its beginning
// is no window of p's.
// CHECK-LABEL: kvc.store @step {{.*}} read(#kvc.read_all)
// CHECK: kvc.attend @step,
// CHECK-SAME: visible {
kvc.store @step layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
func.func @step.attend(%q: tensor<?x4x64xbf16>, %cache: !cache, %batch: !kvc.batch) {
  %o, %lse = kvc.attend @step, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %c: i32, %h: i32, %g: i32):
    %n = arith.constant 9 : i32
    %a = arith.subi %c, %n : i32
    %b = arith.cmpi sgt, %t, %a : i32
    kvc.yield %b : i1
  } : tensor<?x4x64xbf16>, !cache -> tensor<?x4x64xbf16>, tensor<?x4xf32>
  return
}
