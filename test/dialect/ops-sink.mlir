// A sink: of an attend that is whole, else of the merge of its splits.
// RUN: kvc-opt %s | kvc-opt | FileCheck %s

!cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>
kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : !cache

// CHECK-LABEL: func.func @whole
func.func @whole(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>) {
  // CHECK: kvc.attend @full, %{{.*}} scale 1.250000e-01 visible {
  // CHECK: } sink {
  // CHECK-NEXT: ^bb0(%[[H:.*]]: i32, %{{.*}}: i32):
  // CHECK-NEXT: %[[F:.*]] = arith.sitofp %[[H]] : i32 to f32
  // CHECK-NEXT: kvc.yield %[[F]] : f32
  // CHECK-NEXT: } : tensor<?x9x64xbf16>
  %o, %lse = kvc.attend @full, %q, %cache, %batch scale 0.125 visible {
  ^bb0(%p: i32, %t: i32, %ctx: i32, %h: i32, %g: i32):
    %b = arith.cmpi ne, %p, %t : i32
    kvc.yield %b : i1
  } sink {
  ^bb0(%h: i32, %g: i32):
    %f = arith.sitofp %h : i32 to f32
    kvc.yield %f : f32
  } : tensor<?x9x64xbf16>, !cache -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return %o, %lse : tensor<?x9x32xbf16>, tensor<?x9xf32>
}

// CHECK-LABEL: func.func @merge
func.func @merge(%po: tensor<?x?x9x32xf32>, %pl: tensor<?x?x9xf32>) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>) {
  // CHECK: kvc.merge @full, %{{.*}}, %{{.*}} sink {
  // CHECK-NEXT: ^bb0(%{{.*}}: i32, %[[G:.*]]: i32):
  // CHECK-NEXT: %[[F:.*]] = arith.sitofp %[[G]] : i32 to f32
  // CHECK-NEXT: kvc.yield %[[F]] : f32
  // CHECK-NEXT: } : tensor<?x?x9x32xf32>
  %o, %lse = kvc.merge @full, %po, %pl sink {
  ^bb0(%h: i32, %g: i32):
    %f = arith.sitofp %g : i32 to f32
    kvc.yield %f : f32
  } : tensor<?x?x9x32xf32>, tensor<?x?x9xf32> -> tensor<?x9x32xbf16>, tensor<?x9xf32>
  return %o, %lse : tensor<?x9x32xbf16>, tensor<?x9xf32>
}
