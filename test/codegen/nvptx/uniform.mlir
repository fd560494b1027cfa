// Lanes of a warp reach a shuffle together, warps of a CTA a barrier. Asked of
// every kernel before it becomes PTX.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -kvc-verify-uniform

llvm.func @together(%block: !llvm.ptr) attributes {kvc.kernel = "together"} {
  %zero = arith.constant 0 : i32
  %five = arith.constant 5 : i32
  %thread = llvm.inline_asm {kvc.op = "TidX"} "mov.u32 $0, %tid.x;", "=r" : () -> i32
  // A warp is 32 threads: they have this in common.
  %warp = arith.shrui %thread, %five : i32
  %first = arith.cmpi eq, %warp, %zero : i32
  scf.if %first {
    %x = llvm.inline_asm has_side_effects {kvc.op = "VoteAny"} "vote", "=r,r" %thread : (i32) -> i32
  }
  llvm.return
}

// -----

llvm.func @lanes(%block: !llvm.ptr) attributes {kvc.kernel = "lanes"} {
  %zero = arith.constant 0 : i32
  // expected-note@+1 {{it depends on this `TidX`}}
  %thread = llvm.inline_asm {kvc.op = "TidX"} "mov.u32 $0, %tid.x;", "=r" : () -> i32
  %first = arith.cmpi eq, %thread, %zero : i32
  scf.if %first {
    // expected-error@+1 {{warp-collective `VoteAny` under a condition that may differ between lanes}}
    %x = llvm.inline_asm has_side_effects {kvc.op = "VoteAny"} "vote", "=r,r" %thread : (i32) -> i32
  }
  llvm.return
}

// -----

llvm.func @warps(%block: !llvm.ptr) attributes {kvc.kernel = "warps"} {
  %zero = arith.constant 0 : i32
  %all = arith.constant 128 : i32
  %five = arith.constant 5 : i32
  // expected-note@+1 {{it depends on this `TidX`}}
  %thread = llvm.inline_asm {kvc.op = "TidX"} "mov.u32 $0, %tid.x;", "=r" : () -> i32
  %warp = arith.shrui %thread, %five : i32
  %first = arith.cmpi eq, %warp, %zero : i32
  scf.if %first {
    // expected-error@+1 {{CTA-collective `BarSync` under a condition that may differ between warps}}
    llvm.inline_asm has_side_effects {kvc.op = "BarSync"} "bar.sync $0, $1;", "r,r" %zero, %all : (i32, i32) -> ()
  }
  llvm.return
}

// -----

// expected-error@+1 {{uniformity is checked on structured control flow, found branches}}
llvm.func @branches(%block: !llvm.ptr) attributes {kvc.kernel = "branches"} {
  llvm.br ^end
^end:
  llvm.return
}
