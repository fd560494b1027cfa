//===- KvcTypes.td - caches and batches --------------------*- tablegen -*-===//
#ifndef KVC_TYPES
#define KVC_TYPES

include "dialect/KvcAttrs.td"

class Kvc_Type<string name, string mnem> : TypeDef<Kvc_Dialect, name> {
  let mnemonic = mnem;
}

def Kvc_CacheType : Kvc_Type<"Cache", "cache"> {
  let summary = "the cache of one store: kv heads, streams, layout";
  let description = [{
    ```mlir
    !kvc.cache<heads = 3, k = 64 by #kvc.float<bf16>,
      v = 64 by #kvc.int<8, scale = f32>, layout = #kvc.paged<16, HND>>
    ```
    For every sequence and layer, tokens of `heads` rows of K and V each.
  }];
  let parameters = (ins "int64_t":$heads,
    "int64_t":$dimK, "::mlir::Attribute":$codecK,
    "int64_t":$dimV, "::mlir::Attribute":$codecV,
    "::mlir::Attribute":$layout);
  let assemblyFormat = [{
    `<` `heads` `=` $heads `,` `k` `=` $dimK `by` $codecK `,`
    `v` `=` $dimV `by` $codecV `,` `layout` `=` $layout `>`
  }];
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    ::kvc::StreamInfo stream(::kvc::StreamKind kind) const;
    ::kvc::LayoutAttrInterface layout() const;
    /// The planes in order: K codes[, K scales], V codes[, V scales].
    ::llvm::SmallVector<::kvc::PlaneGeometry, 4> planes() const;
    /// Index into planes() of a stream's codes or scales.
    unsigned planeIndex(::kvc::StreamKind kind, bool scales) const;
  }];
}

def Kvc_BatchType : Kvc_Type<"Batch", "batch"> {
  let summary = "sequences of one step: query offsets, lengths, page tables";
}

#endif // KVC_TYPES
