//===- Cuda.h - a CUDA GPU as a device --------------------------*- C++ -*-===//
#ifndef KVC_RUNTIME_DEVICES_CUDA_H
#define KVC_RUNTIME_DEVICES_CUDA_H

#include "runtime/Device.h"

namespace kvc::rt {

/// Opens the driver and a GPU.
kvc_status createCudaDevice(const kvc_cuda_options &options, Device *&device);

/// Whether code for `target` ("sm_90a") runs on a GPU of compute capability
/// `major`.`minor`: binaries on the same major and no lower minor, those with a
/// letter on exactly that one. PTX without a letter on everything from there
/// on.
bool cubinRunsOn(const std::string &target, int major, int minor);
bool ptxRunsOn(const std::string &target, int major, int minor);

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICES_CUDA_H
