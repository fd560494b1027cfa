// Each product has the form of the rows that it reads, whichever stream they
// are of: here K's product is of V's int8, and V's of K's bf16, for which this
// level has no products.
// RUN: kvc-opt %s -kvc-lower-to-cpu=target=x86-64-v4-vnni | FileCheck %s

// CHECK-LABEL: func.func @kvc_s_attend
// CHECK: arith.extsi %{{.*}} : vector<32xi8> to vector<32xi16>

!cache = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.int<8, scale = f16>, layout = #kvc.paged<16, HND>>
kvc.store @s layers 0 to 1 heads 0 to 1 of 1 queries 4 read(#kvc.read_all) : !cache
tile.kernel @s.attend "attend" of @s dtype f16 schedule(#kvc.core_schedule<tokens = 16, rows = 4, queries = 2, split = 64, dot = true>) {
  %q = tile.load_query scale 0.125 : tensor<?x64xf32>
  %init = tile.softmax_init : !tile.softmax<64>
  %end = tile.for_tokens read(#kvc.read_all) init(%init : !tile.softmax<64>) {
  ^bb0(%t: !tile.tokens, %s: !tile.softmax<64>):
    %kc, %ks = tile.load v %t : tensor<16x64xi8>, tensor<16x1xf16>
    %k = tile.convert %kc : tensor<16x64xi8> -> tensor<16x64xf32>
    %d = tile.dot %q, %k : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
    %x = tile.scale_tokens %d by %ks : tensor<?x16xf32>, tensor<16x1xf16>
    %m = tile.mask %x, %t read(#kvc.read_all) : tensor<?x16xf32>
    %p, %n = tile.softmax_step %m, %s : tensor<?x16xf32>, !tile.softmax<64>
    %vc = tile.load k %t : tensor<16x64xbf16>
    %v = tile.convert %vc : tensor<16x64xbf16> -> tensor<16x64xf32>
    %a = tile.accumulate %p, %v, %n : tensor<?x16xf32>, tensor<16x64xf32>, !tile.softmax<64>
    tile.yield %a : !tile.softmax<64>
  }
  tile.store_partial %end : !tile.softmax<64>
}
