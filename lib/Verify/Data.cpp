//===- Data.cpp - the numbers of a sequence -------------------------------===//
#include "lib/Reference/Plain.h"
#include "lib/Reference/Sequence.h"
#include "lib/Verify/Batch.h"

#include <cmath>

using namespace kvc;
using namespace kvc::verify;

static constexpr float kInf = std::numeric_limits<float>::infinity();

const char *verify::name(DataKind kind) {
  static constexpr const char *names[] = {
      "normal",     "sharp",     "channels", "equal", "dominant",
      "decreasing", "huge",      "denormal", "zero",  "infinite-v",
      "infinite-k", "addresses", "mean"};
  return names[unsigned(kind)];
}

float verify::addressDigit(int64_t head, int64_t token, int64_t channel,
                           int64_t dim) {
  // The largest makes the scale of a symmetric codec 1.
  if (channel == dim - 1)
    return 127;
  int64_t address = token * 64 + head,
          digits[] = {1, 64, 64 * 64, 64 * 64 * 64};
  return float(address / digits[channel % 4] % 64);
}

namespace {

/// Fills one member.
class Filler {
public:
  Filler(const StoreSubject &store, Member &member, Random &random)
      : store(store), member(member), random(random),
        dimK(store.cache().getDimK()), dimV(store.cache().getDimV()),
        kvHeads(store.kvHeads()) {}

  void fill();

private:
  void fillNormal();
  void fillAddresses();
  void fillMean();
  /// Every key is `key(token)` in all channels, every query `query`, so that
  /// the logits are scale * dim * query * key(token).
  template <typename Key> void fillFlat(float query, Key key);
  void spoil();
  float *k(int64_t t, int64_t head) {
    return &member.k[(t * kvHeads + head) * dimK];
  }
  float *v(int64_t t, int64_t head) {
    return &member.v[(t * kvHeads + head) * dimV];
  }
  float *q(int64_t i, int64_t head) {
    return &member.q[(i * store.problem.qHeads + head) * dimK];
  }

