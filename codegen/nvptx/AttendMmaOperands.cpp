//===- AttendMmaOperands.cpp - operands of tensor cores: the choice -------===//
#include "codegen/nvptx/AttendMmaOperands.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

//===----------------------------------------------------------------------===//
// The choice
//===----------------------------------------------------------------------===//

/// The rows of one stream.
template <class Source>
static SmallVector<const OperandEntry<Source> *> entries() {
  SmallVector<const OperandEntry<Source> *> list;
  auto add = [&]<class Row>(const OperandEntry<Row> &entry) {
    if constexpr (std::is_same_v<Row, Source>)
      list.push_back(&entry);
  };
#define KVC_MMA_OPERAND(STREAM, NAME) add(k##NAME##STREAM);
#include "codegen/nvptx/AttendMmaOperands.def"
  return list;
}

template <class Source>
static const OperandEntry<Source> *
findFirst(Type code, const Workload &workload, const WarpSchedule &schedule) {
  for (const OperandEntry<Source> *entry : entries<Source>())
    if (entry->code(code.getContext()) == code &&
        (!entry->takes || entry->takes(workload, schedule)))
      return entry;
  return nullptr;
}

const OperandEntry<OperandSourceK> *
kvc::nvptx::operandOfK(const Workload &workload, const WarpSchedule &schedule) {
  return findFirst<OperandSourceK>(workload.k.codeType(), workload, schedule);
}

const OperandEntry<OperandSourceV> *
kvc::nvptx::operandOfV(const Workload &workload, const WarpSchedule &schedule) {
  return findFirst<OperandSourceV>(workload.v.codeType(), workload, schedule);
}

SmallVector<Type> kvc::nvptx::operandCodes(MLIRContext *context) {
  SmallVector<Type> codes;
  for (const OperandEntry<OperandSourceK> *k : entries<OperandSourceK>())
    for (const OperandEntry<OperandSourceV> *v : entries<OperandSourceV>()) {
      Type code = k->code(context);
      if (v->code(context) == code && !llvm::is_contained(codes, code))
        codes.push_back(code);
    }
  return codes;
}

//===----------------------------------------------------------------------===//
// What sources of K have in common
//===----------------------------------------------------------------------===//

Value OperandSourceK::queryPair(Value row, Value channel, int64_t first) {
  Type pair = kit.vec(2, a.k.dtype);
  auto load = [&](Value channel) {
    Value at = kit.ptr(kit.ptr(row, kit.mul(channel, 2)), 2 * first);
    return kit.bitcast(kit.loadReadOnly(pair, at, 4), kit.i32());
  };
  if (first + 16 <= a.dimK)
    return load(channel);
  Value there = kit.less(channel, kit.i32(a.dimK - first));
  Value safe = kit.select(there, channel, kit.i32(-first));
  return kit.select(there, load(safe), kit.i32(0));
}

Values OperandSourceK::loadMatricesInM(const Step &step, int64_t tile,
                                       int64_t load) {
  Value own = kit.add(kit.mul(kit.rem(a.lane, 16), a.strideK),
                      kit.mul(kit.div(a.lane, 16), 16));
  return kit.op(Ptx::LdMatrixX4, kit.add(step.k.base, own),
                step.k.offset + tile * 16 * a.strideK + load * kLoadBytesInM);
}

Values OperandSourceK::loadMatricesInN(const Step &step, int64_t tile,
                                       int64_t load) {
  Value own = kit.add(kit.mul(kit.rem(a.lane, 8), a.strideK),
                      kit.mul(kit.div(a.lane, 8), 16));
  // Rows end at multiples of 32 bytes.
  bool whole = (load + 1) * kLoadBytesInN <=
               int64_t(llvm::alignTo(a.body.k.rowBytes(), 32));
  return kit.op(whole ? Ptx::LdMatrixX4 : Ptx::LdMatrixX2,
                kit.add(step.k.base, own),
                step.k.offset + tile * 8 * a.strideK + load * kLoadBytesInN);
}
