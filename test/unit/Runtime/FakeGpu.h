//===- FakeGpu.h - a GPU that runs nothing and notes everything -*- C++ -*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_FAKEGPU_H
#define KVC_TEST_UNIT_RUNTIME_FAKEGPU_H

#include "lib/base/Artifact/KernelKey.h"
#include "runtime/Api.h"
#include "runtime/devices/Gpu.h"
#include "test/unit/Runtime/blocks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace kvc::test {

struct Launched {
  std::string kernel;
  uint32_t grid;
  std::vector<uint8_t> params;
  void *stream;

  template <class T> T as() const {
    T value = {};
    EXPECT_LE(params.size(), sizeof(T)); // a plan for fewer attend kernels
    std::memcpy(&value, params.data(), std::min(params.size(), sizeof(T)));
    return value;
  }
};

/// What the tests set and see of a FakeDriver, which is the device's.
struct Notes {
  std::map<std::string, uint32_t> fits; ///< by target
  std::map<std::string, uint32_t> resident;
  uint32_t sharedPerCta = 200 * 1024;
  std::string refused, remarked;    ///< targets
  std::string loaded;               ///< target
  std::vector<std::string> entries; ///< that were loaded
  std::string missing; ///< symbol, without its key, that the module has not
  std::string foreign; ///< device whose kernels it has not
  std::string failing; ///< kernel that does not launch
  std::vector<Launched> launches;
  std::map<uintptr_t, size_t> memories;         ///< that were allocated
  std::vector<void *> uploads;                  ///< their streams
  std::vector<void *> scrubs;                   ///< their streams
  std::vector<void *> copies;                   ///< their streams
  std::vector<std::pair<void *, void *>> waits; ///< of a stream for another
  size_t uploaded = 0;                          ///< bytes
  bool uploadsFail = false;

  /// Whether [at, at + bytes) is within one of the memories.
  bool holds(const void *at, size_t bytes) const {
    auto next = memories.upper_bound(uintptr_t(at));
    if (next == memories.begin())
      return false;
    auto [base, size] = *std::prev(next);
    return uintptr_t(at) - base + bytes <= size;
  }
};

class FakeModule : public rt::GpuModule {
public:
  FakeModule(Notes &notes, std::string entry)
      : notes(notes), entry(std::move(entry)) {}
  kvc_status find(const artifact::KernelInfo &info,
                  rt::GpuFunction &function) override {
    std::string name(artifact::unboundSymbol(info.symbol));
    if (name == notes.missing || info.device == notes.foreign ||
        info.blob != entry)
      return rt::fail(KVC_CORRUPT, 1, "no `%s`", name.c_str());
    function.info = &info;
    function.handle = &notes;
    function.module = this;
    function.resident = notes.resident[info.name];
    return rt::ok();
  }

private:
  Notes &notes;
  std::string entry;
};

class FakeDriver : public rt::GpuDriver {
public:
  explicit FakeDriver(Notes &notes) : notes(notes) {}
  const char *kind() const override { return "cuda"; }
  std::string name() const override { return "fake"; }
  uint32_t sharedPerCta() const override { return notes.sharedPerCta; }
  uint32_t fit(const artifact::KernelInfo &info,
               std::string &why) const override {
    why = "has no home";
    return notes.fits[info.target];
  }
  kvc_status load(const artifact::KernelInfo &info, const artifact::Bundle &,
                  std::unique_ptr<rt::GpuModule> &module,
                  std::string &remark) override {
    if (info.target == notes.refused)
      return rt::fail(KVC_UNSUPPORTED, 4, "`%s` is refused", info.blob.c_str());
    if (info.target == notes.remarked)
      remark = "`" + info.blob + "` took long";
    notes.loaded = info.target;
    notes.entries.push_back(info.blob);
    module = std::make_unique<FakeModule>(notes, info.blob);
    return rt::ok();
  }
  kvc_status launch(const rt::GpuFunction &function, uint32_t grid,
                    const void *params, size_t paramBytes,
                    void *stream) override {
    if (function.info->name == notes.failing)
      return rt::fail(KVC_DEVICE_ERROR, 2, "`%s` does not launch",
                      notes.failing.c_str());
    auto *bytes = static_cast<const uint8_t *>(params);
    notes.launches.push_back(
        {function.info->name, grid, {bytes, bytes + paramBytes}, stream});
    return rt::ok();
  }
  void *allocate(size_t bytes) override {
    size_t rounded = (bytes + 63) / 64 * 64;
    void *memory = std::aligned_alloc(64, rounded);
    std::memset(memory, 0, rounded);
    notes.memories[uintptr_t(memory)] = bytes;
    return memory;
  }
  void deallocate(void *memory, size_t bytes) override {
    EXPECT_EQ(notes.memories[uintptr_t(memory)], bytes);
    notes.memories.erase(uintptr_t(memory));
    std::free(memory);
  }
  void zero(void *memory, size_t bytes) override {
    std::memset(memory, 0, bytes);
  }
  kvc_status scrub(void *memory, size_t bytes, void *stream) override {
    if (notes.uploadsFail)
      return rt::fail(KVC_DEVICE_ERROR, 4, "zeroing failed");
    EXPECT_TRUE(notes.holds(memory, bytes)) << "of " << bytes << " bytes";
    std::memset(memory, 0, bytes);
    notes.scrubs.push_back(stream);
    return rt::ok();
  }
  kvc_status wait(void *stream, void *other) override {
    if (notes.uploadsFail)
      return rt::fail(KVC_DEVICE_ERROR, 6, "the streams do not wait");
    notes.waits.push_back({stream, other});
    return rt::ok();
  }
  kvc_status copy(void *to, const void *from, size_t bytes,
                  void *stream) override {
    if (notes.uploadsFail)
      return rt::fail(KVC_DEVICE_ERROR, 5, "the copy failed");
    EXPECT_TRUE(notes.holds(to, bytes)) << "of " << bytes << " bytes";
    EXPECT_TRUE(notes.holds(from, bytes)) << "of " << bytes << " bytes";
    std::memcpy(to, from, bytes);
    notes.copies.push_back(stream);
    return rt::ok();
  }
  kvc_status upload(void *to, const void *from, size_t bytes,
                    void *stream) override {
    if (notes.uploadsFail)
      return rt::fail(KVC_DEVICE_ERROR, 3, "the copy failed");
    EXPECT_TRUE(notes.holds(to, bytes)) << "of " << bytes << " bytes";
    std::memcpy(to, from, bytes);
    notes.uploads.push_back(stream);
    notes.uploaded += bytes;
    return rt::ok();
  }
  kvc_status download(void *to, const void *from, size_t bytes) override {
    EXPECT_TRUE(notes.holds(from, bytes)) << "of " << bytes << " bytes";
    std::memcpy(to, from, bytes);
    return rt::ok();
  }

private:
  Notes &notes;
};

inline kvc_device *fakeDevice(Notes &notes) {
  return rt::wrap(new rt::GpuDevice(std::make_unique<FakeDriver>(notes)));
}

/// No address here is ever touched.
template <class T> T *fakeAddress(uintptr_t value) {
  return reinterpret_cast<T *>(value);
}

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_FAKEGPU_H
