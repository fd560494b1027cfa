//===- BatchImage.h - a batch in memory, as a kernel sees it ----*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_BATCHIMAGE_H
#define KVC_LIB_DRIVER_VERIFY_BATCHIMAGE_H

#include "lib/driver/Verify/Batch.h"

namespace kvc::verify {

/// What bytes hold that nobody owns.
enum class Poison : uint8_t { Zero, NaN, PlusInfinity, MinusInfinity, Random };
inline constexpr Poison kPoisons[] = {Poison::Zero, Poison::NaN,
                                      Poison::PlusInfinity,
                                      Poison::MinusInfinity, Poison::Random};
const char *name(Poison poison);

/// How a batch is put into memory. None of it may change a result.
struct Placement {
  Poison poison = Poison::Random;
  /// Pages (or slots) anywhere in a larger pool, planes apart, strides and
  /// tables padded; otherwise dense and in order.
  bool scatter = false;
  uint64_t salt = 0;   ///< which random bytes and page ids
  unsigned device = 0; ///< of Devices
  bool lse = true;     ///< ask for lse
  /// Which rows are there: all (for append to compare with), those that some
  /// query sees (the rest is poison), or none (for append to write).
  enum class Rows : uint8_t { All, Seen, None } rows = Rows::Seen;
};

/// A heap buffer that starts on a cache line.
class Buffer {
public:
  /// All bytes are 0 afterwards.
  void resize(size_t bytes) {
    lines.assign((bytes + sizeof(Line) - 1) / sizeof(Line), {});
    count = bytes;
  }
  uint8_t *data() { return reinterpret_cast<uint8_t *>(lines.data()); }
  const uint8_t *data() const {
    return reinterpret_cast<const uint8_t *>(lines.data());
  }
  size_t size() const { return count; }

private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> lines;
  size_t count = 0;
};

/// Fills `bytes` as elements of `type` with what `poison` says.
void fill(uint8_t *bytes, size_t size, mlir::Type type, Poison poison,
          Random &random);
/// Bits of values of a float type.
void pack(mlir::Type type, llvm::ArrayRef<float> values, uint8_t *bytes);

/// The sequences' rows in a pool of pages or slots, with their table.
class BatchImage {
public:
  BatchImage(const CompiledStore &store,
             llvm::ArrayRef<const TestSequence *> sequences,
             const Placement &placement);

  const CompiledStore &store;
  const Placement placement;
  const std::vector<const TestSequence *> sequences;

  Buffer arena;
  reference::HostCache cache; ///< into arena
  std::vector<int32_t> cuQ, kvLen, table;
  int64_t tableStride = 1;
  std::vector<int64_t> constantRows;

  reference::HostBatch batch() const {
    return {cuQ, kvLen, table, tableStride, constantRows};
  }
  int64_t rows() const { return cuQ.back(); }
  uint8_t *row(unsigned plane, unsigned sequence, int64_t head, int64_t token);
  void dequantize(llvm::StringRef stream, unsigned sequence, int64_t head,
                  int64_t token, llvm::MutableArrayRef<float> row);
  /// Slot of a sequence's token, as append takes it.
  int64_t slot(unsigned sequence, int64_t token) const;
  /// q of all sequences, dense, as f32.
  std::vector<float> queries() const;

private:
  void planTable(Random &random);
  void planPlanes(Random &random);
  std::vector<int64_t> tokensOf(const TestSequence &sequence,
                                int64_t head) const;
  void place();

  int64_t outers = 0, outerTokens = 0;
  llvm::SmallVector<int64_t, 4> planeBytes; ///< of one outer, gap included
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_BATCHIMAGE_H
