//===- KernelInputs.cpp - what drawn kernels run on -----------------------===//
#include "test/unit/Tile/KernelInputs.h"

#include "dialect/codecs/HostFloat.h"

#include "llvm/Support/Error.h"

#include <cmath>
#include <cstring>
#include <numeric>

using namespace kvc;
using namespace kvc::fuzz;

/// `type` as of floatType().
static void storeAs(char type, uint8_t *to, float x) {
  if (type == 'e' || type == 'm') {
    *to = type == 'e' ? toE4M3(x) : toE5M2(x);
    return;
  }
  if (type == 'p') { // of 0 the least
    *to = uint8_t(std::max(std::ilogb(x), -127) + 127);
    return;
  }
  uint16_t half = type == 'h' ? toF16(x) : toBF16(x);
  if (type == 'f')
    memcpy(to, &x, 4);
  else
    memcpy(to, &half, 2);
}

float fuzz::loadAs(char type, const uint8_t *bytes) {
  if (type == 'e' || type == 'm')
    return type == 'e' ? fromE4M3(*bytes) : fromE5M2(*bytes);
  if (type == 'p')
    return fromE8M0(*bytes);
  float x;
  uint16_t half;
  memcpy(&x, bytes, type == 'f' ? 4 : 0);
  memcpy(&half, bytes, 2);
  return type == 'f' ? x : type == 'h' ? fromF16(half) : fromBF16(half);
}

ModelRows fuzz::packRows(char dtype, int64_t rows, int64_t heads, int64_t dim,
                         std::vector<float> wide, Random &random) {
  ModelRows result;
  result.rows = rows, result.heads = heads, result.dim = dim;
  result.wide = std::move(wide);
  // GPUs want rows at multiples of 16 bytes.
  result.headStride = dim * widthOf(dtype) + 16 * random.range(0, 1);
  result.stride = heads * result.headStride + 16 * random.range(0, 2);
  result.bytes = AlignedBytes(rows * result.stride, 0xff);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < heads * dim; ++i) {
      float &x = result.wide[row * heads * dim + i];
      uint8_t *to = result.bytes.data() + row * result.stride +
                    i / dim * result.headStride + i % dim * widthOf(dtype);
      storeAs(dtype, to, x);
      x = loadAs(dtype, to);
    }
  return result;
}

/// Rows of all kv heads, each of a size of its own: so scales differ.
static std::vector<float> drawRows(int64_t count, int64_t dim, Random &random) {
  std::vector<float> wide;
  for (int64_t row = 0; row < count; ++row) {
    float size = std::ldexp(1.f, int(random.range(-3, 1)));
    for (int64_t c = 0; c < dim; ++c)
      wide.push_back(size * random.normal());
  }
  return wide;
}

/// As floatType() has it; 0: integers, and floats under a byte, of which any
/// bytes are codes.
static char letterOf(mlir::Type type) {
  for (char letter : {'f', 'h', 'b', 'e', 'm', 'p'})
    if (type == floatType(type.getContext(), letter))
      return letter;
  return 0;
}

/// Rows of a stream of which only its planes are known: any codes, and
/// parameters of both signs.
static void fillBytes(reference::HostCache &cache, llvm::StringRef name,
                      llvm::ArrayRef<int64_t> slots, Random &random) {
  reference::HostStream stream(cache, name);
  int64_t unit = cache.outerTokens;
  for (int64_t slot : slots)
    for (int64_t head = 0; head < cache.type.getHeads(); ++head)
      for (size_t plane = 0; plane < stream.planes(); ++plane) {
        uint8_t *row = stream.row(plane, slot / unit, head, slot % unit);
        int64_t bytes = stream.plane(plane).rowBytes;
        char type = letterOf(stream.plane(plane).type);
        for (int64_t at = 0; at < bytes; at += type ? widthOf(type) : 1)
          if (type)
            storeAs(type, row + at, (plane ? 0.05f : 1.f) * random.normal());
          else
            row[at] = uint8_t(random.next());
      }
}

//===----------------------------------------------------------------------===//
// Attend
//===----------------------------------------------------------------------===//

