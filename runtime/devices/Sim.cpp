//===- Sim.cpp - an emulated GPU as a device ------------------------------===//
#include "runtime/devices/Sim.h"

#include "lib/base/Artifact/ElfImage.h"
#include "lib/base/Simt/InstructionSet.h"
#include "runtime/devices/Cpu.h"
#include "runtime/devices/CpuFeatures.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <sys/mman.h>

using namespace kvc;
using namespace kvc::rt;
using artifact::ElfImage;
using artifact::KernelInfo;

namespace {

class SimModule : public GpuModule {
public:
  std::unique_ptr<ElfImage> image;
  std::vector<std::string> sites;

  kvc_status find(const KernelInfo &info, GpuFunction &function) override {
    function.info = &info;
    function.handle = image->symbol(info.symbol);
    function.module = this;
    // Few CTAs that take several work tiles each find more than many with one.
    function.resident = 3;
    if (function.handle)
      return ok();
    return fail(KVC_CORRUPT, 443, "`%s` has no function `%s`",
                info.blob.c_str(), info.symbol.c_str());
  }
};

std::vector<std::string> splitLines(std::span<const uint8_t> bytes) {
  std::string_view text(reinterpret_cast<const char *>(bytes.data()),
                        bytes.size());
  std::vector<std::string> lines;
  while (!text.empty()) {
    size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return lines;
}

} // namespace

/// "sm_90a" is emulated as "sm_90" is: code with the letter may do more, and
/// no instruction of the emulator's is of that kind.
static std::string withoutLetter(std::string name) {
  if (name.starts_with("sm_") && (name.back() == 'a' || name.back() == 'f'))
    name.pop_back();
  return name;
}

uint32_t SimDriver::fit(const KernelInfo &info, std::string &why) const {
  if (withoutLetter(info.target) != withoutLetter(target)) {
    why = "is not `" + target + "`";
    return 0;
  }
  for (const std::string &feature : info.features)
    if (!cpuHasFeature(feature)) {
      why = "is emulated by code that needs " + feature +
            ", which this CPU lacks";
      return 0;
    }
  return info.target == target ? 2 : 1;
}

kvc_status SimDriver::load(const KernelInfo &info,
                           const artifact::Bundle &bundle,
                           std::unique_ptr<GpuModule> &module, std::string &) {
  auto loaded = std::make_unique<SimModule>();
  std::string error;
  // Bundle::open checked that both are there.
  loaded->image = ElfImage::load(*bundle.find(info.blob), error);
  if (!loaded->image && (errno == EACCES || errno == EPERM))
    return fail(KVC_DEVICE_ERROR, 446, "`%s`: %s", info.blob.c_str(),
                error.c_str());
  if (!loaded->image)
    return fail(KVC_CORRUPT, 442, "`%s`: %s", info.blob.c_str(), error.c_str());
  loaded->sites = splitLines(*bundle.find(info.sites));
  if (loaded->sites.empty() ||
      loaded->sites.front() != simt::instructionSetLine())
    return fail(KVC_UNSUPPORTED, 444,
                "`%s` was compiled for an emulator with other instructions: "
                "compile it again",
                info.blob.c_str());
  loaded->sites.erase(loaded->sites.begin());
  module = std::move(loaded);
  return ok();
}

kvc_status SimDriver::launch(const GpuFunction &function, uint32_t grid,
                             const void *params, size_t, void *) {
  if (grid == 0)
    return ok();
  std::lock_guard guard(lock);
  simt::Launch launch;
  launch.kernel = reinterpret_cast<simt::Kernel>(function.handle);
  launch.grid = grid;
  launch.threads = function.info->threads;
  launch.shared = function.info->sharedBytes;
  launch.params = params;
  launch.sites = static_cast<const SimModule *>(function.module)->sites;
  launch.name = function.info->name;
  std::string finding;
  if (machine.launch(launch, finding))
    return ok();
  // The usual cause is no fault of a kernel's.
  if (finding.find("global memory") != finding.npos &&
      finding.ends_with("out of bounds"))
    finding += ": kernels may touch what their cache owns, and what "
               "`kvc_sim_allow` was told of";
  return fail(KVC_DEVICE_ERROR, 441, "%s", finding.c_str());
}

void *SimDriver::allocate(size_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  try {
    allow(memory, bytes, true);
  } catch (...) {
    munmap(memory, bytes);
    throw;
  }
  return memory;
}
void SimDriver::deallocate(void *memory, size_t bytes) {
  forget(memory);
  munmap(memory, bytes);
}
void SimDriver::zero(void *memory, size_t bytes) {
  std::memset(memory, 0, bytes);
}

kvc_status SimDriver::copy(void *to, const void *from, size_t bytes, void *) {
  std::memcpy(to, from, bytes);
  return ok();
}
kvc_status SimDriver::upload(void *to, const void *from, size_t bytes, void *) {
  std::memcpy(to, from, bytes);
  return ok();
}
kvc_status SimDriver::download(void *to, const void *from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return ok();
}

void SimDriver::allow(const void *base, size_t bytes, bool writable) {
  std::lock_guard guard(lock);
  machine.allow(base, bytes, writable);
}
void SimDriver::forget(const void *base) {
  std::lock_guard guard(lock);
  machine.forget(base);
}

kvc_sim_counters SimDriver::counters() const {
  std::lock_guard guard(lock);
  const simt::Counters &from = machine.counters();
  kvc_sim_counters to = {};
  to.size = sizeof(to);
  to.launches = from.launches;
  to.ctas = from.ctas;
  for (uint64_t count : from.ops)
    to.instructions += count;
  to.mma = 0;
  for (unsigned op :
       {KVC_OP_MmaBF16, KVC_OP_MmaF16, KVC_OP_MmaS8S8, KVC_OP_MmaS8U8})
    to.mma += from.ops[op];
  to.bytes_read = from.bytesRead;
  to.bytes_written = from.bytesWritten;
  for (const auto &[name, site] : from.sites) {
    to.wavefronts += site.wavefronts;
    to.wavefronts_best += site.idealWavefronts;
    to.sectors += site.sectors;
    to.sectors_best += site.idealSectors;
  }
  to.sectors_distinct = from.distinctSectors;
  to.most_in_flight = from.mostInFlight;
  return to;
}

/// Whether a name has the form of a level of x86-64. Which levels there are the
/// compiler knows, and an artifact's manifest.
static bool isLevel(std::string_view name) {
  constexpr std::string_view kStart = "x86-64-";
  return name.starts_with(kStart) && name.size() > kStart.size() &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") ==
             name.npos;
}

/// The same of a GPU architecture: `sm_` and a number, perhaps with a letter.
static bool isArchitecture(std::string_view name) {
  if (!name.starts_with("sm_"))
    return false;
  name.remove_prefix(3);
  size_t digits = name.find_first_not_of("0123456789");
  return digits == name.npos ? !name.empty()
                             : digits > 0 && digits + 1 == name.size() &&
                                   name.back() >= 'a' && name.back() <= 'z';
}

static kvc_status checkTarget(const char *target) {
  if (!target || !*target)
    return fail(KVC_INVALID_ARGUMENT, 211,
                "`target`: expected the name of a GPU architecture or of a "
                "level of x86-64, found none");
  std::string_view name = target;
  if (isLevel(name) || isArchitecture(name))
    return ok();
  std::string expected =
      "a GPU architecture, as `sm_90`, or a level of x86-64, "
      "as `x86-64-v4-amx`";
  std::string found = "`" + std::string(name) + "`";
  // What the compiler calls it.
  std::string bare(name.starts_with("sim:") ? name.substr(4) : "");
  if (isLevel(bare) || isArchitecture(bare)) {
    expected = "a name without `sim:`";
    found += ": write `" + bare + "`";
  }
  return fail(KVC_INVALID_ARGUMENT, 214, "`target`: expected %s, found %s",
              expected.c_str(), found.c_str());
}

kvc_status kvc::rt::createSimDevice(const kvc_sim_options &options,
                                    Device *&device) {
  if (kvc_status s = checkTarget(options.target); !isOk(s))
    return s;
  if (options.flags & ~uint32_t(KVC_SIM_COUNT))
    return fail(KVC_INVALID_ARGUMENT, 213,
                "`flags`: expected KVC_SIM_COUNT or 0, found %u",
                options.flags);
  if (isLevel(options.target)) {
    kvc_cpu_options cpu = {};
    cpu.size = sizeof(cpu);
    cpu.threads = options.threads;
    return createCpuDevice(cpu, device, options.target);
  }
  device = new GpuDevice(std::make_unique<SimDriver>(
      options.target, options.seed, options.flags & KVC_SIM_COUNT));
  return ok();
}

SimDriver *kvc::rt::simDriver(Device *device, kvc_status &status) {
  if (device->isGpu()) {
    GpuDriver &driver = static_cast<GpuDevice *>(device)->driver();
    if (!std::strcmp(driver.kind(), "sim"))
      return static_cast<SimDriver *>(&driver);
  }
  status =
      fail(KVC_INVALID_ARGUMENT, 212, "`device`: expected an emulated GPU");
  return nullptr;
}
