//===- Codecs.td - one attribute per codec -----------------*- tablegen -*-===//
#ifndef KVC_CODECS
#define KVC_CODECS

include "dialect/KvcDialect.td"
include "dialect/KvcInterfaces.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Kvc_Rounding : I32EnumAttr<"Rounding", "of a number to an integer", [
    I32EnumAttrCase<"Even", 0, "even">,
    I32EnumAttrCase<"HalfUp", 1, "half_up">,
    I32EnumAttrCase<"HalfAway", 2, "half_away">]> {
  let cppNamespace = "::kvc";
  let genSpecializedAttr = 0;
}

def Kvc_ZeroKind : I32EnumAttr<"ZeroKind", "what a zero is", [
    I32EnumAttrCase<"Min", 0, "min">,
    I32EnumAttrCase<"Float", 1, "float">]> {
  let cppNamespace = "::kvc";
  let genSpecializedAttr = 0;
}

class Kvc_Codec<string name, string mnem>
    : AttrDef<Kvc_Dialect, name,
              [DeclareAttrInterfaceMethods<CodecAttrInterface>]> {
  let mnemonic = mnem;
}

def Kvc_FloatCodecAttr : Kvc_Codec<"FloatCodec", "float"> {
  let summary = "elements stored as floats, narrow ones with a scale for each box";
  let description = [{
    `#kvc.float<bf16>`. f32, f16 and bf16 round to nearest, ties to even;
    infinities and NaN stay what they are. There is no scale.

    `#kvc.float<f8E4M3FN>` and `#kvc.float<f8E5M2>` round the same way, but
    saturate: what is larger in magnitude than the largest finite value, 448 or
    57344, becomes it, with its sign, infinities too. Values below the smallest
    normal, 2^-6 or 2^-14, are multiples of 2^-9 or 2^-16; -0 stays -0. NaN stays
    NaN, of code 0x7f whatever its sign and payload were. A code that no x makes
    reads as its type says: 0xff as NaN, and of f8E5M2 0x7c and 0xfc as
    infinities.

    `#kvc.float<f4E2M1FN>` is the same in 4 bits, 0, 1/2, 1, 3/2, 2, 3, 4 and 6
    with either sign, but has no code for NaN, which becomes 0.

    `#kvc.float<f8E4M3FN, scale = f32 channels = 128>` has a scale for each box of
    `channels` channels of a token, which divide a row and are all of it unless
    given. In f32, rounding to nearest even, over the x of a box, of which NaN
    counts as 0 and an infinity as the largest finite f32, as in #kvc.int:

    ```
    scale  = absmax / largest, rounded to the scale type, at most its largest
             finite value; 0 if that is below the smallest normal f32
    factor = scale == 0 ? 0 : 1 / scale
    code   = that of x * factor without a scale
    x'     = code * scale
    ```

    where `largest` is the largest finite code: 448, 57344 or 6. A scale of
    f8E8M0FNU is a power of two and nothing more, `2^(e(absmax) - e(largest))`
    where `e(y)` is floor(log2(y)): what the MX formats (OCP Microscaling Formats
    v1.0, 6.3) call the shared exponent. An absmax that leaves none above 2^-127 makes the
    byte 0, with which all codes are zeros; it reads as 2^-127, and 0xff as NaN.
    A scale of f8E4M3FN is that of NVFP4.

    So NaN is NaN in both forms, and the others of its box are kept beside it: a
    model that went wrong shows, and nothing else is lost. A row of tiny x, whose
    scale is 0, keeps their signs.
  }];
  let parameters = (ins
    AttrParameter<"::mlir::Type",
      "of a code: f32, f16, bf16, f8E4M3FN, f8E5M2 or f4E2M1FN">:$type,
    OptionalParameter<"::mlir::Type",
      "of a scale: f32, f16, f8E4M3FN or f8E8M0FNU">:$scale,
    DefaultValuedParameter<"int64_t", "0", "of a box; 0: all">:$channels);
  let assemblyFormat = [{
    `<` $type (`,` `scale` `=` $scale^)? (`channels` `=` $channels^)? `>`
  }];
  let builders = [
    AttrBuilder<(ins "::mlir::Type":$type),
                "return $_get($_ctxt, type, ::mlir::Type(), 0);">];
  let genVerifyDecl = 1;
}

