// A module without anything of kvc's is lowered to itself: no pass relies on
// somebody else having loaded the dialect.
//
// RUN: kvc-opt %s -kvc-lower-to-cpu | FileCheck %s
// RUN: kvc-opt %s -kvc-lower-to-gpu | FileCheck %s

// CHECK: module
// CHECK-NOT: tile.kernel
module {}
