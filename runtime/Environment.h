//===- Environment.h - the words that a call gives its kernels --*- C++ -*-===//
//
// A call sets each of its words once, in an array that has a place for every
// word that a kernel may ask for (lib/base/Artifact/Words.def):
//
//   words of the call | of plane 0, 1, ... | of constant 0, 1, ... | of attend
//   kernel 0, 1, ...
//
// Where the words of a kernel's block are in it is known when the kernel is
// loaded, so that a launch is one loop of copies. Who sets which words is said
// once per kind of launch, too: a kernel that asks for another is refused then,
// and no launch has to ask whether a word is there.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_ENVIRONMENT_H
#define KVC_RUNTIME_ENVIRONMENT_H

#include "lib/base/Artifact/Manifest.h"
#include "runtime/Device.h"

#include <array>
#include <bitset>
#include <utility>

namespace kvc::rt {

using artifact::Word;

/// Words, each with all that it is of.
using WordSet = std::bitset<artifact::kWordCount>;
WordSet setOf(std::initializer_list<Word> words);
/// What Environment's constructors set.
const WordSet &rowWords();
const WordSet &attendWords();

/// Where the words of an environment are.
struct WordPlaces {
  struct Place {
    uint16_t first = 0, step = 0; ///< of the first plane or kernel; to the next
  };
  std::array<Place, artifact::kWordCount> of;
  uint16_t size = 0;

  constexpr WordPlaces() {
    using artifact::WordScope;
    for (auto [scope, most] : {std::pair{WordScope::Call, 1u},
                               {WordScope::Plane, artifact::kMaxPlanes},
                               {WordScope::Constant, artifact::kMaxConstants},
                               {WordScope::Attend, artifact::kMaxAttends}}) {
      uint16_t next = size, step = 0;
      for (const artifact::WordInfo &word : artifact::kWords)
        step += word.scope == scope;
      for (const artifact::WordInfo &word : artifact::kWords)
        if (word.scope == scope)
          of[size_t(word.word)] = {
              next++, scope == WordScope::Call ? uint16_t(0) : step};
      size += uint16_t(step * most);
    }
  }
};
inline constexpr WordPlaces kWordPlaces;

class Environment {
public:
  /// Of checked arguments. Whoever launches sets the rest.
  Environment(const RowCall &call, int64_t slotTokens);
  explicit Environment(const kvc_attend_args &args);
  /// Of these only batch, cu_q, kv_len and max_kv_len.
  static Environment ofBatch(const kvc_attend_args &args);

  void set(Word word, int64_t value) {
    words[indexOf(word, 0)] = uint64_t(value);
  }
  void set(Word word, const void *address) {
    words[indexOf(word, 0)] = uintptr_t(address);
  }
  /// Of attend kernel `attend`.
  void setOf(uint32_t attend, Word word, int64_t value) {
    words[indexOf(word, attend)] = uint64_t(value);
  }
  void setOf(uint32_t attend, Word word, const void *address) {
    words[indexOf(word, attend)] = uintptr_t(address);
  }
  uint64_t operator[](size_t index) const { return words[index]; }

  /// Where a word is, of the plane or attend kernel `of` where it has one.
  static constexpr uint16_t indexOf(Word word, uint32_t of) {
    const WordPlaces::Place &place = kWordPlaces.of[size_t(word)];
    return uint16_t(place.first + of * place.step);
  }
  /// A place that is always 0.
  static constexpr uint16_t zero() { return kWordPlaces.size; }

private:
  Environment() { words[zero()] = 0; }
  void setBatch(const kvc_attend_args &args);
  void setPlanes(const kvc_plane *planes, uint32_t count);

  /// What nobody sets nobody reads: only the zero is made.
  uint64_t words[kWordPlaces.size + 1];
};

/// The block of one kernel: where each of its words is in an environment.
class KernelBlock {
public:
  /// KVC_CORRUPT if the kernel asks for words that are not `given`. `attend` is
  /// its index among its store's attend kernels, if it is one.
  static kvc_status resolve(const artifact::KernelInfo &kernel,
                            const artifact::StoreInfo &store,
                            const WordSet &given, uint32_t attend,
                            KernelBlock &block);

  size_t bytes() const { return sources.size() * artifact::kWordBytes; }
  void gather(const Environment &from, uint64_t *to) const {
    for (uint16_t source : sources)
      *to++ = from[source];
  }

private:
  std::vector<uint16_t> sources; ///< by word
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_ENVIRONMENT_H
