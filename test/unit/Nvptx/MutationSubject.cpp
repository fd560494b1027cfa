//===- MutationSubject.cpp - kernels that bugs are planted in -------------===//
#include "test/unit/Nvptx/MutationSubject.h"

#include "codegen/cpu/Backend.h"
#include "lib/base/Simt/Machine.h"
#include "lib/driver/Reference/Interpreter.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include <cmath>
#include <csignal>
#include <cstring>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvc;
using namespace kvc::nvptx;
using artifact::Word;
using spec::DType;

static constexpr int64_t kCapacity = 384; ///< tokens of a contiguous sequence
static constexpr int64_t kSplitRows = 2048;
/// Of processor time, for a kernel that takes some hundredths.
static constexpr time_t kSeconds = 2;

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

static spec::Spec specOf(const StoreCase &from) {
  spec::Spec spec;
  spec.name = spec.file = from.name;
  spec.model.layers = 1, spec.model.kvHeads = 2,
  spec.model.qHeads = from.queryHeads;
  spec.model.headDimK = from.dimK, spec.model.headDimV = from.dimV;
  spec.model.dtype = from.model;
  spec.model.softmaxScale = 0.2;
  spec::Store store;
  store.name = "s";
  store.scope.layers = {0}, store.scope.headEnd = 2;
  store.k.dim = from.dimK, store.k.codec = from.k;
  store.v.dim = from.dimV, store.v.codec = from.v;
  store.layout = from.layout;
  store.read = from.read;
  spec.stores = {store};
  return spec;
}

/// Small steps, and several splits of a sequence, for all that it has to
/// combine.
static std::vector<std::string> overridesOf(const StoreCase &from) {
  std::vector<std::string> overrides;
  llvm::SmallVector<llvm::StringRef> fields;
  llvm::StringRef(from.schedule).split(fields, ' ');
  fields.push_back("queries=4");
  for (llvm::StringRef field : fields)
    overrides.push_back(("s.attend.decode." + field).str());
  return overrides;
}

//===----------------------------------------------------------------------===//
// Batches
//===----------------------------------------------------------------------===//

static int64_t pagesOf(const spec::Spec &spec) {
  const spec::Layout &layout = spec.stores[0].layout;
  return layout.paged ? 4 * kCapacity / layout.page : 4;
}

/// Rows of the model, rounded to its type in place.
static AlignedBytes modelRows(std::vector<float> &values, spec::DType type) {
  AlignedBytes bytes(values.size() * spec::bytes(type), 0);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        storeRounded(bytes.data() + i * spec::bytes(type), type, values[i]);
  return bytes;
}

Batch::Batch(const spec::Spec &spec, CacheType type, uint64_t seed)
    : seed(seed), arena(type, pagesOf(spec),
                        spec.stores[0].layout.paged ? spec.stores[0].layout.page
                                                    : kCapacity,
                        0xff) {
  Random random(seed);
  const spec::Model &model = spec.model;
  // Of the prefill kernel, which is planned and does not run; of fewer tokens
  // than a step; of several splits, or with queries that stand in two steps;
  // and of some steps, with rows that no work tile has at the end.
  int32_t lengths[] = {5, random.pick(3, 12),
                       seed % 2 ? 321 : 305 + random.pick(0, 1) * 7,
                       random.pick(33, 100)};
  int32_t queries[] = {5, random.pick(1, 3), 3, 1};
  for (int b = 0; b < 4; ++b) {
    kvLen.push_back(lengths[b]);
    cu.push_back(cu.back() + queries[b]);
  }
  fillTokens(spec, random);
  place(spec.stores[0], random);
  int64_t heads = model.kvHeads, element = spec::bytes(model.dtype);
  modelK = modelRows(k, model.dtype), modelV = modelRows(v, model.dtype);
  kStride = heads * model.headDimK * element;
  vStride = heads * model.headDimV * element;
  reference::Rows rowsK{k, int64_t(slots.size()), heads, model.headDimK};
  reference::Rows rowsV{v, int64_t(slots.size()), heads, model.headDimV};
  if (reference::append(0, rowsK, rowsV, slots, arena.cache()))
    llvm::report_fatal_error("append failed");
  if (seed >= 2)
    poisonScales(spec.stores[0]);
  std::vector<float> query(cu.back() * model.qHeads * model.headDimK);
  for (float &x : query)
    x = random.real(-1.5f, 1.5f);
  q = modelRows(query, model.dtype);
  qStride = model.qHeads * model.headDimK * element;
  permit(type);
}

