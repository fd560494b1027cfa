//===- RandomKernel.h - tile kernels drawn at random ------------*- C++ -*-===//
//
// A kernel is drawn as a description: a store, a body and sizes. Its IR comes
// from the description (KernelModule.h), and so do the error bounds
// (KernelBounds.h), which thus never look at the IR that they judge.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_TILE_RANDOMKERNEL_H
#define KVC_TEST_UNIT_TILE_RANDOMKERNEL_H

#include "dialect/tile/TileDialect.h"
#include "test/unit/Tile/RandomExpr.h"

#include <optional>
#include <string>
#include <vector>

namespace kvc::fuzz {

enum class Kind : uint8_t { Decode, Prefill, Merge, Append, Gather };

inline constexpr llvm::StringLiteral kKindNames[] = {
    "decode", "prefill", "merge", "append", "gather"};

/// In what bodies differ. Each has the values that axisInfo() names; a body has
/// one of each.
enum Axis : unsigned {
  // attend
  KeyScale,   ///< what becomes of the scales beside the rows of scores
  ValueScale, ///< and beside those of the output
  Logits,     ///< what becomes of a score
  Shown,      ///< tokens, by a visible region
  MaskPlace,
  Streams,
  QueryScale,
  Log2e,
  OpOrder, ///< loads where they are used, V's first, or all ops anywhere
  Detour,  ///< ops and codes that no loop was written for
  // append
  StoredRows,
  // gather
  GatheredRows,   ///< which, and of which stream
  GatheredOps,    ///< what makes them beside the codec's
  GatheredLoads,  ///< where they stand, and whether rows share them
  GatheredWanted, ///< by the call
  kAxes
};

namespace scale {
enum : unsigned {
  None,
  InDequantize,
  OnProduct,
  Late,
  Ignored,
  OfOther,
  Twice
};
}
namespace streams {
enum : unsigned { KAndV, Exchanged, OnlyK, OnlyV };
}
namespace query {
enum : unsigned { Usual, Sharp, Tiny, Negative, Zero };
}
namespace order {
enum : unsigned { AsUsed, LoadsFirst, Anywhere };
}
namespace detour {
enum : unsigned {
  None,
  MapOfScores,
  SliceOfKeys,
  SliceOfValues,
  Contraction,
  ValuesOfKeys, ///< V is some channels of the rows that are K, as MLA has them
  BoxesOfKeys,
  BoxesOfValues,
  BoxesOfBoth
};
}
namespace stored {
enum : unsigned { KThenV, VThenK, OnlyK, OnlyV, Exchanged };
}
namespace gathered {
enum : unsigned {
  KThenV,
  VThenK,
  OnlyK,
  OnlyV,
  Exchanged,
  KForBoth,
  VForBoth,
  WideForBoth ///< parts of the rows of a third stream
};
enum : unsigned {
  None,
  Slices,
  CodesSliced, ///< before they are scaled, and scales with them
  Map,
  MapOfTwo,
  MapOfColumn, ///< of a row and one of its elements
  MapOfScales,
  CodesAsScales ///< the last codes of the row, of boxes of its channels
};
enum : unsigned { AsUsed, Shared, Anywhere };
enum : unsigned { Both, NoK, NoV };
} // namespace gathered

struct AxisInfo {
  struct Value {
    const char *name;
    unsigned weight;      ///< how likely, among the axis' values
    bool refused = false; ///< by all backends
  };
  enum Group : uint8_t { Attend, Append, Gather };
  const char *name;
  Group group; ///< the kernels that have it
  std::vector<Value> values;
};
const AxisInfo &axisInfo(Axis axis);

/// An element-wise op between a product and its user.
struct ChainStep {
  enum { Scale, Apply } what;
  llvm::StringRef scales = kStreamK; ///< Scale: beside the rows of which stream
  Expr logits;                       ///< Apply: the region
};

/// Integers of any width, or narrow floats, whose boxes have scales and perhaps
/// zeros.
struct Boxes {
  unsigned bits;
  char scale; ///< f or h; of floats e or p too
  char zero;  ///< f or h; 0: none
  int64_t tokens, channels;
  char code = 'i'; ///< i, or e, m or x
};

struct Codec {
  bool isScaled = false;
  char type = 'f'; ///< of the codes, or of a row's scale: f, h, b, e, m
  char code = 'i'; ///< of codes with a scale: i of 8 bits, e or m
  std::optional<Boxes> boxes = {}; ///< then all this is