AttendInputs::AttendInputs(const Kernel &kernel, CacheType cache,
                           llvm::ArrayRef<ScheduleAttrInterface> schedules) {
  Random random = kernel.random('B');
  drawLengths(kernel, schedules, random);
  place(kernel, cache, random);
  for (StreamAttr stream : cache.getStreams())
    kernel.isWritten
        ? fillBytes(arena->cache(), stream.getName(), slots, random)
        : fill(kernel, stream.getName(), random);
  std::vector<float> wide(cuQ.back() * kernel.qHeads() * kernel.dims[0]);
  for (float &x : wide)
    x = random.normal();
  q = packRows(kernel.dtype, cuQ.back(), kernel.qHeads(), kernel.dims[0],
               std::move(wide), random);
  if (random.percent(50))
    hide(kernel);
}

/// Rows of all tokens in the cache; of boxes any codes, and parameters by which
/// f32 can say each element.
void AttendInputs::fill(const Kernel &kernel, llvm::StringRef name,
                        Random &random) {
  reference::HostStream stream(arena->cache(), name);
  int64_t unit = arena->cache().outerTokens, dim = stream.dim();
  const std::optional<Boxes> &boxes = kernel.codec(name).boxes;
  for (int64_t slot : slots)
    for (int64_t head = 0; head < kernel.heads; ++head) {
      if (!boxes) {
        stream.quantize(slot / unit, head, slot % unit,
                        drawRows(1, dim, random));
        continue;
      }
      for (size_t plane = 0; plane < stream.planes(); ++plane) {
        uint8_t *row = stream.row(plane, slot / unit, head, slot % unit);
        int64_t bytes = stream.plane(plane).rowBytes;
        char type = plane == 0   ? boxes->code
                    : plane == 1 ? boxes->scale
                                 : boxes->zero;
        bool any = type == 'i' || type == 'x'; // bytes are codes
        for (int64_t at = 0; at < bytes; at += any ? 1 : widthOf(type))
          if (plane == 0 && !any)
            storeAs(type, row + at, 64 * random.normal());
          else if (!any)
            storeAs(type, row + at,
                    std::ldexp(float(random.range(1, 31)),
                               plane == 1 ? -3 - int(boxes->bits) : -5));
          else
            row[at] = uint8_t(random.next());
      }
    }
}

/// Lengths that stand at an edge of something, and any others.
void AttendInputs::drawLengths(const Kernel &kernel,
                               llvm::ArrayRef<ScheduleAttrInterface> schedules,
                               Random &random) {
  std::vector<int64_t> edges = {1, 2, 33, kernel.page, 2 * kernel.page};
  for (ScheduleAttrInterface schedule : schedules) {
    int64_t step = schedule.getRoundTokens();
    llvm::append_range(
        edges, std::initializer_list<int64_t>{schedule.getTokens(), step,
                                              2 * step, schedule.getSplit(),
                                              2 * schedule.getSplit()});
  }
  if (kernel.window) {
    edges.push_back(kernel.window->recent);
    edges.push_back(kernel.window->sink + kernel.window->recent);
  }
  // Emulated kernels of large heads are slow.
  int64_t dim = std::max(kernel.dims[0], kernel.dims[1]);
  int64_t most = dim <= 64 ? 200 : dim <= 128 ? 130 : 70;
  bool prefill = kernel.kind == Kind::Prefill;
  int64_t sequences = random.pick({1, 2, 2, 3, 3, 4});
  for (int64_t b = 0; b < sequences; ++b) {
    int64_t length = random.percent(70) ? edges[random.below(edges.size())] +
                                              random.range(-1, 1)
                                        : random.range(1, most);
    length = std::clamp<int64_t>(length, 1, most);
    int64_t mostQueries = std::min<int64_t>(
        length, prefill ? std::max<int64_t>(4, 64 / kernel.group) : 4);
    int64_t queries = random.range(1, mostQueries);
    if (random.percent(6)) // it waits
      queries = 0;
    kvLen.push_back(int32_t(length));
    cuQ.push_back(cuQ.back() + int32_t(queries));
  }
  if (cuQ.back() == 0)
    for (int32_t &offset : llvm::drop_begin(cuQ))
      ++offset;
}

