//===- TileEnums.td - words of the tile level --------------*- tablegen -*-===//
#ifndef KVC_TILE_ENUMS
#define KVC_TILE_ENUMS

include "mlir/IR/EnumAttr.td"

def Tile_ReduceKind : I32EnumAttr<"ReduceKind", "how elements are joined", [
    I32EnumAttrCase<"sum", 0>, I32EnumAttrCase<"max", 1>]> {
  let cppNamespace = "::kvc::tile";
}

def Tile_Axis : I32EnumAttr<"Axis", "what is joined", [
    I32EnumAttrCase<"rows", 0>, I32EnumAttrCase<"columns", 1>]> {
  let cppNamespace = "::kvc::tile";
}

#endif // KVC_TILE_ENUMS
