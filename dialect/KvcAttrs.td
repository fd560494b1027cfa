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

    `v = 512 of k` is the first 512 elements of the rows of `k`, an earlier stream:
    it has the codec of `of`, and no planes of its own.
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$dim,
                        "::mlir::Attribute":$codec,
                        DefaultValuedParameter<"int64_t", "1">:$tokens,
                        OptionalParameter<"::mlir::StringAttr">:$of);
  let assemblyFormat = [{
    `<` $name `,` $dim `by` $codec (`per` $tokens^)? (`of` $of^)? `>`
  }];
  let builders = [AttrBuilder<(ins "::llvm::StringRef":$name, "int64_t":$dim,
                                   "::mlir::Attribute":$codec,
                                   CArg<"int64_t", "1">:$tokens), [{
    return $_get($_ctxt, name, dim, codec, tokens, ::mlir::StringAttr());
  }]>];
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Of the stream whose planes have its rows: itself, or `of`.
    ::llvm::StringRef getOwner() const {
      return getOf() ? getOf().getValue() : getName();
    }
  }];
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
    - `bulk`: a warp can copy whole rows there by one instruction each
  }];
  let parameters = (ins StringRefParameter<>:$name, "int64_t":$lanes,
                        "int64_t":$registers,
                        OptionalArrayRefParameter<"::mlir::Type">:$dot,
                        OptionalArrayRefParameter<"::mlir::Type">:$matrix,
                        DefaultValuedParameter<"int64_t", "0">:$shared,
                        DefaultValuedParameter<"bool", "false">:$bulk);
  let assemblyFormat = [{
    `<` $name `,` `lanes` `=` $lanes `,` `registers` `=` $registers
    (`dot` `=` `[` $dot^ `]`)? (`matrix` `=` `[` $matrix^ `]`)?
    (`shared` `=` $shared^)? (`bulk` `=` $bulk^)? `>`
  }];
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Whether codes of type `code` may be multiplied as they are in a model of
    /// `dtype`: the other operand of bf16 products must be bf16 already, that
    /// of i8 products keeps 15 bits, enough for 16-bit models.
    bool hasDot(::mlir::Type code, ::mlir::Type dtype) const;
    /// The same of tiles: sums of two bf16 hold what a 16-bit model has.
    bool hasMatrix(::mlir::Type code, ::mlir::Type dtype) const;
    /// Of this kind of machine, with every field as it is by default.
    ScheduleAttrInterface defaultSchedule() const;
  }];
}

class Kvc_ScheduleAttr<string name, string mnem> : Kvc_Attr<name, mnem,
    [DeclareAttrInterfaceMethods<ScheduleAttrInterface>]> {
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Kvc_CoreScheduleAttr : Kvc_ScheduleAttr<"CoreSchedule", "core_schedule"> {
  let summary = "how an attend kernel runs on a core with caches";
  let description = [{
    `#kvc.core_schedule<tokens = 64, rows = 3, split = 2048>`. Written by
    `kvc-plan-schedule`, printed in the manifest, overridden by `--schedule` or a
    tuner. A field that is left out has its default, and one that has it is not
    printed. `kvc help schedule` explains each and says what is legal.
  }];
  let parameters = (ins "::kvc::CoreSchedule":$value);
}

def Kvc_WarpScheduleAttr : Kvc_ScheduleAttr<"WarpSchedule", "warp_schedule"> {
  let summary = "how an attend kernel runs on warps that share memory";
  let description = [{
    `#kvc.warp_schedule<tokens = 32, rows = 8, dot = true, warps = 4>`, as
    `#kvc.core_schedule`.
  }];
  let parameters = (ins "::kvc::WarpSchedule":$value);
}

#endif // KVC_ATTRS
