//===- BatchImage.cpp - a batch in memory, as a kernel sees it ------------===//
#include "lib/driver/Verify/BatchImage.h"
#include "dialect/codecs/HostFloat.h"
#include "lib/driver/Reference/Sequence.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>

using namespace kvc;
using namespace kvc::verify;

static constexpr int64_t kLine = 64;

const char *verify::name(Poison poison) {
  static constexpr const char *names[] = {"zeros", "NaN", "+inf", "-inf",
                                          "random bytes"};
  return names[unsigned(poison)];
}

/// Codes of less than a byte are filled byte by byte.
static unsigned bytesOf(mlir::Type type) {
  return std::max(type.getIntOrFloatBitWidth() / 8, 1u);
}

/// One element's bits.
static uint64_t pattern(mlir::Type type, Poison poison) {
  bool plus = poison == Poison::PlusInfinity;
  if (poison == Poison::Zero || poison == Poison::Random)
    return 0;
  if (poison == Poison::NaN) // all ones, in every float type
    return (uint64_t(1) << 8 * bytesOf(type)) - 1;
  if (auto floats = mlir::dyn_cast<mlir::FloatType>(type)) // or NaN
    return llvm::APFloat::getInf(floats.getFloatSemantics(), !plus)
        .bitcastToAPInt()
        .getZExtValue();
  return plus ? 0x7f : 0x80;
}

void verify::fill(uint8_t *bytes, size_t size, mlir::Type type, Poison poison,
                  Random &random) {
  // Drawing every byte of every workspace would cost more than the kernels.
  constexpr size_t period = 4096;
  size_t drawn = std::min(size, period);
  unsigned width = bytesOf(type);
  for (size_t i = 0; i < drawn; i += 8) {
    uint64_t word = pattern(type, poison);
    for (unsigned bits = 8 * width; bits < 64; bits *= 2) // little endian
      word |= word << bits;
    if (poison == Poison::Random)
      word = random.next();
    std::memcpy(bytes + i, &word, std::min<size_t>(8, drawn - i));
  }
  for (size_t at = drawn; at < size; at += drawn)
    std::memcpy(bytes + at, bytes, std::min(drawn, size - at));
}

void verify::pack(mlir::Type type, llvm::ArrayRef<float> values,
                  uint8_t *bytes) {
  if (type.isF32()) {
    std::memcpy(bytes, values.data(), values.size() * sizeof(float));
    return;
  }
  bool half = type.isF16();
  for (float x : values) {
    uint16_t bits = half ? toF16(x) : toBF16(x);
    std::memcpy(bytes, &bits, 2);
    bytes += 2;
  }
}

BatchImage::BatchImage(const CompiledStore &store,
                       llvm::ArrayRef<const TestSequence *> sequences,
                       const Placement &placement)
    : store(store), placement(placement), sequences(sequences) {
  Random random(placement.salt, 0, 'P');
  cuQ.push_back(0);
  for (const TestSequence *sequence : sequences) {
    cuQ.push_back(cuQ.back() + sequence->queries);
    kvLen.push_back(sequence->length);
    constantRows.push_back(constantRowOf(sequence->length, sequence->queries));
  }
  planTable(random);
  planPlanes(random);
  for (auto [plane, at, bytes] :
       llvm::zip(store.planes, cache.planes, planeBytes))
    for (int64_t outer = 0; outer < outers; ++outer)
      fill(at.base + outer * at.pageStride, bytes, plane.type, placement.poison,
           random);
  if (placement.rows != Placement::Rows::None)
    place();
}

/// Who has which page or slot. Entries that no kernel may read are no ids.
void BatchImage::planTable(Random &random) {
  bool scatter = placement.scatter;
  int64_t longest = 1, used = 0;
  for (const TestSequence *sequence : sequences)
    longest = std::max(longest, sequence->length);
  outerTokens = store.paged() ? store.page()
                              : longest + (scatter ? random.range(0, 40) : 0);
  auto outersOf = [&](const TestSequence *sequence) {
    return store.paged() ? llvm::divideCeil(sequence->length, outerTokens) : 1;
  };
  for (const TestSequence *sequence : sequences)
    used += outersOf(sequence);
  if (store.paged())
    tableStride = llvm::divideCeil(longest, outerTokens) +
                  (scatter ? random.range(0, 9) : 0);
  outers = used + (scatter ? random.range(1, 5) : 0);
  outers = std::max<int64_t>(outers, 1);
  std::vector<int32_t> ids(outers);
  for (int64_t i = 0; i < outers; ++i)
    ids[i] = i;
  if (scatter)
    random.shuffle(ids);
  table.assign(sequences.size() * tableStride, 0x7fffffff);
  int64_t next = 0;
  for (size_t b = 0; b < sequences.size(); ++b)
    for (int64_t i = 0; i < int64_t(outersOf(sequences[b])); ++i)
      table[b * tableStride + i] = ids[next++];
}

