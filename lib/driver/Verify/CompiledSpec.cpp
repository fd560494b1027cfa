//===- CompiledSpec.cpp - a spec compiled, loaded and judged --------------===//
#include "lib/driver/Verify/CompiledSpec.h"
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Size.h"
#include "lib/base/Support/Words.h"
#include "lib/driver/Compiler/Describe.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Verify/ConstantArrays.h"
#include "lib/driver/Verify/Random.h"
#include "passes/Passes.h"

#include "mlir/Pass/PassManager.h"

#include "llvm/Support/FormatVariadic.h"

#include <nlohmann/json.hpp>

#include <array>

using namespace kvc;
using namespace kvc::verify;

bool verify::isEmulatedGpu(llvm::StringRef target) {
  return target.starts_with("sim:sm_");
}

std::unique_ptr<Devices> Devices::create(llvm::ArrayRef<std::string> targets,
                                         const kvc_code_loader *loader,
                                         std::string &error) {
  auto devices = std::make_unique<Devices>();
  std::string target = targets.empty() ? "" : targets.front();
  devices->emulated = isEmulatedGpu(target);
  for (unsigned i = 0; i < kCount; ++i) {
    kvc_status status;
    if (target.starts_with("sim:")) {
      kvc_sim_options options = {};
      options.size = sizeof(options);
      options.target = target.c_str() + 4;
      options.seed = i;
      options.threads = i + 1;
      status = kvc_device_create_sim(&options, &devices->device[i]);
    } else {
      kvc_cpu_options options = {};
      options.size = sizeof(options);
      options.threads = i + 1;
      options.code_loader = loader;
      status = kvc_device_create_cpu(&options, &devices->device[i]);
    }
    if (status.code != KVC_OK) {
      error = kvc_error_text();
      return nullptr;
    }
  }
  return devices;
}

Devices::~Devices() {
  for (kvc_device *each : device)
    if (each)
      kvc_device_release(each);
}

CompiledSpec::~CompiledSpec() {
  for (kvc_program *program : programs)
    if (program)
      kvc_program_release(program);
}

const CompiledStore::Variant &CompiledStore::variantFor(int64_t queries) const {
  const Variant *chosen = &variants.front();
  for (const Variant &variant : variants)
    if (variant.minQueries <= queries)
      chosen = &variant;
  return *chosen;
}

/// Where a manifest's model and stores are not those of `compiled`; empty if
/// nowhere.
static std::string compareManifest(const artifact::Manifest &manifest,
                                   const spec::Spec &compiled,
                                   mlir::MLIRContext &context) {
  artifact::Manifest expected = manifest;
  expected.model = describeModel(compiled.model);
  mlir::OwningOpRef<mlir::ModuleOp> module = importSpec(context, compiled);
  mlir::PassManager passes(&context);
  passes.addPass(createInferReads());
  if (failed(passes.run(*module)))
    return "the spec's reads cannot be inferred";
  expected.stores = describeStores(*module);
  auto parse = [](const artifact::Manifest &from) {
    return nlohmann::json::parse(artifact::write(from), nullptr,
                                 /*allow_exceptions=*/false);
  };
  nlohmann::json want = parse(expected), found = parse(manifest);
  nlohmann::json differences = nlohmann::json::diff(want, found);
  if (differences.empty())
    return "";
  std::string path = differences.front()["path"];
  nlohmann::json::json_pointer pointer(path);
  auto textAt = [&](const nlohmann::json &of) {
    return of.contains(pointer) ? of[pointer].dump() : "nothing";
  };
  return llvm::formatv("the manifest is of another spec: {0}: expected {1}, "
                       "found {2}",
                       path, textAt(want), textAt(found));
}

/// Why rows of one model's q, k, v and o are not as long as those of the other;
/// empty if they are.
static std::string compareRows(const spec::Model &a, const spec::Model &b) {
  auto rows = [](const spec::Model &model) {
    return std::array{model.qHeads, model.kvHeads, model.headDimK,
                      model.headDimV, spec::bytes(model.dtype)};
  };
  if (rows(a) == rows(b))
    return "";
  return llvm::formatv("expected rows of [q heads, kv heads, dim k, dim v, "
                       "bytes] = {0}, found {1}",
                       llvm::iterator_range(rows(a)),
                       llvm::iterator_range(rows(b)));
}

