//===- Schedules.cpp - schedules of warps that share memory ---------------===//
#include "codegen/nvptx/Schedules.h"
#include "codegen/nvptx/AttendMmaOperands.h"
#include "codegen/nvptx/Backend.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// What follows from a schedule
//===----------------------------------------------------------------------===//

/// Bytes from row to row in shared memory: room for whole products of 32 bytes,
/// and 16 bytes more, so that rows start at different banks.
static int64_t strideOf(const StreamInfo &stream) {
  return llvm::alignTo(codeBytes(stream), 32) + 16;
}

/// Of q in shared memory: 16-bit floats, whole products.
static int64_t queryBytes(const Workload &workload, const WarpSchedule &s) {
  return s.queryShared ? s.rows * llvm::alignTo(workload.k.dim, 16) * 2 : 0;
}

/// Whether a stage has rows of K alone. What is decoded is decoded for each.
static bool hasRowsOfK(const Workload &workload) {
  return workload.isVOfK && !workload.isDecoded;
}

SharedLayout::SharedLayout(const Workload &workload, const WarpSchedule &s)
    : strideK(strideOf(workload.k)),
      strideV(strideOf(hasRowsOfK(workload) ? workload.k : workload.v)),
      offsetV(hasRowsOfK(workload) ? 0 : s.tokens * strideK),
      sumStride(workload.v.dim * 4 + (s.warpsSplitQ ? 32 : 16)),
      statBytes(llvm::alignTo(s.rows * 8, 16)),
      stageBytes(offsetV + s.tokens * strideV),
      smemQuery(s.stages * stageBytes),
      smemPipelineBytes(
          llvm::alignTo(std::max(smemQuery + queryBytes(workload, s),
                                 statBytes + s.rows * sumStride),
                        16)),
      smemPipelines(s.warpsSplitQ ? 1 : s.warps) {
  total = smemPipelines * smemPipelineBytes + kWorkTileBytes;
  if (!s.dot) // q as f32, and probabilities
    total += s.rows * workload.k.dim * 4 + s.warps * s.rows * s.tokens * 4;
  if (s.bulk)
    total += s.stages * kStageBarrierBytes;
}

/// The streams as products find them in shared memory.
static Workload asMultiplied(Workload workload) {
  if (workload.k.isMultipliedAsCodes() && workload.v.isMultipliedAsCodes())
    return workload;
  workload.isDecoded = true;
  for (StreamInfo *stream : {&workload.k, &workload.v})
    *stream = StreamInfo::ofF32(workload.target.getContext(), stream->dim);
  return workload;
}

static bool isScaled(const Workload &workload) {
  return workload.k.planes().size() > 1 || workload.v.planes().size() > 1;
}

/// Of an SM; warps get them in eights.
static constexpr int64_t kRegisters = 65536;

/// A few warps per SM run at a time: registers are there for the asking. The
/// usual decode leaves room for three CTAs, or for two with a warp more.
int64_t kvc::nvptx::registerLimit(const Workload &workload,
                                  const WarpSchedule &schedule) {
  if (schedule.registers)
    return schedule.registers;
  bool usual = schedule.dot && schedule.rows <= 8 && workload.k.dim <= 128 &&
               workload.v.dim <= 128;
  bool scaled = isScaled(workload);
  if (usual && !scaled && !schedule.bulk)
    return 168;
  int64_t ctas = usual && !scaled ? 2 : 1;
  int64_t perThread = kRegisters / (ctas * allWarps(schedule) * kWarpLanes);
  return std::min<int64_t>(255, perThread / 8 * 8);
}

static int64_t maxDim(const Workload &workload) {
  return std::max(workload.k.dim, workload.v.dim);
}

/// Both products can run on codes as they are, or after a cheap conversion.
static bool hasDots(const Workload &workload) {
  for (const StreamInfo &stream : {workload.k, workload.v})
    if (!workload.target.hasDot(stream.codeType(), workload.dtype))
      return false;
  return true;
}

/// Whether K has a source of its own for `queryBytes`.
static bool hasQueryBytes(const Workload &workload) {
  return operandOfK(workload, {.queryBytes = true}) != operandOfK(workload, {});
}

