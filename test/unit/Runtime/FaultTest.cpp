//===- FaultTest.cpp - memory that runs out is a status -------------------===//
//
// Every call is made with its first, second, ... allocation refused, alone and
// with all that follow, until it succeeds: it must say KVC_OUT_OF_MEMORY, leave
// the state as it was and no memory behind, and what comes of the calls in the
// end is what comes of them where memory is plenty.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Artifact/KernelAbi.h"
#include "test/unit/Runtime/FakeCuda.h"
#include "test/unit/Runtime/Faults.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvc;
using namespace kvc::test;

namespace {

/// A kind of device, and an artifact that it runs.
struct Kind {
  const char *name;
  std::function<kvc_status(kvc_device **)> create;
  std::vector<uint8_t> artifact;
  /// It needs memory, which it keeps, in append and attend: emulators of GPUs.
  bool allocates = false;
  /// Of calls that make something, each n is tried: most of what they allocate
  /// is the same on all devices.
  bool triesAll = false;
};

/// With one kernel that gathers: each more is loaded some thousand times.
artifact::Manifest withOneGather(artifact::Manifest manifest) {
  std::erase_if(manifest.kernels, [](const artifact::KernelInfo &kernel) {
    return kernel.kind == "gather" && kernel.store != "paged";
  });
  return manifest;
}

/// The fixture's, with kernels that want scratch to append and gather, too.
artifact::Manifest cpuManifest() {
  artifact::Manifest manifest = withOneGather(fixtureManifest());
  for (artifact::KernelInfo &kernel : manifest.kernels)
    if (kernel.kind == "append" || kernel.kind == "gather")
      kernel.scratchBytes = 256;
  return manifest;
}

Kind cpu() {
  auto create = [](kvc_device **device) {
    kvc_cpu_options options = {};
    options.size = sizeof(options);
    options.threads = 3;
    return kvc_device_create_cpu(&options, device);
  };
  return {.name = "cpu",
          .create = create,
          .artifact = pack(cpuManifest()),
          .triesAll = true};
}

kvc_status createSim(const char *target, kvc_device **device) {
  kvc_sim_options options = {};
  options.size = sizeof(options);
  options.target = target;
  options.threads = 2;
  options.flags = KVC_SIM_COUNT;
  return kvc_device_create_sim(&options, device);
}

Kind amx() {
  artifact::Manifest manifest = cpuManifest();
  for (artifact::KernelInfo &kernel : manifest.kernels) {
    kernel.target = "x86-64-tiles";
    kernel.features = {"amx-tile", "amx-bf16"};
    if (kernel.symbol == "paged_append")
      kernel.symbol = "tiles_append";
  }
  return {"amx",
          [](kvc_device **device) { return createSim("x86-64-tiles", device); },
          pack(manifest)};
}

Kind gpu() {
  return {"sim", [](kvc_device **device) { return createSim("sm_80", device); },
          packGpu(withOneGather(gpuManifest("sim", {"sm_80"}))), true};
}

Kind cuda() {
  return {"cuda",
          [](kvc_device **device) {
            return kvc_device_create_cuda(nullptr, device);
          },
          packGpu(withOneGather(gpuManifest("cuda", {"sm_80"})))};
}

/// What must not change by a call that fails.
struct State {
  kvc_cache_stats stats;
  kvc_sim_counters counters;
  uint32_t lengths[2];
  uint32_t check;

  bool operator==(const State &other) const {
    return !std::memcmp(this, &other, sizeof(State));
  }
};

/// One run through the interface, with or without faults.
class Script {
public:
  Script(const Kind &kind, bool faults) : kind(kind), faults(faults) {
    path = testing::TempDir() + "kvc-faults-" + std::to_string(getpid());
    std::FILE *file = std::fopen(path.c_str(), "wb");
    std::fwrite(kind.artifact.data(), 1, kind.artifact.size(), file);
    std::fclose(file);
  }
  ~Script() { std::remove(path.c_str()); }

  void run();

