//===- Describe.cpp - what the IR says, for the manifest ------------------===//
#include "lib/driver/Compiler/Describe.h"
#include "lib/driver/Import/SpecToKvc.h"

using namespace mlir;
using namespace kvc;

artifact::ModelInfo kvc::describeModel(const spec::Model &model) {
  artifact::ModelInfo info;
  info.layers = model.layers;
  info.qHeads = model.qHeads;
  info.kvHeads = model.kvHeads;
  info.headDimK = model.headDimK;
  info.headDimV = model.headDimV;
  info.dtype = spec::name(model.dtype);
  info.softmaxScale = model.softmaxScale;
  return info;
}

static std::string typeName(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

static artifact::PlaneInfo describePlane(const PlaneGeometry &plane) {
  artifact::PlaneInfo info;
  info.stream = plane.stream.str();
  info.role = plane.role.str();
  info.type = typeName(plane.type);
  info.elements = plane.elements;
  info.rowTokens = plane.tokens;
  info.rowBytes = plane.rowBytes;
  info.rowStride = plane.rowStride;
  info.headStride = plane.headStride;
  info.pageOffset = plane.pageOffset;
  return info;
}

static artifact::StoreInfo describeStore(StoreOp op) {
  auto cache = cast<CacheType>(op.getCache());
  artifact::StoreInfo info;
  info.name = op.getSymName().str();
  info.layers.assign(op.getLayers().begin(), op.getLayers().end());
  info.headBegin = op.getHeadBegin();
  info.headEnd = op.getHeadEnd();
  info.page = cache.layout().getPageTokens();
  info.paged = info.page != 0;
  info.order = cache.layout().getOrderName().str();
  info.pageBytes = cache.pageBytes();
  for (const PlaneGeometry &geometry : cache.planes()) {
    artifact::PlaneInfo &plane =
        info.planes.emplace_back(describePlane(geometry));
    // What depends on a sequence's capacity is the runtime's to say.
    if (!info.paged)
      plane.headStride = 0;
  }
  if (auto attend = op->getAttrOfType<StringAttr>(kAttendAttr))
    info.attend = attend.str();
  if (auto constants = op->getAttrOfType<DictionaryAttr>(kConstantsAttr))
    for (NamedAttribute constant : constants) {
      auto type = cast<RankedTensorType>(
          cast<TypeAttr>(constant.getValue()).getValue());
      info.constants.push_back(
          {constant.getName().str(), uint32_t(type.getShape().back()),
           type.getElementType().isF32() ? "f32" : "i32", type.getRank() == 2});
    }
  info.causal = op.read().isCausal();
  info.window = !op.read().isAll();
  if (info.window) {
    info.sink = op.read().getSinkTokens();
    info.recent = op.read().getRecentTokens();
  }
  return info;
}

std::vector<artifact::StoreInfo> kvc::describeStores(ModuleOp module) {
  std::vector<artifact::StoreInfo> stores;
  for (StoreOp op : module.getOps<StoreOp>())
    stores.push_back(describeStore(op));
  return stores;
}

std::vector<artifact::KernelInfo> kvc::describeKernels(ModuleOp module,
                                                       const Target &target) {
  std::vector<artifact::KernelInfo> kernels;
  llvm::StringMap<uint32_t> nextQueries;
  for (auto op : module.getOps<tile::KernelOp>()) {
    artifact::KernelInfo &info = kernels.emplace_back();
    info.name = op.getSymName().str();
    info.kind = op.getKind().str();
    info.store = op.getStore().str();
    info.target = target.isGpu() ? target.sm.name : target.name;
    if (target.isGpu())
      info.device = target.device == Target::Device::Sim ? "sim" : "cuda";
    // Emulated kernels are code for a CPU as well.
    if (target.device != Target::Device::Cuda)
      info.features = target.cpu.features;
    info.symbol = target.isGpu() ? nvptx::symbolName(op.getSymName())
                                 : cpu::symbolName(op.getSymName());
    if (!op.getSchedule())
      continue;
    ScheduleAttrInterface schedule = *op.getSchedule();
    info.schedule = schedule.str();
    info.minQueries = nextQueries.try_emplace(info.store, 1).first->second;
    info.maxQueries = schedule.getQueries();
    nextQueries[info.store] = info.minQueries + info.maxQueries;
    info.split = schedule.getSplit();
    info.tileTokens = schedule.getRoundTokens();
    if (target.isGpu())
      info.rows = schedule.getRows();
  }
  return kernels;
}

std::vector<artifact::KernelInfo> kvc::describePlans(ModuleOp module,
                                                     const Target &target) {
  std::vector<artifact::KernelInfo> kernels;
  for (auto store : module.getOps<StoreOp>()) {
    artifact::KernelInfo &info = kernels.emplace_back();
    info.name = (store.getSymName() + ".plan").str();
    info.kind = "plan";
    info.store = store.getSymName().str();
    info.target = target.sm.name;
    info.device = target.deviceName();
    if (target.device == Target::Device::Sim)
      info.features = target.cpu.features;
    info.symbol = nvptx::symbolName(info.name);
  }
  return kernels;
}

/// The stream that a dequantize op's codes come from.
static StringRef streamOf(Value scales) {
  auto load = scales.getDefiningOp<tile::LoadOp>();
  return load ? load.getStream() : "a stream";
}

void kvc::remarkFolds(ModuleOp module) {
  for (auto kernel : module.getOps<tile::KernelOp>())
    kernel.walk([&](Operation *op) {
      if (auto scale = dyn_cast<tile::ScaleTokensOp>(op))
        kernel.emitRemark("`")
            << kernel.getSymName() << "`: scales of "
            << streamOf(scale.getScales()) << " folded into its "
            << (isa<tile::DotOp>(scale.getX().getDefiningOp())
                    ? "scores"
                    : "probabilities")
            << ", one multiply per token and query row [R-FOLDED]";
    });
}