def Kvc_IntCodecAttr : Kvc_Codec<"IntCodec", "int"> {
  let summary = "uniform integers, with a scale and perhaps a zero for each box";
  let description = [{
    `#kvc.int<8, scale = f32>` is symmetric, with one scale per row;
    `#kvc.int<2, scale = f16 zero = f16 tokens = 32 channels = 1>` has a scale and
    a zero for each channel of 32 tokens. A box is `tokens` tokens (1 unless
    given) by `channels` channels, which divide a row and are all of it unless
    given. All arithmetic in f32, rounding to nearest even; NaN elements count as
    0, infinite ones as the largest finite f32. Over the x of a box, with qmax =
    2^(bits - 1) - 1:

    ```
    scale  = absmax / qmax, rounded to the scale type, at most its largest
             finite value; 0 if that is below the smallest normal f32
    factor = scale == 0 ? 0 : 1 / scale
    code   = clamp(rne(x * factor), -qmax, qmax)
    x'     = code * scale
    ```

    With a zero, codes have no sign and qmax = 2^bits - 1:

    ```
    zero   = min (of two zeros +0), rounded to its type, within its finite values
    scale  = (max - zero) / qmax, at least 0, then as above
    code   = clamp(rne((x - zero) * factor), 0, qmax)
    x'     = code * scale + zero
    ```

    Codes of less than a byte are packed from the lowest bits of each byte on.

    What others do otherwise:

    - `zero = f16 kind = float`: the zero is a number between codes, by which the
      least element stands at code 0:
      ```
      scale = max(max - min, |min| * (qmax / 2048)) / qmax, as above
      zero  = min * factor, rounded to its type, within its finite values
      code  = clamp(rne(x * factor - zero), 0, qmax)
      x'    = (code + zero) * scale
      ```
      A box that is narrow beside its distance from 0 has coarser codes than its
      range allows: its zero would be no number that f16 has.

    - `extreme = true`, without a zero: codes begin at -2^(bits - 1), which stands
      for the x of largest magnitude, whatever its sign; of two that differ in
      nothing else for the positive one. scale = that x / -2^(bits - 1), which
      may be negative.
    - `exact = true`: factor and the zero by which x is quantized are what they
      were before they were rounded to their types.
    - `rounding = half_up`: in place of rne(y), floor(y + (h + 1/2)) - h in f32,
      where h is 0 with a zero and else 2^(bits - 1).
      `rounding = half_away`: halves away from 0.
  }];
  let parameters = (ins AttrParameter<"unsigned", "of a code: 2 to 8">:$bits,
    AttrParameter<"::mlir::Type", "of a scale: f32 or f16">:$scale,
    OptionalParameter<"::mlir::Type", "of a zero: f32 or f16">:$zero,
    DefaultValuedParameter<"int64_t", "1", "of a box">:$tokens,
    DefaultValuedParameter<"int64_t", "0", "of a box; 0: all">:$channels,
    DefaultValuedParameter<"bool", "false",
      "the least code stands for the largest magnitude">:$extreme,
    DefaultValuedParameter<"bool", "false",
      "quantized by what is not yet rounded">:$exact,
    DefaultValuedParameter<"::kvc::Rounding", "::kvc::Rounding::Even",
      "of codes">:$rounding,
    DefaultValuedParameter<"::kvc::ZeroKind", "::kvc::ZeroKind::Min",
      "of a zero">:$kind);
  let assemblyFormat = [{
    `<` $bits `,` `scale` `=` $scale (`zero` `=` $zero^)? (`kind` `=` $kind^)?
    (`tokens` `=` $tokens^)? (`channels` `=` $channels^)?
    (`extreme` `=` $extreme^)? (`exact` `=` $exact^)?
    (`rounding` `=` $rounding^)? `>`
  }];
  let builders = [
    AttrBuilder<(ins "unsigned":$bits, "::mlir::Type":$scale),
                "return get($_ctxt, bits, scale, ::mlir::Type(), 1, 0);">,
    AttrBuilder<(ins "unsigned":$bits, "::mlir::Type":$scale,
                     "::mlir::Type":$zero, "int64_t":$tokens,
                     "int64_t":$channels), [{
      return $_get($_ctxt, bits, scale, zero, tokens, channels,
                   /*extreme=*/false, /*exact=*/false, Rounding::Even,
                   ZeroKind::Min);
    }]>];
  let genVerifyDecl = 1;
}

#endif // KVC_CODECS
