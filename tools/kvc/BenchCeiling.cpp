//===- BenchCeiling.cpp - memory readers ----------------------------------===//

#include "tools/kvc/BenchCeiling.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

#include <algorithm>
#include <immintrin.h>

using namespace kvc::bench;

//===----------------------------------------------------------------------===//
// Readers
//===----------------------------------------------------------------------===//

namespace {
enum class Ask { Never, Before, After }; ///< prefetch: when, about the loads
} // namespace

static uint64_t readNaive(const uint8_t *begin, size_t bytes, size_t) {
  auto *words = reinterpret_cast<const uint64_t *>(begin);
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes / 8; ++i)
    sum += words[i];
  return sum;
}

/// Asks for `Bytes` bytes from `address` on.
template <int Hint, size_t Bytes>
[[gnu::always_inline]] static inline void ask(const uint8_t *address) {
#pragma clang loop unroll(full)
  for (size_t line = 0; line < Bytes; line += 64)
    __builtin_prefetch(address + line, 0, Hint);
}

// Reads `Streams` places at once, `Block` bytes of each in turn. The body is
// the same for both widths; the intrinsics cannot be a template parameter.
#define KVC_READER(NAME, FEATURE, VECTOR, ZERO, LOAD, ADD)                     \
  template <size_t Streams, size_t Block, Ask When, int Hint>                  \
  __attribute__((target(FEATURE))) static uint64_t NAME(                       \
      const uint8_t *begin, size_t bytes, size_t ahead) {                      \
    const size_t part = bytes / Streams;                                       \
    VECTOR sum[4] = {ZERO(), ZERO(), ZERO(), ZERO()};                          \
    for (size_t at = 0; at < part; at += Block) {                              \
      _Pragma("clang loop unroll(full)") for (size_t s = 0; s < Streams;       \
                                              ++s) {                           \
        const uint8_t *block = begin + s * part + at;                          \
        if constexpr (When == Ask::Before)                                     \
          ask<Hint, Block>(block + ahead);                                     \
        _Pragma("clang loop unroll(full)") for (size_t i = 0;                  \
                                                i < Block / sizeof(VECTOR);    \
                                                ++i) sum[i % 4] =              \
            ADD(sum[i % 4],                                                    \
                LOAD(reinterpret_cast<const VECTOR *>(block) + i));            \
        if constexpr (When == Ask::After)                                      \
          ask<Hint, Block>(block + ahead);                                     \
      }                                                                        \
    }                                                                          \
    uint64_t words[4 * sizeof(VECTOR) / 8], total = 0;                         \
    __builtin_memcpy(words, sum, sizeof(words));                               \
    for (uint64_t word : words)                                                \
      total += word;                                                           \
    return total;                                                              \
  }

KVC_READER(read256, "avx2", __m256i, _mm256_setzero_si256, _mm256_load_si256,
           _mm256_add_epi64)
KVC_READER(read512, "avx512f", __m512i, _mm512_setzero_si512, _mm512_load_si512,
           _mm512_add_epi64)
#undef KVC_READER