/// Sequences on pages in any order, in memory that is NaN elsewhere; entries
/// of the table that nobody may read lead nowhere.
void AttendInputs::place(const Kernel &kernel, CacheType cache,
                         Random &random) {
  int64_t longest = *llvm::max_element(kvLen), count = kvLen.size();
  int64_t unit = kernel.page ? kernel.page : longest + random.range(0, 9);
  if (kernel.page)
    tableStride = llvm::divideCeil(longest, unit) + random.range(0, 2);
  std::vector<int32_t> outers(count * tableStride + random.range(0, 3));
  std::iota(outers.begin(), outers.end(), 0);
  random.shuffle(outers);
  arena = std::make_unique<reference::HostArena>(cache, int64_t(outers.size()),
                                                 kernel.page ? 0 : unit, 0xff);
  table.assign(count * tableStride, INT32_MAX);
  for (int64_t b = 0; b < count; ++b)
    for (int64_t t = 0; t < kvLen[b]; ++t) {
      int32_t &entry = table[b * tableStride + t / unit];
      if (t % unit == 0) {
        entry = outers.back();
        outers.pop_back();
      }
      slots.push_back(entry * unit + t % unit);
    }
}

/// Whether any query of the sequence sees a token of a kv head of the store.
bool AttendInputs::isSeen(const Kernel &kernel, size_t b, int64_t token,
                          int64_t head) const {
  int64_t kvHead = kernel.firstHead + head;
  for (int64_t p = std::max(kvLen[b] - queries(b), token); p < kvLen[b]; ++p)
    for (int64_t i = 0; i < kernel.group; ++i)
      if (kernel.sees({p, token, kvHead * kernel.group + i, kvHead}))
        return true;
  return false;
}

/// Makes NaN of what no query of its sequence sees.
void AttendInputs::hide(const Kernel &kernel) {
  int64_t unit = arena->cache().outerTokens;
  size_t token = 0;
  for (size_t b = 0; b < kvLen.size(); ++b)
    for (int64_t t = 0; t < kvLen[b]; ++t, ++token)
      for (int64_t head = 0; head < kernel.heads; ++head) {
        if (isSeen(kernel, b, t, head))
          continue;
        for (StreamAttr kind : arena->cache().type.getStreams()) {
          reference::HostStream stream(arena->cache(), kind.getName());
          for (size_t plane = 0; plane < stream.planes(); ++plane) {
            if (stream.plane(plane).tokens != 1) // others may be seen
              continue;
            memset(stream.row(plane, slots[token] / unit, head,
                              slots[token] % unit),
                   0xff, stream.plane(plane).rowBytes);
          }
        }
      }
}

//===----------------------------------------------------------------------===//
// Append, gather and merge
//===----------------------------------------------------------------------===//

AppendInputs::AppendInputs(const Kernel &kernel, CacheType cache)
    : cache(cache) {
  Random random = kernel.random('B');
  outerTokens = kernel.page ? kernel.page : random.range(3, 40);
  int64_t rows = random.range(1, 20);
  outers = llvm::divideCeil(rows, outerTokens) + random.range(0, 3);
  std::vector<int64_t> places(outers * outerTokens);
  std::iota(places.begin(), places.end(), 0);
  random.shuffle(places);
  for (int64_t row = 0; row < rows; ++row)
    slots.push_back(random.percent(15) ? -random.range(1, 1000) : places[row]);
  auto draw = [&](llvm::StringRef stream) {
    int64_t dim = kernel.dim(stream), heads = kernel.kvHeads;
    std::vector<float> wide = drawRows(rows * heads, dim, random);
    for (int64_t row = 0; row < rows * heads; ++row) {
      float *x = &wide[row * dim];
      if (random.percent(8))
        std::fill(x, x + dim, 0.f);
      else if (random.percent(8))
        for (int64_t c = 0; c < dim; ++c)
          x[c] = std::ldexp(x[c], random.percent(50) ? 14 : -130);
      else if (random.percent(8))
        x[random.below(dim)] = random.pick({INFINITY, -INFINITY, NAN});
      else if (random.percent(4))
        std::fill(x, x + dim, random.pick({NAN, INFINITY, -INFINITY}));
      else if (random.percent(4)) // whose range is no finite number
        for (int64_t c = 0; c < dim; ++c)
          x[c] = c % 2 ? 3e38f : -3e38f;
      // A tie of an integer codec: -0 and steps of a half.
      if (random.percent(20))
        x[random.below(dim)] = -0.f;
    }
    return packRows(kernel.dtype, rows, heads, dim, std::move(wide), random);
  };
  k = draw(kStreamK);
  v = draw(kStreamV);
}

reference::HostArena AppendInputs::makeArena() const {
  return {cache, outers, outerTokens, AlignedBytes::kPattern};
}