  /// Everything that calls gave.
  std::vector<std::vector<float>> results;
  std::vector<State> states;
  uint64_t refusals = 0;

private:
  using Call = std::function<kvc_status()>;
  using Undo = std::function<void()>;

  State state() const;
  bool attempt(const char *what, Fault fault, const Call &call, uint32_t code,
               bool keeps);
  void make(const char *what, const Call &call, const Undo &undo = nullptr,
            uint32_t code = KVC_OK);
  void use(const char *what, const Call &call);
  void load();
  void refuse();
  void createCache(bool lendsArena);
  void step(uint32_t n, uint32_t kept);
  void read();
  void direct(uint32_t layer, Rows &q);

  const Kind &kind;
  const bool faults;
  std::string path;
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  kvc_cache *cache = nullptr;
  kvc_seq sequences[2] = {};
  kvc_step open = {};
  std::vector<uint8_t> arena;
  kvc_sim_counters base = {};
  uint32_t seed = 1;
};

State Script::state() const {
  State state = {};
  state.stats.size = sizeof(state.stats);
  state.counters.size = sizeof(state.counters);
  if (device) // refused by those that do not count
    kvc_sim_get_counters(device, &state.counters);
  // Those of an emulated CPU are the process's.
  state.counters.instructions -= base.instructions;
  state.counters.mma -= base.mma;
  state.counters.bytes_read -= base.bytes_read;
  state.counters.bytes_written -= base.bytes_written;
  if (!cache)
    return state;
  kvc_cache_get_stats(cache, &state.stats);
  for (int i = 0; i < 2; ++i)
    if (sequences[i].generation)
      kvc_cache_length(cache, sequences[i], &state.lengths[i]);
  state.check = kvc_cache_check(cache, 2).code;
  return state;
}

/// True if the call came to what it comes to without faults: `code`.
bool Script::attempt(const char *what, Fault fault, const Call &call,
                     uint32_t code, bool keeps) {
  State before = state();
  int64_t existed = live();
  arm(what, fault);
  kvc_status status = call();
  disarm();
  int64_t exist = live();
  if (status.code == code)
    return true;
  ++refusals;
  EXPECT_EQ(status.code, KVC_OUT_OF_MEMORY)
      << what << ": " << fault.n << ": " << kvc_error_text();
  EXPECT_STRNE(kvc_error_text(), "");
  if (!keeps) {
    EXPECT_EQ(exist, existed) << what << ": " << fault.n;
  }
  State after = state();
  // A call may be several launches: those that came to an end have been.
  if (after.counters.launches > before.counters.launches)
    after.counters = before.counters;
  EXPECT_TRUE(after == before) << what << ": " << fault.n;
  return false;
}

/// A call that makes something, which `undo` takes back, or that fails with
/// `code`.
void Script::make(const char *what, const Call &call, const Undo &undo,
                  uint32_t code) {
  uint64_t last = 0;
  if (faults) {
    arm(what);
    EXPECT_EQ(call().code, code) << what << ": " << kvc_error_text();
    last = disarm();
    if (undo)
      undo();
  }
  for (uint64_t n = 1; n <= last && !testing::Test::HasFailure();
       n += kind.triesAll ? 1 : 1 + n / 16)
    for (bool persists : {false, true})
      if (attempt(what, {n, persists}, call, code, false) && undo)
        undo(); // what was refused was not needed
  EXPECT_TRUE(attempt(what, {}, call, code, true))
      << what << ": " << kvc_error_text();
}

/// A call that changes something for good. Where it allocates very often, some
/// n are tried.
void Script::use(const char *what, const Call &call) {
  for (uint64_t n = 1; faults && !testing::Test::HasFailure();
       n += 1 + n / 16) {
    arm("", {});
    disarm();
    if (attempt(what, {n, n % 2 == 0}, call, KVC_OK, kind.allocates))
      return;
  }
  EXPECT_TRUE(attempt(what, {}, call, KVC_OK, true))
      << what << ": " << kvc_error_text();
}

void Script::load() {
  auto release = [&] {
    kvc_program_release(program);
    program = nullptr;
  };
  make(
      "load_file",
      [&] { return kvc_program_load_file(device, path.c_str(), &program); },
      release);
  if (program)
    release();
  make(
      "load",
      [&] {
        return kvc_program_load(device, kind.artifact.data(),
                                kind.artifact.size(), &program);
      },
      release);
}

/// Artifacts that cannot be used stay what they are.
void Script::refuse() {
  kvc_program *none = nullptr;
  std::vector<uint8_t> damaged = kind.artifact;
  damaged[damaged.size() / 2] ^= 1;
  make(
      "damaged",
      [&] {
        return kvc_program_load(device, damaged.data(), damaged.size(), &none);
      },
      nullptr, KVC_CORRUPT);
  artifact::Manifest other = fixtureManifest();
  for (artifact::KernelInfo &kernel : other.kernels)
    kernel.features = {"no-such-feature"};
  std::vector<uint8_t> foreign = pack(other);
  make(
      "foreign",
      [&] {
        return kvc_program_load(device, foreign.data(), foreign.size(), &none);
      },
      nullptr, KVC_UNSUPPORTED);
  make(
      "missing",
      [&] { return kvc_program_load_file(device, "/no/such/file", &none); },
      nullptr, KVC_IO_ERROR);
  EXPECT_EQ(none, nullptr);
}

void Script::createCache(bool lendsArena) {
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 100000;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = 16;
  options.max_tokens_per_seq = 64;
  if (lendsArena) {
    arena.assign(options.arena_bytes + 64, 0xff);
    options.arena = &arena[63 - (uintptr_t(arena.data()) + 63) % 64];
  }
  make(
      "cache_create",
      [&] { return kvc_cache_create(program, &options, &cache); },
      [&] {
        kvc_cache_destroy(cache);
        cache = nullptr;
      });
}

/// kvc_append and kvc_attend on the pages of the open step.
void Script::direct(uint32_t layer, Rows &q) {
  for (uint32_t store = layer; store <= 2 * layer; ++store) {
    kvc_batch_view view = {};
    view.size = sizeof(view);
    use("view",
        [&] { return kvc_cache_view(cache, open, store, layer, &view); });
    size_t bytes = 0;
    use("attend_workspace", [&] {
      return kvc_attend_workspace(program, store, view.batch, view.rows, 64,
                                  &bytes);
    });
    std::vector<uint8_t> memory(bytes + 64);
    Rows out(view.rows, kQueryHeads, kDimV);
    kvc_attend_args args = {};
    args.size = sizeof(args);
    args.batch = view.batch;
    args.q = q.values.data();
    args.q_row_stride = q.stride();
    args.out = out.values.data();
    args.out_row_stride = out.stride();
    args.cu_q = view.cu_q;
    args.kv_len = view.kv_len;
    args.table = view.table;
    args.table_stride = view.table_stride;
    args.slot_tokens = view.slot_tokens;
    args.workspace = &memory[63 - (uintptr_t(memory.data()) + 63) % 64];
    args.workspace_bytes = bytes;
    args.rows = view.rows;
    args.max_kv_len = 64;
    args.planes = view.planes;
    args.plane_count = view.plane_count;
    auto allow = [&](const void *base, size_t bytes) {
      make(
          "allow",
          [&] {
            kvc_status status = kvc_sim_allow(device, base, bytes, 1);
            return kind.allocates ? status : kvc_status{};
          },
          [&] { kvc_sim_forget(device, base); });
    };
    allow(args.out, out.values.size() * 4);
    allow(args.workspace, bytes);
    use("kvc_attend", [&] { return kvc_attend(program, store, &args); });
    kvc_sim_forget(device, args.out);
    kvc_sim_forget(device, args.workspace);
    results.push_back(out.values);
  }
}

void Script::step(uint32_t n, uint32_t kept) {
  kvc_slot_request requests[] = {{sequences[0], n}, {sequences[1], 1}};
  use("reserve",
      [&] { return kvc_cache_reserve(cache, requests, 2, nullptr, &open); });
  Rows k = Rows::random(n + 1, kHeads, kDimK, seed++);
  Rows v = Rows::random(n + 1, kHeads, kDimV, seed++);
  Rows q = Rows::random(n + 1, kQueryHeads, kDimK, seed++);
  Rows out(n + 1, kQueryHeads, kDimV), lse(n + 1, kQueryHeads, 1);
  for (Rows *rows : {&k, &v, &q, &out, &lse})
    kvc_sim_allow(device, rows->values.data(), rows->values.size() * 4, 1);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    use("append", [&] {
      return kvc_cache_append(cache, open, layer, k.values.data(),
                              v.values.data());
    });
    use("attend", [&] {
      return kvc_cache_attend(cache, open, layer, q.values.data(),
                              out.values.data(), lse.values.data());
    });
    results.push_back(out.values);
    results.push_back(lse.values);
    direct(layer, q);
  }
  for (Rows *rows : {&k, &v, &q, &out, &lse})
    kvc_sim_forget(device, rows->values.data());
  uint32_t accepted[] = {kept, 1};
  if (kept)
    use("commit", [&] { return kvc_cache_commit(cache, open, accepted); });
  else
    use("abandon", [&] { return kvc_cache_abandon(cache, open); });
  states.push_back(state());
  if (kind.allocates)
    states.back().counters = {};
}