//===----------------------------------------------------------------------===//
// What is legal
//===----------------------------------------------------------------------===//

static std::string codesOf(const Workload &workload) {
  if (workload.isDecoded)
    return "K and V that are decoded into f32";
  std::string text;
  llvm::raw_string_ostream(text)
      << "K of " << workload.k.codeType() << " and V of "
      << workload.v.codeType() << " in a model of " << workload.dtype;
  return text;
}

static constexpr ScheduleRule<WarpSchedule> kRules[] = {
    {"without `warpsSplitQ`, `tokens` x `warps` divides `split`",
     [](const Workload &, const WarpSchedule &s) {
       return s.warpsSplitQ || s.split % (s.tokens * s.warps) == 0;
     }},
    {"`dot` is for codes of which tensor cores have exact products in a model "
     "of this type",
     [](const Workload &w, const WarpSchedule &s) {
       return !s.dot || hasDots(w);
     },
     [](const Workload &w, const WarpSchedule &) { return codesOf(w); }},
    {"`warpsSplitQ` is for `dot`, with `rows` of 16 x `warps`",
     [](const Workload &, const WarpSchedule &s) {
       return !s.warpsSplitQ || (s.dot && s.rows == 16 * s.warps);
     }},
    {"with `dot`, `tokens` is 16, 32 or 64 and `rows` a multiple of 8",
     [](const Workload &, const WarpSchedule &s) {
       return !s.dot ||
              (llvm::is_contained({16, 32, 64}, s.tokens) && s.rows % 8 == 0);
     }},
    {"without `dot`, `tokens` is 8, 16 or 32 and `rows` at most 8",
     [](const Workload &, const WarpSchedule &s) {
       return s.dot ||
              (llvm::is_contained({8, 16, 32}, s.tokens) && s.rows <= 8);
     }},
    {"`queryBytes` is for K of int8 codes and at most 192 channels",
     [](const Workload &w, const WarpSchedule &s) {
       return !s.queryBytes || hasQueryBytes(w);
     },
     [](const Workload &w, const WarpSchedule &) {
       return codesOf(w) + ", " + std::to_string(w.k.dim) + " channels of K";
     }},
    {"`queryShared` is for `dot`, without `queryBytes`",
     [](const Workload &, const WarpSchedule &s) {
       return !s.queryShared || (s.dot && !s.queryBytes);
     }},
    {"`bulk` is for targets that have bulk copies, sm_90 and later",
     [](const Workload &w, const WarpSchedule &s) {
       return !s.bulk || w.target.getBulk();
     },
     [](const Workload &w, const WarpSchedule &) {
       return "target " + w.target.getName().str();
     }},
    {"`bulk` is for codes that are multiplied as they are, in rows of "
     "multiples "
     "of 16 bytes",
     [](const Workload &w, const WarpSchedule &s) {
       return !s.bulk || (!w.isDecoded && codeBytes(w.k) % 16 == 0 &&
                          codeBytes(w.v) % 16 == 0);
     },
     [](const Workload &w, const WarpSchedule &) {
       return w.isDecoded
                  ? std::string("K and V that are decoded, or scaled by other "
                                "than rows")
                  : "rows of " + std::to_string(codeBytes(w.k)) + " and " +
                        std::to_string(codeBytes(w.v)) + " bytes";
     }},
    {"`registers` is 0, or at least 32 and for all threads together at most "
     "65536",
     [](const Workload &, const WarpSchedule &s) {
       return !s.registers ||
              (s.registers >= 32 &&
               llvm::alignTo(s.registers, 8) * allWarps(s) * kWarpLanes <=
                   kRegisters);
     },
     [](const Workload &, const WarpSchedule &s) {
       return std::to_string(allWarps(s) * kWarpLanes) + " threads";
     }},
    {"a CTA has the shared memory for `stages` of `tokens` (without "
     "`warpsSplitQ` of each of `warps`) and q if `queryShared`, or for the "
     "results of `rows`",
     [](const Workload &w, const WarpSchedule &s) {
       return SharedLayout(w, s).total <= w.target.getShared();
     },
     [](const Workload &w, const WarpSchedule &s) {
       return "which need " + std::to_string(SharedLayout(w, s).total) +
              " bytes of the " + std::to_string(w.target.getShared()) +
              " that " + w.target.getName().str() + " has";
     }},
};

