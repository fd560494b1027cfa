//===- KernelKey.h - what a kernel's code was compiled for ------*- C++ -*-===//
//
// Machine code cannot be asked which pages, heads or scratch it expects. So the
// symbol of each kernel ends in a key of all that the manifest says of it, in
// ELF objects, cubins and PTX alike: code under another manifest is not found.
// The compiler makes the key of what it compiled for, a reader makes it of what
// it has read.
//
// A key holds every field of the kernel, its store and its model, but those
// that code cannot depend on: names, entries, layers, the registers that the
// assembler reports, and of kernels that append, gather and merge the window
// and the expressions, which are the business of those that attend (a sink is
// that of merges, too). A field that is added to the manifest is in the key.
//
// Two kernels with one key are the same kernel, so stores that are alike share
// its code.
//
// It is no signature: who can make an artifact can make its keys.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_KERNELKEY_H
#define KVC_LIB_BASE_ARTIFACT_KERNELKEY_H

#include "lib/base/Artifact/Manifest.h"

#include <map>
#include <tuple>

namespace kvc::artifact {

/// FNV-1a of 128 bits: public, a few lines, and equal everywhere. It meets
/// mistakes, not attacks.
class Fnv128 {
public:
  void add(std::string_view bytes);
  /// 32 lower-case digits.
  std::string hex() const;

private:
  static constexpr unsigned __int128 kBasis =
      (static_cast<unsigned __int128>(0x6c62272e07bb0142) << 64) |
      0x62b821756295c58d;
  unsigned __int128 state = kBasis;
};

/// The keys of a manifest's kernels. The manifest need not have been checked.
class KernelKeys {
public:
  explicit KernelKeys(const Manifest &manifest);

  /// 32 lower-case hex digits; "" if there is no store of the kernel's name.
  std::string of(const KernelInfo &kernel) const;

private:
  using Group = std::tuple<std::string, std::string, std::string>;
  static Group groupOf(const KernelInfo &kernel) {
    return {kernel.store, kernel.device, kernel.target};
  }

  uint32_t cpuAbi, gpuAbi;
  /// The start of the keys of a store's kernels: model and store.
  struct Start {
    Fnv128 whole, withoutAttend;
    bool hasSink = false; ///< a logit in the softmax, which merges add
  };
  std::map<std::string, Start> stores; ///< by name
  /// Of the attend kernels of a store and target, by their least queries: what
  /// a plan kernel cuts a batch by.
  std::map<Group, std::map<uint32_t, std::string>> attends;
};

/// The symbol of a kernel with this key: NAME_KEY.
std::string boundSymbol(std::string_view name, std::string_view key);
/// NAME of NAME_KEY; all of it if it ends in no key.
std::string_view unboundSymbol(std::string_view symbol);
/// Gives every kernel the symbol that it has with its key, whatever key it had.
void bindSymbols(Manifest &manifest);

/// A kernel, and of how many stores it is.
struct DistinctKernel {
  const KernelInfo *info; ///< of the first of them
  size_t stores = 1;
};
/// Each kernel of a checked manifest once, in the manifest's order.
std::vector<DistinctKernel> distinctKernels(const Manifest &manifest);
/// "layer0.append", or "layer0.append x36".
std::string nameOf(const DistinctKernel &kernel);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_KERNELKEY_H