/// What a printed schedule says of `field`; nullopt if nothing.
static std::optional<int64_t> scheduled(llvm::StringRef schedule,
                                        llvm::StringRef field) {
  llvm::SmallVector<llvm::StringRef, 16> entries;
  schedule.split(entries, ", ");
  for (llvm::StringRef entry : entries) {
    int64_t value;
    if (entry.consume_front(field) && entry.consume_front(" = ") &&
        !entry.getAsInteger(10, value))
      return value;
  }
  return std::nullopt;
}

/// Where a kernel's numbers are not those of the schedule that it was compiled
/// with; empty if nowhere.
static std::string compareSchedule(const artifact::KernelInfo &kernel) {
  std::pair<const char *, int64_t> fields[] = {{"split", kernel.split},
                                               {"queries", kernel.maxQueries},
                                               {"rows", kernel.rows}};
  for (auto [field, value] : llvm::ArrayRef(fields).take_front(
           kernel.device == "cpu" ? 2 : 3)) // CPUs are told no rows
    if (auto expected = scheduled(kernel.schedule, field);
        expected != std::optional(value))
      return llvm::formatv("the manifest contradicts itself: kernel `{0}` has "
                           "{1} = {2}, and in its schedule {3}",
                           kernel.name, field, value,
                           expected ? std::to_string(*expected) : "none");
  return "";
}

/// The attend kernels of a store for what `program` picked, by minQueries.
static std::string takeVariants(const artifact::Manifest &manifest,
                                const kvc_program *program,
                                CompiledStore &store) {
  llvm::StringRef target = kvc_program_target(program);
  for (const artifact::KernelInfo &kernel : manifest.kernels) {
    if (kernel.kind != "attend" || kernel.store != store.spec->name ||
        kernel.target != target ||
        kernel.device != (store.emulated ? "sim" : "cpu"))
      continue;
    std::string difference = compareSchedule(kernel);
    if (!difference.empty())
      return difference;
    store.variants.push_back({kernel.name.substr(kernel.store.size() + 1),
                              kernel.minQueries, kernel.maxQueries,
                              kernel.split});
  }
  llvm::sort(store.variants, [](const auto &a, const auto &b) {
    return a.minQueries < b.minQueries;
  });
  int64_t next = 1;
  for (const CompiledStore::Variant &variant : store.variants) {
    if (variant.minQueries != next)
      return llvm::formatv("the manifest contradicts itself: `{0}` of `{1}` "
                           "takes {2} query tokens at least, expected {3}",
                           variant.name, store.spec->name, variant.minQueries,
                           next);
    next = variant.minQueries + variant.maxQueries;
  }
  if (store.variants.empty())
    return llvm::formatv("the manifest has no attend kernel of `{0}` for {1}",
                         store.spec->name, target);
  return "";
}

/// Where the manifest, as the runtime reads it, and the dialect disagree about
/// a store; empty if nowhere.
static std::string compareGeometry(const CompiledStore &store,
                                   const kvc_store_info &info) {
  auto planes = store.cache().planes();
  if (info.plane_count != planes.size())
    return llvm::formatv("expected {0} planes, found {1}", planes.size(),
                         info.plane_count);
  const spec::Scope &scope = store.spec->scope;
  llvm::ArrayRef<uint32_t> layers(info.layers, info.layer_count);
  if (layers != llvm::ArrayRef(scope.layers) ||
      info.head_begin != scope.headBegin || info.head_end != scope.headEnd)
    return llvm::formatv(
        "expected layers {0} and kv heads {1}, found {2} and "
        "{3}",
        rangesOf(scope.layers), rangeOf(scope.headBegin, scope.headEnd),
        rangesOf(layers), rangeOf(info.head_begin, info.head_end));
  if (info.page_tokens != (store.paged() ? store.page() : 0))
    return llvm::formatv("expected pages of {0}, found {1}", store.page(),
                         info.page_tokens);
  for (auto [i, plane] : llvm::enumerate(planes)) {
    const kvc_plane_info &found = info.planes[i];
    if (found.elements == plane.elements &&
        found.row_stride == plane.rowStride &&
        found.head_stride == plane.headStride)
      continue;
    return llvm::formatv(
        "plane {0}: expected {1} elements and strides of {2} and {3}, found "
        "{4}, {5} and {6}",
        i, plane.elements, plane.rowStride, plane.headStride, found.elements,
        found.row_stride, found.head_stride);
  }
  return "";
}