CheckedSchedule kvc::nvptx::checkSchedule(const Workload &workload,
                                          ScheduleAttrInterface schedule) {
  auto warps = dyn_cast<WarpScheduleAttr>(schedule);
  if (!warps) {
    std::string why = "the GPU targets run a #kvc.warp_schedule; found ";
    llvm::raw_string_ostream(why) << schedule;
    return {{}, {why}};
  }
  return {warps.getValue(),
          checkRules<WarpSchedule>(kRules, asMultiplied(workload), warps)};
}

SmallVector<StringRef> kvc::nvptx::scheduleRules() {
  SmallVector<StringRef> texts{kSplitRule};
  for (const ScheduleRule<WarpSchedule> &rule : kRules)
    texts.push_back(rule.text);
  return texts;
}

//===----------------------------------------------------------------------===//
// The best that is known
//===----------------------------------------------------------------------===//

namespace {

/// Cached tokens per work tile: few enough that one long sequence fills a
/// machine, many enough that partial results are some percent of the bytes that
/// were read.
constexpr int64_t kDecodeSplit = 1024;
/// Two work tiles at a time hide each other's latencies, if both fit.
constexpr int64_t kWorkTilesAtATime = 2;
/// Bytes under way per work tile; more does not read faster.
constexpr int64_t kBytesAhead = 49152;
/// Channels of which 16 rows' accumulators and operands fit into registers.
constexpr int64_t kMaxRowsDim = 256;
/// Channels of 16 rows' accumulators and of q, together, that leave registers
/// for the rest of the loop.
constexpr int64_t kRegisterChannels = 384;
/// Registers of q and of the accumulators of few rows that leave enough for the
/// rest of the loop.
constexpr int64_t kQueryAndSums = 192;
/// Shared memory for other things than cached tokens.
constexpr int64_t kOtherShared = 16384;

/// Query rows of a work tile that decodes: 8 as the machine multiplies, twice
/// that where it saves reading the cache again and accumulators leave room for
/// it.
int64_t chooseRows(int64_t wanted, const Workload &workload) {
  return wanted > 8 && maxDim(workload) <= 128 ? 16 : 8;
}

/// How many warps take how many tokens per step.
struct Shape {
  int64_t tokens, warps;
};
/// Long steps spread a softmax over more tokens, more warps hide more latency.
constexpr Shape kShapes[] = {{64, 2}, {32, 4}, {32, 2},
                             {16, 4}, {16, 2}, {16, 1}};

/// The first shape of which two stages fit as often as is wanted; if none does,
/// the first of which they fit at all.
Shape chooseShape(int64_t row, int64_t room, int64_t most) {
  for (int64_t items : {kWorkTilesAtATime, int64_t(1)})
    for (Shape shape : kShapes)
      if (2 * shape.tokens * shape.warps * row <= room / items &&
          shape.tokens <= most)
        return shape;
  return {16, 1};
}

/// Tokens of a step for whose scores registers suffice. Where all codes are
/// bytes, the work that a step takes by itself is much of it all.
int64_t mostTokens(const Workload &workload, int64_t rows) {
  bool bytes = codeBytes(workload.k) == workload.k.dim &&
               codeBytes(workload.v) == workload.v.dim;
  return bytes && rows == 8 && maxDim(workload) <= 128 ? 64 : 32;
}

/// Of a token in shared memory: K and V.
int64_t sharedBytes(const Workload &workload) {
  return strideOf(workload.k) +
         (hasRowsOfK(workload) ? 0 : strideOf(workload.v));
}

/// Steps in shared memory.
int64_t chooseStages(int64_t step, int64_t room) {
  int64_t stages = llvm::divideCeil(kBytesAhead, step) + 1;
  return std::clamp<int64_t>(stages, 2, std::clamp<int64_t>(room / step, 2, 8));
}

/// Warps share tokens. A warp that copies in bulk (`bulk`) takes six
/// instructions a row, all in one lane, where the others then save two: what
/// that is worth, only a GPU can say.
WarpSchedule byTokens(const Workload &workload, int64_t queries, int64_t wanted,
                      int64_t split) {
  int64_t row = sharedBytes(workload);
  int64_t room = workload.target.getShared() - kOtherShared;
  int64_t rows = chooseRows(wanted, workload);
  Shape shape = chooseShape(row, room, mostTokens(workload, rows));
  int64_t step = shape.tokens * shape.warps * row;
  room /= kWorkTilesAtATime;
  WarpSchedule schedule{
      .tokens = shape.tokens,
      .rows = rows,
      .queries = queries,
      .split = split,
      .dot = true,
      .warps = shape.warps,
      .stages = chooseStages(step, room),
      // For few rows more products cost less than converting K.
      .queryBytes = hasQueryBytes(workload)};
  int64_t registers = workload.k.dim / 8 + workload.v.dim / 4;
  if (schedule.queryBytes || registers * rows / 8 <= kQueryAndSums)
    return schedule;
  schedule.queryShared = true;
  schedule.stages = chooseStages(
      step, room - schedule.warps * queryBytes(workload, schedule));
  return schedule;
}

/// Warps share rows: many of them read a tile of tokens once. Accumulators of
/// wide heads leave no room for the scores of many tokens.
WarpSchedule byRows(const Workload &workload, int64_t queries) {
  int64_t tokens = maxDim(workload) <= 128 ? 64 : 32;
  int64_t step = tokens * sharedBytes(workload);
  int64_t room = workload.target.getShared() - kOtherShared;
  int64_t warps = 8;
  // Results take the place of tokens.
  while (warps > 1 && 16 * warps * (workload.v.dim * 4 + 40) > room)
    warps /= 2;
  while (tokens > 16 && 2 * step > room)
    tokens /= 2, step /= 2;
  WarpSchedule schedule{.tokens = tokens,
                        .rows = 16 * warps,
                        .queries = queries,
                        .dot = true,
                        .warps = warps,
                        .stages = chooseStages(step, room),
                        .warpsSplitQ = true};
  if (workload.k.dim + workload.v.dim <= kRegisterChannels)
    return schedule;
  WarpSchedule shared = schedule;
  shared.queryShared = true;
  shared.stages = chooseStages(step, room - queryBytes(workload, shared));
  return SharedLayout(workload, shared).total <= workload.target.getShared()
             ? shared
             : schedule;
}

double costOf(const Workload &w, AttendKind kind, const WarpSchedule &s);

/// Without tensor cores no shape is known to be good: the cheapest that the
/// model of costs knows. Each row is paid for, whether a query has it or not.
WarpSchedule byCost(const Workload &workload, AttendKind kind,
                    WarpSchedule schedule, int64_t wanted) {
  schedule.dot = false;
  schedule.rows = wanted <= 4 || maxDim(workload) > 256 ? 4 : 8;
  WarpSchedule best = schedule;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t tokens : {32, 16, 8})
    for (int64_t warps : {4, 2, 1})
      for (int64_t stages : {4, 3, 2}) {
        schedule.tokens = tokens, schedule.warps = warps;
        schedule.stages = stages;
        if (SharedLayout(workload, schedule).total >
            workload.target.getShared())
          continue;
        double cost = costOf(workload, kind, schedule);
        if (cost < least)
          least = cost, best = schedule;
      }
  return best;
}

