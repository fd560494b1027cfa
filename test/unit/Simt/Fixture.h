//===- Fixture.h - kernels in C++ for the emulator --------------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_SIMT_FIXTURE_H
#define KVC_TEST_UNIT_SIMT_FIXTURE_H

#include "lib/base/Simt/Machine.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <bit>
#include <cstring>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace kvc::simt {

/// Where shared memory begins for kernels; the first of them reads it.
inline constexpr uint32_t kBase = 1024;

/// Where an instruction is: its line in the test unless a test names it, as
/// `A`, `B` or `C` in findings.
struct Site {
  using Line = std::source_location;
  enum Name : uint32_t { A = 1, B, C };

  uint32_t number;
  Site(Name name) : number(name) {}
  Site(Line line) : number(line.line()) {}
};

/// One GPU thread, as a hand-written kernel sees it.
struct Gpu {
  using Line = Site::Line;

  KvcSimThread *thread;

  /// An operand: 32-bit, 64-bit, f32 or an address.
  struct In {
    uint64_t bits;
    In(int x) : bits(uint32_t(x)) {}
    In(uint32_t x) : bits(x) {}
    In(uint64_t x) : bits(x) {}
    In(float x) : bits(std::bit_cast<uint32_t>(x)) {}
    In(const void *x) : bits(reinterpret_cast<uintptr_t>(x)) {}
  };

  /// Executes an instruction; its first result.
  uint32_t op(uint32_t op, std::initializer_list<In> in = {},
              Site site = Line::current()) const {
    unsigned i = 0;
    for (const In &x : in)
      thread->in[i++] = x.bits;
    thread->op(thread, op, site.number);
    return uint32_t(thread->out[0]);
  }
  uint32_t out(unsigned i) const { return uint32_t(thread->out[i]); }
  float outF(unsigned i) const { return std::bit_cast<float>(out(i)); }

  template <typename T>
  T load(const T *from, Site site = Line::current()) const {
    thread->access(thread, from, sizeof(T), 0, site.number);
    return *from;
  }
  template <typename T>
  void store(T *to, T x, Site site = Line::current()) const {
    thread->access(thread, to, sizeof(T), KVC_SIM_WRITE, site.number);
    *to = x;
  }

  //===--- what most kernels need -------------------------------------------//
  uint32_t tid() const { return op(KVC_OP_TidX); }
  uint32_t lane() const { return tid() % 32; }
  uint32_t warp() const { return tid() / 32; }
  uint32_t cta() const { return op(KVC_OP_CtaidX); }
  void barrier(uint32_t threads, Site site = Line::current()) const {
    op(KVC_OP_BarSync, {0, threads}, site);
  }
  void warpSync(Site site = Line::current()) const {
    op(KVC_OP_WarpSync, {}, site);
  }
  uint32_t lds(uint32_t at, Site site = Line::current()) const {
    return op(KVC_OP_Lds32, {kBase + at, 0}, site);
  }
  void sts(uint32_t at, In x, Site site = Line::current()) const {
    op(KVC_OP_Sts32, {kBase + at, x, 0}, site);
  }
};

/// Runs kernels, which are lambdas without captures, on a machine of its own.
class SimtTest : public testing::Test {
protected:
  /// "" or the finding.
  template <typename Params>
  std::string run(void (*kernel)(Gpu, Params &), Params &params,
                  uint32_t threads = 32, size_t shared = 4096,
                  uint32_t grid = 1) {
    struct Call {
      void (*kernel)(Gpu, Params &);
      Params *params;
    } call = {kernel, &params};
    Launch launch;
    launch.kernel = [](KvcSimThread *thread, const void *from) {
      const auto *call = static_cast<const Call *>(from);
      call->kernel(Gpu{thread}, *call->params);
    };
    launch.grid = grid;
    launch.threads = threads;
    launch.shared = shared;
    launch.params = &call;
    launch.sites = sites;
    launch.name = "kernel";
    std::string finding;
    bool good = machine->launch(launch, finding);
    EXPECT_EQ(good, finding.empty());
    return finding;
  }
  std::string run(void (*kernel)(Gpu, int &), uint32_t threads = 32,
                  size_t shared = 4096, uint32_t grid = 1) {
    int none = 0;
    return run<int>(kernel, none, threads, shared, grid);
  }

  const Counters &counters() const { return machine->counters(); }
  SiteCounters at(Site site) const {
    auto found = counters().sites.find(sites[site.number]);
    return found == counters().sites.end() ? SiteCounters() : found->second;
  }

  std::vector<std::string> sites = lines();
  std::unique_ptr<Machine> machine = std::make_unique<Machine>(1);

private:
  static std::vector<std::string> lines() {
    std::vector<std::string> all = {"", "A", "B", "C"};
    for (size_t line = all.size(); line < 1000; ++line)
      all.push_back("line " + std::to_string(line));
    return all;
  }
};

} // namespace kvc::simt

#endif // KVC_TEST_UNIT_SIMT_FIXTURE_H