/// Whether no row sees a token.
bool Batch::isHidden(const spec::Store &store, size_t b, int32_t token) const {
  auto &read = store.read.window;
  int32_t first = kvLen[b] - (cu[b + 1] - cu[b]); // query's position
  return read && token >= int32_t(read->sink) &&
         token <= first - int32_t(read->recent);
}

/// Scales that no row sees may be anything: here no numbers.
void Batch::poisonScales(const spec::Store &store) {
  int64_t page = arena.cache().outerTokens;
  size_t token = 0; // of all sequences
  for (size_t b = 0; b < kvLen.size(); ++b)
    for (int32_t t = 0; t < kvLen[b]; ++t, ++token)
      for (llvm::StringRef kind : {kStreamK, kStreamV}) {
        reference::HostStream stream(arena.cache(), kind);
        for (int64_t head = 0; stream.planes() > 1 && head < 2; ++head)
          if (isHidden(store, b, t))
            memset(
                stream.row(1, slots[token] / page, head, slots[token] % page),
                0xff, stream.plane(1).rowBytes);
      }
}

/// What no row sees is large, or in half the batches no number; so is, in
/// these, some of what only the last row sees.
void Batch::fillTokens(const spec::Spec &spec, Random &random) {
  bool wild = seed >= 2;
  for (size_t b = 0; b < kvLen.size(); ++b) {
    int32_t length = kvLen[b];
    for (int32_t t = 0; t < length; ++t) {
      bool hidden = isHidden(spec.stores[0], b, t);
      bool large = random.pick(0, seed == 1 ? 9 : 39) == 0;
      float sizeK = hidden ? 30.0f : !large ? 1.5f : seed == 1 ? 300.0f : 8.0f;
      for (unsigned i = 0; i < spec.model.kvHeads * spec.model.headDimK; ++i)
        k.push_back(hidden && wild ? NAN : random.real(-sizeK, sizeK));
      float sizeV = hidden ? 3000.0f : t + 1 == length ? 100.0f : 2.0f;
      for (unsigned i = 0; i < spec.model.kvHeads * spec.model.headDimV; ++i)
        v.push_back(hidden && wild ? NAN : random.real(-sizeV, sizeV));
      if (wild && (t + 1 == length || t == (length - 1) / 16 * 16))
        v[v.size() - 3] = INFINITY;
    }
  }
}

void Batch::place(const spec::Store &store, Random &random) {
  const spec::Layout &layout = store.layout;
  int64_t page = layout.paged ? layout.page : kCapacity;
  if (layout.paged)
    tableStride = (kCapacity + page - 1) / page;
  std::vector<int32_t> pages(arena.cache().outers);
  for (size_t i = 0; i < pages.size(); ++i)
    pages[i] = int32_t(i);
  std::shuffle(pages.begin(), pages.end(), random.engine);
  table.assign(kvLen.size() * tableStride, INT32_MAX);
  for (size_t b = 0; b < kvLen.size(); ++b)
    for (int32_t t = 0; t < kvLen[b]; ++t) {
      int32_t &entry = table[b * tableStride + t / page];
      if (t % page == 0) {
        entry = pages.back();
        pages.pop_back();
      }
      slots.push_back(entry * page + t % page);
    }
}

