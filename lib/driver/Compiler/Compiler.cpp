//===- Compiler.cpp - spec in, artifact out -------------------------------===//
#include "lib/driver/Compiler/Compiler.h"

#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Support/Version.h"
#include "lib/driver/Compiler/KernelCache.h"
#include "lib/driver/Compiler/Remarks.h"
#include "lib/driver/Compiler/TargetCompiler.h"

using namespace kvc;
using llvm::StringRef;

static CpuTargetInfo describe(const cpu::CpuTarget &target) {
  std::vector<std::string> missing = cpu::missingFeatures(target);
  std::string why;
  if (!missing.empty())
    why = "this machine lacks " + llvm::join(missing, ", ");
  return {target.name, target.features, missing.empty(), why};
}

std::vector<CpuTargetInfo> kvc::cpuTargets() {
  std::vector<CpuTargetInfo> list;
  llvm::transform(cpu::cpuTargets(), std::back_inserter(list), describe);
  return list;
}

std::vector<CpuTargetInfo> kvc::emulatedCpuTargets() {
  std::vector<CpuTargetInfo> list;
  for (cpu::CpuTarget target : cpu::cpuTargets()) {
    if (!usesAmx(target))
      continue;
    target.name = "sim:" + target.name;
    llvm::erase_if(target.features, [](llvm::StringRef feature) {
      return feature.starts_with("amx-");
    });
    list.push_back(describe(target));
  }
  return list;
}

std::vector<std::string> kvc::gpuTargetNames() {
  std::vector<std::string> names;
  for (const nvptx::SmTarget &target : nvptx::smTargets())
    names.push_back(target.name);
  return names;
}

std::string kvc::deviceOf(const std::string &name) {
  auto target = findTarget(name);
  return target ? target->deviceName() : "";
}

std::optional<ServingTarget> kvc::servingTarget(const std::string &name) {
  auto target = findTarget(name);
  if (!target)
    return std::nullopt;
  return target->note.empty() ? ServingTarget{name, ""}
                              : ServingTarget{target->name, target->note};
}

std::string kvc::nativeTarget() {
  auto target = cpu::findCpuTarget("native");
  return target ? target->name : "";
}

namespace {

class Compilation {
public:
  Compilation(const spec::Spec &spec, const CompileOptions &options,
              Diagnostics &diagnostics)
      : spec(spec), options(options), diagnostics(diagnostics) {}

  std::optional<CompileOutput> run();
  /// What is said of targets that serve others: of this call, not of the
  /// artifact.
  std::vector<std::string> notes;

private:
  /// Finds the targets by name, each once.
  bool resolveTargets();
  CacheKey makeKey() const;
  /// Whether the cache may answer: nobody wants to see the levels.
  bool cacheable() const {
    return options.useCache && options.stopAfter == Phase::Artifact &&
           options.dumpTo.empty();
  }
  /// The artifact from the cache, and its remarks.
  bool fromCache(KernelCache &cache);
  bool compileAll();
  bool compileTargets(TargetCompiler &compiler);
  bool pack(TargetCompiler &compiler);
  void replay(const std::vector<Remark> &remarks);

