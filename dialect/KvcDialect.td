//===- KvcDialect.td - the kvc dialect ---------------------*- tablegen -*-===//
#ifndef KVC_DIALECT
#define KVC_DIALECT

include "mlir/IR/OpBase.td"

def Kvc_Dialect : Dialect {
  let name = "kvc";
  let cppNamespace = "::kvc";
  let summary = "what a KV cache is and what is done with it";
  let description = [{
    Caches are types; codecs, layouts and reads are attributes; ops are verbs.
    Nothing here knows a machine. The meaning of each op is the code that runs
    it in `lib/driver/Reference`. [README](../README.md) has the reasons, and
    shows one op on its way to a kernel.

    A module has a `kvc.store` for each class of layers and kv heads that are
    cached alike, and functions that hold one op on a store each:

    ```mlir
    !cache = !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>,
                        v = 64 by #kvc.int<8, scale = f32>,
                        layout = #kvc.paged<16, HND>>
    kvc.store @main layers 0 to 30 heads 0 to 3 of 3 queries 9
      read(#kvc.read_all) : !cache

    func.func @main.attend(%q: tensor<?x9x64xbf16>, %cache: !cache, %batch: !kvc.batch)
        -> (tensor<?x9x64xbf16>, tensor<?x9xf32>) {
      %o, %lse = kvc.attend @main, %q, %cache, %batch scale 0.125
        : tensor<?x9x64xbf16>, !cache -> tensor<?x9x64xbf16>, tensor<?x9xf32>
      return %o, %lse : tensor<?x9x64xbf16>, tensor<?x9xf32>
    }
    ```

    **Regions of a score.** What becomes of a score is a region of one block. It
    is element-wise: ops of `arith` and `math` on f32, i32 and i1, of a closed list
    ([Score.cpp](../Score.cpp)), and `kvc.constant`; integers do not overflow.

    | region | takes | yields |
    |---|---|---|
    | `logits` | the scaled score (f32), then p, t, c, h, g | the logit (f32) |
    | `visible` | p, t, c, h, g | whether the query sees the token (i1), from integers alone |
    | `sink` | h, g | a logit that no token has (f32) |

    p and t are the positions in their sequence of the query and of the cached
    token, c is how many of its tokens were cached before the step, h and g are
    the q head and the kv head of the model: i32, from 0.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect",
    "::mlir::func::FuncDialect", "::mlir::math::MathDialect"];
  let extraClassDeclaration = [{
    void registerAttributes();
    void registerTypes();
  }];
}

/// Ops some of whose regions say what becomes of a score (Score.h).
def Kvc_HasScoreRegions : NativeOpTrait<"HasScoreRegions"> {
  let cppNamespace = "::kvc";
}

#endif // KVC_DIALECT
