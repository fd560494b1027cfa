//===- Verify.cpp - proves kernels right ----------------------------------===//
#include "lib/driver/Verify/Verify.h"
#include "lib/driver/Jit/OrcLoader.h"
#include "lib/driver/Verify/Batch.h"
#include "lib/driver/Verify/BoundCheck.h"
#include "lib/driver/Verify/CacheCheck.h"
#include "lib/driver/Verify/RandomSpec.h"
#include "lib/driver/Verify/Rules.h"

#include "llvm/Support/raw_ostream.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

using namespace kvc;
using namespace kvc::verify;

/// All errors as text, for a failure's detail.
static std::string textOf(const Diagnostics &diagnostics) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (const Diagnostic &diagnostic : diagnostics.all())
    if (diagnostic.severity == Severity::Error)
      os << (text.empty() ? "" : "; ") << diagnostic.message;
  return text;
}

/// What kernels are compiled from: the spec, but for planted bugs.
static spec::Spec compiledFrom(const spec::Spec &spec, const Options &options) {
  return injectFault(options.impostor ? *options.impostor : spec,
                     options.fault);
}

/// The bytes to load.
static std::vector<uint8_t> build(const spec::Spec &compiled,
                                  const Options &options, Report &report) {
  Diagnostics diagnostics;
  CompileOptions compileOptions = options.compile;
  compileOptions.emitRemarks = false;
  auto output = compile(compiled, compileOptions, diagnostics);
  if (output && !diagnostics.hasErrors())
    return std::move(output->artifact);
  report.fail("setup", "compile: " + textOf(diagnostics));
  return {};
}

static std::unique_ptr<CompiledSpec>
load(const spec::Spec &spec, std::vector<uint8_t> artifact,
     const Devices &devices, const Options &options, Report &report) {
  spec::Spec compiled = compiledFrom(spec, options);
  if (artifact.empty())
    artifact = build(compiled, options, report);
  if (report.failed())
    return nullptr;
  std::string error;
  auto compiledSpec = CompiledSpec::create(spec, compiled, artifact, devices,
                                           options.fault, error);
  if (!compiledSpec)
    report.fail("setup", "load: " + error);
  return compiledSpec;
}

/// The kernels of every store on the harness's buffers, then through a cache.
static Report runCase(const CompiledSpec &compiledSpec, const Options &options,
                      uint64_t index, Visits visits) {
  if (options.allBounds)
    visits = Visits::All;
  Report report;
  auto add = [&](llvm::function_ref<Report()> check) {
    if (!options.untilFailed || !report.failed())
      report.add(check());
  };
  for (const CompiledStore &store : compiledSpec.stores)
    add([&] { return checkStore(compiledSpec, store, options.seed, index); });
  for (const CompiledStore &store : compiledSpec.stores)
    add([&] {
      return checkBounds(compiledSpec, store, options.seed, index, visits);
    });
  add([&] { return checkCache(compiledSpec, options.seed, index, visits); });
  return report;
}

namespace {

/// Collects what cases found, from any thread.
class Collector {
public:
  void add(uint64_t index, const spec::Spec *spec, Report report) {
    std::lock_guard lock(mutex);
    ++summary.cases;
    summary.failed += report.failed();
    summary.worstOutput = std::max(summary.worstOutput, report.output);
    summary.worstLse = std::max(summary.worstLse, report.lse);
    summary.worstElement = std::max(summary.worstElement, report.element);
    summary.rows += report.rows;
    summary.exactRows += report.exactRows;
    summary.unnamedRows += report.unnamedRows;
    summary.notFinite += report.notFinite;
    summary.longest = std::max(summary.longest, report.longest);
    summary.splits = std::max(summary.splits, report.splits);
    summary.visited.merge(report.visited);
    summary.beyondWindow.merge(report.beyondWindow);
    for (Failure &failure : report.failures)
      failures.emplace(index, CaseFailure{index, std::move(failure),
                                          spec ? spec->canonical : ""});
  }
  Summary take() {
    for (auto &[index, failure] : failures)
      summary.failures.push_back(std::move(failure));
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - start;
    summary.seconds = elapsed.count();
    return std::move(summary);
  }

private:
  std::mutex mutex;
  Summary summary;
  std::multimap<uint64_t, CaseFailure> failures; ///< in order of index
  std::chrono::steady_clock::time_point start =
      std::chrono::steady_clock::now();
};

/// Runs `body(index, devices)` for all cases on `options.jobs` threads, each
/// with its own devices. `loader` is null for a given artifact: what is
/// compiled here is loaded as a JIT does.
void forCases(const Options &options, const kvc_code_loader *loader,
              Collector &collector,
              llvm::function_ref<void(uint64_t, const Devices &)> body) {
  std::atomic<uint64_t> next = options.first;
  auto work = [&] {
    std::string error;
    auto devices = Devices::create(options.compile.targets, loader, error);
    if (!devices) {
      Report report;
      report.fail("setup", "no device: " + error);
      return collector.add(options.first, nullptr, std::move(report));
    }
    for (uint64_t index; (index = next++) < options.first + options.cases;)
      body(index, *devices);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.jobs; ++i)
    threads.emplace_back(work);
  work();
  for (std::thread &thread : threads)
    thread.join();
}

const kvc_code_loader *loaderFor(const std::vector<uint8_t> &artifact) {
  return artifact.empty() ? orcCodeLoader() : nullptr;
}

} // namespace

