//===- Sim.h - an emulated GPU as a device ----------------------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_SIM_H
#define KVC_RUNTIME_DEVICES_SIM_H

#include "lib/base/Simt/Machine.h"
#include "runtime/devices/Gpu.h"

#include <mutex>

namespace kvc::rt {

/// Runs kernels for `sim:TARGET` in the emulator.
class SimDriver : public GpuDriver {
public:
  SimDriver(std::string target, uint64_t seed, bool count)
      : target(std::move(target)), machine(seed) {
    machine.countSites(count);
  }

  const char *kind() const override { return "sim"; }
  std::string name() const override { return target; }
  /// The compiler knows the limit of every architecture that is emulated.
  uint32_t sharedPerCta() const override { return UINT32_MAX; }
  uint32_t fit(const artifact::KernelInfo &info,
               std::string &why) const override;
  kvc_status load(const artifact::KernelInfo &info,
                  const artifact::Bundle &bundle,
                  std::unique_ptr<GpuModule> &module,
                  std::string &remark) override;
  kvc_status launch(const GpuFunction &function, uint32_t grid,
                    const void *params, size_t paramBytes,
                    void *stream) override;
  void *allocate(size_t bytes) override;
  void deallocate(void *memory, size_t bytes) override;
  void zero(void *memory, size_t bytes) override;
  kvc_status scrub(void *memory, size_t bytes, void *) override {
    zero(memory, bytes);
    return ok();
  }

  kvc_status copy(void *to, const void *from, size_t bytes,
                  void *stream) override;
  kvc_status upload(void *to, const void *from, size_t bytes,
                    void *stream) override;
  kvc_status download(void *to, const void *from, size_t bytes) override;
  void allow(const void *base, size_t bytes, bool writable) override;
  void forget(const void *base) override;

  kvc_sim_counters counters() const;

private:
  std::string target;
  mutable std::mutex lock;
  simt::Machine machine;
};

/// `driver` stays the device's.
kvc_status createSimDevice(const kvc_sim_options &options, Device *&device);
/// Null, with a status, if the device is no emulated GPU.
SimDriver *simDriver(Device *device, kvc_status &status);

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_SIM_H
