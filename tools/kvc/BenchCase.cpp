//===- BenchCase.cpp ------------------------------------------------------===//

#include "tools/kvc/BenchCase.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

using namespace kvc;
using namespace kvc::bench;

Program kvc::bench::load(const std::vector<uint8_t> &artifact, unsigned threads,
                         const kvc_code_loader *loader) {
  kvc_cpu_options options = {};
  options.size = sizeof(options);
  options.threads = threads;
  options.code_loader = loader;
  kvc_device *device = nullptr;
  if (kvc_device_create_cpu(&options, &device).code != KVC_OK)
    return nullptr;
  // The program keeps it alive.
  std::unique_ptr<kvc_device, Release> own(device);
  kvc_program *program = nullptr;
  if (kvc_program_load(device, artifact.data(), artifact.size(), &program)
          .code != KVC_OK)
    return nullptr;
  return Program(program);
}

static unsigned elementBytes(const std::string &dtype) {
  return dtype == "f32" ? 4 : 2;
}

/// Sets element `index` of an array of `dtype`; `value` is exact in all.
static void put(uint8_t *array, const std::string &dtype, size_t index,
                float value) {
  if (dtype == "f16") {
    auto half = static_cast<_Float16>(value);
    std::memcpy(array + index * 2, &half, 2);
  } else if (dtype == "bf16") {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits >>= 16;
    std::memcpy(array + index * 2, &bits, 2);
  } else {
    std::memcpy(array + index * 4, &value, 4);
  }
}

static float get(const uint8_t *array, const std::string &dtype, size_t index) {
  float value;
  uint32_t bits = 0;
  if (dtype == "f16") {
    _Float16 half;
    std::memcpy(&half, array + index * 2, 2);
    return static_cast<float>(half);
  }
  if (dtype == "f32")
    std::memcpy(&bits, array + index * 4, 4);
  else
    std::memcpy(&bits, array + index * 2, 2), bits <<= 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// `count` numbers k / 128 with 0 < |k| < 16: scores stay moderate whatever the
/// arena holds.
static std::vector<uint8_t> randomRows(const std::string &dtype, size_t count,
                                       unsigned seed) {
  std::vector<uint8_t> rows(count * elementBytes(dtype));
  std::mt19937 random(seed);
  for (size_t i = 0; i < count; ++i) {
    float magnitude = float(random() % 15 + 1) / 128;
    put(rows.data(), dtype, i, random() % 2 ? magnitude : -magnitude);
  }
  return rows;
}

static size_t roundUp(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

Case::Case(const kvc_program *program, const artifact::Manifest &manifest,
           const TokenCounter &counter, unsigned storeIndex, Op op, Shape shape)
    : program(program), manifest(manifest), store(manifest.stores[storeIndex]),
      storeIndex(storeIndex), op(op), shape(shape) {
  placePlanes();
  placeRows();
  countWork(counter);
}

/// Contiguous: plane after plane, each [sequence][its order]. Paged: pages as
/// the manifest has them.
void Case::placePlanes() {
  const size_t heads = store.headEnd - store.headBegin;
  pages = store.paged ? (shape.context + store.page - 1) / store.page : 1;
  planes.resize(store.planes.size());
  offsets.resize(planes.size());
  for (size_t i = 0; i < planes.size(); ++i) {
    const artifact::PlaneInfo &plane = store.planes[i];
    if (store.paged) {
      planes[i].page_stride = int64_t(store.pageBytes);
      planes[i].head_stride = plane.headStride;
      offsets[i] = plane.pageOffset;
      continue;
    }
    size_t rows = size_t(shape.context) * plane.rowStride;
    bool headMajor = plane.headStride == 0;
    planes[i].head_stride = int64_t(headMajor ? rows : plane.headStride);
    planes[i].page_stride = int64_t(headMajor ? rows * heads : rows);
    offsets[i] = roundUp(placeBytes, 64);
    placeBytes = offsets[i] + size_t(planes[i].page_stride) * shape.batch;
  }
  if (store.paged)
    placeBytes = pages * shape.batch * store.pageBytes;
  placeBytes = roundUp(placeBytes, 4096);
}

void Case::placeRows() {
  const artifact::ModelInfo &model = manifest.model;
  const size_t rows = size_t(shape.batch) * shape.queries;
  std::mt19937 random(1);
  table.resize(shape.batch * pages);
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), random);
  kvLen.assign(shape.batch, int32_t(shape.context));
  for (unsigned b = 0; b <= shape.batch; ++b)
    cuQ.push_back(int32_t(b * shape.queries));
  if (op == Op::Append) {
    k = randomRows(model.dtype, rows * model.kvHeads * model.headDimK, 2);
    v = randomRows(model.dtype, rows * model.kvHeads * model.headDimV, 3);
    const size_t page = store.paged ? store.page : shape.context;
    for (unsigned b = 0; b < shape.batch; ++b)
      for (unsigned i = 0; i < shape.queries; ++i) {
        size_t token = shape.context - shape.queries + i;
        int64_t id = table[b * pages + token / page];
        slot.push_back(id * int64_t(page) + int64_t(token % page));
      }
    return;
  }
  q = randomRows(model.dtype, rows * model.qHeads * model.headDimK, 4);
  out.resize(rows * model.qHeads * model.headDimV * elementBytes(model.dtype));
  size_t bytes = 0;
  if (kvc_attend_workspace(program, storeIndex, shape.batch, uint32_t(rows),
                           shape.context, &bytes)
          .code == KVC_OK)
    workspace.resize(bytes + 64);
  for (const artifact::ConstantInfo &constant : store.constants)
    zeros.resize(std::max<size_t>(
        zeros.size(),
        size_t(constant.size) * (constant.perSequence ? shape.batch : 1)));
  constants.assign(store.constants.size(), zeros.data());
}

