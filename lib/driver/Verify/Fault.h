//===- Fault.h - bugs that the harness must notice --------------*- C++ -*-===//
//
// A harness counts only once it has caught planted bugs. Each fault makes a
// right kernel look like a wrong one, by what it is compiled from, what it is
// given or what it leaves behind. Tests only.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_VERIFY_FAULT_H
#define KVC_LIB_DRIVER_VERIFY_FAULT_H

#include <cstdint>

namespace kvc::verify {

// KVC_FAULT(enumerator, name, what a kernel with this bug does)
#define KVC_FAULTS(KVC_FAULT)                                                  \
  KVC_FAULT(Scale, "scale", "scales logits by 2 % too much")                   \
  KVC_FAULT(NoSoftcap, "no-softcap", "forgets the softcap")                    \
  KVC_FAULT(NoLogits, "no-logits", "takes scores for logits")                  \
  KVC_FAULT(NoVisible, "no-visible", "shows what `visible` hides")             \
  KVC_FAULT(NoSinkLogit, "no-sink-logit", "leaves `sink` out of the sum")      \
  KVC_FAULT(Ahead, "ahead", "sees what it must not, or not what is, ahead")    \
  KVC_FAULT(WrongConstants, "wrong-constants",                                 \
            "reads another sequence's constants")                              \
  KVC_FAULT(WideWindow, "wide-window", "sees one token beyond the window")     \
  KVC_FAULT(NoSink, "no-sink", "hides the last sink token")                    \
  KVC_FAULT(ShortLength, "short-length", "stops one token early")              \
  KVC_FAULT(LongLength, "long-length", "reads one token of the page's tail")   \
  KVC_FAULT(LostSplit, "lost-split", "forgets the last split of a sequence")   \
  KVC_FAULT(TableEntry, "table-entry", "reads a neighbour's first page")       \
  KVC_FAULT(HeadStride, "head-stride", "steps one token short between heads")  \
  KVC_FAULT(QueryHeads, "query-heads", "maps q heads to kv heads off by one")  \
  KVC_FAULT(SwapScales, "swap-scales", "takes K's scales for V and V's for K") \
  KVC_FAULT(SwapZeros, "swap-zeros",                                           \
            "takes scales for zeros, zeros for scales")                        \
  KVC_FAULT(OneGroup, "one-group", "takes a row's first scale for its second") \
  KVC_FAULT(OneCode, "one-code", "reads the first code of two for both")       \
  KVC_FAULT(TailLeak, "tail-leak", "lets a page's tail touch the last bit")    \
  KVC_FAULT(Log2Lse, "log2-lse", "leaves lse in base 2")                       \
  KVC_FAULT(EmptyNan, "empty-nan", "divides 0 by 0 for empty sequences")       \
  KVC_FAULT(LowPrecision, "low-precision", "rounds f32 outputs to bf16")       \
  KVC_FAULT(OneStep, "one-step",                                               \
            "rounds a 16-bit row in steps of its largest")                     \
  KVC_FAULT(Flaky, "flaky", "differs in the last bit from run to run")         \
  KVC_FAULT(BatchOdd, "batch-odd", "differs in the last bit if batch is odd")  \
  KVC_FAULT(RowOverrun, "row-overrun", "writes beyond the rows of out")        \
  KVC_FAULT(CodeBit, "code-bit", "rounds one code of a row wrong")             \
  KVC_FAULT(WrongSlot, "wrong-slot", "appends a row one slot too far")         \
  KVC_FAULT(SkippedRow, "skipped-row", "writes rows with a negative slot")     \
  KVC_FAULT(GatherSlot, "gather-slot", "decodes the token before one's own")   \
  KVC_FAULT(GatherBit, "gather-bit", "rounds one decoded element wrong")       \
  KVC_FAULT(GatherOverrun, "gather-overrun", "writes beyond the rows of k")    \
  KVC_FAULT(LostRow, "lost-row", "forgets the last row of a step")             \
  KVC_FAULT(LostCommit, "lost-commit", "keeps one token less than accepted")

enum class Fault : uint8_t {
  None,
#define KVC_FAULT(enumerator, name, what) enumerator,
  KVC_FAULTS(KVC_FAULT)
#undef KVC_FAULT
};

struct FaultInfo {
  Fault fault;
  const char *name, *what;
};
inline constexpr FaultInfo kFaults[] = {
#define KVC_FAULT(enumerator, name, what) {Fault::enumerator, name, what},
    KVC_FAULTS(KVC_FAULT)
#undef KVC_FAULT
};

} // namespace kvc::verify

#endif // KVC_LIB_DRIVER_VERIFY_FAULT_H
