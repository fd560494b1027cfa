//===- Loops.cpp - what a GPU kernel's loops issue ------------------------===//
#include "codegen/nvptx/Loops.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

using namespace kvc;

/// A loop of fewer instructions waits for something.
static constexpr size_t kWait = 8;

const char *kvc::name(Work work) {
  static constexpr const char *names[] = {"mma",     "smem", "gmem", "shfl",
                                          "ex2",     "cvt",  "fp",   "int",
                                          "control", "mov"};
  static_assert(std::size(names) == kWorks);
  return names[size_t(work)];
}

unsigned Loop::instructions() const {
  unsigned sum = 0;
  for (unsigned count : counts)
    sum += count;
  return sum - count(Work::Copy);
}

void Listing::instruction(Work work, llvm::StringRef place,
                          llvm::StringRef target) {
  list.push_back({work, place.str(), target.str()});
}

/// Whether `outer` is around another of which that holds.
template <typename Fn>
static bool isAround(llvm::ArrayRef<Loop> loops, const Loop &outer, Fn holds) {
  return llvm::any_of(loops, [&](const Loop &inner) {
    return &inner != &outer && inner.first >= outer.first &&
           inner.last <= outer.last && holds(inner);
  });
}

std::vector<Loop> Listing::loops() const {
  // Several branches to one label are one loop, up to the last of them.
  std::map<size_t, size_t> lastOf;
  for (auto [at, instruction] : llvm::enumerate(list)) {
    auto label = labels.find(instruction.target);
    if (label != labels.end() && label->second <= at)
      lastOf[label->second] = at;
  }
  std::vector<Loop> loops;
  for (auto [first, last] : lastOf) {
    // A branch to itself fills the room behind a kernel.
    if (first == last)
      continue;
    Loop &loop = loops.emplace_back();
    loop.first = first;
    loop.last = last;
    loop.place = list[first].place;
    if (loop.place != list[last].place)
      loop.place += ".." + list[last].place;
    for (size_t i = first; i <= last; ++i)
      ++loop.counts[size_t(list[i].work)];
  }
  for (Loop &outer : loops)
    outer.hasLoops = isAround(
        loops, outer, [](const Loop &l) { return l.last - l.first >= kWait; });
  return loops;
}

/// Whether a round takes cached tokens without tensor cores: it has a softmax
/// whose scores other lanes made, and no loop inside has one.
static bool takesTokens(llvm::ArrayRef<Loop> loops, const Loop &loop) {
  return loop.count(Work::Special) && loop.count(Work::Shuffle) &&
         !isAround(loops, loop, [](const Loop &inner) {
           return inner.count(Work::Special) > 0;
         });
}

const Loop *kvc::mainLoop(llvm::ArrayRef<Loop> loops) {
  auto multiplies = [](const Loop &loop) { return loop.count(Work::Mma) > 0; };
  if (llvm::none_of(loops, multiplies))
    for (const Loop &loop : loops)
      if (takesTokens(loops, loop))
        return &loop;
  const Loop *best = nullptr;
  auto rank = [](const Loop &loop) {
    return std::pair(loop.count(Work::Mma), loop.instructions());
  };
  for (const Loop &loop : loops) {
    bool isOuter =
        multiplies(loop) ? isAround(loops, loop, multiplies) : loop.hasLoops;
    if (!isOuter && (!best || rank(loop) > rank(*best)))
      best = &loop;
  }
  return best;
}
