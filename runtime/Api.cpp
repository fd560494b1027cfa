//===- Api.cpp - the C functions: status, devices, programs, kernels ------===//
#include "runtime/Api.h"

#include "runtime/Arguments.h"
#include "runtime/devices/Cpu.h"
#include "runtime/devices/Cuda.h"
#include "runtime/devices/Sim.h"

using namespace kvc;
using namespace kvc::rt;

//===----------------------------------------------------------------------===//
// Status
//===----------------------------------------------------------------------===//

uint32_t kvc_runtime_abi(void) { return KVC_RUNTIME_ABI; }

const char *kvc_code_name(uint32_t code) {
  switch (code) {
  case KVC_OK:
    return "ok";
  case KVC_WOULD_BLOCK:
    return "would block";
  case KVC_OUT_OF_PAGES:
    return "out of pages";
  case KVC_OUT_OF_SEQUENCES:
    return "out of sequences";
  case KVC_STALE:
    return "stale handle";
  case KVC_BUSY:
    return "busy";
  case KVC_INVALID_ARGUMENT:
    return "invalid argument";
  case KVC_UNSUPPORTED:
    return "unsupported";
  case KVC_OUT_OF_MEMORY:
    return "out of memory";
  case KVC_IO_ERROR:
    return "i/o error";
  case KVC_CORRUPT:
    return "corrupt";
  case KVC_DEVICE_ERROR:
    return "device error";
  case KVC_POISONED:
    return "poisoned";
  case KVC_SEQUENCE_FULL:
    return "sequence full";
  case KVC_NOT_APPENDED:
    return "not appended";
  default:
    return "unknown code";
  }
}

const char *kvc_error_text(void) { return errorText(); }

//===----------------------------------------------------------------------===//
// Devices
//===----------------------------------------------------------------------===//