  const StoreSubject &store;
  Member &member;
  Random &random;
  const int64_t dimK, dimV, kvHeads;
};

void Filler::fillNormal() {
  for (auto *values : {&member.q, &member.k, &member.v})
    for (float &x : *values)
      x = random.normal();
}

template <typename Key> void Filler::fillFlat(float query, Key key) {
  for (float &x : member.q)
    x = query;
  for (int64_t t = 0; t < member.length; ++t)
    std::fill_n(k(t, 0), kvHeads * dimK, key(t));
}

/// Bit j of a token's number is in every channel that is j modulo the number
/// of bits, so that the token a query names beats all others by 2^10.
void Filler::fillAddresses() {
  int64_t bits = std::max<int64_t>(
      1, llvm::Log2_64_Ceil(uint64_t(std::max<int64_t>(2, member.length))));
  double margin = 2 * (dimK / bits) * store.problem.scale;
  float size = std::exp2(std::ceil(std::log2(1024 / margin)));
  auto sign = [&](int64_t t, int64_t c) {
    return (t >> (c % bits)) & 1 ? 1.f : -1.f;
  };
  for (int64_t t = 0; t < member.length; ++t)
    for (int64_t head = 0; head < kvHeads; ++head) {
      for (int64_t c = 0; c < dimK; ++c)
        k(t, head)[c] = sign(t, c);
      for (int64_t c = 0; c < dimV; ++c)
        v(t, head)[c] = addressDigit(head, t, c, dimV);
    }
  for (int64_t i = 0; i < member.queries; ++i) {
    int64_t p = member.position(i);
    reference::Visible visible = reference::visibleTo(store.problem, p, p);
    llvm::SmallVector<reference::Span, 2> spans;
    for (reference::Span span : {visible.sink, visible.recent})
      if (span.begin < span.end)
        spans.push_back(span);
    for (int64_t head = 0; head < store.problem.qHeads; ++head) {
      int64_t pick = 0;
      if (!spans.empty()) {
        reference::Span span = spans[random.below(spans.size())];
        pick = random.pick(
            {span.begin, span.end - 1, random.range(span.begin, span.end - 1)});
      }
      member.picks.push_back(pick);
      for (int64_t c = 0; c < dimK; ++c)
        q(i, head)[c] = size * sign(pick, c);
    }
  }
}

void Filler::fillMean() {
  for (float &x : member.k)
    x = random.normal();
  for (int64_t t = 0; t < member.length; ++t)
    for (int64_t head = 0; head < kvHeads; ++head)
      for (int64_t c = 0; c < dimV; ++c)
        v(t, head)[c] = c == dimV - 1 ? 127 : float(random.range(-127, 127));
}

/// Changes what fillNormal() left.
void Filler::spoil() {
  if (!member.length)
    return;
  double flat = 1 / (store.problem.scale * dimK); // query for logits of 1
  switch (member.kind) {
  case DataKind::Sharp:
    for (float &x : member.q)
      x *= 8;
    break;
  case DataKind::Channels:
    for (int64_t row = 0; row < member.length * kvHeads; ++row)
      for (int64_t c = 3; c < dimK; c += 23)
        member.k[row * dimK + c] *= 10;
    break;
  case DataKind::Equal:
    for (int64_t t = 1; t < member.length; ++t)
      std::copy_n(k(0, 0), kvHeads * dimK, k(t, 0));
    break;
  case DataKind::Dominant: {
    int64_t t = random.below(member.length);
    for (float &x : member.q)
      x = std::fabs(x) + 0.5f;
    std::fill_n(k(t, 0), kvHeads * dimK, float(40 * flat));
    break;
  }
  case DataKind::Decreasing:
    fillFlat(6e4 / 4 * flat, [](int64_t t) { return -4 - t / 64.f; });
    break;
  case DataKind::Huge:
    fillFlat(1e4 * flat, [&](int64_t) { return random.pick({-1.f, 1.f}); });
    break;
  case DataKind::Denormal: {
    float size = store.problem.dtype.isF16() ? 1e-6f : 1e-39f;
    for (auto *values : {&member.k, &member.v})
      for (float &x : *values)
        x *= size;
    break;
  }
  case DataKind::InfiniteV:
    for (int64_t n = 0; n < 4; ++n)
      member.v[random.below(member.v.size())] = kInf;
    break;
  case DataKind::InfiniteK:
    for (int64_t row = 0; row < member.queries * store.problem.qHeads; ++row)
      member.q[row * dimK] = 1;
    for (int64_t head = 0; head < kvHeads; ++head)
      *k(random.below(member.length), head) = -kInf;
    break;
  default:
    break;
  }
}

void Filler::fill() {
  member.q.assign(member.queries * store.problem.qHeads * dimK, 0);
  member.k.assign(member.length * kvHeads * dimK, 0);
  member.v.assign(member.length * kvHeads * dimV, 0);
  if (member.kind == DataKind::Addresses) {
    fillAddresses();
  } else if (member.kind == DataKind::Mean) {
    fillMean();
  } else if (member.kind != DataKind::Zero) {
    fillNormal();
    spoil();
  }
  for (auto *values : {&member.q, &member.k, &member.v})
    for (float &x : *values)
      x = reference::roundTo(store.problem.dtype, x);
}

} // namespace

void verify::encode(const StoreSubject &store, Member &member) {
  int64_t kvHeads = store.kvHeads();
  member.planes.clear();
  for (const StoreSubject::Plane &plane : store.planes)
    member.planes.emplace_back(store.heads() * member.length * plane.rowBytes);
  for (StreamKind kind : {StreamKind::K, StreamKind::V}) {
    StreamInfo info = store.cache().stream(kind);
    const std::vector<float> &from =
        kind == StreamKind::K ? member.k : member.v;
    bool scaled = bool(info.codec.getScaleType());
    auto row = [&](bool scales, int64_t index) {
      unsigned plane = store.cache().planeIndex(kind, scales);
      return &member.planes[plane][index * store.planes[plane].rowBytes];
    };
    for (int64_t head = 0; head < store.heads(); ++head)
      for (int64_t t = 0; t < member.length; ++t) {
        int64_t index = t * kvHeads + store.problem.firstHead + head;
        int64_t to = head * member.length + t;
        info.codec.encodeRow({&from[index * info.dim], size_t(info.dim)},
                             row(false, to), scaled ? row(true, to) : nullptr);
      }
  }
}

Member verify::makeMember(const StoreSubject &store, DataKind kind,
                          int64_t length, int64_t queries, Random &random) {
  Member member;
  member.kind = kind;
  member.length = length;
  member.queries = queries;
  Filler(store, member, random).fill();
  encode(store, member);
  return member;
}