static bool readsStep(const spec::Expr &expr) {
  return expr.op == spec::ExprOp::Context || expr.perSequence ||
         llvm::any_of(expr.operands, readsStep);
}

bool CompiledStore::dependsOnStep() const {
  const spec::Attend &attend = spec->attend;
  return !attend.causal || (attend.logits && readsStep(*attend.logits)) ||
         (attend.visible && readsStep(*attend.visible));
}

bool CompiledSpec::describe(const artifact::Manifest &manifest,
                            std::string &error) {
  uint32_t count = kvc_program_store_count(programs[0]);
  for (const spec::Store &store : spec.stores) {
    auto function = module->lookupSymbol<mlir::func::FuncOp>(
        llvm::StringRef(store.name + ".attend"));
    AttendOp attend = *function.getOps<AttendOp>().begin();
    CompiledStore compiledSpec;
    compiledSpec.spec = &store;
    compiledSpec.emulated = emulators[0];
    compiledSpec.given = drawConstants(store.attend);
    compiledSpec.problem =
        reference::AttendProblem::of(attend, compiledSpec.given);
    compiledSpec.softcap = spec.model.logitSoftcap;
    for (const artifact::StoreInfo &info : manifest.stores)
      if (info.name == store.name && info.window)
        compiledSpec.window = {info.sink, info.recent};
    for (const PlaneGeometry &plane : compiledSpec.cache().planes())
      compiledSpec.planes.push_back({plane.stream, plane.role, plane.type,
                                     plane.rowBytes, plane.rowStride});
    kvc_store_info info = {};
    info.size = sizeof(info);
    for (compiledSpec.index = 0; compiledSpec.index < count;
         ++compiledSpec.index)
      if (kvc_program_get_store(programs[0], compiledSpec.index, &info).code ==
              KVC_OK &&
          store.name == info.name)
        break;
    if (compiledSpec.index == count)
      return error = "the program has no store `" + store.name + "`", false;
    std::string difference = compareGeometry(compiledSpec, info);
    if (difference.empty())
      difference = takeVariants(manifest, programs[0], compiledSpec);
    if (!difference.empty())
      return error = "store `" + store.name + "`: " + difference, false;
    stores.push_back(std::move(compiledSpec));
  }
  return true;
}

std::unique_ptr<CompiledSpec>
CompiledSpec::create(const spec::Spec &spec, const spec::Spec &compiled,
                     llvm::ArrayRef<uint8_t> artifact, const Devices &devices,
                     Fault fault, std::string &error) {
  auto compiledSpec = std::make_unique<CompiledSpec>();
  compiledSpec->spec = spec;
  compiledSpec->fault = fault;
  compiledSpec->context = std::make_unique<mlir::MLIRContext>(
      mlir::MLIRContext::Threading::DISABLED);
  compiledSpec->module = importSpec(*compiledSpec->context, compiledSpec->spec);
  auto bundle =
      artifact::Bundle::open({artifact.data(), artifact.size()}, error);
  if (!bundle)
    return nullptr;
  error = compareManifest(bundle->manifest(), compiled, *compiledSpec->context);
  if (error.empty())
    error = compareRows(spec.model, compiled.model);
  if (!error.empty())
    return nullptr;
  for (unsigned i = 0; i < Devices::kCount; ++i) {
    if (devices.emulated)
      compiledSpec->emulators[i] = devices.device[i];
    kvc_status status =
        kvc_program_load(devices.device[i], artifact.data(), artifact.size(),
                         &compiledSpec->programs[i]);
    if (status.code != KVC_OK)
      return error = kvc_error_text(), nullptr;
  }
  return compiledSpec->describe(bundle->manifest(), error)
             ? std::move(compiledSpec)
             : nullptr;
}