static void runRandomCase(uint64_t index, const Devices &devices,
                          const Options &options, Collector &collector) {
  Report report;
  Diagnostics diagnostics;
  auto spec = randomSpec(options.seed, index, diagnostics);
  if (!spec) {
    report.fail("setup", "spec: " + textOf(diagnostics));
    return collector.add(index, nullptr, std::move(report));
  }
  Options drawn = options;
  if (options.compile.schedule.empty())
    drawn.compile.schedule =
        randomSchedule(options.seed, index, options.compile.targets.front());
  if (auto compiledSpec = load(*spec, {}, devices, drawn, report))
    report.add(runCase(*compiledSpec, options, index, Visits::Sample));
  collector.add(index, &*spec, std::move(report));
}

Summary verify::verifyRandom(const Options &options,
                             const std::function<void(uint64_t)> &progress) {
  Collector collector;
  std::atomic<uint64_t> done = 0;
  // Nobody will ask for these specs again, and the compiler is to be tried.
  Options fresh = options;
  fresh.compile.useCache = false;
  forCases(fresh, orcCodeLoader(), collector,
           [&](uint64_t index, const Devices &devices) {
             runRandomCase(index, devices, fresh, collector);
             progress(++done);
           });
  return collector.take();
}

/// Says which bounds of a store no case stood next to on every side.
static void listUnreached(uint32_t store, const Bounds &bounds,
                          Summary &summary) {
  for (const Bound &bound : bounds.bounds) {
    UnreachedBound missed{bounds.store, bound.name, 0};
    for (size_t number : bound.visits) {
      const Visit &visit = bounds.visits[number];
      if (!summary.visited.contains({store, number}))
        missed.tokens = std::max(missed.tokens, visit.tokens);
    }
    if (missed.tokens)
      summary.unreached.push_back(std::move(missed));
  }
}

Summary verify::verifySpec(const spec::Spec &spec,
                           const std::vector<uint8_t> &artifact,
                           const Options &options) {
  Collector collector;
  Report built;
  std::vector<uint8_t> bytes = artifact;
  Options compiled = options;
  // Batches are small where kernels are emulated: splits must be as well.
  if (isEmulatedGpu(options.compile.targets.front()) &&
      options.compile.schedule.empty())
    compiled.compile.schedule.push_back({"*.decode", "split", kEmulatedSplit});
  if (bytes.empty())
    bytes = build(compiledFrom(spec, options), compiled, built);
  if (built.failed()) {
    collector.add(options.first, &spec, std::move(built));
    return collector.take();
  }
  std::mutex mutex;
  std::map<uint32_t, Bounds> bounds; ///< by the store's index
  forCases(
      options, loaderFor(artifact), collector,
      [&](uint64_t index, const Devices &devices) {
        Report report;
        if (auto compiledSpec = load(spec, bytes, devices, options, report)) {
          report.add(runCase(*compiledSpec, options, index, Visits::Share));
          std::lock_guard lock(mutex);
          for (const CompiledStore &store : compiledSpec->stores)
            bounds[store.index] = boundsOf(store);
        }
        collector.add(index, &spec, std::move(report));
      });
  Summary summary = collector.take();
  for (const auto &[store, all] : bounds)
    listUnreached(store, all, summary);
  return summary;
}