void Batch::permit(CacheType type) {
  inputs.reads(q.bytes()), inputs.reads(cu), inputs.reads(kvLen);
  int64_t page = arena.cache().outerTokens;
  for (size_t b = 0; b < kvLen.size(); ++b)
    inputs.ranges.push_back({&table[b * tableStride],
                             size_t((kvLen[b] + page - 1) / page * 4), false});
  for (llvm::StringRef kind : {kStreamK, kStreamV}) {
    reference::HostStream stream(arena.cache(), kind);
    for (int64_t slot : slots)
      for (int64_t head = 0; head < type.getHeads(); ++head)
        for (size_t plane = 0; plane < stream.planes(); ++plane)
          inputs.ranges.push_back(
              {stream.row(plane, slot / page, head, slot % page),
               size_t(stream.plane(plane).rowBytes), false});
  }
}

//===----------------------------------------------------------------------===//
// Runs
//===----------------------------------------------------------------------===//

/// "" or why it cannot be emulated. Consumes the module.
static std::string emulate(mlir::ModuleOp module, Image &image) {
  auto cpu = *cpu::findCpuTarget("x86-64-v3");
  cpu.optimised = false; // as lib/driver/Compiler does
  llvm::LLVMContext context;
  if (failed(lowerGpuToLlvm(module)) ||
      failed(lowerGpuToSim(module, image.sites)))
    return "lowering failed";
  auto llvmModule = cpu::emitLlvm(module, cpu, context);
  if (!llvmModule)
    return "no LLVM IR";
  std::string error;
  std::vector<uint8_t> object = cpu::emitObject(*llvmModule, cpu, error);
  if (error.empty())
    image.code = artifact::ElfImage::load(object, error);
  return error;
}

Subject::Subject(const StoreCase &from)
    : spec(specOf(from)), context(mlir::MLIRContext::Threading::DISABLED) {
  SmTarget sm = *findSmTarget(from.sm);
  module = planned(context, spec, overridesOf(from), sm);
  for (StoreOp store : module->getOps<StoreOp>())
    type = mlir::cast<CacheType>(store.getCache());
  if (failed(lowerTileToGpu(*module, sm, launches)))
    llvm::report_fatal_error("lowering failed");
  // A bug in something that is emitted twice is one bug.
  mlir::PassManager pm(&context);
  pm.addPass(mlir::createCSEPass());
  if (failed(pm.run(*module)))
    llvm::report_fatal_error("CSE failed");
}

std::string Subject::launch(const Image &image, Suspects which,
                            const KernelWords &words, int64_t ctas,
                            const Memory &memory, uint64_t seed) const {
  simt::Machine machine(seed);
  for (const Memory::Range &range : memory.ranges)
    machine.allow(range.base, range.bytes, range.writable);
  simt::Launch launch;
  launch.name = nameOf(which);
  launch.kernel = reinterpret_cast<simt::Kernel>(
      image.code->symbol(symbolName(launch.name)));
  LaunchInfo info = launches.lookup(launch.name);
  launch.grid = uint32_t(ctas), launch.threads = uint32_t(info.threads);
  launch.shared = size_t(info.shared);
  std::vector<uint64_t> block = words.block(info.params);
  launch.params = block.data();
  launch.sites = image.sites;
  std::string finding;
  machine.launch(launch, finding);
  return finding;
}