#define KVC_READERS(ISA, FUNCTION)                                             \
  static void add##FUNCTION(std::vector<Reader> &list) {                       \
    auto plain = [&](const char *what, auto read) {                            \
      list.push_back({std::string(ISA ", ") + what, read, 0});                 \
    };                                                                         \
    plain("1 stream", FUNCTION<1, 256, Ask::Never, 3>);                        \
    plain("1 stream, 4 KiB blocks", FUNCTION<1, 4096, Ask::Never, 3>);         \
    plain("2 streams", FUNCTION<2, 256, Ask::Never, 3>);                       \
    plain("4 streams", FUNCTION<4, 256, Ask::Never, 3>);                       \
    plain("8 streams", FUNCTION<8, 256, Ask::Never, 3>);                       \
    plain("2 streams, 4 KiB blocks", FUNCTION<2, 4096, Ask::Never, 3>);        \
    plain("4 streams, 1 KiB blocks", FUNCTION<4, 1024, Ask::Never, 3>);        \
    for (size_t ahead : {512, 1024, 2048, 4096, 8192}) {                       \
      auto asks = [&](const char *what, auto read) {                           \
        list.push_back({std::string(ISA ", ") + what + " " +                   \
                            std::to_string(ahead) + " ahead",                  \
                        read, ahead});                                         \
      };                                                                       \
      asks("1 stream, t0", FUNCTION<1, 256, Ask::Before, 3>);                  \
      asks("1 stream, t0 after", FUNCTION<1, 256, Ask::After, 3>);             \
      asks("2 streams, t0", FUNCTION<2, 256, Ask::Before, 3>);                 \
      asks("4 streams, t0", FUNCTION<4, 256, Ask::Before, 3>);                 \
      asks("8 streams, t0", FUNCTION<8, 256, Ask::Before, 3>);                 \
      asks("2 streams, 1 KiB blocks, t0", FUNCTION<2, 1024, Ask::Before, 3>);  \
      asks("1 stream, t1", FUNCTION<1, 256, Ask::Before, 2>);                  \
      asks("1 stream, nta", FUNCTION<1, 256, Ask::Before, 0>);                 \
    }                                                                          \
  }
KVC_READERS("avx2", read256)
KVC_READERS("avx512", read512)
#undef KVC_READERS

std::vector<Reader> kvc::bench::readers() {
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  std::vector<Reader> list = {{"naive loop", readNaive, 0}};
  if (features.lookup("avx2"))
    addread256(list);
  if (features.lookup("avx512f"))
    addread512(list);
  return list;
}

//===----------------------------------------------------------------------===//
// ReadCeiling
//===----------------------------------------------------------------------===//

ReadCeiling::ReadCeiling(Arena &arena, const std::vector<unsigned> &threads)
    : arena(arena), all(readers()) {
  for (unsigned count : threads) {
    Trial &trial = trials[count];
    if (trial.team)
      continue;
    trial.team = std::make_unique<Team>(count);
    tryAll(trial);
  }
}

/// Rounds over all readers, so that a disturbance hits each alike.
void ReadCeiling::tryAll(Trial &trial) {
  constexpr unsigned kRounds = 9, kKept = 4;
  std::vector<std::vector<double>> rates(all.size());
  for (unsigned round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < all.size(); ++i)
      rates[i].push_back(measure(*trial.team, all[i]).rate);
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < all.size(); ++i)
    order.push_back({-spread(rates[i]).median, i});
  trial.naive = -order[0].first;
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < kKept && i < order.size(); ++i)
    trial.kept.push_back(all[order[i].second]);
}

Sample ReadCeiling::measure(Team &team, const Reader &reader) {
  constexpr size_t kGrain = size_t(64) << 10;
  const uint8_t *region = arena.next(Arena::kRegion);
  std::atomic<uint64_t> sum{0};
  size_t grains = Arena::kRegion / kGrain, threads = team.size();
  double seconds = team.run([&](unsigned thread) {
    size_t from = grains * thread / threads,
           to = grains * (thread + 1) / threads;
    sum +=
        reader.read(region + from * kGrain, (to - from) * kGrain, reader.ahead);
  });
  if (sum != arena.checksum(region))
    wrong = true;
  double rate = double(Arena::kRegion) / seconds;
  return {rate, team.wasQuiet() ? rate : 0};
}

const std::vector<Reader> &ReadCeiling::kept(unsigned threads) const {
  return trials.at(threads).kept;
}

std::vector<Sample> ReadCeiling::sample(unsigned threads, unsigned regions) {
  Trial &trial = trials.at(threads);
  std::vector<std::vector<Sample>> samples(trial.kept.size());
  for (unsigned region = 0; region < regions; ++region)
    for (size_t i = 0; i < samples.size(); ++i)
      samples[i].push_back(measure(*trial.team, trial.kept[i]));
  std::vector<Sample> result;
  for (const std::vector<Sample> &reader : samples)
    result.push_back(joined(reader));
  return result;
}

double ReadCeiling::naive(unsigned threads) const {
  return trials.at(threads).naive;
}
