//===- Params.h - the parameter block of a kernel ---------------*- C++ -*-===//
//
// A kernel, for a CPU or a GPU, takes one flat block of 8-byte words; a GPU
// takes it by value, so that it lies in the constant bank. Which words there
// are is data, made once by the compiler and read once by the runtime:
//
//   backend   while it lowers a kernel, it asks a ParamBlock for words by name
//             ("q", "plane.base" of "k.codes") and gets their offsets. A word
//             is allocated when it is first asked for, so that a kernel has the
//             words that it loads and no others, in an order that follows from
//             the kernel alone.
//   manifest  lists them for each kernel: {offset, what, of}. They are part of
//             the kernel's key, so code and list cannot be of two artifacts.
//   runtime   turns each into an index into an environment of words when it
//             loads the kernel. A call sets the words that it has in the
//             environment, once, and a launch gathers the kernel's block from
//             there in one loop (runtime/Environment.h).
//
// Each word takes 8 bytes at a multiple of 8, whatever it holds: a number of 32
// bits is the word's low half, and what is saved by packing two would be less
// than what a gather of halves costs.
//
// Words.def is the vocabulary. A new binding is a row there, a line where a
// call sets it, and a load in a backend; no struct knows it, and no kernel that
// does not ask for it changes. The kinds of kernels are as open: what a runtime
// does not launch, it does not look at, so that words of such kernels need not
// be known to it.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_PARAMS_H
#define KVC_LIB_BASE_ARTIFACT_PARAMS_H

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvc::artifact {

inline constexpr uint32_t kWordBytes = 8;
/// Of a block: what every CUDA GPU takes by value.
inline constexpr uint32_t kMaxParamBytes = 4096;
/// Of a store: what a launch makes room for, however many words its kernels
/// ask for.
inline constexpr uint32_t kMaxPlanes = 64;
/// Constants of a store that each call gives.
inline constexpr uint32_t kMaxConstants = 16;
/// Attend kernels of a store for a target.
inline constexpr uint32_t kMaxAttends = 16;

/// One word of a kernel's block.
struct ParamInfo {
  uint32_t offset = 0; ///< bytes from the block's first
  std::string what;    ///< a word of Words.def
  /// "" if the call has one such word. Otherwise a plane of the store, STREAM
  /// "." ROLE ("k.codes"), a constant of it by its name ("sinks"), or the N-th
  /// of its attend kernels in order of their minQueries ("attend.0").
  std::string of;
  bool operator==(const ParamInfo &) const = default;
};

/// What a word is one of.
enum class WordScope : uint8_t {
  Call,     ///< the call has one
  Plane,    ///< each plane of the store has one
  Constant, ///< each constant of the store that calls give has one
  Attend,   ///< each attend kernel of the store has one
};

enum class Word : uint8_t {
#define KVC_WORD(Id, name, Scope) Id,
#include "lib/base/Artifact/Words.def"
};

/// Where an array of rows of heads is: address of (row, head) =
///   base + row * rowStride + head * headStride
struct RowWords {
  Word base, rowStride, headStride;
};
inline constexpr RowWords kWordsOfQ = {Word::Q, Word::QRowStride,
                                       Word::QHeadStride};
inline constexpr RowWords kWordsOfOut = {Word::Out, Word::OutRowStride,
                                         Word::OutHeadStride};
inline constexpr RowWords kWordsOfLse = {Word::Lse, Word::LseRowStride,
                                         Word::LseHeadStride};
inline constexpr RowWords kWordsOfK = {Word::K, Word::KRowStride,
                                       Word::KHeadStride};
inline constexpr RowWords kWordsOfV = {Word::V, Word::VRowStride,
                                       Word::VHeadStride};

/// Those of the call's rows `k` or `v`.
constexpr const RowWords &wordsOfRows(std::string_view name) {
  return name == "k" ? kWordsOfK : kWordsOfV;
}

struct WordInfo {
  Word word;
  const char *name;
  WordScope scope;
};

/// In the order of Word.
inline constexpr WordInfo kWords[] = {
#define KVC_WORD(Id, name, Scope) {Word::Id, name, WordScope::Scope},
#include "lib/base/Artifact/Words.def"
};
inline constexpr uint32_t kWordCount = std::size(kWords);

/// The word of a name; null if there is none.
const WordInfo *findWord(std::string_view name);
/// "attend.N".
std::string attendName(size_t index);
/// N of "attend.N"; nullopt if it is written in any other way.
std::optional<uint32_t> attendOf(std::string_view of);

/// The block of a kernel while it is compiled.
class ParamBlock {
public:
  /// The offset of a word, which is allocated if it is new.
  uint32_t offsetOf(Word what, std::string_view of = "");

  /// By offset.
  const std::vector<ParamInfo> &params() const { return words; }
  uint32_t bytes() const { return uint32_t(words.size()) * kWordBytes; }

private:
  std::vector<ParamInfo> words;
};

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_PARAMS_H