spec::Spec verify::injectFault(spec::Spec spec, Fault fault) {
  if (fault == Fault::Scale)
    spec.model.softmaxScale *= 1.02;
  if (fault == Fault::NoSoftcap)
    spec.model.logitSoftcap.reset();
  for (spec::Store &store : spec.stores) {
    if (fault == Fault::NoLogits)
      store.attend.logits.reset();
    if (fault == Fault::NoVisible)
      store.attend.visible.reset();
    if (fault == Fault::NoSinkLogit)
      store.attend.sink.reset();
    if (fault == Fault::Ahead)
      store.attend.causal = !store.attend.causal;
    auto &window = store.read.window;
    if (window && fault == Fault::WideWindow)
      ++window->recent;
    if (window && window->sink && fault == Fault::NoSink)
      --window->sink;
  }
  spec.canonical = canonicalText(spec);
  return spec;
}

static bool
anyCodec(const spec::Spec &spec,
         llvm::function_ref<bool(const spec::IntCodec &)> predicate) {
  return llvm::any_of(spec.stores, [&](const spec::Store &store) {
    const auto *k = std::get_if<spec::IntCodec>(&store.k.codec),
               *v = std::get_if<spec::IntCodec>(&store.v.codec);
    return (k && predicate(*k)) || (v && predicate(*v));
  });
}

/// Of scales; none: the codec has none.
static std::optional<spec::ParameterType>
scaleTypeOf(const spec::Codec &codec) {
  if (const auto *code = std::get_if<spec::IntCodec>(&codec))
    return code->scaleType;
  if (const auto *stored = std::get_if<spec::MinifloatCodec>(&codec))
    return stored->scaleType;
  return std::nullopt;
}

static bool hasGroups(const spec::Stream &stream) {
  const auto *stored = std::get_if<spec::MinifloatCodec>(&stream.codec);
  const auto *code = std::get_if<spec::IntCodec>(&stream.codec);
  return (stored && stored->group) || (code && code->group);
}

/// Of less than a byte.
static bool hasNarrowCodes(const spec::Stream &stream) {
  const auto *stored = std::get_if<spec::MinifloatCodec>(&stream.codec);
  const auto *code = std::get_if<spec::IntCodec>(&stream.codec);
  return (stored && spec::bits(stored->format) < 8) || (code && code->bits < 8);
}

bool verify::applies(Fault fault, const spec::Spec &spec) {
  auto anyStore = [&](auto predicate) {
    return llvm::any_of(spec.stores, predicate);
  };
  switch (fault) {
  case Fault::NoSoftcap:
    return spec.model.logitSoftcap.has_value();
  case Fault::NoLogits:
    return anyStore([](const spec::Store &store) {
      return store.attend.logits.has_value();
    });
  case Fault::NoVisible:
    return anyStore([](const spec::Store &store) {
      return store.attend.visible.has_value();
    });
  case Fault::NoSinkLogit:
    return anyStore(
        [](const spec::Store &store) { return store.attend.sink.has_value(); });
  case Fault::WideWindow:
    return anyStore(
        [](const spec::Store &store) { return store.read.window.has_value(); });
  case Fault::NoSink:
    return anyStore([](const spec::Store &store) {
      return store.read.window && store.read.window->sink;
    });
  case Fault::WrongConstants:
    return anyStore([](const spec::Store &store) {
      return llvm::any_of(
          store.attend.constants,
          [](const spec::Constant &constant) { return constant.perSequence; });
    });
  case Fault::HeadStride:
    return spec.model.kvHeads > 1;
  case Fault::SwapScales:
    return anyStore([](const spec::Store &store) {
      auto k = scaleTypeOf(store.k.codec), v = scaleTypeOf(store.v.codec);
      return k && k == v &&
             spec::rowBytes(store.k).scales == spec::rowBytes(store.v).scales;
    });
  case Fault::SwapZeros:
    return anyCodec(spec, [](const spec::IntCodec &codec) {
      return codec.zeroType == codec.scaleType;
    });
  case Fault::OneGroup:
    return anyStore([](const spec::Store &store) {
      return hasGroups(store.k) || hasGroups(store.v);
    });
  case Fault::OneCode:
    return anyStore([](const spec::Store &store) {
      return hasNarrowCodes(store.k) || hasNarrowCodes(store.v);
    });
  case Fault::LowPrecision:
    return spec.model.dtype == spec::DType::F32;
  case Fault::OneStep:
    return spec.model.dtype != spec::DType::F32;
  default:
    return true;
  }
}
