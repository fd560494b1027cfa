//===- KernelWords.h - what a test gives a kernel, by name ------*- C++ -*-===//
#ifndef KVC_TEST_SUPPORT_KERNELWORDS_H
#define KVC_TEST_SUPPORT_KERNELWORDS_H

#include "lib/base/Artifact/Params.h"
#include "lib/driver/Reference/Host.h"

#include "gtest/gtest.h"

#include <map>

namespace kvc::test {

/// The words of a launch. A kernel gets those that it asks for.
class KernelWords {
public:
  using Word = artifact::Word;

  void set(Word what, int64_t value, const std::string &of = "") {
    values[{artifact::kWords[size_t(what)].name, of}] = uint64_t(value);
  }
  void set(Word what, const void *address, const std::string &of = "") {
    set(what, int64_t(uintptr_t(address)), of);
  }
  void setPlanes(const reference::HostCache &cache) {
    for (auto [geometry, plane] :
         llvm::zip_equal(cache.type.planes(), cache.planes)) {
      set(Word::PlaneBase, plane.base, geometry.name());
      set(Word::PlanePageStride, plane.pageStride, geometry.name());
      set(Word::PlaneHeadStride, plane.headStride, geometry.name());
    }
  }
  /// The block of a kernel. It fails the test if the kernel asks for others.
  std::vector<uint64_t> block(const artifact::ParamBlock &of) const {
    std::vector<uint64_t> block;
    for (const artifact::ParamInfo &param : of.params()) {
      auto found = values.find({param.what, param.of});
      if (found == values.end())
        ADD_FAILURE() << "`" << param.what << "` of `" << param.of << "`";
      block.push_back(found == values.end() ? 0 : found->second);
    }
    return block;
  }

private:
  std::map<std::pair<std::string, std::string>, uint64_t> values;
};

} // namespace kvc::test

#endif // KVC_TEST_SUPPORT_KERNELWORDS_H