kvc_status kvc_device_create_cpu(const kvc_cpu_options *options,
                                 kvc_device **device) try {
  kvc_cpu_options known = {};
  if (options)
    if (kvc_status s = readStruct(options, "kvc_cpu_options", known); !isOk(s))
      return s;
  if (!device)
    return noOutput("device");
  Device *created = nullptr;
  if (kvc_status s = createCpuDevice(known, created); !isOk(s))
    return s;
  *device = wrap(created);
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_device_create_cuda(const kvc_cuda_options *options,
                                  kvc_device **device) try {
  kvc_cuda_options known = {};
  if (options)
    if (kvc_status s = readStruct(options, "kvc_cuda_options", known); !isOk(s))
      return s;
  if (!device)
    return noOutput("device");
  Device *created = nullptr;
  if (kvc_status s = createCudaDevice(known, created); !isOk(s))
    return s;
  *device = wrap(created);
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_device_create_sim(const kvc_sim_options *options,
                                 kvc_device **device) try {
  kvc_sim_options known = {};
  if (kvc_status s = readStruct(options, "kvc_sim_options", known); !isOk(s))
    return s;
  if (!device)
    return noOutput("device");
  Device *created = nullptr;
  if (kvc_status s = createSimDevice(known, created); !isOk(s))
    return s;
  *device = wrap(created);
  return ok();
} catch (...) {
  return caught();
}

/// The emulated GPU behind a handle; null, with a status, if it is none.
static SimDriver *simOf(const kvc_device *device, kvc_status &status) {
  status = checkHandle(device);
  return isOk(status)
             ? simDriver(unwrap(const_cast<kvc_device *>(device)), status)
             : nullptr;
}

kvc_status kvc_sim_allow(kvc_device *device, const void *base, size_t bytes,
                         int writable) try {
  kvc_status status = ok();
  if (SimDriver *driver = simOf(device, status))
    driver->allow(base, bytes, writable != 0);
  return status;
} catch (...) {
  return caught();
}

kvc_status kvc_sim_forget(kvc_device *device, const void *base) try {
  kvc_status status = ok();
  if (SimDriver *driver = simOf(device, status))
    driver->forget(base);
  return status;
} catch (...) {
  return caught();
}

kvc_status kvc_sim_get_counters(const kvc_device *device,
                                kvc_sim_counters *counters) try {
  kvc_sim_counters ofCpu = {};
  if (device && unwrap(const_cast<kvc_device *>(device))->count(ofCpu)) {
    ofCpu.size = sizeof(ofCpu);
    return writeStruct(ofCpu, "kvc_sim_counters", counters);
  }
  kvc_status status = ok();
  SimDriver *driver = simOf(device, status);
  if (!driver)
    return status;
  return writeStruct(driver->counters(), "kvc_sim_counters", counters);
} catch (...) {
  return caught();
}

void kvc_device_release(kvc_device *device) {
  if (device && !isLeft(*unwrap(device), *unwrap(device)))
    unwrap(device)->release();
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

kvc_status kvc_program_load(kvc_device *device, const void *bytes, size_t size,
                            kvc_program **program) try {
  if (kvc_status s = checkHandle(device); !isOk(s))
    return s;
  if (!program)
    return noOutput("program");
  if (!bytes)
    return fail(KVC_INVALID_ARGUMENT, 151,
                "`bytes`: expected memory, found null");
  Program *loaded = nullptr;
  std::span span(static_cast<const uint8_t *>(bytes), size);
  if (kvc_status s = Program::load(*unwrap(device), span, loaded); !isOk(s))
    return s;
  *program = wrap(loaded);
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_program_load_file(kvc_device *device, const char *path,
                                 kvc_program **program) try {
  if (kvc_status s = checkHandle(device); !isOk(s))
    return s;
  if (!program)
    return noOutput("program");
  if (!path)
    return fail(KVC_INVALID_ARGUMENT, 152,
                "`path`: expected a path, found null");
  Program *loaded = nullptr;
  if (kvc_status s = Program::loadFile(*unwrap(device), path, loaded); !isOk(s))
    return s;
  *program = wrap(loaded);
  return ok();
} catch (...) {
  return caught();
}

void kvc_program_release(kvc_program *program) {
  if (program && !isLeft(*unwrap(program), unwrap(program)->device()))
    unwrap(program)->release();
}

const char *kvc_program_name(const kvc_program *program) {
  return program ? unwrap(program)->manifest().specName.c_str() : "";
}

const char *kvc_program_target(const kvc_program *program) {
  return program ? unwrap(program)->executable().target().c_str() : "";
}

const char *kvc_program_remarks(const kvc_program *program) {
  return program ? unwrap(program)->executable().remarks() : "";
}

kvc_status kvc_program_get_model(const kvc_program *program,
                                 kvc_model_info *info) try {
  if (!program)
    return noHandle("program");
  const artifact::ModelInfo &model = unwrap(program)->manifest().model;
  kvc_model_info out = {};
  out.layers = model.layers;
  out.q_heads = model.qHeads;
  out.kv_heads = model.kvHeads;
  out.head_dim_k = model.headDimK;
  out.head_dim_v = model.headDimV;
  out.dtype = model.dtype.c_str();
  out.softmax_scale = model.softmaxScale;
  return writeStruct(out, "kvc_model_info", info);
} catch (...) {
  return caught();
}

uint32_t kvc_program_store_count(const kvc_program *program) {
  return program ? unwrap(program)->stores() : 0;
}

static kvc_status checkStore(const kvc_program *program, uint32_t store) {
  if (kvc_status s = checkHandle(program); !isOk(s))
    return s;
  uint32_t stores = unwrap(program)->stores();
  if (store >= stores)
    return fail(KVC_INVALID_ARGUMENT, 153,
                "`store`: expected below %u, found %u", stores, store);
  return ok();
}

kvc_status kvc_program_get_store(const kvc_program *program, uint32_t store,
                                 kvc_store_info *info) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  const artifact::StoreInfo &from = unwrap(program)->manifest().stores[store];
  kvc_store_info out = {};
  out.name = from.name.c_str();
  out.layers = from.layers.data();
  out.layer_count = uint32_t(from.layers.size());
  out.head_begin = from.headBegin;
  out.head_end = from.headEnd;
  out.page_tokens = from.paged ? from.page : 0;
  out.page_bytes = from.paged ? from.pageBytes : 0;
  const std::vector<kvc_plane_info> &planes = unwrap(program)->planes(store);
  out.plane_count = uint32_t(planes.size());
  out.plan_group = unwrap(program)->executable().planGroup(store);
  out.planes = planes.data();
  const auto &constants = unwrap(program)->constants(store);
  out.constants = constants.data();
  out.constant_count = uint32_t(constants.size());
  return writeStruct(out, "kvc_store_info", info);
} catch (...) {
  return caught();
}

//===----------------------------------------------------------------------===//
// Kernels on the caller's buffers
//===----------------------------------------------------------------------===//

kvc_status kvc_append(const kvc_program *program, uint32_t store,
                      const kvc_append_args *args) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_append_args known;
  if (kvc_status s = readStruct(args, "kvc_append_args", known); !isOk(s))
    return s;
  return unwrap(program)->move(store, RowCall(known));
} catch (...) {
  return caught();
}

kvc_status kvc_gather(const kvc_program *program, uint32_t store,
                      const kvc_gather_args *args) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_gather_args known;
  if (kvc_status s = readStruct(args, "kvc_gather_args", known); !isOk(s))
    return s;
  return unwrap(program)->move(store, RowCall(known));
} catch (...) {
  return caught();
}

kvc_status kvc_attend_workspace(const kvc_program *program, uint32_t store,
                                uint32_t batch, uint32_t rows, uint32_t kv_len,
                                size_t *bytes) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  if (!bytes)
    return noOutput("bytes");
  kvc_attend_args bounds = {};
  bounds.batch = batch;
  bounds.rows = rows;
  bounds.max_kv_len = kv_len;
  *bytes = unwrap(program)->executable().attendWorkspace(
      store, AttendBounds::of(bounds));
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_attend_workspace_of(const kvc_program *program, uint32_t store,
                                   const kvc_attend_args *args,
                                   size_t *bytes) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_attend_args known;
  if (kvc_status s = readStruct(args, "kvc_attend_args", known); !isOk(s))
    return s;
  if (!bytes)
    return noOutput("bytes");
  *bytes = unwrap(program)->executable().attendWorkspace(
      store, AttendBounds::of(known));
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_attend(const kvc_program *program, uint32_t store,
                      const kvc_attend_args *args) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_attend_args known;
  if (kvc_status s = readStruct(args, "kvc_attend_args", known); !isOk(s))
    return s;
  // Of a caller who knows no bounds 0 rows are not its word.
  if (args->size <= offsetof(kvc_attend_args, rows) && known.batch != 0 &&
      unwrap(program)->device().isGpu())
    return fail(KVC_INVALID_ARGUMENT, 154,
                "`size`: a GPU expects a kvc_attend_args with `rows`");
  return unwrap(program)->attend(store, known, AttendBounds::of(known));
} catch (...) {
  return caught();
}

kvc_status kvc_attend_plan_bytes(const kvc_program *program, uint32_t store,
                                 const kvc_attend_args *args,
                                 size_t *bytes) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_attend_args known;
  if (kvc_status s = readStruct(args, "kvc_attend_args", known); !isOk(s))
    return s;
  if (!bytes)
    return noOutput("bytes");
  *bytes =
      unwrap(program)->executable().planBytes(store, AttendBounds::of(known));
  return ok();
} catch (...) {
  return caught();
}

kvc_status kvc_attend_plan(const kvc_program *program, uint32_t store,
                           const kvc_attend_args *args) try {
  if (kvc_status s = checkStore(program, store); !isOk(s))
    return s;
  kvc_attend_args known;
  if (kvc_status s = readStruct(args, "kvc_attend_args", known); !isOk(s))
    return s;
  return unwrap(program)->plan(store, known, AttendBounds::of(known));
} catch (...) {
  return caught();
}