void Case::countWork(const TokenCounter &counter) {
  const artifact::ModelInfo &model = manifest.model;
  const double heads = store.headEnd - store.headBegin;
  const double group = double(model.qHeads) / model.kvHeads;
  const double rows = double(shape.batch) * shape.queries;
  double rowBytes = 0; // of the cache, per (token, head)
  for (const artifact::PlaneInfo &plane : store.planes)
    rowBytes += plane.rowBytes;
  const double dims = model.headDimK + model.headDimV;
  const double element = elementBytes(model.dtype);
  if (op == Op::Append) {
    movedBytes = rows * heads * (rowBytes + dims * element);
    return;
  }
  reference::SeenTokens seen =
      counter.of(storeIndex, shape.context, shape.queries);
  const double cachedBytes = shape.batch * seen.cached * rowBytes;
  movedBytes = cachedBytes + rows * heads * group * dims * element;
  flopCount = 2.0 * dims * shape.batch * seen.scores;
  if (2 * cachedBytes > double(placeBytes))
    return;
  uint32_t stride = 0;
  for (const artifact::PlaneInfo &plane : store.planes)
    stride = std::max(stride, plane.rowStride);
  shiftStep = roundUp(size_t(seen.longest) * stride, 4096);
}

/// Looked at once: a kernel that returns at once is fast as well.
bool Case::plausible() const {
  const artifact::ModelInfo &model = manifest.model;
  const size_t group = model.qHeads / model.kvHeads;
  const size_t row = size_t(model.qHeads) * model.headDimV;
  double sum = 0;
  for (size_t r = 0; r < size_t(shape.batch) * shape.queries; ++r)
    for (size_t i = store.headBegin * group * model.headDimV;
         i < store.headEnd * group * model.headDimV; ++i)
      sum += std::fabs(double(get(out.data(), model.dtype, r * row + i)));
  return std::isfinite(sum) && sum > 0;
}

bool Case::append() const {
  const artifact::ModelInfo &model = manifest.model;
  const int64_t element = elementBytes(model.dtype);
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = uint32_t(slot.size());
  args.k = k.data();
  args.k_row_stride = element * model.kvHeads * model.headDimK;
  args.v = store.storesV() ? v.data() : nullptr;
  args.v_row_stride = element * model.kvHeads * model.headDimV;
  args.slot = slot.data();
  args.slot_tokens = shape.context;
  args.planes = planes.data();
  args.plane_count = uint32_t(planes.size());
  return kvc_append(program, storeIndex, &args).code == KVC_OK;
}

bool Case::attend() {
  const artifact::ModelInfo &model = manifest.model;
  const int64_t element = elementBytes(model.dtype);
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = shape.batch;
  args.q = q.data();
  args.q_row_stride = element * model.qHeads * model.headDimK;
  args.out = out.data();
  args.out_row_stride = element * model.qHeads * model.headDimV;
  args.cu_q = cuQ.data();
  args.kv_len = kvLen.data();
  args.table = table.data();
  args.table_stride = int64_t(pages);
  args.slot_tokens = shape.context;
  void *aligned = workspace.data();
  args.workspace_bytes = workspace.size();
  args.workspace = std::align(64, 0, aligned, args.workspace_bytes);
  args.planes = planes.data();
  args.plane_count = uint32_t(planes.size());
  args.constants = constants.data();
  args.constant_count = uint32_t(constants.size());
  return kvc_attend(program, storeIndex, &args).code == KVC_OK;
}

bool Case::call(Arena &arena) {
  uint8_t *place = arena.next(placeBytes, shift);
  if (place <= lastPlace)
    shift = (shift + shiftStep) % placeBytes;
  lastPlace = place;
  for (size_t i = 0; i < planes.size(); ++i)
    planes[i].base = place + offsets[i];
  if (op == Op::Append)
    return append();
  if (!attend())
    return false;
  return checked = checked || plausible();
}
