// What codecs, layouts, reads, schedules, targets and caches refuse.
// RUN: kvc-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

// expected-error@+1 {{expected f32, f16, bf16, f8E4M3FN, f8E5M2 or f4E2M1FN, found 'f64'}}
"t.t"() {a = #kvc.float<f64>} : () -> ()

// -----

// expected-error@+1 {{expected f32, f16, bf16, f8E4M3FN, f8E5M2 or f4E2M1FN, found 'f8E4M3'}}
"t.t"() {a = #kvc.float<f8E4M3>} : () -> ()

// -----

// expected-error@+1 {{codes of f8E4M3FN, f8E5M2 and f4E2M1FN have scales, found 'bf16' with one}}
"t.t"() {a = #kvc.float<bf16, scale = f32>} : () -> ()

// -----

// expected-error@+1 {{expected a scale of f32, f16, f8E4M3FN or f8E8M0FNU, found 'bf16'}}
"t.t"() {a = #kvc.float<f8E5M2, scale = bf16>} : () -> ()

// -----

// expected-error@+1 {{boxes of channels have a scale, found none for 32}}
"t.t"() {a = #kvc.float<f8E5M2 channels = 32>} : () -> ()

// -----

// expected-error@+1 {{expected a box of at least one channel, found -8}}
"t.t"() {a = #kvc.float<f8E5M2, scale = f32 channels = -8>} : () -> ()

// -----

// expected-error@+1 {{a row of scales is whole bytes; found 0 of 'f16' for 64 elements}}
"t.t"() {a = #kvc.stream<"a", 64 by #kvc.float<f8E4M3FN, scale = f16 channels = 5>>} : () -> ()

// -----

// expected-error@+1 {{expected 2 to 8 bits, found 9}}
"t.t"() {a = #kvc.int<9, scale = f32>} : () -> ()

// -----

// expected-error@+1 {{expected a scale of f32 or f16, found 'bf16'}}
"t.t"() {a = #kvc.int<8, scale = bf16>} : () -> ()

// -----

// expected-error@+1 {{a page holds 1 to 256 tokens, found 0}}
"t.t"() {a = #kvc.paged<0, HND>} : () -> ()

// -----

// expected-error@+1 {{a page holds 1 to 256 tokens, found 257}}
"t.t"() {a = #kvc.paged<257, NHD>} : () -> ()

// -----

// expected-error@+2 {{to be one of: HND, NHD}}
// expected-error@+1 {{failed to parse Kvc_PagedAttr parameter 'order'}}
"t.t"() {a = #kvc.paged<16, DHN>} : () -> ()

// -----

// expected-error@+1 {{a window has sink >= 0 and recent >= 1, found sink -1 and recent 4}}
"t.t"() {a = #kvc.sliding_window<sink = -1, recent = 4>} : () -> ()

// -----

// expected-error@+1 {{a window has sink >= 0 and recent >= 1, found sink 0 and recent 0}}
"t.t"() {a = #kvc.sliding_window<sink = 0, recent = 0>} : () -> ()

// -----

// A position is a 32-bit integer.
// expected-error@+1 {{a window has sink >= 0 and recent >= 1, found sink 0 and recent 2147483648}}
"t.t"() {a = #kvc.sliding_window<sink = 0, recent = 2147483648>} : () -> ()

// -----

// expected-error@+1 {{target `none` needs at least one lane and one register, found 0 and 16}}
"t.t"() {a = #kvc.target<"none", lanes = 0, registers = 16>} : () -> ()

// -----

// expected-error@+1 {{schedule field `tokens` must be in [1, 256], found 512}}
"t.t"() {a = #kvc.core_schedule<tokens = 512>} : () -> ()

// -----

// expected-error@+1 {{schedule field `rows` must be in [1, 16], found 0}}
"t.t"() {a = #kvc.core_schedule<rows = 0>} : () -> ()

// -----

// expected-error@+1 {{schedule field `keys` must be in [1, 16], found 17}}
"t.t"() {a = #kvc.core_schedule<keys = 17>} : () -> ()

// -----

// expected-error@+1 {{schedule field `queries` must be in [1, 1024], found 1025}}
"t.t"() {a = #kvc.core_schedule<queries = 1025>} : () -> ()

// -----

// expected-error@+1 {{schedule field `split` must be in [0, 1048576], found -16}}
"t.t"() {a = #kvc.core_schedule<split = -16>} : () -> ()

// -----

// expected-error@+1 {{schedule field `level` must be in [1, 2], found 3}}
"t.t"() {a = #kvc.core_schedule<level = 3>} : () -> ()

// -----

// expected-error@+1 {{`tokens` divides `split`; found tokens = 16, split = 2040}}
"t.t"() {a = #kvc.core_schedule<tokens = 16, split = 2040>} : () -> ()

// -----

// Fields of the other kind of machine.
// expected-error@+1 {{no field `warps`}}
"t.t"() {a = #kvc.core_schedule<tokens = 16, warps = 2>} : () -> ()

// -----

// expected-error@+1 {{field `rows` twice}}
"t.t"() {a = #kvc.core_schedule<rows = 2, rows = 2>} : () -> ()

// -----

// expected-error@+1 {{expected 'false'}}
"t.t"() {a = #kvc.core_schedule<pack = 1>} : () -> ()

// -----

// expected-error@+1 {{schedule field `warps` must be in [1, 8], found 9}}
"t.t"() {a = #kvc.warp_schedule<warps = 9>} : () -> ()

// -----

// expected-error@+1 {{schedule field `stages` must be in [2, 16], found 1}}
"t.t"() {a = #kvc.warp_schedule<stages = 1>} : () -> ()

// -----

// expected-error@+1 {{no field `pack`}}
"t.t"() {a = #kvc.warp_schedule<pack = true>} : () -> ()

// -----

// expected-error@+1 {{a cache has 1 to 65536 heads, found 0}}
func.func private @f(!kvc.cache<heads = 0, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{a cache has 1 to 65536 heads, found 65537}}
func.func private @f(!kvc.cache<heads = 65537, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{a row has 1 to 65536 elements, found 0}}
func.func private @f(!kvc.cache<heads = 1, k = 0 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{a row has 1 to 65536 elements, found 65537}}
func.func private @f(!kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 65537 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{expected a codec, found #kvc.read_all}}
func.func private @f(!kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.read_all, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{expected a codec, found 8 : i64}}
func.func private @f(!kvc.cache<heads = 1, k = 64 by 8, v = 64 by #kvc.float<f16>, layout = #kvc.paged<16, HND>>)

// -----

// expected-error@+1 {{expected a layout, found #kvc.float<f32>}}
func.func private @f(!kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 64 by #kvc.float<bf16>, layout = #kvc.float<f32>>)

// -----

// expected-error@+1 {{a softmax state has 1 to 65536 channels, found 0}}
func.func private @f(!tile.softmax<0>)

// -----

// expected-error@+1 {{a softmax state has 1 to 65536 channels, found 4611686018427387904}}
func.func private @f(!tile.softmax<4611686018427387904>)

// -----

// expected-error@+1 {{expected 1 to 8 bits, found -2}}
"t.t"() {a = #kvc.int<-2, scale = f32 zero = f32>} : () -> ()

// -----

// expected-error@+1 {{expected a zero of f32 or f16, found 'bf16'}}
"t.t"() {a = #kvc.int<4, scale = f32 zero = bf16>} : () -> ()

// -----

// expected-error@+1 {{expected a box of 1 to 256 tokens by at least one channel, found 257 by 1}}
"t.t"() {a = #kvc.int<4, scale = f32 tokens = 257 channels = 1>} : () -> ()

// -----

// expected-error@+1 {{a row of codes is whole bytes; found 60 of 'i3' for 60 elements}}
"t.t"() {a = #kvc.stream<"a", 60 by #kvc.int<3, scale = f16 zero = f16 channels = 5>>} : () -> ()

// -----

// expected-error@+1 {{a row of scales is whole bytes; found 0 of 'f16' for 64 elements}}
"t.t"() {a = #kvc.stream<"a", 64 by #kvc.int<2, scale = f16 zero = f16 channels = 5>>} : () -> ()

// -----

// expected-error@+1 {{rows that each stand for several tokens have a codec of single rows, found #kvc.int<2, scale = f16 tokens = 32>}}
"t.t"() {a = #kvc.stream<"a", 64 by #kvc.int<2, scale = f16 tokens = 32> per 16>} : () -> ()

// -----

// expected-error@+1 {{a row of `mean.codes` stands for 16 tokens, which must divide pages of 24}}
func.func private @f(!kvc.cache<heads = 1, mean = 64 by #kvc.float<bf16> per 16, layout = #kvc.paged<24, HND>>)

// -----

// expected-error@+1 {{a row stands for 1 to 256 tokens, or for a sequence; found 257}}
func.func private @f(!kvc.cache<heads = 1, mean = 64 by #kvc.float<bf16> per 257, layout = #kvc.paged<24, HND>>)

// -----

// expected-error@+1 {{a kind is a zero's, found `float` without one}}
"t.t"() {a = #kvc.int<4, scale = f16 kind = float>} : () -> ()

// -----

// expected-error@+1 {{with a zero the least code stands for the least element, found a zero and `extreme`}}
"t.t"() {a = #kvc.int<4, scale = f16 zero = f16 extreme = true>} : () -> ()

// -----

// expected-error@+1 {{expected an earlier stream behind `of`, found `k`}}
"t.t"() {a = !kvc.cache<heads = 1, v = 32 of k, k = 64 by #kvc.float<bf16>, layout = #kvc.paged<16, HND>>} : () -> ()

// -----

// expected-error@+1 {{`v` is of `k`, whose rows have 64 elements, found 72}}
"t.t"() {a = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 72 of k, layout = #kvc.paged<16, HND>>} : () -> ()

// -----

// expected-error@+1 {{`w` is of `v`, which is of `k` itself}}
"t.t"() {a = !kvc.cache<heads = 1, k = 64 by #kvc.float<bf16>, v = 32 of k, w = 16 of v, layout = #kvc.paged<16, HND>>} : () -> ()

// -----

// expected-error@+1 {{a row of scales is whole bytes; found 0 of 'f32' for 48 elements}}
"t.t"() {a = !kvc.cache<heads = 1, k = 64 by #kvc.int<8, scale = f32 channels = 32>, v = 48 of k, layout = #kvc.paged<16, HND>>} : () -> ()
