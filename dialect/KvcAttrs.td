//===- KvcAttrs.td - layouts, reads, schedules -------------*- tablegen -*-===//
#ifndef KVC_ATTRS
#define KVC_ATTRS

include "dialect/KvcDialect.td"
include "dialect/KvcInterfaces.td"
include "dialect/codecs/Codecs.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/IR/EnumAttr.td"

defvar Kvc_Count = ConfinedAttr<I64Attr, [IntPositive]>;
defvar Kvc_Index = ConfinedAttr<I64Attr, [IntNonNegative]>;

class Kvc_Attr<string name, string mnem, list<Trait> traits = []>
    : AttrDef<Kvc_Dialect, name, traits> {
  let mnemonic = mnem;
}

def Kvc_PageOrder : I32EnumAttr<"PageOrder", "order of the axes in a page", [
    I32EnumAttrCase<"HND", 0>,
    I32EnumAttrCase<"NHD", 1>]> {
  let cppNamespace = "::kvc";
  let genSpecializedAttr = 0;
}

def Kvc_StreamAttr : Kvc_Attr<"Stream", "stream"> {
  let summary = "a cached tensor: its name, elements per row, and codec";
  let description = [{
    Part of a cache's type, which writes it as `k = 64 by #kvc.float<bf16>`. For
    each kv head there is a row of 1 to 65536 elements per token; or one per 16
    tokens, `mean = 64 by #kvc.float<bf16> per 16`, which divide a page; or one
    per sequence, `state = 4096 by #kvc.float<f32> per sequence`, `tokens` then
    being 0.
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$dim,
                        "::mlir::Attribute":$codec,
                        DefaultValuedParameter<"int64_t", "1">:$tokens);
  let assemblyFormat = "`<` $name `,` $dim `by` $codec (`per` $tokens^)? `>`";
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "int64_t":$dim,
                                   "::mlir::Attribute":$codec),
                              "return $_get($_ctxt, name, dim, codec, 1);">];
  let genVerifyDecl = 1;
}

def Kvc_PagedAttr : Kvc_Attr<"Paged", "paged",
    [DeclareAttrInterfaceMethods<LayoutAttrInterface>]> {
  let summary = "pages of a fixed number of tokens, found through a table";
  let description = [{
    `#kvc.paged<16, HND>`: a page has the rows of 16 tokens (1 to 256) for all kv
    heads of the store. The page table of a batch says which pages a sequence has.
    `HND` keeps the tokens of a head together, `NHD` the heads of a token.
  }];
  let parameters = (ins "int64_t":$tokens,
                        EnumParameter<Kvc_PageOrder>:$order);
  let assemblyFormat = "`<` $tokens `,` $order `>`";
  let genVerifyDecl = 1;
}

def Kvc_ContiguousAttr : Kvc_Attr<"Contiguous", "contiguous",
    [DeclareAttrInterfaceMethods<LayoutAttrInterface>]> {
  let summary = "each sequence's tokens in one piece";
  let description = [{
    `#kvc.contiguous<NHD>`: a sequence has a slot, whose capacity in tokens only
    the runtime knows. The orders are those of `#kvc.paged`.
  }];
  let parameters = (ins EnumParameter<Kvc_PageOrder>:$order);
  let assemblyFormat = "`<` $order `>`";
}

def Kvc_ReadAllAttr : Kvc_Attr<"ReadAll", "read_all",
    [DeclareAttrInterfaceMethods<ReadAttrInterface>]> {
  let summary = "a query sees every token up to its own, or simply every one";
  let description = "`#kvc.read_all`, `#kvc.read_all<causal = false>`";
  let parameters = (ins DefaultValuedParameter<"bool", "true">:$causal);
  let assemblyFormat = "(`<` struct($causal)^ `>`)?";
}