std::string Subject::plan(const Image &image, const Batch &batch,
                          Plan &plan) const {
  constexpr size_t variants = 2, capacity = 256;
  plan.workTiles.assign(variants * capacity, {});
  plan.splitCounters.assign(variants * capacity, 0x5a5a5a5a);
  plan.counts.assign(variants, -7);
  plan.splitRow.assign(batch.kvLen.size(), -7);
  KernelWords words;
  words.set(Word::CuQ, batch.cu.data());
  words.set(Word::KvLen, batch.kvLen.data());
  words.set(Word::SplitRow, plan.splitRow.data());
  words.set(Word::Batch, int64_t(batch.kvLen.size()));
  words.set(Word::MaxKvLen, KVC_MAX_TOKENS);
  words.set(Word::SplitRows, kSplitRows);
  for (size_t i = 0; i < variants; ++i) {
    std::string of = artifact::attendName(i);
    words.set(Word::WorkTiles, &plan.workTiles[i * capacity], of);
    words.set(Word::WorkCount, &plan.counts[i], of);
    words.set(Word::WorkCounters, &plan.splitCounters[i * capacity], of);
    words.set(Word::WorkCapacity, int64_t(capacity), of);
  }
  Memory memory;
  memory.reads(batch.cu), memory.reads(batch.kvLen);
  memory.writes(plan.workTiles), memory.writes(plan.splitCounters);
  memory.writes(plan.counts), memory.writes(plan.splitRow);
  return launch(image, Suspects::Plan, words, 1, memory, batch.seed);
}

std::string Subject::attend(const Image &image, Batch &batch, const Plan &plan,
                            Attended &attended, uint64_t seed) const {
  const spec::Model &model = spec.model;
  int64_t element = spec::bytes(model.dtype), heads = model.qHeads;
  int64_t rows = batch.cu.back();
  AlignedBytes out(rows * heads * model.headDimV * element, 0x5a);
  std::vector<KvcGpuWorkTile> workTiles(
      plan.workTiles.begin(), plan.workTiles.begin() + plan.counts[0]);
  int64_t splitRows = 0;
  for (const KvcGpuWorkTile &workTile : workTiles) {
    int64_t of = batch.cu[workTile.sequence + 1] - batch.cu[workTile.sequence];
    if (workTile.num_splits > 1)
      splitRows = std::max(splitRows, plan.splitRow[workTile.sequence] +
                                          workTile.num_splits * of * heads);
  }
  AlignedBytes partialO(splitRows * model.headDimV * 4, 0xff);
  std::vector<float> partialLse(splitRows, NAN);
  attended.lse.assign(rows * heads, 12345);
  std::vector<uint32_t> splitCounters(plan.counts[0], 0);
  KernelWords words;
  words.set(Word::Q, batch.q.data()),
      words.set(Word::QRowStride, batch.qStride);
  words.set(Word::QHeadStride, model.headDimK * element);
  words.set(Word::Out, out.data());
  words.set(Word::OutRowStride, heads * model.headDimV * element);
  words.set(Word::OutHeadStride, model.headDimV * element);
  words.set(Word::Lse, attended.lse.data());
  words.set(Word::LseRowStride, heads * 4);
  words.set(Word::LseHeadStride, 4);
  words.set(Word::CuQ, batch.cu.data());
  words.set(Word::KvLen, batch.kvLen.data());
  words.set(Word::Table, batch.table.data());
  words.set(Word::TableStride, batch.tableStride);
  words.set(Word::SplitRow, plan.splitRow.data());
  words.set(Word::PartialO, partialO.data());
  words.set(Word::PartialLse, partialLse.data());
  words.setPlanes(batch.arena.cache());
  words.set(Word::WorkTiles, workTiles.data());
  words.set(Word::WorkCount, plan.counts.data());
  words.set(Word::WorkCounters, splitCounters.data());
  Memory memory = batch.inputs;
  memory.reads(workTiles), memory.reads(plan.counts),
      memory.reads(plan.splitRow);
  memory.writes(splitCounters), memory.writes(out.bytes());
  memory.writes(partialO.bytes()), memory.writes(partialLse);
  memory.writes(attended.lse);
  // CTAs take two work tiles each, in places.
  int64_t ctas = (plan.counts[0] + 1) / 2 + int64_t(seed % 3);
  std::string finding =
      launch(image, Suspects::Attend, words, ctas, memory, seed);
  // The next layer's attend begins with them.
  if (finding.empty() && llvm::any_of(splitCounters, [](uint32_t counter) {
        return counter != 0;
      }))
    finding = "output";
  attended.o.clear();
  for (size_t i = 0; i < out.bytes().size(); i += element)
    attended.o.push_back(loadWide(out.data() + i, model.dtype));
  return finding;
}

