//===- Safetensors.h - captured tensors from a file -------------*- C++ -*-===//
//
// A strict reader: a header that is too large, too deep, ambiguous or does not
// describe every byte after it exactly once is refused, and no byte is used
// before that. See https://github.com/huggingface/safetensors for the format.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_VERIFY_SAFETENSORS_H
#define KVC_LIB_VERIFY_SAFETENSORS_H

#include "lib/Spec/Spec.h"

#include <map>

namespace kvc::verify {

class Safetensors {
public:
  /// Longest header, most tensors, most axes of one.
  static constexpr size_t kMaxHeader = 1 << 20, kMaxTensors = 4096,
                          kMaxRank = 8;

  struct Tensor {
    spec::DType dtype = spec::DType::F32;
    std::vector<uint64_t> shape;
    size_t begin = 0, end = 0; ///< bytes of the file
  };

  /// Takes the bytes of a whole file. On failure returns nullopt and sets
  /// `error` to one line. Never crashes, whatever the bytes.
  static std::optional<Safetensors> read(std::vector<uint8_t> bytes,
                                         std::string &error);

  const std::map<std::string, Tensor> &tensors() const { return table; }
  const std::map<std::string, std::string> &metadata() const { return notes; }
  /// All elements of a tensor of this file, widened.
  std::vector<float> values(const Tensor &tensor) const;

private:
  std::vector<uint8_t> bytes;
  std::map<std::string, Tensor> table;
  std::map<std::string, std::string> notes;
};

} // namespace kvc::verify

#endif // KVC_LIB_VERIFY_SAFETENSORS_H
