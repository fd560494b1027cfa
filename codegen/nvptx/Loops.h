//===- Loops.h - what a GPU kernel's loops issue ----------------*- C++ -*-===//
//
// Instructions of the loops of PTX and of SASS, by what they do: the budget of
// a kernel, without a GPU. Loops are found by their backward branches, with all
// that stands between.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_LOOPS_H
#define KVC_CODEGEN_NVPTX_LOOPS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvc {

/// What an instruction is for.
enum class Work : uint8_t {
  Mma,     ///< matrix products
  Shared,  ///< shared memory, and moves of matrices between lanes
  Global,  ///< global memory, copies to shared memory included
  Shuffle, ///< between lanes
  Special, ///< exponentials, reciprocals
  Convert,
  Float,
  Integer, ///< all else
  Control, ///< branches, barriers, waits
  Copy,    ///< moves of PTX, of which an assembler drops most
};
inline constexpr size_t kWorks = size_t(Work::Copy) + 1;
/// "mma", "smem", "gmem", "shfl", "ex2", "cvt", "fp", "int", "control", "mov".
const char *name(Work work);

struct Loop {
  std::string place; ///< first label of PTX, addresses of SASS
  std::array<unsigned, kWorks> counts{};
  size_t first = 0, last = 0; ///< instructions of the kernel
  bool hasLoops = false;      ///< inside, of which it counts one round each

  unsigned count(Work work) const { return counts[size_t(work)]; }
  /// All but copies.
  unsigned instructions() const;
};

/// A kernel's instructions and labels in their order.
class Listing {
public:
  void label(llvm::StringRef name) { labels[name] = list.size(); }
  /// `target`: the label that a branch goes to; "" for all else.
  void instruction(Work work, llvm::StringRef place, llvm::StringRef target);
  /// One for each label that is branched back to, in the order of the labels.
  std::vector<Loop> loops() const;

private:
  struct Instruction {
    Work work;
    std::string place, target;
  };
  std::vector<Instruction> list;
  llvm::StringMap<size_t> labels;
};

/// Of the loops around no other with a matrix product, the one with the most of
/// them. Without any, the first whose rounds have a softmax; without that, the
/// one with the most instructions among those around no other but waits. Null
/// if there is no loop.
const Loop *mainLoop(llvm::ArrayRef<Loop> loops);

/// The loops of one kernel of a PTX module.
std::vector<Loop> ptxLoops(llvm::StringRef ptx, llvm::StringRef symbol);

/// The loops of all kernels in what `nvdisasm -c` prints of a cubin, by symbol.
llvm::StringMap<std::vector<Loop>> sassLoops(llvm::StringRef listing);
/// Runs `nvdisasm` of the path on a cubin. nullopt, with the reason in `error`,
/// if it is not there or fails.
std::optional<std::string> nvdisasm(llvm::ArrayRef<uint8_t> cubin,
                                    std::string &error);

} // namespace kvc

#endif // KVC_CODEGEN_NVPTX_LOOPS_H