/// Committed tokens of the layer whose store has the kernel.
void Script::read() {
  Rows k(2, kHeads, kDimK), v(2, kHeads, kDimV);
  for (Rows *rows : {&k, &v})
    kvc_sim_allow(device, rows->values.data(), rows->values.size() * 4, 1);
  use("read", [&] {
    return kvc_cache_read(cache, sequences[0], 0, 1, 2, k.values.data(), {},
                          v.values.data(), {}, nullptr);
  });
  for (Rows *rows : {&k, &v})
    kvc_sim_forget(device, rows->values.data());
  results.push_back(k.values);
  results.push_back(v.values);
}

void Script::run() {
  make(
      "device_create", [&] { return kind.create(&device); },
      [&] {
        kvc_device_release(device);
        device = nullptr;
      });
  base = state().counters;
  load();
  refuse();
  for (bool lendsArena : {false, true}) {
    createCache(lendsArena);
    if (testing::Test::HasFailure())
      break;
    for (kvc_seq &sequence : sequences)
      use("open", [&] { return kvc_cache_open(cache, &sequence); });
    for (auto [n, kept] : {std::pair{9u, 9u}, {1u, 1u}, {5u, 2u}, {3u, 0u}})
      step(n, kept);
    read();
    use("release", [&] { return kvc_cache_release(cache, sequences[1]); });
    kvc_seq &child = sequences[1];
    use("fork", [&] { return kvc_cache_fork(cache, sequences[0], &child); });
    use("truncate", [&] { return kvc_cache_truncate(cache, child, 0); });
    for (kvc_seq &sequence : sequences) {
      use("release", [&] { return kvc_cache_release(cache, sequence); });
      sequence = {};
    }
    kvc_cache_destroy(cache);
    cache = nullptr;
  }
  kvc_program_release(program);
  kvc_device_release(device);
}