  const spec::Spec &spec;
  const CompileOptions &options;
  Diagnostics &diagnostics;
  PhaseClock clock;
  CacheKey key;
  std::vector<Target> targets;
  std::vector<TargetOutput> results;
  CompileOutput output;
};

bool Compilation::resolveTargets() {
  for (const std::string &name : options.targets) {
    auto target = findTarget(name);
    if (!target) {
      Diagnostic &error =
          diagnostics.error(name == "native" ? "E-NO-DEVICE" : "E-TARGET",
                            options.targetsLoc, whyNoTarget(name));
      error.notes.push_back({Severity::Help,
                             "",
                             {},
                             "use " + llvm::join(targetNames(), ", "),
                             {}});
      continue;
    }
    if (!target->note.empty())
      notes.push_back(target->note);
    if (llvm::none_of(targets, [&](const Target &known) {
          return known.name == target->name;
        }))
      targets.push_back(*target);
  }
  if (options.targets.empty())
    diagnostics.error("E-TARGET", options.targetsLoc,
                      "expected at least one target");
  bool single = targets.size() <= 1 || options.stopAfter == Phase::Artifact ||
                options.stopAfter == Phase::Kvc;
  if (!single)
    diagnostics.error("E-TARGET", options.targetsLoc,
                      std::string("phase `") + name(options.stopAfter) +
                          "` is of one target, found " +
                          std::to_string(targets.size()) + " targets");
  return !diagnostics.hasErrors();
}

CacheKey Compilation::makeKey() const {
  CacheKeyBuilder builder;
  builder.add(spec.canonical);
  for (const Target &target : targets)
    target.addTo(builder);
  for (const ScheduleOverride &entry : options.schedule)
    builder.add("schedule").add(entry.kernel).add(entry.key).add(entry.value);
  return builder.key();
}

void Compilation::replay(const std::vector<Remark> &remarks) {
  SpecPlaces places(spec);
  for (const Remark &remark : remarks)
    diagnostics.report(Severity::Remark, remark.code, places.at(remark.pointer),
                       remark.message);
}

bool Compilation::fromCache(KernelCache &cache) {
  auto bytes = cache.lookup(key);
  if (!bytes)
    return false;
  std::string error;
  auto bundle = artifact::Bundle::open(*bytes, error);
  if (!bundle)
    return false;
  if (auto remarks = bundle->find(kRemarksName))
    replay(readRemarks(StringRef(
        reinterpret_cast<const char *>(remarks->data()), remarks->size())));
  output.artifact = std::move(*bytes);
  output.fromCache = true;
  return true;
}

bool Compilation::pack(TargetCompiler &compiler) {
  clock.begin(Phase::Artifact);
  artifact::Manifest manifest;
  manifest.cpuAbi = KVC_CPU_ABI;
  if (llvm::any_of(targets, [](const Target &t) { return t.isGpu(); }))
    manifest.gpuAbi = KVC_GPU_ABI;
  manifest.producer = producer();
  manifest.specName = spec.name;
  manifest.key = key.hex();
  manifest.model = describeModel(spec.model);
  manifest.stores = compiler.stores();
  auto bytes = [](const std::string &text) {
    return std::span(reinterpret_cast<const uint8_t *>(text.data()),
                     text.size());
  };
  std::string remarks = writeRemarks(remarksOf(diagnostics));
  std::vector<artifact::Entry> entries{{"spec.json", bytes(spec.canonical)},
                                       {kRemarksName, bytes(remarks)}};
  for (TargetOutput &result : results) {
    for (const auto &[blob, object] : result.objects)
      entries.push_back({blob, object});
    llvm::append_range(manifest.kernels, result.kernels);
  }
  std::string error;
  output.artifact = artifact::pack(manifest, entries, error);
  clock.end();
  if (output.artifact.empty())
    diagnostics.error("E-INTERNAL", {},
                      "the artifact does not add up: " + error);
  else if (!options.dumpTo.empty())
    dumpLevel(options.dumpTo, Level(Phase::Artifact), "",
              StringRef(reinterpret_cast<const char *>(output.artifact.data()),
                        output.artifact.size()),
              diagnostics);
  return !diagnostics.hasErrors();
}

bool Compilation::compileTargets(TargetCompiler &compiler) {
  for (const Target &target : targets) {
    auto result = compiler.run(target);
    if (!result)
      return false;
    results.push_back(std::move(*result));
  }
  for (const TargetOutput &result : results)
    llvm::append_range(output.objectTimes, result.times);
  if (options.stopAfter == Phase::Artifact)
    return pack(compiler);
  TargetOutput &only = results.front();
  // PTX is text, and no object.
  if (options.stopAfter != Phase::Object || only.objects.empty()) {
    output.text = std::move(only.text);
    return true;
  }
  output.artifact = std::move(only.objects.front().second);
  if (!options.disassemble)
    return true;
  std::string error;
  auto text = disassemble(output.artifact, error);
  if (text)
    output.text = std::move(*text);
  else
    diagnostics.error("E-INTERNAL", {}, error);
  return text.has_value();
}

bool Compilation::compileAll() {
  clock.begin(Phase::Kvc);
  TargetCompiler compiler(spec, options, diagnostics, clock);
  bool ok = compiler.import();
  clock.end();
  if (ok && !options.dumpTo.empty())
    ok = dumpLevel(options.dumpTo, Level(Phase::Kvc), "", compiler.kvcText(),
                   diagnostics);
  if (ok && options.stopAfter == Phase::Kvc)
    output.text = compiler.kvcText();
  else if (ok)
    ok = compileTargets(compiler);
  return ok && !diagnostics.hasErrors();
}

std::optional<CompileOutput> Compilation::run() {
  if (!resolveTargets())
    return std::nullopt;
  key = makeKey();
  std::optional<KernelCache> cache;
  // What is said of the machine's cache stays out of the artifact's remarks.
  Diagnostics opening;
  if (cacheable())
    cache.emplace(KernelCache::defaultDirectory(), opening);
  if (cache && fromCache(*cache))
    return std::move(output);
  bool compiled = compileAll();
  for (const Diagnostic &found : opening.all())
    diagnostics.report(found.severity, found.code, found.loc, found.message);
  if (!compiled)
    return std::nullopt;
  if (cache && cache->store(key, output.artifact))
    cache->prune(/*now=*/false, diagnostics);
  output.milliseconds = clock.milliseconds();
  return std::move(output);
}

} // namespace

std::optional<CompileOutput> kvc::compile(const spec::Spec &spec,
                                          const CompileOptions &options,
                                          Diagnostics &diagnostics) {
  // Errors that were there before are not this call's.
  Diagnostics own;
  Compilation compilation(spec, options, own);
  auto output = compilation.run();
  for (const std::string &note : compilation.notes)
    own.report(Severity::Remark, "R-TARGET", {}, note);
  for (const Diagnostic &diagnostic : own.all())
    if (diagnostic.severity != Severity::Remark || options.emitRemarks)
      diagnostics
          .report(diagnostic.severity, diagnostic.code, diagnostic.loc,
                  diagnostic.message)
          .notes = diagnostic.notes;
  return output;
}