def Kvc_SlidingWindowAttr : Kvc_Attr<"SlidingWindow", "sliding_window",
    [DeclareAttrInterfaceMethods<ReadAttrInterface>]> {
  let summary = "a query sees the first `sink` and its last `recent` tokens";
  let description = [{
    And every token behind its own, if it is not causal:
    `#kvc.sliding_window<sink = 4, recent = 4096, causal = false>`.
  }];
  let parameters = (ins "int64_t":$sink, "int64_t":$recent,
                        DefaultValuedParameter<"bool", "true">:$causal);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Kvc_TargetAttr : Kvc_Attr<"Target", "target"> {
  let summary = "the facts of a machine that schedules depend on";
  let description = [{
    Set on the module, as `kvc.target`, by a backend before planning, so that
    passes choose tiles without knowing any backend:

    ```mlir
    module attributes {kvc.target = #kvc.target<"name", lanes = 16,
      registers = 32 dot = [bf16, i8]>} { ... }
    ```

    - `lanes`: f32 per vector
    - `registers`: vector registers
    - `dot`: types of codes for which it has products of pairs or quads that are
      faster than f32 arithmetic
    - `matrix`: types of codes for which it multiplies whole tiles in registers of
      their own, each code as a sum of bf16
    - `shared`: bytes of memory that the warps of one work tile share, 0 where
      there are no warps but a core with caches
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$lanes,
                        "int64_t":$registers,
                        OptionalArrayRefParameter<"::mlir::Type">:$dot,
                        OptionalArrayRefParameter<"::mlir::Type">:$matrix,
                        DefaultValuedParameter<"int64_t", "0">:$shared);
  let assemblyFormat = [{
    `<` $name `,` `lanes` `=` $lanes `,` `registers` `=` $registers
    (`dot` `=` `[` $dot^ `]`)? (`matrix` `=` `[` $matrix^ `]`)?
    (`shared` `=` $shared^)? `>`
  }];
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Whether codes of type `code` may be multiplied as they are in a model of
    /// `dtype`: the other operand of bf16 products must be bf16 already, that
    /// of i8 products keeps 15 bits, enough for 16-bit models.
    bool hasDot(::mlir::Type code, ::mlir::Type dtype) const;
    /// The same of tiles: sums of two bf16 hold what a 16-bit model has.
    bool hasMatrix(::mlir::Type code, ::mlir::Type dtype) const;
  }];
}

def Kvc_ScheduleAttr : Kvc_Attr<"Schedule", "schedule"> {
  let summary = "every decision about a kernel that does not change its meaning";
  let description = [{
    `#kvc.schedule<tokens = 64, rows = 3, split = 2048>`. Written by
    `kvc-plan-schedule`, printed in the manifest, overridden by `--schedule` or a
    tuner. A field that is left out has its default, and one that has it is not
    printed. `kvc help schedule` lists the values that are legal.

    - `tokens`: cached tokens per tile
    - `rows`: query rows per register tile
    - `keys`: cached tokens per register tile
    - `queries`: most query tokens that one work tile takes
    - `split`: cached tokens per work tile, at absolute multiples; 0: all
    - `prefetch`: how many tokens ahead of its use a row is prefetched, and again
      when it is nearer; at most three tiles; 0: not at all
    - `level`: the cache level (1 or 2) that it is prefetched to
    - `pack`: dequantize each tile once into scratch and multiply from there
      (many rows), rather than dequantize in registers (few rows)
    - `dot`: multiply codes as they are where the target has products of their
      type; q and the probabilities are then rounded to bf16 (codes bf16), to f16
      (on warps) or to 15 bits of the largest (codes i8)

    Where a work tile is done by warps:

    - `tokens`: cached tokens that one warp takes per step; `rows`: query rows
      of a work tile; no `keys`, `prefetch`, `level`
    - `warps`: how many share a work tile; 0: no warps
    - `stages`: steps whose tokens are in shared memory at a time
    - `warpsSplitQ`: each warp takes 16 of a work tile's rows and all take part in
      every step, rather than that each takes some of the tokens and all of the
      rows
    - `bulk`: one more warp copies the tokens, row by row, rather than that each
      of the others copies those that it reads
  }];
  let parameters = (ins
    DefaultValuedParameter<"int64_t", "16">:$tokens,
    DefaultValuedParameter<"int64_t", "1">:$rows,
    DefaultValuedParameter<"int64_t", "1">:$keys,
    DefaultValuedParameter<"int64_t", "1">:$queries,
    DefaultValuedParameter<"int64_t", "0">:$split,
    DefaultValuedParameter<"int64_t", "0">:$prefetch,
    DefaultValuedParameter<"int64_t", "2">:$level,
    DefaultValuedParameter<"bool", "false">:$pack,
    DefaultValuedParameter<"bool", "false">:$dot,
    DefaultValuedParameter<"int64_t", "0">:$warps,
    DefaultValuedParameter<"int64_t", "0">:$stages,
    DefaultValuedParameter<"bool", "false">:$warpsSplitQ,
    DefaultValuedParameter<"bool", "false">:$bulk);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    using Field = std::pair<::llvm::StringRef, int64_t>;
    /// The same schedule with these fields changed, all at once; null after an
    /// error if there is no such field or the schedule is then not legal.
    ScheduleAttr
    with(::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError,
         ::llvm::ArrayRef<Field> fields) const;
    /// By name; what is left out is as in the parameters.
    static ScheduleAttr of(::mlir::MLIRContext *context,
                           const ::kvc::ScheduleFields &fields);
    /// The attribute without its `#kvc.schedule<` and `>`.
    std::string str() const;
  }];
}

#endif // KVC_ATTRS