std::string Subject::append(const Image &image, Batch &batch,
                            std::vector<uint8_t> &bytes) const {
  reference::HostArena arena(type, pagesOf(spec), kCapacity, 0x5a);
  KernelWords words;
  words.set(Word::K, batch.modelK.data());
  words.set(Word::KRowStride, batch.kStride);
  words.set(Word::KHeadStride,
            spec.model.headDimK * spec::bytes(spec.model.dtype));
  words.set(Word::V, batch.modelV.data());
  words.set(Word::VRowStride, batch.vStride);
  words.set(Word::VHeadStride,
            spec.model.headDimV * spec::bytes(spec.model.dtype));
  // Not whole CTAs, and a row that goes nowhere.
  constexpr int64_t rows = 9;
  std::vector<int64_t> slots(batch.slots.begin(), batch.slots.begin() + rows);
  slots[4] = -1;
  words.set(Word::Slot, slots.data());
  words.set(Word::SlotTokens, arena.cache().outerTokens);
  words.setPlanes(arena.cache());
  words.set(Word::Rows, rows);
  Memory memory;
  memory.ranges = {{batch.modelK.data(), size_t(rows * batch.kStride), false},
                   {batch.modelV.data(), size_t(rows * batch.vStride), false}};
  memory.reads(slots), memory.writes(arena.bytes());
  std::string finding =
      launch(image, Suspects::Append, words, 6, memory, batch.seed);
  bytes.assign(arena.bytes().begin(), arena.bytes().end());
  return finding;
}

//===----------------------------------------------------------------------===//
// Verdicts
//===----------------------------------------------------------------------===//

/// Whether a row differs by no more than rounding of its largest element.
static bool closeRows(llvm::ArrayRef<float> x, llvm::ArrayRef<float> y,
                      float unit) {
  float largest = 0;
  for (float value : x)
    if (std::isfinite(value))
      largest = std::max(largest, std::fabs(value));
  for (auto [a, b] : llvm::zip_equal(x, y)) {
    bool special = !std::isfinite(a) || !std::isfinite(b);
    if (special ? !(a == b || (std::isnan(a) && std::isnan(b)))
                : std::fabs(a - b) > unit * largest)
      return false;
  }
  return true;
}

bool Subject::isClose(const Attended &x, const Attended &y) const {
  float unit = spec.model.dtype == DType::F32   ? 0x1p-16f
               : spec.model.dtype == DType::F16 ? 0x1p-8f
                                                : 0x1p-6f;
  size_t dim = spec.model.headDimV;
  for (size_t row = 0; row < x.lse.size(); ++row)
    if (!closeRows(llvm::ArrayRef(x.o).slice(row * dim, dim),
                   llvm::ArrayRef(y.o).slice(row * dim, dim), unit) ||
        !closeRows(x.lse[row], y.lse[row], 0x1p-12f))
      return false;
  return true;
}