void compare(const Kind &kind) {
  // Twice: what is made once in a process is made then.
  std::make_unique<Script>(kind, false)->run();
  auto plenty = std::make_unique<Script>(kind, false);
  plenty->run();
  int64_t existed = live();
  {
    Script scarce(kind, true);
    scarce.run();
    EXPECT_GT(scarce.refusals, 800u);
    EXPECT_TRUE(scarce.results == plenty->results);
    EXPECT_TRUE(scarce.states == plenty->states);
  }
  EXPECT_EQ(live(), existed);
}

} // namespace

/// Opens the driver, which a process does once, with the n-th call refused.
/// 0: that succeeds, or runs out of memory and succeeds when called again.
static int openDriver(Fault fault) {
  kvc_device *device = nullptr;
  arm("device_create_cuda, the first", fault);
  kvc_status status = kvc_device_create_cuda(nullptr, &device);
  disarm();
  if (status.code == KVC_OUT_OF_MEMORY)
    status = kvc_device_create_cuda(nullptr, &device);
  return int(status.code);
}

// First of all, as it wants processes that have not opened the driver. Over
// that of FakeCuda.cpp, with which ctest runs this.
TEST(Faults, AGpusDriverIsOpenedInTheEnd) {
  const char *path = std::getenv("LD_LIBRARY_PATH");
  if (!path || !std::strstr(path, "fake-cuda"))
    GTEST_SKIP() << "run this through ctest, which replaces libcuda.so.1";
  for (uint64_t n = 1; n <= 16; ++n)
    for (bool persists : {false, true}) {
      pid_t child = fork();
      if (child == 0)
        _exit(openDriver({n, persists}));
      int how = -1;
      ASSERT_EQ(waitpid(child, &how, 0), child);
      EXPECT_EQ(how, 0) << n;
    }
}

