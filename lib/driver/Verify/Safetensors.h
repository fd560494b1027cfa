//===- Safetensors.h - captured tensors from a file -------------*- C++ -*-===//
//
// A strict reader: a header that is too large, too deep, ambiguous or does not
// describe every byte after it exactly once is refused, and no byte is used
// before that. Of a file, however large, only the header is read and what is
// asked for. See https://github.com/huggingface/safetensors for the format.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_SAFETENSORS_H
#define KVC_LIB_DRIVER_VERIFY_SAFETENSORS_H

#include "lib/base/Spec/Spec.h"

#include <map>
#include <memory>

namespace kvc::verify {

class Safetensors {
public:
  /// Longest header, most tensors, most axes of one.
  static constexpr size_t kMaxHeader = 1 << 20, kMaxTensors = 4096,
                          kMaxRank = 8;

  struct Tensor {
    spec::DType dtype = spec::DType::F32;
    std::vector<uint64_t> shape;
    uint64_t begin = 0, end = 0; ///< bytes of the file
  };

  /// Opens a regular file and reads its header. On failure returns nullopt and
  /// sets `error` to one line. Never crashes, whatever the bytes.
  static std::optional<Safetensors> open(const std::string &path,
                                         std::string &error);
  /// Likewise, of the bytes of a whole file.
  static std::optional<Safetensors> read(std::vector<uint8_t> bytes,
                                         std::string &error);
  /// Where bytes come from.
  class Source;
  Safetensors(Safetensors &&);
  Safetensors &operator=(Safetensors &&);
  ~Safetensors();

  const std::map<std::string, Tensor> &tensors() const { return table; }
  const std::map<std::string, std::string> &metadata() const { return notes; }
  /// The first elements of a tensor of this file, `most` at most, widened.
  /// nullopt, with one line in `error`, if they cannot be read.
  std::optional<std::vector<float>> values(const Tensor &tensor, uint64_t most,
                                           std::string &error) const;

private:
  explicit Safetensors(std::unique_ptr<Source> source);
  static std::optional<Safetensors> from(std::unique_ptr<Source> source,
                                         std::string &error);

  std::unique_ptr<Source> source;
  std::map<std::string, Tensor> table;
  std::map<std::string, std::string> notes;
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_SAFETENSORS_H