static bool isBitwise(const std::vector<float> &x,
                      const std::vector<float> &y) {
  return x.size() == y.size() &&
         memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

static bool isSame(const Plan &x, const Plan &y) {
  return x.counts == y.counts && x.splitCounters == y.splitCounters &&
         x.splitRow == y.splitRow &&
         memcmp(x.workTiles.data(), y.workTiles.data(),
                x.workTiles.size() * sizeof(KvcGpuWorkTile)) == 0;
}

std::string Subject::judge(const Image &image, Suspects which, size_t batch) {
  std::string finding;
  if (which == Suspects::Plan) {
    Plan result;
    finding = plan(image, *batches[batch], result);
    if (finding.empty() && !isSame(plans[batch], result))
      finding = "output";
  } else if (which == Suspects::Append) {
    std::vector<uint8_t> result;
    finding = append(image, *batches[batch], result);
    if (finding.empty() && appends[batch] != result)
      finding = "output";
  } else {
    Attended result;
    finding = attend(image, *batches[batch], plans[batch], result, batch);
    if (finding.empty() && !isClose(attends[batch], result))
      finding = "output";
  }
  return finding;
}

/// Runs it in a process of its own, since a bug may be a loop that does not end
/// or a division by 0.
static std::string apart(llvm::function_ref<std::string()> run) {
  constexpr size_t longest = 4096;
  int ends[2];
  if (pipe(ends) != 0)
    llvm::report_fatal_error("no pipe");
  pid_t child = fork();
  if (child == 0) {
    itimerval limit = {{}, {kSeconds, 0}};
    setitimer(ITIMER_PROF, &limit, nullptr);
    std::string said = run().substr(0, longest);
    _exit(write(ends[1], said.data(), said.size()) != ssize_t(said.size()));
  }
  close(ends[1]);
  // A pipe holds all that the child says.
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child)
    llvm::report_fatal_error("no process");
  std::string said(longest, 0);
  said.resize(std::max<ssize_t>(0, read(ends[0], said.data(), longest)));
  close(ends[0]);
  if (WIFEXITED(status) && WEXITSTATUS(status))
    llvm::report_fatal_error("the process could not say what it found");
  if (WIFSIGNALED(status))
    return WTERMSIG(status) == SIGPROF ? "does not end"
                                       : strsignal(WTERMSIG(status));
  return said;
}

std::string Subject::plant(Suspects which, const Mutation &mutation) {
  mlir::OwningOpRef<mlir::ModuleOp> copy = alone(which);
  mutate(kernel(*copy, which), mutation);
  if (failed(mlir::verify(*copy)))
    llvm::report_fatal_error("a bug that is no IR");
  {
    mlir::ScopedDiagnosticHandler quiet(
        &context, [](mlir::Diagnostic &) { return mlir::success(); });
    if (failed(verifyUniform(*copy)))
      return "verifyUniform";
  }
  Image image;
  if (std::string error = emulate(*copy, image); !error.empty())
    llvm::report_fatal_error(error.c_str());
  return apart([&]() -> std::string {
    for (size_t batch = 0; batch < batches.size(); ++batch)
      if (std::string caught = judge(image, which, batch); !caught.empty())
        return caught;
    return "";
  });
}

mlir::OwningOpRef<mlir::ModuleOp> Subject::alone(Suspects which) {
  mlir::OwningOpRef<mlir::ModuleOp> copy =
      mlir::ModuleOp::create(module->getLoc());
  (*copy)->setAttrs((*module)->getAttrDictionary());
  copy->push_back(kernel(*module, which).clone());
  return copy;
}

std::string Subject::runPlain(uint64_t seeds) {
  Image images[3];
  for (Suspects which : {Suspects::Attend, Suspects::Plan, Suspects::Append})
    if (std::string error = emulate(*alone(which), images[unsigned(which)]);
        !error.empty())
      return error;
  for (uint64_t i = 0; i < 4; ++i) {
    batches.push_back(std::make_unique<Batch>(spec, type, i));
    std::string finding = plan(images[unsigned(Suspects::Plan)], *batches[i],
                               plans.emplace_back());
    if (finding.empty())
      finding = append(images[unsigned(Suspects::Append)], *batches[i],
                       appends.emplace_back());
    for (uint64_t seed = 0; seed < seeds && finding.empty(); ++seed) {
      Attended result;
      finding = attend(images[unsigned(Suspects::Attend)], *batches[i],
                       plans[i], result, seed);
      if (seed == 0)
        attends.push_back(result);
      else if (!isBitwise(result.o, attends[i].o) ||
               !isBitwise(result.lse, attends[i].lse))
        finding = "the order of CTAs or warps changes the result";
    }
    if (!finding.empty())
      return finding;
  }
  return "";
}