  mlir::Attribute attribute(mlir::MLIRContext *context) const;
  std::string str() const;
};
/// f32, f16, bf16, f8E4M3FN, f8E5M2, f4E2M1FN or f8E8M0FNU for f, h, b, e, m, x
/// or p.
mlir::Type floatType(mlir::MLIRContext *context, char type);

/// The third stream of some gather kernels.
inline constexpr llvm::StringLiteral kStreamWide = "w";
struct WideStream {
  int64_t dim, tokens; ///< tokens: that a row stands for
  Codec codec;
};

/// A row that a gather kernel stores: channels of a stream's row.
struct GatheredRow {
  llvm::StringRef to, from;
  int64_t first = 0;
  int64_t column = 0;   ///< that each is added to, if one is
  int64_t channels = 1; ///< of boxes that codes are the scales of
};

/// Of k and v, as arrays of two have them.
inline unsigned indexOf(llvm::StringRef stream) { return stream == kStreamV; }

struct Kernel {
  uint64_t seed = 0, index = 0;
  /// The kernel is a file's: of what follows, there are the store's numbers,
  /// the read and the dims of q and the output.
  bool isWritten = false;
  Kind kind = Kind::Decode;
  char dtype = 'f';

  // The store: kv heads [firstHead, firstHead + heads) of kvHeads.
  int64_t kvHeads = 1, firstHead = 0, heads = 1, group = 1;
  int64_t dims[2] = {8, 8}; ///< of K, of V and the output
  Codec codecs[2];
  int64_t page = 0; ///< 0: contiguous
  bool nhd = false;
  struct Window {
    int64_t sink, recent;
  };
  std::optional<Window> window;
  bool causal = true;
  Expr visible; ///< what the mask hides beside it

  // The body.
  unsigned choice[kAxes] = {};
  double queryScale = 1;
  /// The streams of the operands of the two products.
  llvm::StringRef keys = kStreamK, values = kStreamV;
  int64_t firstValue = 0; ///< channel of its stream's rows that is V's first
  std::vector<ChainStep> scores, probabilities;

  // A gather.
  std::optional<WideStream> wide;
  std::vector<GatheredRow> gathered; ///< in the order of their stores

  int64_t numSplits = 1; ///< of a merge
  /// Of who merges: base + perQHead * (q head) - perKvHead * (kv head).
  struct Sink {
    double base, perQHead, perKvHead;
    double at(int64_t qHead, int64_t kvHead) const {
      return base + perQHead * double(qHead) - perKvHead * double(kvHead);
    }
  };
  std::optional<Sink> sink;

  bool isAttend() const {
    return kind == Kind::Decode || kind == Kind::Prefill;
  }
  llvm::StringRef kindName() const { return kKindNames[unsigned(kind)]; }
  int64_t qHeads() const { return kvHeads * group; }
  int64_t dim(llvm::StringRef stream) const {
    return stream == kStreamWide ? wide->dim : dims[indexOf(stream)];
  }
  const Codec &codec(llvm::StringRef stream) const {
    return stream == kStreamWide ? wide->codec : codecs[indexOf(stream)];
  }
  bool hasBoxes() const { return codecs[0].boxes || codecs[1].boxes; }
  /// Tiles and pages are multiples of it.
  int64_t boxTokens() const {
    int64_t tokens = 1;
    auto add = [&](const Codec &codec) {
      tokens = std::max(tokens, codec.boxes ? codec.boxes->tokens : 1);
    };
    llvm::for_each(codecs, add);
    if (wide) {
      add(wide->codec);
      tokens = std::max(tokens, wide->tokens);
    }
    return tokens;
  }
  bool scaledInDequantize(llvm::StringRef stream, Axis axis) const {
    return codec(stream).isScaled && choice[axis] == scale::InDequantize;
  }
  /// Of a gather: whether the call wants these rows, and the kernel has them.
  bool wants(llvm::StringRef rows) const {
    return choice[GatheredWanted] !=
           (rows == kStreamK ? gathered::NoK : gathered::NoV);
  }
  bool gathers(llvm::StringRef rows) const {
    return wants(rows) && llvm::any_of(gathered, [&](const GatheredRow &row) {
             return row.to == rows;
           });
  }
  /// Backends must refuse a mask that others stand behind: what it hid would
  /// count again, or be NaN.
  bool mustBeRefused() const { return isAttend() && choice[MaskPlace]; }
  /// Whether the query sees the token, which is not behind it.
  bool sees(const ScorePlace &place) const;
  Random random(uint64_t purpose) const { return Random(seed, index, purpose); }
  /// What kernels are counted by.
  std::vector<std::string> traits() const;
};

/// Kernel `index` of a run. Of the kernels of one kind, three of four have the
/// next value of the next axis, whatever its weight: so all of them come up.
Kernel drawKernel(uint64_t seed, uint64_t index);

/// Parts of that.
Codec drawCodec(bool isScaled, Random &random);
/// Boxes of codes of rows of `dim` elements.
Codec drawBoxes(int64_t dim, Random &random);
/// The streams and rows that a kernel's choices say.
void drawGather(Kernel &kernel, Random &random);

/// How a backend runs a kernel: legal for the machine, or nearly so.
CoreScheduleAttr drawCoreSchedule(const Kernel &kernel, TargetAttr target);
WarpScheduleAttr drawWarpSchedule(const Kernel &kernel, TargetAttr target,
                                  bool hasBulkCopies);

} // namespace kvc::fuzz

#endif // KVC_TEST_UNIT_TILE_RANDOMKERNEL_H