WarpSchedule decodeSchedule(const Workload &workload) {
  if (!hasDots(workload))
    return byCost(workload, AttendKind::Decode,
                  {.queries = kDecodeQueries, .split = kDecodeSplit},
                  /*wanted=*/workload.group);
  return byTokens(workload, kDecodeQueries, /*wanted=*/workload.group,
                  kDecodeSplit);
}

/// A prefill has work tiles enough from its queries: splits would only cost
/// room.
WarpSchedule prefillSchedule(const Workload &workload) {
  constexpr int64_t kQueries = 1024;
  if (!hasDots(workload))
    return byCost(workload, AttendKind::Prefill, {.queries = kQueries},
                  /*wanted=*/16);
  if (maxDim(workload) <= kMaxRowsDim)
    return byRows(workload, kQueries);
  return byTokens(workload, kQueries, /*wanted=*/16, /*split=*/0);
}

//===----------------------------------------------------------------------===//
// What a schedule costs
//===----------------------------------------------------------------------===//

/// What a source costs, if there is one.
template <class Source>
OperandCost operandCost(const OperandEntry<Source> *entry, const Workload &w) {
  return entry && entry->cost ? entry->cost(w) : OperandCost();
}

/// Instructions of one warp for a step of `tokens`, copies left out, counted by
/// products, operands and exponentials alone.
double stepInstructions(const Workload &w, const WarpSchedule &s) {
  constexpr double kFixed = 80; // barriers, addresses, the row maximum
  if (!s.dot) {
    double lanes = kWarpLanes;
    double k = s.rows * s.tokens * double(w.k.dim) / lanes,
           v = s.rows * s.tokens * double(w.v.dim) / lanes;
    double dequantize = s.tokens * double(w.k.dim + w.v.dim) / lanes;
    return kFixed + k + v + 2 * dequantize + 12.0 * s.rows;
  }
  double rows = s.warpsSplitQ ? 16 : s.rows;
  // Of tiles of 16 tokens and 16 channels.
  auto stream = [&](int64_t dim, const OperandCost &cost) {
    double tiles = s.tokens * dim / 16.0 / 16;
    double words = tiles * cost.wordsPerTile;
    constexpr double kWordsPerLoad = 4;
    return rows / 8 * tiles * cost.productsPerTile + words / kWordsPerLoad +
           words * cost.instructionsPerWord;
  };
  OperandCost k = operandCost(operandOfK(w, s), w),
              v = operandCost(operandOfV(w, s), w);
  double perScore = 6 + (isScaled(w) ? 3 : 0) + k.instructionsPerScore +
                    v.instructionsPerScore;
  double scores = rows * s.tokens / kWarpLanes * perScore;
  if (s.queryShared)
    scores += w.k.dim / 16.0; // loads of q
  return kFixed + stream(w.k.dim, k) + stream(w.v.dim, v) + scores;
}