/// Dense: outer after outer, each its planes. Scattered: plane after plane,
/// with gaps between outers, and between heads where the order lets them.
void BatchImage::planPlanes(Random &random) {
  bool scatter = placement.scatter;
  auto gap = [&] { return scatter ? kLine * random.range(0, 3) : 0; };
  bool headsOutside = store.spec->layout.order == spec::PageOrder::HND;
  llvm::SmallVector<int64_t, 4> starts;
  int64_t end = 0;
  for (const CompiledStore::Plane &plane : store.planes) {
    int64_t headStride = plane.rowBytes;
    int64_t bytes = outerTokens * plane.rowStride;
    if (headsOutside) {
      headStride = outerTokens * plane.rowStride + gap();
      bytes = store.heads() * headStride;
    }
    bytes = llvm::alignTo(bytes, kLine) + gap();
    starts.push_back(end);
    planeBytes.push_back(bytes);
    cache.planes.push_back({nullptr, bytes, headStride});
    end += scatter ? outers * bytes : bytes;
  }
  arena.resize(scatter ? end : outers * end);
  for (auto [plane, start] : llvm::zip(cache.planes, starts)) {
    plane.base = arena.data() + start;
    if (!scatter)
      plane.pageStride = end;
  }
  cache.type = store.cache();
  cache.outers = outers;
  cache.outerTokens = outerTokens;
}

uint8_t *BatchImage::row(unsigned plane, unsigned sequence, int64_t head,
                         int64_t token) {
  const reference::HostPlane &at = cache.planes[plane];
  int64_t outer = table[sequence * tableStride + token / outerTokens];
  return at.base + outer * at.pageStride + head * at.headStride +
         token % outerTokens * store.planes[plane].rowStride;
}

void BatchImage::dequantize(llvm::StringRef stream, unsigned sequence,
                            int64_t head, int64_t token,
                            llvm::MutableArrayRef<float> row) {
  StreamInfo info = store.cache().stream(stream);
  unsigned first = store.cache().planeIndex(stream);
  llvm::SmallVector<const uint8_t *, 3> rows;
  for (size_t plane = 0; plane < info.planes().size(); ++plane)
    rows.push_back(this->row(first + plane, sequence, head, token));
  info.codec.dequantizeRow(rows, row);
}

int64_t BatchImage::slot(unsigned sequence, int64_t token) const {
  int64_t outer = table[sequence * tableStride + token / outerTokens];
  return outer * outerTokens + token % outerTokens;
}

std::vector<float> BatchImage::queries() const {
  std::vector<float> q;
  for (const TestSequence *sequence : sequences)
    q.insert(q.end(), sequence->q.begin(), sequence->q.end());
  return q;
}

/// The tokens whose rows of a kv head are wanted: all, or those that some query
/// sees.
std::vector<int64_t> BatchImage::tokensOf(const TestSequence &sequence,
                                          int64_t head) const {
  std::vector<int64_t> tokens;
  auto add = [&](int64_t t) { tokens.push_back(t); };
  const reference::AttendProblem &problem = store.problem;
  if (placement.rows != Placement::Rows::Seen) {
    llvm::for_each(llvm::seq<int64_t>(0, sequence.length), add);
    return tokens;
  }
  if (!sequence.queries)
    return tokens;
  reference::Visible shown = reference::visibleTo(
      problem, sequence.position(0), sequence.length - 1, sequence.length);
  if (problem.shown.isEmpty()) {
    shown.forEach(add);
    return tokens;
  }
  int64_t first = (problem.firstHead + head) * problem.group;
  std::vector<char> seen(sequence.length);
  for (int64_t query = 0; query < sequence.queries; ++query)
    for (int64_t qHead = first; qHead < first + problem.group; ++qHead)
      reference::forEachSeen(problem, sequence.place(query), qHead,
                             [&](int64_t t) { seen[t] = 1; });
  for (int64_t t = 0; t < sequence.length; ++t)
    if (seen[t])
      add(t);
  return tokens;
}

/// Copies the sequences' quantized rows to where the table says.
void BatchImage::place() {
  for (auto [b, sequence] : llvm::enumerate(sequences)) {
    for (int64_t head = 0; head < store.heads(); ++head)
      for (int64_t t : tokensOf(*sequence, head))
        for (unsigned plane = 0; plane < store.planes.size(); ++plane) {
          int64_t bytes = store.planes[plane].rowBytes;
          const uint8_t *from =
              &sequence->planes[plane][(head * sequence->length + t) * bytes];
          std::memcpy(row(plane, b, head, t), from, bytes);
        }
  }
}
