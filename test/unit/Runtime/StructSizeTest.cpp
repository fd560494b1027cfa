//===- StructSizeTest.cpp - structs of older and newer callers ------------===//
//
// Every size that a caller may give of every struct: those that end where a
// field does are read, any other is refused, and nothing beyond is touched.
//
//===----------------------------------------------------------------------===//
#include "runtime/Arguments.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

using namespace kvc::test;
using testing::HasSubstr;

namespace {

/// Sizes at which a field of 4 or 8 bytes ends or begins. Written by hand from
/// kvc/runtime.h.
struct Struct {
  const char *name;
  size_t whole;
  std::set<size_t> legal;
};

std::set<size_t> steps(size_t from, size_t to, size_t by) {
  std::set<size_t> all;
  for (size_t size = from; size <= to; size += by)
    all.insert(size);
  return all;
}

/// Calls readStruct or writeStruct of a struct whose bytes are all set, so that
/// only the size decides.
template <class T> void expectSizes(const Struct &expected) {
  ASSERT_EQ(sizeof(T), expected.whole) << expected.name;
  for (size_t size = 0; size <= sizeof(T); ++size) {
    alignas(T) unsigned char bytes[sizeof(T) + 8];
    std::memset(bytes, 0xa5, sizeof(bytes));
    T *given = reinterpret_cast<T *>(bytes);
    given->size = size;
    T read, written = {};
    kvc_status status = kvc::rt::readStruct(given, expected.name, read);
    uint32_t wanted =
        expected.legal.count(size) ? KVC_OK : KVC_INVALID_ARGUMENT;
    EXPECT_EQ(status.code, wanted) << expected.name << " of " << size;
    auto *got = reinterpret_cast<const unsigned char *>(&read);
    for (size_t i = sizeof(size_t); i < sizeof(T); ++i)
      EXPECT_EQ(got[i], status.code == KVC_OK && i < size ? 0xa5 : 0)
          << expected.name << " of " << size;
    if (status.code != KVC_OK && size > sizeof(size_t))
      EXPECT_THAT(kvc_error_text(), HasSubstr("ends inside `"));
    status = kvc::rt::writeStruct(written, expected.name, given);
    EXPECT_EQ(status.code, wanted) << expected.name << " of " << size;
    for (size_t i = sizeof(size_t); i < sizeof(bytes); ++i)
      EXPECT_EQ(bytes[i], status.code == KVC_OK && i < size ? 0 : 0xa5)
          << expected.name << " of " << size;
  }
}

} // namespace

TEST(StructSizes, EndWhereAFieldDoes) {
  auto with = [](std::set<size_t> sizes, std::set<size_t> more) {
    sizes.insert(more.begin(), more.end());
    return sizes;
  };
  expectSizes<kvc_code_loader>({"kvc_code_loader", 40, steps(8, 40, 8)});
  expectSizes<kvc_cpu_options>(
      {"kvc_cpu_options", 32, with(steps(8, 32, 8), {12})});
  expectSizes<kvc_cuda_options>(
      {"kvc_cuda_options", 24, with(steps(8, 24, 8), {12})});
  expectSizes<kvc_sim_options>(
      {"kvc_sim_options", 32, with(steps(8, 32, 8), {28})});
  expectSizes<kvc_sim_counters>({"kvc_sim_counters", 104, steps(8, 104, 8)});
  expectSizes<kvc_model_info>(
      {"kvc_model_info", 48, with(steps(8, 48, 8), {12, 20, 28})});
  expectSizes<kvc_store_info>(
      {"kvc_store_info", 80, with(steps(8, 80, 8), {28, 36, 52, 68})});
  expectSizes<kvc_append_args>(
      {"kvc_append_args", 112, with(steps(8, 112, 8), {12, 100})});
  expectSizes<kvc_gather_args>(
      {"kvc_gather_args", 112, with(steps(8, 112, 8), {12, 100})});
  expectSizes<kvc_attend_args>(
      {"kvc_attend_args", 224,
       with(steps(8, 224, 8), {12, 164, 180, 188, 212})});
  expectSizes<kvc_cache_options>(
      {"kvc_cache_options", 48, {8, 16, 24, 28, 32, 36, 40, 44, 48}});
  expectSizes<kvc_batch_view>(
      {"kvc_batch_view", 88, with(steps(8, 88, 8), {12, 76})});
  expectSizes<kvc_cache_stats>({"kvc_cache_stats", 80, steps(8, 80, 8)});
  expectSizes<kvc_seq_stats>(
      {"kvc_seq_stats", 40, with(steps(8, 40, 8), {12})});
}

// Of a call: half of `parallel` is not followed.
TEST(StructSizes, HalfAPointerIsRefused) {
  kvc_cpu_options options = {};
  options.parallel =
      reinterpret_cast<const kvc_parallel *>(uintptr_t(0x1234567800000000));
  options.size = offsetof(kvc_cpu_options, parallel) + 4;
  kvc_device *device = nullptr;
  EXPECT_EQ(kvc_device_create_cpu(&options, &device).code,
            KVC_INVALID_ARGUMENT);
  EXPECT_STREQ(kvc_error_text(),
               "kvc_cpu_options: `size` 20 ends inside `parallel`, which is at "
               "16 to 24 of 32");
  options.size = offsetof(kvc_cpu_options, parallel);
  ASSERT_EQ(kvc_device_create_cpu(&options, &device).code, KVC_OK);
  kvc_device_release(device);
}