Summary verify::verifyTensors(const spec::Spec &spec,
                              const std::vector<uint8_t> &artifact,
                              const std::vector<LayerTensors> &layers,
                              const Options &options) {
  Collector collector;
  std::vector<LayerReport> reports;
  std::map<uint32_t, Bounds> bounds; ///< by the store's index
  std::set<std::pair<uint32_t, size_t>> passed;
  Options single = options;
  single.first = 0, single.cases = single.jobs = 1;
  forCases(single, loaderFor(artifact), collector,
           [&](uint64_t index, const Devices &devices) {
             Report report;
             if (auto compiledSpec =
                     load(spec, artifact, devices, options, report)) {
               reports = replay(*compiledSpec, layers);
               for (const CompiledStore &store : compiledSpec->stores) {
                 const Bounds &all = bounds[store.index] = boundsOf(store);
                 // Every length on the way was attended over.
                 for (auto [number, visit] : llvm::enumerate(all.visits))
                   if (visit.tokens <= layers.front().tokens)
                     passed.emplace(store.index, number);
               }
             }
             if (report.failed())
               collector.add(index, &spec, std::move(report));
           });
  for (const LayerReport &each : reports)
    collector.add(each.layer, &spec, each.report);
  Summary summary = collector.take();
  summary.layers = std::move(reports);
  summary.visited = std::move(passed);
  for (const auto &[store, all] : bounds)
    listUnreached(store, all, summary);
  return summary;
}

namespace {

/// Cases of one spec or of random ones, with faults and without.
class PlantedCases {
public:
  PlantedCases(const Options &options, const spec::Spec *spec)
      : options(options), spec(spec) {}

  const Options options;
  const spec::Spec *const spec; ///< null: random ones

  Summary run(uint64_t index, Fault fault) const {
    Options one = options;
    one.first = index;
    one.cases = one.jobs = 1;
    one.fault = fault;
    one.allBounds = one.untilFailed = true;
    return spec ? verifySpec(*spec, {}, one)
                : verifyRandom(one, [](uint64_t) {});
  }
  /// Whether a case passes without a fault; each is run once.
  bool isSound(uint64_t index) {
    std::lock_guard lock(mutex);
    auto [known, isNew] = sound.try_emplace(index, false);
    if (isNew)
      known->second = !run(index, Fault::None).failed;
    return known->second;
  }

private:
  std::mutex mutex;
  std::map<uint64_t, bool> sound;
};

} // namespace

/// Whether a store has the edge that a fault of windows moves. An expression
/// may hide it, or leave it no weight.
static bool isPlainWindow(Fault fault, const spec::Store &store) {
  const auto &window = store.read.window;
  return window && (fault == Fault::WideWindow || window->sink) &&
         !store.attend.logits && !store.attend.visible;
}

/// Whether a fault that changes what a sequence sees can show, in a run of
/// which `summary` tells.
static bool isWithinReach(Fault fault, const spec::Spec &spec,
                          const Summary &summary) {
  if (fault == Fault::LostSplit)
    return summary.splits > 1;
  if (fault != Fault::WideWindow && fault != Fault::NoSink)
    return true;
  return llvm::any_of(summary.beyondWindow, [&](uint32_t store) {
    return isPlainWindow(fault, spec.stores[store]);
  });
}

/// Random cases in which a fault that none may miss is tried.
static constexpr uint64_t kCertain = 5;

/// Tries cases until one fails with the fault and passes without it.
static Planted tryFault(const FaultInfo &fault, PlantedCases &cases) {
  const Options &options = cases.options;
  Planted planted;
  planted.fault = fault;
  bool isCertain =
      fault.fault == Fault::WideWindow || fault.fault == Fault::NoSink;
  for (uint64_t index = options.first; index < options.first + options.cases;
       ++index) {
    Diagnostics diagnostics;
    std::optional<spec::Spec> spec =
        cases.spec ? *cases.spec : randomSpec(options.seed, index, diagnostics);
    if (!spec || !applies(fault.fault, *spec))
      continue;
    if (isCertain && !cases.spec &&
        llvm::none_of(spec->stores, [&](const spec::Store &store) {
          return isPlainWindow(fault.fault, store);
        }))
      continue;
    Summary broken = cases.run(index, fault.fault);
    if (!broken.failed && !isWithinReach(fault.fault, *spec, broken)) {
      ++planted.outOfReach;
      continue;
    }
    ++planted.tried;
    if (!broken.failed || !cases.isSound(index)) {
      if (isCertain && !planted.missed)
        planted.missed = index;
      continue;
    }
    if (!planted.caught)
      planted.failure = broken.failures.front();
    planted.caught = true;
    if (!isCertain || cases.spec || planted.tried == kCertain)
      break;
  }
  return planted;
}

std::vector<Planted> verify::verifyPlanted(const Options &options,
                                           const spec::Spec *spec) {
  std::vector<Planted> all(std::size(kFaults));
  PlantedCases cases(options, spec);
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i; (i = next++) < all.size();)
      all[i] = tryFault(kFaults[i], cases);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.jobs; ++i)
    threads.emplace_back(work);
  work();
  for (std::thread &thread : threads)
    thread.join();
  return all;
}
