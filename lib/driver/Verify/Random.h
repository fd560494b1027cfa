//===- Random.h - random numbers that a case index can name -----*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_VERIFY_RANDOM_H
#define KVC_LIB_DRIVER_VERIFY_RANDOM_H

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

namespace kvc::verify {

/// A stream of numbers that depends on nothing but (seed, index, purpose), so
/// that any case can be made again alone, on any machine.
class Random {
public:
  explicit Random(uint64_t seed, uint64_t index = 0, uint64_t purpose = 0)
      : key(mix(mix(mix(seed) ^ index) ^ purpose)) {}

  uint64_t next() { return mix(key + 0x9e3779b97f4a7c15 * ++counter); }
  /// In [0, n), n > 0.
  uint64_t below(uint64_t n) { return next() % n; }
  /// In [low, high].
  int64_t range(int64_t low, int64_t high) {
    return low + int64_t(below(uint64_t(high - low) + 1));
  }
  bool percent(unsigned chance) { return below(100) < chance; }
  template <typename T> T pick(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }
  /// Nearly normal: mean 0, variance 1, at most 3.5 away. A sum of four
  /// uniforms, exact in f32 and so the same everywhere.
  float normal() {
    uint64_t bits = next();
    int64_t sum = 0;
    for (unsigned i = 0; i < 4; ++i)
      sum += int64_t((bits >> (16 * i)) & 0xffff) - 0x8000;
    return float(sum) * (1.7320508f / 65536);
  }
  template <typename Range> void shuffle(Range &range) {
    for (size_t i = range.size(); i > 1; --i)
      std::swap(range[i - 1], range[below(i)]);
  }

private:
  /// splitmix64's finaliser.
  static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  uint64_t key, counter = 0;
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_RANDOM_H
