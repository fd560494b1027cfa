//===- Schedules.cpp - schedules of cores with caches ---------------------===//
#include "codegen/cpu/Schedules.h"
#include "codegen/cpu/Backend.h"
#include "codegen/cpu/operands/DirectSources.h"
#include "codegen/cpu/operands/PackedSources.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

/// Whether a packed kernel multiplies this stream in matrix registers.
static bool inMatrix(const Workload &workload, const StreamInfo &stream) {
  return stream.isMultipliedAsCodes() &&
         workload.target.hasMatrix(stream.codeType(), workload.dtype);
}

/// Whether a direct kernel multiplies its codes as they are.
static bool asCodes(const Workload &workload, const StreamInfo &stream) {
  return stream.isMultipliedAsCodes() &&
         workload.target.hasDot(stream.codeType(), workload.dtype);
}

/// Of the source that a loop takes for K, or for V. Tiles are taken to have
/// pairs of tokens: none is planned that has a single one.
static OperandCost operandCost(const Workload &workload, bool isK,
                               const CoreSchedule &schedule) {
  const StreamInfo &stream = isK ? workload.k : workload.v;
  bool decoded = !stream.isMultipliedAsCodes();
  Type f32 = Float32Type::get(workload.target.getContext());
  Operand operand{decoded ? f32 : stream.codeType(),
                  decoded,
                  workload.dtype,
                  workload.target,
                  schedule.dot,
                  /*tileTokens=*/2};
  auto cost = [&](const auto &source) { return source.cost(operand); };
  if (schedule.pack)
    return isK ? cost(chooseSource<PackedKeys>(operand))
               : cost(chooseSource<PackedValues>(operand));
  return isK ? cost(chooseSource<DirectKeys>(operand))
             : cost(chooseSource<DirectValues>(operand));
}

/// Of the longer of a token's two rows.
static int64_t longestRow(const Workload &workload) {
  return std::max(codeBytes(workload.k), codeBytes(workload.v));
}

/// Query rows of a packed kernel's block: two vectors.
static int64_t blockRows(const Workload &workload) {
  return 2 * workload.target.getLanes();
}

//===----------------------------------------------------------------------===//
// What is legal
//===----------------------------------------------------------------------===//

static constexpr ScheduleRule<CoreSchedule> kRules[] = {
    {"`keys` divides `tokens`",
     [](const Workload &, const CoreSchedule &s) {
       return s.tokens % s.keys == 0;
     }},
    {"`prefetch` is at most 3 x `tokens`",
     [](const Workload &, const CoreSchedule &s) {
       return s.prefetch <= 3 * s.tokens;
     }},
    {"without `pack`, `tokens` and `keys` are powers of two",
     [](const Workload &, const CoreSchedule &s) {
       return s.pack ||
              (llvm::isPowerOf2_64(s.tokens) && llvm::isPowerOf2_64(s.keys));
     }},
    {"with `pack`, `rows` divides `tokens`, which is even, and twice the "
     "target's lanes",
     [](const Workload &w, const CoreSchedule &s) {
       return !s.pack || (s.tokens % s.rows == 0 && s.tokens % 2 == 0 &&
                          blockRows(w) % s.rows == 0);
     },
     [](const Workload &w, const CoreSchedule &) {
       return std::to_string(w.target.getLanes()) + " lanes";
     }},
    {"with `pack` and `dot`, `tokens` is a multiple of 32 where matrix "
     "registers multiply K or V",
     [](const Workload &w, const CoreSchedule &s) {
       return !s.pack || !s.dot || s.tokens % 32 == 0 ||
              !(inMatrix(w, w.k) || inMatrix(w, w.v));
     }},
};

CheckedSchedule kvc::cpu::checkSchedule(const Workload &workload,
                                        ScheduleAttrInterface schedule) {
  auto core = dyn_cast<CoreScheduleAttr>(schedule);
  if (!core) {
    std::string why = "the CPU targets run a #kvc.core_schedule; found ";
    llvm::raw_string_ostream(why) << schedule;
    return {{}, {why}};
  }
  return {core.getValue(), checkRules<CoreSchedule>(kRules, workload, core)};
}

