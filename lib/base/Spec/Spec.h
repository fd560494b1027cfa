//===- Spec.h - the typed form of a kvc spec --------------------*- C++ -*-===//
//
// What a spec says, after reading and checking: plain data, no JSON, no MLIR.
// The ten primitives of the language are streams, codec, position, layout,
// state, score, evict, read, tiers and sharing. The language has streams,
// codec, layout and read so far; the reader refuses the keys of the others by
// name (E-NOT-IN-VERSION), and each will arrive here as one more member of
// `Store` (position, state, score, evict, read) or `Spec` (tiers, sharing).
// Nothing here says in which version of the language a spec was written: its
// meaning does not depend on it.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_SPEC_H
#define KVC_LIB_BASE_SPEC_SPEC_H

#include "lib/base/Spec/Expr.h"
#include "lib/base/Support/Diagnostics.h"

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace kvc::spec {

enum class DType : uint8_t { F32, F16, BF16 };
/// "f32", "f16" or "bf16".
const char *name(DType type);
/// Bytes of one element.
unsigned bytes(DType type);

/// Of scales and zeros.
enum class ParameterType : uint8_t {
  F32,
  F16,
  E4M3, ///< a float of 8 bits
  E8M0, ///< a power of two, of 8 bits
};
/// "f32", "f16", "e4m3" or "e8m0".
const char *name(ParameterType type);
unsigned bytes(ParameterType type);

/// A codec that stores each element as a float of `type`; conversion rounds to
/// nearest, ties to even, keeps infinities and NaN.
struct FloatCodec {
  DType type = DType::BF16;
};

/// Uniform integers: the channels of a group share a scale, code = clamp(rne(x
/// * (1 / scale))), x' = code * scale, and perhaps a zero, their least element,
/// which is taken from x and added to x'. Both are kept in the page.
/// dialect/codecs/Codecs.td has the exact meaning.
struct IntCodec {
  enum class Rounding : uint8_t { Even, HalfUp, HalfAway };
  unsigned bits = 8; ///< of a code, 1..8; without a zero 2..8
  ParameterType scaleType = ParameterType::F32; ///< F32 or F16
  /// F32 or F16; none: codes have a sign.
  std::optional<ParameterType> zeroType = std::nullopt;
  /// Channels of a row that share a scale and a zero: a power of two from 8 to
  /// 256 that divides the stream's dim and is less; 0: all of them.
  unsigned group = 0;
  /// A zero is a number between codes, by which x is so much more than 0, and
  /// not the least element.
  bool zeroBetweenCodes = false;
  /// Without a zero: the least code stands for the element of the largest
  /// magnitude, whatever its sign.
  bool extreme = false;
  /// Elements are quantized by a scale and a zero that are not yet rounded to
  /// their types.
  bool exact = false;
  Rounding rounding = Rounding::Even;
};
/// "even", "half_up" or "half_away".
const char *name(IntCodec::Rounding rounding);

/// Floats of 8 or 4 bits, which saturate; the channels of a group may share a
/// scale, absmax over the largest of them. dialect/codecs/Codecs.td has the
/// exact meaning.
struct MinifloatCodec {
  enum class Format : uint8_t { E4M3, E5M2, E2M1 };
  Format format = Format::E4M3;
  /// None: elements are stored as they are. E4M3 only of E2M1: scales of fp8
  /// would be too small for it.
  std::optional<ParameterType> scaleType = std::nullopt;
  /// As of an IntCodec; 0 if there is no scale.
  unsigned group = 0;
};
/// "fp8_e4m3", "fp8_e5m2" or "fp4_e2m1".
const char *name(MinifloatCodec::Format format);
/// Of a code.
unsigned bits(MinifloatCodec::Format format);

using Codec = std::variant<FloatCodec, IntCodec, MinifloatCodec>;

/// One cached tensor, [tokens, kv heads, dim] as the model sees it.
struct Stream {
  unsigned dim = 0;
  Codec codec;
  /// Of V: its rows are the first `dim` channels of those of K, whose codec it
  /// has, and nothing more is stored, as MLA has its latent.
  bool ofK = false;
  SourceLoc loc, codecLoc;
};

enum class PageOrder : uint8_t {
  HND, ///< [page][kv head][token][dim] (default)
  NHD, ///< [page][token][kv head][dim]
};

struct Layout {
  bool paged = true;
  unsigned page = 16; ///< tokens per page, 1..256; only if paged
  PageOrder order = PageOrder::HND;
  SourceLoc loc;
};

/// Which cached tokens a query at position p may see: all t <= p, or with a
/// window those with t < sink or t > p - recent.
struct Read {
  struct Window {
    unsigned sink = 0;
    unsigned recent = 0; ///< >= 1; counts the query's own token
  };
  std::optional<Window> window;
  SourceLoc loc;
};

/// What attention does with the scores of a store's tokens.
struct Attend {
  /// A query sees no token behind its own, whatever else is visible.
  bool causal = true;
  std::vector<Constant> constants;
  /// Of the scaled score `s`; none: the score itself.
  std::optional<Expr> logits;
  /// Which of the tokens that `reads` shows are seen; none: all.
  std::optional<Expr> visible;
  /// A logit of each head that takes part in the softmax and has no token;
  /// none: nothing does.
  std::optional<Expr> sink;
  SourceLoc loc;
};

/// Defaults (all layers, all heads) are filled in by the reader.
struct Scope {
  std::vector<unsigned> layers;        ///< ascending, each once
  unsigned headBegin = 0, headEnd = 0; ///< kv heads, half-open
  SourceLoc loc;

  bool covers(unsigned layer) const;
};

/// begin, begin + step, ... below end.
std::vector<unsigned> layerRange(unsigned begin, unsigned end,
                                 unsigned step = 1);
/// The distance of neighbours in an ascending list, if all are as far apart;
/// 1 if there is one only.
std::optional<unsigned> stepOf(const std::vector<unsigned> &layers);

/// One class of (layer, kv head) pairs that are cached in the same way.
struct Store {
  std::string name; ///< [A-Za-z0-9_.-]{1,64}; no two of a spec differ only in
                    ///< `_`, `.` and `-`
  Scope scope;
  Stream k, v;
  Layout layout;
  Read read;
  Attend attend;
  SourceLoc loc;
};

struct Model {
  unsigned layers = 0;
  unsigned qHeads = 0; ///< a multiple of kvHeads
  unsigned kvHeads = 0;
  unsigned headDimK = 0, headDimV = 0; ///< multiples of 8, 8..576
  DType dtype = DType::BF16;           ///< of q, k, v as given and of o
  double softmaxScale = 0;             ///< default 1/sqrt(headDimK)
  std::optional<double> logitSoftcap;  ///< s -> cap * tanh(s / cap)
  SourceLoc loc;

  unsigned group() const { return qHeads / kvHeads; }
};

/// A checked spec. Every (layer, kv head) pair is in exactly one store.
struct Spec {
  std::string name; ///< [A-Za-z0-9_.-]{1,64}
  Model model;
  std::vector<Store> stores;
  std::string file;      ///< as given by the user, for locations
  std::string canonical; ///< the same spec as minified JSON, sorted keys,
                         ///< defaults written out: what cache keys hash
};

/// Whether rows of V are stored of a layer, for some of its heads at least.
bool storesV(const Spec &spec, unsigned layer);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_SPEC_H
