// What the tile level refuses in kernels that append.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

tile.kernel @k "append" of @s dtype f16 {
  // expected-error@+1 {{body must take '!tile.tokens', takes}}
  tile.for_rows {
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    // expected-error@+1 {{expected [d], or [q head, d]; found 'tensor<1x1x64xf32>'}}
    %x = tile.load_row k %row : tensor<1x1x64xf32>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    // expected-error@+1 {{x must be 64 elements, as in the store's cache; found 'tensor<32xf32>'}}
    %x = tile.load_row k %row : tensor<32xf32>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected a codec, found #kvc.read_all}}
    %c = tile.quantize %x with (#kvc.read_all) : tensor<64xf32> -> tensor<64xi8>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected planes of 'tensor<64xi8>', 'tensor<1xf16>', found 'tensor<64xf16>', 'tensor<1xf16>'}}
    %c, %s = tile.quantize %x with (#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xf16>, tensor<1xf16>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected planes of 'tensor<64xi8>', 'tensor<1xf16>', found 'tensor<32xi8>', 'tensor<1xf16>'}}
    %c, %s = tile.quantize %x with (#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<32xi8>, tensor<1xf16>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected planes of 'tensor<64xi8>', 'tensor<1xf16>', found 'tensor<64xi8>'}}
    %c = tile.quantize %x with (#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected planes of 'tensor<64xf16>', found 'tensor<64xf16>', 'tensor<1xf16>'}}
    %c, %s = tile.quantize %x with (#kvc.float<f16>) : tensor<64xf32> -> tensor<64xf16>, tensor<1xf16>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{expected planes of 1 axis, all of known size; found 'tensor<f32>'}}
    %c, %s = tile.quantize %x with (#kvc.int<8, scale = f16>) : tensor<64xf32> -> tensor<64xi8>, tensor<f32>
    tile.yield
  }
}

// -----

tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %x = tile.load_row k %row : tensor<64xf32>
    // expected-error@+1 {{quantizes one row, a box of scales has 32}}
    %c, %s = tile.quantize %x with (#kvc.int<8, scale = f16 tokens = 32 channels = 1>) : tensor<64xf32> -> tensor<64xi8>, tensor<64xf16>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = "t.t"() : () -> tensor<16x64xi8>
    // expected-error@+1 {{expected planes of 1 axis, all of known size; found 'tensor<16x64xi8>'}}
    tile.store_row k %row, %c : tensor<16x64xi8>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = "t.t"() : () -> tensor<64xi8>
    %s = "t.t"() : () -> tensor<2xf16>
    // expected-error@+1 {{scales of `k` must be 'tensor<1xf16>', as in the store's cache; found 'tensor<2xf16>'}}
    tile.store_row k %row, %c, %s : tensor<64xi8>, tensor<2xf16>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = "t.t"() : () -> tensor<32xi8>
    %s = "t.t"() : () -> tensor<1xf16>
    // expected-error@+1 {{codes of `k` must be 'tensor<64xi8>', as in the store's cache; found 'tensor<32xi8>'}}
    tile.store_row k %row, %c, %s : tensor<32xi8>, tensor<1xf16>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = "t.t"() : () -> tensor<64xi8>
    // expected-error@+1 {{`k` has 2 planes in the store's cache, found 1}}
    tile.store_row k %row, %c : tensor<64xi8>
    tile.yield
  }
}

// -----

kvc.store @s layers 0 to 1 heads 0 to 2 of 2 queries 4 read(#kvc.read_all)
  : !kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>
tile.kernel @k "append" of @s dtype f16 {
  tile.for_rows {
  ^bb0(%row: !tile.tokens):
    %c = "t.t"() : () -> tensor<64xi8>
    %s = "t.t"() : () -> tensor<1xf32>
    // expected-error@+1 {{scales of `k` must be 'tensor<1xf16>', as in the store's cache; found 'tensor<1xf32>'}}
    tile.store_row k %row, %c, %s : tensor<64xi8>, tensor<1xf32>
    tile.yield
  }
}
