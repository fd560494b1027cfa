//===- TileDialect.h - the tile level ---------------------------*- C++ -*-===//
//
// One op per kernel, with a structured loop over tiles of tokens: how, still
// for no machine.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_DIALECT_TILE_TILEDIALECT_H
#define KVC_DIALECT_TILE_TILEDIALECT_H

#include "dialect/KvcDialect.h"

#include "dialect/tile/TileDialect.h.inc"
#include "dialect/tile/TileEnums.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/tile/TileOps.h.inc"

#endif // KVC_DIALECT_TILE_TILEDIALECT_H
