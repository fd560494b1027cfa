//===- Program.cpp - a loaded artifact ------------------------------------===//
#include "runtime/Program.h"

#include "lib/base/Artifact/File.h"
#include "runtime/Arguments.h"

using namespace kvc;
using namespace kvc::rt;

AttendBounds AttendBounds::of(const kvc_attend_args &args) {
  AttendBounds bounds = {args.batch, args.rows, args.rows, args.max_kv_len, 0};
  if (args.max_queries)
    bounds.maxQueries = std::min(args.max_queries, args.rows);
  bounds.maxTokens = uint64_t(args.batch) * args.max_kv_len;
  if (args.max_kv_tokens)
    bounds.maxTokens = std::min(bounds.maxTokens, args.max_kv_tokens);
  return bounds;
}

void Program::describePlanes() {
  for (const artifact::StoreInfo &store : info.stores) {
    std::vector<kvc_plane_info> &planes = planeInfos.emplace_back();
    for (const artifact::PlaneInfo &plane : store.planes) {
      kvc_plane_info &to = planes.emplace_back();
      to.stream = plane.stream.c_str();
      to.role = plane.role.c_str();
      to.type = plane.type.c_str();
      to.elements = plane.elements;
      to.row_tokens = plane.rowTokens;
      to.row_stride = plane.rowStride;
      to.head_stride = store.paged            ? plane.headStride
                       : store.order == "HND" ? 0
                                              : plane.rowBytes;
      to.page_offset = plane.pageOffset;
    }
    std::vector<kvc_constant_info> &constants = constantInfos.emplace_back();
    for (const artifact::ConstantInfo &constant : store.constants)
      constants.push_back({constant.name.c_str(), constant.size,
                           constant.type.c_str(), constant.perSequence});
  }
}

kvc_status Program::load(Device &device, std::span<const uint8_t> bytes,
                         Program *&program) {
  std::string error;
  std::optional<artifact::Bundle> bundle = artifact::Bundle::open(bytes, error);
  if (!bundle)
    return fail(KVC_CORRUPT, 301, "not a usable artifact: %s", error.c_str());
  std::unique_ptr<Program> loaded(new Program(device, bundle->manifest()));
  if (kvc_status s = device.load(loaded->info, *bundle, loaded->kernels);
      !isOk(s))
    return s;
  program = loaded.release();
  return ok();
}

kvc_status Program::loadFile(Device &device, const char *path,
                             Program *&program) {
  std::string error;
  std::optional<artifact::MappedFile> file =
      artifact::MappedFile::open(path, artifact::kMaxBundleBytes, error);
  if (!file)
    return fail(KVC_IO_ERROR, 302, "%s", error.c_str());
  return load(device, file->bytes(), program);
}

kvc_status Program::checkGathers(uint32_t store) const {
  if (kernels->gathers(store))
    return ok();
  return fail(KVC_UNSUPPORTED, 303,
              "`%s` has no gather kernel for `%s`: the artifact is of an "
              "earlier version; compile its spec again",
              info.stores[store].name.c_str(), kernels->target().c_str());
}

kvc_status Program::move(uint32_t store, const RowCall &given) const try {
  if (given.kernel == RowKernel::Gather)
    if (kvc_status s = checkGathers(store); !isOk(s))
      return s;
  if (given.rows == 0)
    return ok();
  RowCall call = withHeadStrides(info.model, given);
  if (kvc_status s = checkRowCall(info.model, info.stores[store], call,
                                  owner->readsHostMemory());
      !isOk(s))
    return s;
  return kernels->move(store, call);
} catch (...) {
  return caught();
}

kvc_status Program::attend(uint32_t store, const kvc_attend_args &given,
                           const AttendBounds &bounds) const try {
  if (given.batch == 0)
    return ok();
  kvc_attend_args args = withHeadStrides(info.model, given);
  if (kvc_status s = checkAttend(info.model, info.stores[store], args,
                                 owner->readsHostMemory());
      !isOk(s))
    return s;
  return kernels->attend(store, args, bounds);
} catch (...) {
  return caught();
}

kvc_status Program::plan(uint32_t store, const kvc_attend_args &args,
                         const AttendBounds &bounds) const try {
  if (args.batch == 0 || args.rows == 0 ||
      kernels->planBytes(store, bounds) == 0)
    return ok();
  if (kvc_status s = checkPlan(args); !isOk(s))
    return s;
  return kernels->plan(store, args, bounds);
} catch (...) {
  return caught();
}
