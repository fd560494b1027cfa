//===- GpuLaunches.h - a program on a GPU that only notes -------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_GPULAUNCHES_H
#define KVC_TEST_UNIT_RUNTIME_GPULAUNCHES_H

#include "test/unit/Runtime/FakeGpu.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <optional>

namespace kvc::test {

struct Launches : testing::Test {
  Launches() {
    notes.fits["sm_80"] = 1;
    notes.resident = {{"paged.attend0", 50}, {"paged.attend1", 7}};
    loaded.emplace(fakeDevice(notes), packGpu(gpuManifest("cuda", {"sm_80"})));
  }

  kvc_append_args appendArgs() {
    kvc_append_args args = {};
    args.size = sizeof(args);
    args.rows = 5;
    args.k = fakeAddress<void>(0x10000);
    args.k_row_stride = 64;
    args.v = fakeAddress<void>(0x20000);
    args.v_row_stride = 144;
    args.slot = fakeAddress<int64_t>(0x30000);
    args.slot_tokens = 96;
    args.page_count = 10;
    planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    planes[1] = {fakeAddress<void>(0x40100), 768, 256};
    args.planes = planes;
    args.plane_count = 2;
    args.stream = fakeAddress<void>(0x57);
    return args;
  }
  kvc_attend_args attendArgs() {
    kvc_attend_args args = {};
    args.size = sizeof(args);
    args.batch = 3;
    args.q = fakeAddress<void>(0x10000);
    args.q_row_stride = 128;
    args.out = fakeAddress<void>(0x20000);
    args.out_row_stride = 272;
    args.lse = fakeAddress<float>(0x30000);
    args.lse_row_stride = 20;
    args.cu_q = fakeAddress<int32_t>(0x50000);
    args.kv_len = fakeAddress<int32_t>(0x50100);
    args.table = fakeAddress<int32_t>(0x50200);
    args.table_stride = 40;
    args.page_count = 10;
    args.slot_tokens = 96;
    args.workspace = fakeAddress<void>(kWorkspace);
    planes[0] = {fakeAddress<void>(0x40000), 768, 128};
    planes[1] = {fakeAddress<void>(0x40100), 768, 256};
    args.planes = planes;
    args.plane_count = 2;
    args.stream = fakeAddress<void>(0x58);
    args.rows = 20;
    args.max_kv_len = 100;
    EXPECT_EQ(kvc_attend_workspace(loaded->program, kPaged, 3, 20, 100,
                                   &args.workspace_bytes)
                  .code,
              KVC_OK);
    return args;
  }
  kvc_status append(const kvc_append_args &args, uint32_t store = kPaged) {
    return kvc_append(loaded->program, store, &args);
  }
  kvc_status attend(const kvc_attend_args &args, uint32_t store = kPaged) {
    return kvc_attend(loaded->program, store, &args);
  }
  void expectRefused(const kvc_status &status, const char *text) {
    EXPECT_EQ(status.code, KVC_INVALID_ARGUMENT) << text;
    EXPECT_STREQ(kvc_error_text(), text);
    EXPECT_TRUE(notes.launches.empty()) << text;
  }
  std::vector<std::string> names() {
    std::vector<std::string> list;
    for (const Launched &launch : notes.launches)
      list.push_back(launch.kernel);
    return list;
  }

  static constexpr uintptr_t kWorkspace = 0x1000000;
  Notes notes;
  kvc_plane planes[2] = {}; ///< of the last arguments
  std::optional<Loaded> loaded;
};

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_GPULAUNCHES_H
