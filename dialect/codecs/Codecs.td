//===- Codecs.td - one attribute per codec -----------------*- tablegen -*-===//
#ifndef KVC_CODECS
#define KVC_CODECS

include "dialect/KvcDialect.td"
include "dialect/KvcInterfaces.td"
include "mlir/IR/AttrTypeBase.td"

class Kvc_Codec<string name, string mnem>
    : AttrDef<Kvc_Dialect, name,
              [DeclareAttrInterfaceMethods<CodecAttrInterface>]> {
  let mnemonic = mnem;
}

def Kvc_FloatCodecAttr : Kvc_Codec<"FloatCodec", "float"> {
  let summary = "elements stored as floats, f8 perhaps with a scale for each box";
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

    `#kvc.float<f8E4M3FN, scale = f32 channels = 128>` has a scale for each box of
    `channels` channels of a token, which divide a row and are all of it unless
    given. In f32, rounding to nearest even, over the x of a box, of which NaN
    counts as 0 and an infinity as the largest finite f32, as in #kvc.int:

    ```
    scale  = absmax / (448 or 57344), rounded to the scale type, at most its
             largest finite value; 0 if that is below the smallest normal f32
    factor = scale == 0 ? 0 : 1 / scale
    code   = that of x * factor without a scale
    x'     = code * scale
    ```

    So NaN is NaN in both forms, and the others of its box are kept beside it: a
    model that went wrong shows, and nothing else is lost. A row of tiny x, whose
    scale is 0, keeps their signs.
  }];
  let parameters = (ins
    AttrParameter<"::mlir::Type",
      "of a code: f32, f16, bf16, f8E4M3FN or f8E5M2">:$type,
    OptionalParameter<"::mlir::Type", "of a scale: f32 or f16">:$scale,
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
  }];
  let parameters = (ins AttrParameter<"unsigned", "of a code: 2 to 8">:$bits,
    AttrParameter<"::mlir::Type", "of a scale: f32 or f16">:$scale,
    OptionalParameter<"::mlir::Type", "of a zero: f32 or f16">:$zero,
    DefaultValuedParameter<"int64_t", "1", "of a box">:$tokens,
    DefaultValuedParameter<"int64_t", "0", "of a box; 0: all">:$channels);
  let assemblyFormat = [{
    `<` $bits `,` `scale` `=` $scale (`zero` `=` $zero^)?
    (`tokens` `=` $tokens^)? (`channels` `=` $channels^)? `>`
  }];
  let builders = [
    AttrBuilder<(ins "unsigned":$bits, "::mlir::Type":$scale),
                "return $_get($_ctxt, bits, scale, ::mlir::Type(), 1, 0);">];
  let genVerifyDecl = 1;
}

#endif // KVC_CODECS