/// Registers that a thread wants: accumulators, scores, q, and the rest.
double wantedRegisters(const Workload &w, const WarpSchedule &s) {
  constexpr double kRest = 40;
  double lanes = kWarpLanes, rows = s.warpsSplitQ ? 16 : s.rows;
  double bytes = operandCost(operandOfK(w, s), w).queryElementBytes;
  bool hasQuery = s.dot && !s.queryShared;
  double q = hasQuery ? rows * w.k.dim * bytes / 4 / lanes : 0;
  double o = rows * w.v.dim / lanes, scores = rows * s.tokens / lanes;
  return o + (s.dot ? scores : 2 * rows) + q + kRest;
}

/// Cycles that one SM takes per cached token of a kv head and, in a prefill,
/// per query row: the larger of what it reads and what it issues, with what
/// splits cost. Nothing here has been fitted to a GPU. It leaves out bank
/// conflicts, tails of work tiles and what hits the L2 cache.
double costOf(const Workload &w, AttendKind kind, const WarpSchedule &s) {
  constexpr double kBytesPerCycle = 16, kIssuePerCycle = 4;
  constexpr double kWarpsWanted = 8; // that hide an instruction's latency
  // A memory latency of 1000 cycles, and half as much again.
  constexpr double kBytesWanted = 24576;
  constexpr double kWorkerTokens = 16384; // of a CTA in one launch
  bool decode = kind == AttendKind::Decode;
  double rows = decode ? w.group : s.rows;
  double passes = std::ceil(rows / s.rows); // each reads all tokens

  int64_t limit = registerLimit(w, s);
  double threads = allWarps(s) * kWarpLanes;
  double ctas = std::min<double>(
      std::floor(w.target.getShared() / SharedLayout(w, s).total),
      std::max(1.0, std::floor(kRegisters / (limit * threads))));

  double bytes = codeBytes(w.k) + (hasRowsOfK(w) ? 0 : codeBytes(w.v));
  double perStep = s.tokens * (s.warpsSplitQ ? 1 : s.warps);
  double underWay = ctas * (s.stages - 1) * perStep * bytes;
  double memory =
      bytes / kBytesPerCycle * std::max(1.0, kBytesWanted / underWay);

  double instructions = stepInstructions(w, s) / s.tokens;
  if (s.warpsSplitQ)
    instructions *= s.warps; // each multiplies all tokens
  // 16 bytes of a lane; a warp that copies in bulk has six for a row of each
  // stream, in one lane, and takes its turn among the others.
  instructions += s.bulk ? 12 : bytes / 16 / kWarpLanes * 2 + 1;
  double spilled = wantedRegisters(w, s) - limit;
  if (spilled > 0)
    instructions *= 1 + 4 * spilled / limit;
  double hidden = std::min(1.0, ctas * s.warps / kWarpsWanted);
  double issue = instructions / kIssuePerCycle / hidden;

  double cost =
      passes * (std::max(memory, issue) + std::min(memory, issue) / 4);
  // Partial results are written and read; half of the last work tile is waited
  // for where there are few.
  double split = s.split ? s.split : 8 * kWorkerTokens;
  if (s.split)
    cost += 2 * rows * (w.v.dim * 4 + 8) / split / kBytesPerCycle;
  if (decode)
    cost *= 1 + split / (2 * kWorkerTokens);
  return decode ? cost : cost / rows;
}

