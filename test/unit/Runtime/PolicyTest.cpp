//===- PolicyTest.cpp - systems that refuse code made at run time ---------===//
#include "runtime/Api.h"
#include "test/unit/Runtime/GpuFixture.h"

#include <cstddef>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvc::test;
using testing::HasSubstr;

/// From here on memory of this process does not become executable, as under
/// SELinux without execmem, or MemoryDenyWriteExecute= of systemd.
static bool refuseCode(int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | uint32_t(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

constexpr int kNoFilters = 77;

/// Loads an artifact for a device under the policy, in a child.
static int loadRefused(bool gpu, int error, const char *text) {
  pid_t child = fork();
  if (child == 0) {
    kvc_device *device = nullptr;
    kvc_sim_options sim = {};
    sim.size = sizeof(sim);
    sim.target = "sm_80";
    kvc_status made = gpu ? kvc_device_create_sim(&sim, &device)
                          : kvc_device_create_cpu(nullptr, &device);
    std::vector<uint8_t> bytes =
        gpu ? packGpu(gpuManifest("sim", {"sm_80"})) : pack(fixtureManifest());
    if (made.code != KVC_OK)
      _exit(1);
    if (!refuseCode(error))
      _exit(kNoFilters);
    kvc_program *program = nullptr;
    kvc_status status =
        kvc_program_load(device, bytes.data(), bytes.size(), &program);
    if (status.code != KVC_DEVICE_ERROR)
      _exit(2);
    _exit(std::string(kvc_error_text()).find(text) == std::string::npos ? 3
                                                                        : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The artifact is whole: it must not be called damaged.
TEST(Policy, CodeThatIsRefusedIsNoCorruptArtifact) {
  for (bool gpu : {false, true}) {
    int found = loadRefused(gpu, EACCES,
                            "the system does not let memory become executable: "
                            "Permission denied");
    if (found == kNoFilters)
      GTEST_SKIP() << "this system has no seccomp filters";
    EXPECT_EQ(found, 0) << "gpu " << gpu;
    EXPECT_EQ(loadRefused(gpu, EPERM, "Operation not permitted"), 0);
  }
}
