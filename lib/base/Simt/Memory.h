//===- Memory.h - memory that threads share ---------------------*- C++ -*-===//
//
// Every call gives "" or a finding, and notes the access.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SIMT_MEMORY_H
#define KVC_LIB_BASE_SIMT_MEMORY_H

#include "lib/base/Simt/Races.h"
#include "lib/base/Simt/Text.h"

namespace kvc::simt {

/// The shared memory of a CTA. Addresses are relative to its first byte.
class SharedMemory {
public:
  explicit SharedMemory(SiteNames &sites) : sites(sites) {}

  /// Forgets everything; bytes are poison.
  void reset(size_t bytes);

  /// A read or write of `bytes`, naturally aligned.
  std::string read(uint32_t at, uint32_t bytes, const Accessor &accessor);
  std::string write(uint32_t at, uint32_t bytes, const Accessor &accessor);
  /// A copy to these bytes begins, which the accessor issues and `as` writes:
  /// they are poison until finish().
  std::string begin(uint32_t at, uint32_t bytes, const Accessor &accessor,
                    const Access &as);
  /// It is there; if `by` waited for it, as if that had written it now.
  void finish(uint32_t at, uint32_t bytes, const Accessor *by);
  /// Eight bytes that only barrier instructions may touch.
  std::string makeBarrier(uint32_t at, const Accessor &accessor);
  /// Who wrote a byte last.
  Access writer(uint32_t at) { return races.writer(at); }

  uint8_t *data() { return bytes.data(); }

private:
  enum State : uint8_t { Poison, Valid, InFlight, Barrier };

  std::string place(uint32_t at, uint32_t size, const char *verb);
  std::string use(uint32_t at, uint32_t size, const Accessor &accessor,
                  const Access &as, bool write);
  std::string misuse(uint32_t at, uint32_t size, bool write);

  SiteNames &sites;
  size_t size = 0;
  std::vector<uint8_t> bytes;
  std::vector<State> states; ///< of bytes
  Races races;
};

/// Global memory: which of it may be touched, and who did.
class GlobalMemory {
public:
  explicit GlobalMemory(SiteNames &sites) : sites(sites) {}

  void allow(uintptr_t base, size_t bytes, bool writable);
  void forget(uintptr_t base);
  /// A kernel begins: all before it is over.
  void reset() { races.reset(0); }

  /// A read or write of `bytes`, naturally aligned.
  std::string read(uintptr_t at, uint32_t bytes, const Accessor &accessor);
  std::string write(uintptr_t at, uint32_t bytes, const Accessor &accessor);
  /// A copy from these bytes begins, which the accessor issues and `as` reads.
  std::string copyFrom(uintptr_t at, uint32_t bytes, const Accessor &accessor,
                       const Access &as);

private:
  struct Range {
    uintptr_t base;
    size_t bytes;
    bool writable;

    bool holds(uintptr_t at, uint32_t size) const {
      return at >= base && at - base <= bytes && size <= bytes - (at - base);
    }
  };
  std::string bounds(uintptr_t at, uint32_t bytes, bool write);
  std::string race(const Race &race, const Accessor &accessor,
                   const char *verb);

  SiteNames &sites;
  std::multimap<uintptr_t, Range> ranges;
  size_t longest = 0; ///< of them, ever
  bool restricted = false;
  Range last = {}; ///< that held an access
  Races races;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_MEMORY_H