//===----------------------------------------------------------------------===//
// The interface
//===----------------------------------------------------------------------===//

struct Scheduler
    : SchedulerAttrInterface::ExternalModel<Scheduler, WarpScheduleAttr> {
  ScheduleAttrInterface plan(Attribute, const Workload &cached,
                             AttendKind kind) const {
    Workload workload = asMultiplied(cached);
    return WarpScheduleAttr::get(workload.target.getContext(),
                                 kind == AttendKind::Decode
                                     ? decodeSchedule(workload)
                                     : prefillSchedule(workload));
  }
  Legality legal(Attribute schedule, const Workload &workload) const {
    return checkSchedule(workload, cast<WarpScheduleAttr>(schedule)).legality;
  }
  /// `queries` stays: it says which kernel a batch takes.
  SmallVector<FieldValues> space(Attribute schedule, const Workload &workload,
                                 AttendKind kind) const {
    Workload w = asMultiplied(workload);
    auto s = cast<WarpScheduleAttr>(schedule);
    bool decode = kind == AttendKind::Decode;
    SmallVector<FieldValues> fields{
        worthTrying(s, "tokens", {8, 16, 32, 64}),
        worthTrying(s, "warps", {1, 2, 4, 8}),
        worthTrying(s, "stages", {2, 3, 4, 6, 8}),
        worthTrying(s, "registers", {0, 128, 168, 248})};
    fields.push_back(decode ? worthTrying(s, "rows", {4, 8, 16})
                            : worthTrying(s, "rows", {8, 16, 32, 64, 128}));
    fields.push_back(decode
                         ? worthTrying(s, "split", {256, 512, 1024, 2048, 4096})
                         : worthTrying(s, "split", {0, 8192}));
    if (hasDots(w)) {
      fields.push_back(worthTrying(s, "dot", {0, 1}));
      fields.push_back(worthTrying(s, "warpsSplitQ", {0, 1}));
    }
    if (hasQueryBytes(w))
      fields.push_back(worthTrying(s, "queryBytes", {0, 1}));
    if (hasDots(w))
      fields.push_back(worthTrying(s, "queryShared", {0, 1}));
    if (w.target.getBulk() && !w.isDecoded)
      fields.push_back(worthTrying(s, "bulk", {0, 1}));
    return fields;
  }
  double cost(Attribute schedule, const Workload &workload,
              AttendKind kind) const {
    return costOf(asMultiplied(workload), kind,
                  cast<WarpScheduleAttr>(schedule).getValue());
  }
};

} // namespace

void kvc::nvptx::registerScheduler(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KvcDialect *) {
    WarpScheduleAttr::attachInterface<Scheduler>(*context);
  });
}