/// An element that is no number, or 0 with a sign, in some rows of floats.
static void addOddFloats(reference::HostCache &cache, llvm::StringRef name,
                         llvm::ArrayRef<int64_t> slots, Random &random) {
  reference::HostStream stream(cache, name);
  char type = letterOf(stream.plane(0).type);
  if (!type)
    return;
  for (int64_t slot : slots) {
    if (!random.percent(10))
      continue;
    uint8_t *to =
        stream.row(0, slot / cache.outerTokens, 0, slot % cache.outerTokens) +
        random.below(stream.dim()) * widthOf(type);
    // As codes: f8 is stored saturated, and the largest value is none of these.
    if (type == 'e')
      *to = random.pick<uint8_t>({0x7f, 0xff, 0x80});
    else if (type == 'm')
      *to = random.pick<uint8_t>({0x7c, 0xfc, 0x7e, 0xff, 0x80});
    else
      storeAs(type, to, random.pick({INFINITY, -INFINITY, NAN, -0.f}));
  }
}

/// The ends of what powers of two are as scales: a NaN, and the least, in some
/// rows.
static void addOddPowers(reference::HostCache &cache, llvm::StringRef name,
                         llvm::ArrayRef<int64_t> slots, Random &random) {
  reference::HostStream stream(cache, name);
  if (stream.planes() != 2 || letterOf(stream.plane(1).type) != 'p')
    return;
  for (int64_t slot : slots)
    if (random.percent(60))
      *stream.row(1, slot / cache.outerTokens, 0, slot % cache.outerTokens) =
          random.pick<uint8_t>({0, 1, 0xff, 0xff});
}

GatherInputs::GatherInputs(const Kernel &kernel, CacheType cache) {
  Random random = kernel.random('B');
  int64_t unit = kernel.page ? kernel.page : random.range(3, 40);
  int64_t rows = random.range(1, 20), outers = random.range(1, 4);
  // What nobody asks for is NaN.
  arena = std::make_unique<reference::HostArena>(cache, outers, unit, 0xff);
  std::vector<int64_t> places(outers * unit), filled;
  std::iota(places.begin(), places.end(), 0);
  random.shuffle(places);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t place = places[row % places.size()];
    if (!filled.empty() && random.percent(15))
      place = filled[random.below(filled.size())];
    filled.push_back(place);
    slots.push_back(random.percent(15) ? -random.range(1, 1000) : place);
  }
  for (StreamAttr stream : cache.getStreams()) {
    fillBytes(arena->cache(), stream.getName(), filled, random);
    addOddFloats(arena->cache(), stream.getName(), filled, random);
    addOddPowers(arena->cache(), stream.getName(), filled, random);
  }
}

MergeInputs::MergeInputs(const Kernel &kernel) {
  Random random = kernel.random('B');
  int64_t sequences = random.range(1, 4), columns = kernel.heads * kernel.group;
  int64_t dim = kernel.dims[1], numSplits = kernel.numSplits;
  std::vector<int64_t> queries;
  for (int64_t b = 0; b < sequences; ++b) {
    queries.push_back(random.range(0, 5));
    if (b + 1 == sequences && cuQ.back() == 0)
      queries.back() = 3;
    splitRow.push_back(int64_t(cuQ.back()) * numSplits * columns);
    cuQ.push_back(cuQ.back() + int32_t(queries.back()));
  }
  int64_t rows = cuQ.back();
  wideO = reference::Tensor({numSplits, rows, columns, dim}, 0);
  wideLse = reference::Tensor({numSplits, rows, columns}, 0);
  o = AlignedBytes(numSplits * rows * columns * dim * 4, 0xff);
  lse = AlignedBytes(numSplits * rows * columns * 4, 0xff);
  float spread = random.pick({0.f, 1.f, 5.f, 60.f});
  for (int64_t b = 0; b < sequences; ++b)
    for (int64_t splitIdx = 0; splitIdx < numSplits; ++splitIdx)
      for (int64_t i = 0; i < queries[b]; ++i)
        for (int64_t column = 0; column < columns; ++column) {
          int64_t at =
              splitRow[b] + (splitIdx * queries[b] + i) * columns + column;
          int64_t wideAt = (splitIdx * rows + cuQ[b] + i) * columns + column;
          // A split that saw nothing: its o never matters.
          bool none = random.percent(15);
          float logit = none ? -INFINITY : spread * random.normal();
          lse.as<float>()[at] = logit;
          wideLse.data[wideAt] = logit;
          for (int64_t c = 0; c < dim; ++c) {
            float x = none ? NAN : random.normal();
            o.as<float>()[at * dim + c] = x;
            wideO.data[wideAt * dim + c] = x;
          }
        }
}
