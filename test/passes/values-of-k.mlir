// V that is the beginning of K's rows: append stores K alone, and attention and
// gather load the beginnings of its rows as V. Scales of rows fold as ever.
// RUN: kvc-opt %s -kvc-to-tile | FileCheck %s
// RUN: kvc-opt %s -kvc-to-tile -kvc-lower-to-cpu 2>&1 | FileCheck %s --check-prefix=CPU

// CHECK: tile.kernel @s.append "append" of @s
// CHECK: tile.load_row k
// CHECK: tile.store_row k
// CHECK-NOT: _row v
// CHECK: tile.kernel @s.attend.decode "attend" of @s
// CHECK: tile.load k %{{.*}} : tensor<[[T:[0-9]+]]x576xi8>, tensor<[[T]]x1xf32>
// CHECK: tile.dot
// CHECK: tile.scale_tokens
// CHECK: tile.load v %{{.*}} : tensor<[[T]]x512xi8>, tensor<[[T]]x1xf32>
// CHECK: tile.scale_tokens
// CHECK: tile.accumulate
// CHECK: tile.kernel @s.gather "gather" of @s
// CHECK: tile.store_decoded k
// CHECK: tile.load v %{{.*}} : tensor<1x512xi8>, tensor<1x1xf32>
// CHECK: tile.store_decoded v

// No kernel is lowered op by op.
// CPU-NOT: remark
// CPU-LABEL: func.func @kvc_s_append
// CPU-NOT: remark
!cache = !kvc.cache<heads = 1, k = 576 by #kvc.int<8, scale = f32>, v = 512 of k, layout = #kvc.paged<64, HND>>
module attributes {kvc.target = #kvc.target<"x86-64-v4", lanes = 16, registers = 32>} {
  kvc.store @s layers 0 to 2 heads 0 to 1 of 1 queries 16 read(#kvc.read_all) : !cache
  func.func @s.append(%k: tensor<?x1x576xbf16>, %slot: tensor<?xi64>, %cache: !cache) {
    kvc.append @s, %k at %slot into %cache : tensor<?x1x576xbf16>, tensor<?xi64>, !cache
    return
  }
  func.func @s.attend(%q: tensor<?x16x576xbf16>, %cache: !cache, %batch: !kvc.batch) -> (tensor<?x16x512xbf16>, tensor<?x16xf32>) {
    %o, %lse = kvc.attend @s, %q, %cache, %batch scale 0.125 : tensor<?x16x576xbf16>, !cache -> tensor<?x16x512xbf16>, tensor<?x16xf32>
    return %o, %lse : tensor<?x16x512xbf16>, tensor<?x16xf32>
  }
  func.func @s.gather(%slot: tensor<?xi64>, %cache: !cache) -> (tensor<?x1x576xbf16>, tensor<?x1x512xbf16>) {
    %k, %v = kvc.gather @s, %slot from %cache : tensor<?xi64>, !cache -> tensor<?x1x576xbf16>, tensor<?x1x512xbf16>
    return %k, %v : tensor<?x1x576xbf16>, tensor<?x1x512xbf16>
  }
}