TEST(Faults, OfACpu) { compare(cpu()); }
TEST(Faults, OfAnEmulatedCpu) { compare(amx()); }
TEST(Faults, OfAnEmulatedGpu) { compare(gpu()); }

// Over the driver of FakeCuda.cpp, with which ctest runs this.
TEST(Faults, OfAGpu) {
  FakeCuda *fake = fakeCuda();
  if (!fake)
    GTEST_SKIP() << "run this through ctest, which replaces libcuda.so.1";
  fake->noting = false;
  compare(cuda());
  EXPECT_EQ(fake->retained, 0);
  EXPECT_EQ(fake->modules, 0);
  EXPECT_EQ(fake->memories, 0);
  EXPECT_EQ(fake->streams, 0);
  EXPECT_EQ(fake->events, 0);
  EXPECT_EQ(fake->misuses, 0);
}

// Every n-th call of the driver that is out of memory.
TEST(Faults, OfAGpusDriver) {
  FakeCuda *fake = fakeCuda();
  if (!fake)
    GTEST_SKIP() << "run this through ctest, which replaces libcuda.so.1";
  kvc_device *device = nullptr;
  kvc_program *program = nullptr;
  kvc_cache *cache = nullptr;
  auto every = [&](const char *what, auto call) {
    int n = 1;
    for (;; ++n) {
      int retained = fake->retained, modules = fake->modules,
          memories = fake->memories, streams = fake->streams,
          events = fake->events;
      fake->callsUntilFull = n;
      kvc_status status = call();
      fake->callsUntilFull = 0;
      if (status.code == KVC_OK)
        break;
      ASSERT_EQ(status.code, KVC_OUT_OF_MEMORY)
          << what << ": " << n << ": " << kvc_error_text();
      EXPECT_EQ(fake->retained, retained) << what << ": " << n;
      EXPECT_EQ(fake->modules, modules) << what << ": " << n;
      EXPECT_EQ(fake->memories, memories) << what << ": " << n;
      EXPECT_EQ(fake->streams, streams) << what << ": " << n;
      EXPECT_EQ(fake->events, events) << what << ": " << n;
    }
    EXPECT_GT(n, 5) << what;
  };
  Kind kind = cuda();
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena_bytes = 100000;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = 16;
  options.max_tokens_per_seq = 64;
  every("device_create", [&] { return kind.create(&device); });
  every("load", [&] {
    return kvc_program_load(device, kind.artifact.data(), kind.artifact.size(),
                            &program);
  });
  every("cache_create",
        [&] { return kvc_cache_create(program, &options, &cache); });
  kvc_cache_destroy(cache);
  kvc_program_release(program);
  kvc_device_release(device);
  EXPECT_EQ(fake->retained, 0);
  EXPECT_EQ(fake->modules, 0);
  EXPECT_EQ(fake->memories, 0);
  EXPECT_EQ(fake->streams, 0);
  EXPECT_EQ(fake->events, 0);
  EXPECT_EQ(fake->misuses, 0);
}
