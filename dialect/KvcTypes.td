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
    It keeps streams, each with a name. For every layer of the store, sequence,
    token and kv head there is a row of each, stored as the stream's codec says
    (`#kvc.stream`: a row may also stand for several tokens). The codes of a
    stream are one plane, and each parameter of its codec, as scales, another; the
    layout says where rows stand in a plane. Attention multiplies q with the rows
    of `k` and sums those of `v`, which may be the first elements of `k` and have no
    planes of their own, as MLA has its latent:

    ```mlir
    !kvc.cache<heads = 1, k = 576 by #kvc.float<bf16>, v = 512 of k, layout = ...>
    ```
  }];
  let parameters = (ins
    TypeParameter<"int64_t", "kv heads of the store, 1 to 65536">:$heads,
    ArrayRefParameter<"::kvc::StreamAttr", "streams, each name once">:$streams,
    TypeParameter<"::mlir::Attribute", "a layout (`LayoutAttrInterface`)">:$layout);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Null if there is none of that name.
    ::kvc::StreamAttr findStream(::llvm::StringRef name) const;
    /// Of a stream that there is.
    ::kvc::StreamInfo stream(::llvm::StringRef name) const;
    /// Elements of a row of k, and of v.
    int64_t getDimK() const { return findStream(kStreamK).getDim(); }
    int64_t getDimV() const { return findStream(kStreamV).getDim(); }
    ::kvc::LayoutAttrInterface layout() const;
    /// Whether the rows of v are the beginnings of those of k.
    bool isVOfK() const { return bool(findStream(kStreamV).getOf()); }
    /// The planes in order, those of a stream one after another, codes first. A
    /// stream that is `of` another has none.
    ::llvm::SmallVector<::kvc::PlaneGeometry, 4> planes() const;
    /// Index into planes() of a stream's codes, or of those that it is `of`, of
    /// whose rows it has the beginnings; the other planes follow.
    unsigned planeIndex(::llvm::StringRef stream) const;
    /// Bytes of a page, a multiple of kPlaneAlignment; 0 if there are none.
    int64_t pageBytes() const;
  }];
}

def Kvc_BatchType : Kvc_Type<"Batch", "batch"> {
  let summary = "sequences of one step: query offsets, lengths, page tables";
  let description = [{
    For each sequence: where its query tokens begin in the rows of q, how many
    tokens it has in the cache, those of the queries included, and its row of
    the page table, or its slot where the layout is contiguous. All of it is
    data of a call, so the type has no parameters.
  }];
}

#endif // KVC_TYPES
