//===- ForkTest.cpp - handles in the child of fork() ----------------------===//
#include "runtime/Api.h"
#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kvc::test;

namespace {

/// A program with an open step of one sequence, whose rows are appended.
struct Running {
  Running() : loaded(4) {
    kvc_cache_options o = {};
    o.size = sizeof(o);
    o.max_sequences = o.max_batch = 1;
    o.max_step_tokens = o.max_tokens_per_seq = 64;
    o.arena_bytes = 100000;
    o.flags = KVC_SCRUB;
    ok = kvc_cache_create(loaded.program, &o, &cache).code == KVC_OK &&
         kvc_cache_open(cache, &request.seq).code == KVC_OK &&
         kvc_cache_reserve(cache, &request, 1, nullptr, &step).code == KVC_OK &&
         kvc_cache_append(cache, step, 0, k.values.data(), v.values.data())
                 .code == KVC_OK;
  }
  ~Running() { kvc_cache_destroy(cache); }

  uint32_t attend() {
    return kvc_cache_attend(cache, step, 0, q.values.data(), out.values.data(),
                            nullptr)
        .code;
  }

  Loaded loaded;
  Rows k{60, kHeads, kDimK}, v{60, kHeads, kDimV}, q{60, kQueryHeads, kDimK},
      out{60, kQueryHeads, kDimV};
  kvc_cache *cache = nullptr;
  kvc_slot_request request = {{}, 60};
  kvc_step step = {};
  bool ok;
};

/// Runs `body` in a child; its exit status, or -1 if it hangs or crashes.
template <class Body> int inChild(Body body) {
  pid_t child = fork();
  if (child == 0)
    _exit(body());
  for (int tries = 0; tries < 3000; ++tries) {
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child)
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return -1;
}

/// What all calls say of what was made before fork(); 0 or the number of the
/// first that does not.
int useInherited(Running &r) {
  kvc_cache *cache = r.cache;
  float row[1024] = {};
  kvc_seq seq = r.request.seq;
  kvc_step step = r.step;
  uint32_t tokens = 0;
  kvc_batch_view view = {};
  view.size = sizeof(view);
  kvc_cache_stats stats = {};
  stats.size = sizeof(stats);
  kvc_append_args append = {};
  append.size = sizeof(append);
  kvc_gather_args gather = {};
  gather.size = sizeof(gather);
  kvc_attend_args attend = {};
  attend.size = sizeof(attend);
  kvc_program *program = nullptr;
  kvc_cache *other = nullptr;
  kvc_cache_options options = {};
  options.size = sizeof(options);
  uint32_t codes[] = {
      r.attend(),
      kvc_cache_append(cache, step, 0, row, row).code,
      kvc_cache_mark_appended(cache, step, 0).code,
      kvc_cache_open(cache, &seq).code,
      kvc_cache_release(cache, seq).code,
      kvc_cache_length(cache, seq, &tokens).code,
      kvc_cache_read(cache, seq, 0, 0, 1, row, {}, row, {}, nullptr).code,
      kvc_cache_reserve(cache, &r.request, 1, nullptr, &step).code,
      kvc_cache_view(cache, step, 0, 0, &view).code,
      kvc_cache_commit(cache, step, nullptr).code,
      kvc_cache_abandon(cache, step).code,
      kvc_cache_get_stats(cache, &stats).code,
      kvc_cache_check(cache, 2).code,
      kvc_cache_create(r.loaded.program, &options, &other).code,
      kvc_append(r.loaded.program, 0, &append).code,
      kvc_gather(r.loaded.program, 0, &gather).code,
      kvc_attend(r.loaded.program, 0, &attend).code,
      kvc_program_load(r.loaded.device, row, 4, &program).code,
      kvc_program_load_file(r.loaded.device, "x", &program).code,
  };
  for (size_t i = 0; i < std::size(codes); ++i)
    if (codes[i] != KVC_STALE)
      return int(i) + 1;
  return std::string(kvc_error_text()).find("before fork()") ==
                 std::string::npos
             ? 100
             : 0;
}

/// The child's whole life: what it inherited, then things of its own.
int child(Running &r) {
  if (int wrong = useInherited(r))
    return wrong;
  kvc_cache_destroy(r.cache);
  kvc_device_release(r.loaded.device);
  kvc_program_release(r.loaded.program);
  Running own;
  if (!own.ok || own.attend() != KVC_OK)
    return 101;
  return inChild([&] { return useInherited(own); }) ? 102 : 0;
}

} // namespace

TEST(Fork, AChildReleasesAndMakesItsOwn) {
  Running running;
  ASSERT_TRUE(running.ok) << kvc_error_text();
  EXPECT_EQ(inChild([&] { return child(running); }), 0);
  EXPECT_EQ(running.attend(), uint32_t(KVC_OK)) << "the parent goes on";
}

TEST(Fork, WhileACallIsUnderWay) {
  Running running;
  ASSERT_TRUE(running.ok) << kvc_error_text();
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop.load())
      if (running.attend() != KVC_OK)
        return;
  });
  for (int round = 0; round < 40 && !HasFailure(); ++round)
    EXPECT_EQ(inChild([&] { return child(running); }), 0) << round;
  stop = true;
  other.join();
}

// The driver of a GPU is not to be called in a child.
TEST(Fork, AGpusMemoryIsLeftAlone) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  Loaded loaded(fakeDevice(notes), packGpu(gpuManifest("cuda", {"sm_80"})));
  kvc_cache_options o = {};
  o.size = sizeof(o);
  o.max_sequences = o.max_batch = o.max_step_tokens = 1;
  o.max_tokens_per_seq = 64;
  o.arena_bytes = 100000;
  kvc_cache *cache = nullptr;
  ASSERT_EQ(kvc_cache_create(loaded.program, &o, &cache).code, KVC_OK);
  size_t memories = notes.memories.size();
  EXPECT_EQ(inChild([&] {
              kvc_cache_destroy(cache);
              kvc_program_release(loaded.program);
              kvc_device_release(loaded.device);
              return notes.memories.size() == memories ? 0 : 1;
            }),
            0);
  kvc_cache_destroy(cache);
  EXPECT_LT(notes.memories.size(), memories);
}
