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
  let summary = "elements stored as f32, f16 or bf16";
  let description = [{
    `#kvc.float<bf16>`. Rounds to nearest, ties to even; infinities and NaN
    stay what they are. There is no scale.
  }];
  let parameters = (ins
    AttrParameter<"::mlir::Type", "of a code: f32, f16 or bf16">:$type);
  let assemblyFormat = "`<` $type `>`";
  let genVerifyDecl = 1;
}

def Kvc_IntCodecAttr : Kvc_Codec<"IntCodec", "int"> {
  let summary = "symmetric integers with one scale per token and head";
  let description = [{
    `#kvc.int<8, scale = f32>`. All arithmetic in f32, rounding to nearest even;
    qmax = 127. NaN elements count as 0, infinite ones as the largest finite f32.

    ```
    scale  = absmax / qmax, rounded to the scale type, at most its largest
             finite value; 0 if that is below the smallest normal f32
    factor = scale == 0 ? 0 : 1 / scale
    code   = clamp(rne(x * factor), -qmax, qmax)
    x'     = code * scale
    ```
  }];
  let parameters = (ins AttrParameter<"unsigned", "of a code: 8">:$bits,
    AttrParameter<"::mlir::Type", "of a row's scale: f32 or f16">:$scale);
  let assemblyFormat = "`<` $bits `,` `scale` `=` $scale `>`";
  let genVerifyDecl = 1;
}

#endif // KVC_CODECS
