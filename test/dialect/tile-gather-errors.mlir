// What the tile level refuses in kernels that gather.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

tile.kernel @k "gather" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = "t.t"() : () -> tensor<16x64xf32>
    // expected-error@+1 {{expected [1, d], found 'tensor<16x64xf32>'}}
    tile.store_decoded k %row, %x : tensor<16x64xf32>
    tile.yield
  }
}

// -----

tile.kernel @k "gather" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = "t.t"() : () -> tensor<1x64xf32>
    // expected-error@+1 {{expected the name of rows as a word, found `k k`}}
    "tile.store_decoded"(%row, %x) {name = "k k"} : (!tile.tokens, tensor<1x64xf32>) -> ()
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "gather" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = tile.load v %row : tensor<1x32xf16>
    %x = tile.convert %c : tensor<1x32xf16> -> tensor<1x32xf32>
    // expected-error@+1 {{x must be [1, 64], as in the store's cache; found 'tensor<1x32xf32>'}}
    tile.store_decoded k %row, %x : tensor<1x32xf32>
    tile.yield
  }
}