SmallVector<StringRef> kvc::cpu::scheduleRules() {
  SmallVector<StringRef> texts{kSplitRule};
  for (const ScheduleRule<CoreSchedule> &rule : kRules)
    texts.push_back(rule.text);
  return texts;
}

//===----------------------------------------------------------------------===//
// The best that is known
//===----------------------------------------------------------------------===//

namespace {

/// Cached tokens per work tile. A prefill has work tiles enough from its
/// queries, and every split costs room for as many partial rows.
constexpr int64_t kDecodeSplit = 2048, kPrefillSplit = 16384;
/// Query heads of a kv head from which on a decode packs its tiles, as a
/// prefill does: of a row of 576 channels it took 0.93 of the time with 64
/// heads, 0.87 with 128, and as long with 32.
constexpr int64_t kPackedGroup = 64;

/// Query rows per register tile: as many as share a loaded K element while
/// accumulators stay in registers, with the fewest padded rows.
int64_t chooseRows(int64_t group, int64_t registers, bool dot) {
  if (registers >= 32 && group % 8 == 0)
    return 8;
  // Products have a power of two of rows in a register.
  SmallVector<int64_t> candidates{4, 3, 5, 2};
  if (dot)
    candidates = {4, 2};
  for (int64_t rows : candidates)
    if (group % rows == 0)
      return rows;
  return group == 1 ? 1 : 4;
}

/// Whether codes of both streams are operands as they are loaded, which takes
/// no longer than memory does.
bool asLoaded(const Workload &workload) {
  auto loaded = [&](bool isK) {
    OperandCost cost = operandCost(workload, isK, {.dot = true});
    return cost.instructionsPerOperand == 1;
  };
  return loaded(true) && loaded(false);
}

/// Tokens per tile: many, for a tile's softmax is a long chain; or fewer if
/// pages then hold whole tiles, whose rows stand evenly.
int64_t chooseTokens(const Workload &workload) {
  int64_t wanted = std::clamp<int64_t>(8192 / longestRow(workload), 16, 64);
  for (int64_t tokens : {64, 32, 16, 8, 4})
    if (tokens <= wanted && workload.pageTokens % tokens == 0)
      return tokens;
  return 16;
}

/// Tokens ahead to prefetch: 16 KiB of each stream, or half as much where
/// memory is all that is waited for; at most a tile of what takes long to
/// decode.
int64_t choosePrefetch(const Workload &workload, int64_t tokens) {
  int64_t bytes = asLoaded(workload) ? 8192 : 16384;
  int64_t wanted = bytes / longestRow(workload);
  if (!workload.k.isMultipliedAsCodes() && !workload.v.isMultipliedAsCodes())
    wanted = std::min(wanted, tokens);
  return llvm::bit_floor(uint64_t(std::clamp<int64_t>(wanted, 1, 3 * tokens)));
}

CoreSchedule prefillSchedule(const Workload &workload) {
  TargetAttr target = workload.target;
  // Query rows, accumulators and packed tiles of a work tile share the L2
  // cache: 256 rows of 128 elements take 400 KB of its 512 or more.
  int64_t dim = std::max(workload.k.dim, workload.v.dim);
  int64_t rows = std::max<int64_t>(1, 256 * 128 / dim);
  int64_t queries = std::clamp<int64_t>(rows / workload.group, 1, 256);
  // Products of the model's own type take q as it is.
  bool dot = target.hasDot(workload.dtype, workload.dtype) ||
             inMatrix(workload, workload.k) || inMatrix(workload, workload.v);
  return {.tokens = 64,
          .rows = target.getRegisters() >= 32 ? 8 : 4,
          .queries = queries,
          .split = kPrefillSplit,
          .pack = true,
          .dot = dot};
}

CoreSchedule decodeSchedule(const Workload &workload) {
  // A tile that is packed serves them all.
  if (workload.group >= kPackedGroup) {
    CoreSchedule schedule = prefillSchedule(workload);
    schedule.queries = kDecodeQueries;
    schedule.split = kDecodeSplit;
    return schedule;
  }
  TargetAttr target = workload.target;
  bool dotK = asCodes(workload, workload.k);
  bool dot = dotK || asCodes(workload, workload.v);
  int64_t rows = chooseRows(workload.group, target.getRegisters(), dot);
  int64_t tokens = chooseTokens(workload);
  // Enough independent accumulators to cover the multiply-add's latency; of
  // products, a key has one for each row, and long rows are work enough.
  int64_t vectors = llvm::divideCeil(codeBytes(workload.k), 64) * rows;
  int64_t keys =
      dotK ? std::clamp<int64_t>(128 / vectors, 2,
                                 std::max<int64_t>(8, target.getLanes() / rows))
           : std::clamp<int64_t>(target.getRegisters() / 2 / rows, 1, 8);
  keys = llvm::bit_floor(uint64_t(keys));
  return {.tokens = tokens,
          .rows = rows,
          .keys = std::min(keys, tokens),
          .queries = kDecodeQueries,
          .split = kDecodeSplit,
          .prefetch = choosePrefetch(workload, tokens),
          .dot = dot};
}

//===----------------------------------------------------------------------===//
// What a schedule costs
//===----------------------------------------------------------------------===//

/// Vector instructions of a direct kernel per cached token.
double directInstructions(const Workload &w, const CoreSchedule &s,
                          double rows) {
  double lanes = w.target.getLanes(), registers = w.target.getRegisters();
  double blocks = std::ceil(rows / s.rows);
  double padded = llvm::PowerOf2Ceil(s.rows);
  double instructions = 0;
  for (bool isK : {true, false}) {
    const StreamInfo &stream = isK ? w.k : w.v;
    OperandCost cost = operandCost(w, isK, s);
    double vectors = std::ceil(stream.dim / (cost.f32PerProduct * lanes));
    double products = s.rows * vectors;
    double one = vectors * cost.instructionsPerOperand + products;
    if (isK && cost.f32PerProduct == 1) {
      // q comes from memory, for `keys` tokens together; sums of a row and a
      // key are a chain each.
      one += products / s.keys;
      one += products * std::max(0.0, 8.0 / (s.rows * s.keys) - 1);
      if (s.rows * s.keys + s.rows + 2 > registers)
        one += products;
    }
    if (isK)
      // Lanes of a sum are added up, those of several keys together.
      one += s.rows * (3 + 8.0 / s.keys);
    else
      // Probabilities are broadcast, and accumulators come and go in steps.
      one += s.rows * 2 / cost.f32PerProduct + products / 16;
    if (!isK && s.rows > registers / 2)
      one += products;
    instructions += blocks * one;
  }
  // An exponential and its masks, on vectors of as many rows as a block has.
  return instructions + blocks * 16 * std::max(padded, 1.0) / lanes;
}

/// The same of a packed one, whose blocks have as many rows as two vectors.
double packedInstructions(const Workload &w, const CoreSchedule &s,
                          double rows) {
  double lanes = w.target.getLanes(), registers = w.target.getRegisters();
  double blocks = std::ceil(rows / blockRows(w));
  double instructions = 0;
  for (bool isK : {true, false}) {
    OperandCost cost = operandCost(w, isK, s);
    double vectors = std::ceil((isK ? w.k : w.v).dim / lanes);
    // Dequantized, paired or put in order, stored and loaded again.
    instructions += 12 * vectors;
    double products = blocks * blockRows(w) * vectors / cost.f32PerProduct;
    if (cost.inMatrixRegisters) {
      instructions += products;
      continue;
    }
    // `rows` tokens share a loaded vector of q or of V.
    double loads = products / s.rows + products / 2 / blocks / blockRows(w);
    if (2 * s.rows + 4 > registers)
      products *= 2;
    instructions += products + loads;
  }
  // Accumulators are in memory, and rescaled by each tile.
  instructions +=
      blocks * blockRows(w) * 3 * std::ceil(w.v.dim / lanes) / s.tokens;
  return instructions + blocks * 16 * blockRows(w) / lanes;
}

/// Cycles of one core per cached token of a work tile: the larger of what it
/// reads and what it issues, a fourth of the other, and what splits cost. The
/// figures are round ones for cores of 2 to 3 vector instructions a cycle and
/// 20 GB/s. It leaves out the latencies that software pipelining hides, and how
/// work tiles meet the number of threads.
double costOf(const Workload &w, AttendKind kind, const CoreSchedule &s) {
  constexpr double kBytesPerCycle = 6, kIssuePerCycle = 2;
  constexpr double kChain = 150;          // cycles of a tile's softmax
  constexpr double kWorkerTokens = 65536; // of a thread in one step
  bool decode = kind == AttendKind::Decode;
  double rows = double(w.group) * (decode ? 1 : s.queries);
  double issue = (s.pack ? packedInstructions(w, s, rows)
                         : directInstructions(w, s, rows)) /
                 kIssuePerCycle;
  double memory = double(codeBytes(w.k) + codeBytes(w.v)) / kBytesPerCycle;
  bool even = w.pageTokens % s.tokens == 0;
  if (!even) // rows are looked up one by one
    issue += 8, memory *= 1.2;
  // A packed kernel reads a tile once and stays on it.
  if (!s.pack) {
    double ahead = double(s.prefetch * longestRow(w));
    double wanted = asLoaded(w) ? 8192 : 16384;
    double away = s.prefetch ? std::fabs(std::log2(ahead / wanted)) : 5;
    memory *= 1 + 0.1 * away;
    if (s.prefetch && s.level == 1)
      memory *= 1.1;
    // Tiles are pipelined where they are even; some of the chain is left.
    issue += kChain / s.tokens * (even ? 0.25 : 1);
    // What is read again by each block of rows stays in the first cache.
    if (s.tokens * longestRow(w) > 16384)
      memory *= 1.1;
  } else {
    memory += kChain / s.tokens / 4;
  }
  double cost = std::max(issue, memory) + std::min(issue, memory) / 4;
  double split = s.split ? s.split : 8 * kWorkerTokens;
  if (s.split)
    cost += 2 * rows * (w.v.dim * 4 + 8) / split / kBytesPerCycle;
  return decode ? cost * (1 + split / (2 * kWorkerTokens)) : cost;
}

//===----------------------------------------------------------------------===//
// The interface
//===----------------------------------------------------------------------===//

struct Scheduler
    : SchedulerAttrInterface::ExternalModel<Scheduler, CoreScheduleAttr> {
  ScheduleAttrInterface plan(Attribute, const Workload &workload,
                             AttendKind kind) const {
    return CoreScheduleAttr::get(workload.target.getContext(),
                                 kind == AttendKind::Decode
                                     ? decodeSchedule(workload)
                                     : prefillSchedule(workload));
  }
  Legality legal(Attribute schedule, const Workload &workload) const {
    return checkSchedule(workload, cast<CoreScheduleAttr>(schedule)).legality;
  }
  /// `queries` stays: it says which kernel a batch takes.
  SmallVector<FieldValues> space(Attribute schedule, const Workload &,
                                 AttendKind) const {
    auto s = cast<CoreScheduleAttr>(schedule);
    return {worthTrying(s, "tokens", {4, 8, 16, 32, 64, 128}),
            worthTrying(s, "rows", {1, 2, 3, 4, 5, 8, 16}),
            worthTrying(s, "keys", {1, 2, 4, 8}),
            worthTrying(s, "split", {0, 1024, 2048, 4096, 8192, 16384}),
            worthTrying(s, "prefetch", {0, 16, 32, 64, 128}),
            worthTrying(s, "level", {1, 2}),
            worthTrying(s, "pack", {0, 1}),
            worthTrying(s, "dot", {0, 1})};
  }
  double cost(Attribute schedule, const Workload &workload,
              AttendKind kind) const {
    return costOf(workload, kind, cast<CoreScheduleAttr>(schedule).getValue());
  }
};

} // namespace

void kvc::cpu::registerScheduler(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KvcDialect *) {
    CoreScheduleAttr::attachInterface<Scheduler>(*context);
  });
}
