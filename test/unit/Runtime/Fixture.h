//===- Fixture.h - an artifact without a compiler, and its meaning -*- C++
//-*-===//
//
// Model: 2 layers, 4 query heads, 2 kv heads, K of 8 and V of 16 f32 channels.
//
//   store     layers  kv heads  layout             reads
//   `paged`   0       0, 1      pages of 4, HND    all
//   `window`  1       0         pages of 8, NHD    sink 3, recent 6
//   `flat`    1       1         contiguous, HND    all
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_UNIT_RUNTIME_FIXTURE_H
#define KVC_TEST_UNIT_RUNTIME_FIXTURE_H

#include "lib/base/Artifact/Bundle.h"
#include "runtime/include/kvc/runtime.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvc::test {

inline constexpr int kLayers = 2, kQueryHeads = 4, kHeads = 2, kDimK = 8,
                     kDimV = 16;
inline constexpr uint32_t kPaged = 0, kWindow = 1, kFlat = 2;

/// Lists the words of a kernel written by hand, in the order of its struct in
/// blocks.h; `attends` is how many attend kernels a plan is for.
void listBlock(artifact::KernelInfo &info, uint32_t attends = 0);

artifact::Manifest fixtureManifest();
/// An artifact of the manifest, whose kernels may name the blob
/// "cpu/generic.o". Symbols get their keys here, in manifest and object.
std::vector<uint8_t> pack(artifact::Manifest manifest);
/// An object of kernels by hand with the symbols of a manifest's kernels.
std::vector<uint8_t> withSymbols(std::span<const uint8_t> object,
                                 const artifact::Manifest &manifest);

/// A device with so many threads and the program of fixtureManifest().
struct Loaded {
  explicit Loaded(uint32_t threads = 1, const kvc_parallel *parallel = nullptr);
  /// Takes the device.
  Loaded(kvc_device *device, const std::vector<uint8_t> &artifact);
  ~Loaded();
  Loaded(const Loaded &) = delete;
  Loaded &operator=(const Loaded &) = delete;

  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
};

/// What kernels of an emulated GPU may touch for as long as it lives; nothing
/// on a CPU.
class Lent {
public:
  explicit Lent(const Loaded &loaded) : device(loaded.device) {}
  ~Lent();
  Lent(const Lent &) = delete;
  Lent &operator=(const Lent &) = delete;

  void reads(const void *base, size_t bytes) { add(base, bytes, false); }
  template <class T> void reads(const std::vector<T> &values) {
    reads(values.data(), values.size() * sizeof(T));
  }
  void writes(void *base, size_t bytes) { add(base, bytes, true); }

private:
  void add(const void *base, size_t bytes, bool writable);

  kvc_device *device;
  std::vector<const void *> bases;
};

/// Rows of one kind, [rows][heads][dim].
struct Rows {
  Rows(uint32_t rows, int heads, int dim) : width(heads * dim) {
    values.resize(size_t(rows) * width);
  }
  static Rows random(uint32_t rows, int heads, int dim, uint32_t seed);

  float *row(size_t i) { return values.data() + i * width; }
  const float *row(size_t i) const { return values.data() + i * width; }
  int64_t stride() const { return int64_t(width) * 4; }

  int width;
  std::vector<float> values;
};

/// K and V of one sequence as they were appended, from token 0.
struct History {
  std::vector<std::vector<float>> k, v; ///< [token][heads * dim]
};

/// Attention of one query row at `position` over the stores of `layer`, in
/// float64. out [kQueryHeads][kDimV], lse [kQueryHeads].
void expectedAttention(const History &history, int layer, int64_t position,
                       const float *q, double *out, double *lse);
/// The same of one store only; other heads are untouched.
void expectedOfStore(const History &history, uint32_t store, int64_t position,
                     const float *q, double *out, double *lse);

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_FIXTURE_H
