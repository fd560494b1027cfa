//===- OpKernels.cpp - one small kernel per instruction -------------------===//
#include "tools/op-vectors/OpKernels.h"

#include "llvm/ADT/StringExtras.h"

#include <cstddef>

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;
using namespace kvc::opvectors;

namespace {

/// Bytes of shared memory that each thread fills and looks at.
constexpr int64_t kOwn = 16;
constexpr int64_t kWarp = 32;

/// What a kernel is written with.
class Writer {
public:
  Writer(OpBuilder &b, Location loc, Value params, OpKernel &kernel)
      : kit(b, loc), kernel(kernel), params(params) {}

  /// Once the number of words per thread is known.
  void begin() {
    thread = kit.threadId();
    own = kit.add(kit.mul(kit.op1(Ptx::CtaidX, {}), kernel.threads), thread);
    in = address(offsetof(Params, in), kernel.inWords);
    out = address(offsetof(Params, out), kernel.outWords);
  }

  void emit();

private:
  Value address(int64_t field, int64_t words) {
    Value base = kit.loadReadOnly(kit.global(), kit.ptr(params, field), 8);
    return kit.ptr(base, kit.mul(kit.extI64(own), words * 4));
  }
  Value input(int64_t word, Type type = {}) {
    return kit.load(type ? type : kit.i32(), kit.ptr(in, word * 4), 4);
  }
  void output(Value x) { kit.store(x, kit.ptr(out, 4 * written++), 4); }
  void outputs(ArrayRef<Value> xs) {
    for (Value x : xs)
      output(x);
  }
  Value smem() { return kit.op1(Ptx::SmemBase, {}); }
  /// Of thread `of`.
  Value place(Value of) { return kit.add(smem(), kit.mul(of, kOwn)); }
  Value lane(int64_t factor, int64_t offset) {
    return kit.rem(kit.add(kit.mul(thread, factor), offset), kWarp);
  }
  void syncWarp() { kit.op(Ptx::WarpSync, {}); }
  /// Each thread's place from its first four words.
  void fill() {
    kit.op(Ptx::Sts128, {place(thread), input(0), input(1), input(2), input(3)},
           {0});
    syncWarp();
  }
  void clear() {
    Value zero = kit.i32(0);
    kit.op(Ptx::Sts128, {place(thread), zero, zero, zero, zero}, {0});
    syncWarp();
  }
  void show(Value of) { outputs(kit.op(Ptx::Lds128, {place(of)}, {0})); }

  void onOperands();
  void loads();
  void stores();
  void copies();
  void groups();
  void barriers();
  void arrivals();
  void bulk();
  void election();
  void atomics();
  int64_t unitOf() const;

  Kit kit;
  OpKernel &kernel;
  Value params, thread, own, in, out;
  int64_t written = 0;
};

bool isIn(Ptx row, std::initializer_list<Ptx> rows) {
  return llvm::is_contained(rows, row);
}

/// What a row needs around it; the number of words follows from it.
enum class Around : uint8_t {
  Operands, ///< words are its operands
  Loads,
  Stores,
  Copies,
  Groups,
  Barriers,
  Arrivals,
  Bulk,
  Election,
  Atomics,
};
Around aroundOf(Ptx row) {
  StringRef name = infoOf(row).name;
  if (name.starts_with("Lds") || name.starts_with("LdMatrix"))
    return Around::Loads;
  if (name.starts_with("Sts"))
    return Around::Stores;
  if (isIn(row, {Ptx::CpAsyncCommit, Ptx::CpAsyncWait}))
    return Around::Groups;
  if (name.starts_with("CpAsync"))
    return Around::Copies;
  if (isIn(row, {Ptx::BarSync, Ptx::BarArrive, Ptx::WarpSync}))
    return Around::Barriers;
  if (isIn(row,
           {Ptx::MbarInit, Ptx::MbarFenceInit, Ptx::MbarArrive, Ptx::MbarWait}))
    return Around::Arrivals;
  if (isIn(row, {Ptx::BulkCopy, Ptx::BulkCopyCta, Ptx::MbarArriveExpectTx,
                 Ptx::FenceProxyAsync}))
    return Around::Bulk;
  if (row == Ptx::ElectOne)
    return Around::Election;
  if (row == Ptx::AtomAddAcqRel)
    return Around::Atomics;
  return Around::Operands;
}

std::vector<StringRef> constraintsOf(Ptx row) {
  SmallVector<StringRef> parts;
  infoOf(row).constraints.split(parts, ',', -1, /*KeepEmpty=*/false);
  return {parts.begin(), parts.end()};
}

/// Constants to try a row with.
ArrayRef<int64_t> constantsOf(Ptx row) {
  static constexpr int64_t kNone[] = {0}, kMasks[] = {1, 6, 16},
                           kSteps[] = {1, 2, 16};
  if (row == Ptx::ShflBfly)
    return kMasks;
  return row == Ptx::ShflUp ? ArrayRef(kSteps) : ArrayRef(kNone);
}

//===----------------------------------------------------------------------===//
// Rows that work on registers
//===----------------------------------------------------------------------===//

void Writer::onOperands() {
  Kit::Values operands;
  bool constant = false;
  int64_t word = 0;
  for (StringRef constraint : constraintsOf(kernel.row)) {
    if (constraint == "n")
      constant = true;
    else if (!constraint.starts_with("="))
      operands.push_back(input(word++, constraint == "f" ? kit.f32() : Type()));
  }
  // Selectors without the sign mode, lanes that are there.
  if (kernel.row == Ptx::Prmt)
    operands[2] = kit.and_(operands[2], 0x7777);
  if (kernel.row == Ptx::ShflIdx)
    operands[1] = kit.and_(operands[1], kWarp - 1);
  for (int64_t value : constantsOf(kernel.row)) {
    Kit::Values results = kit.op(
        kernel.row, operands, constant ? ArrayRef(value) : ArrayRef<int64_t>());
    // Where shared memory begins is its own affair.
    if (kernel.row == Ptx::SmemBase)
      results[0] = kit.and_(results[0], 1023);
    outputs(results);
  }
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

void Writer::loads() {
  fill();
  bool matrix = infoOf(kernel.row).kind == OpKind::Collective;
  Value from = matrix ? place(lane(5, 3)) : place(thread);
  outputs(kit.op(kernel.row, {from}, {0}));
  if (matrix) // the same rows, by addresses that a constant completes
    outputs(kit.op(kernel.row, {kit.add(from, -32)}, {32}));
}

void Writer::stores() {
  clear();
  Kit::Values operands{place(thread)};
  int64_t words = constraintsOf(kernel.row).size() - 2;
  for (int64_t i = 0; i < words; ++i)
    operands.push_back(input(i));
  int64_t offset = words == 4 ? 0 : words == 2 ? 8 : words == 1 ? 4 : 0;
  kit.op(kernel.row, operands, {offset});
  syncWarp();
  show(lane(1, 7));
}

/// Bytes of one copy.
int64_t Writer::unitOf() const {
  StringRef name = infoOf(kernel.row).name.drop_front(strlen("CpAsync"));
  int64_t unit = 0;
  name.consumeInteger(10, unit);
  return unit;
}

void Writer::copies() {
  clear();
  int64_t unit = unitOf();
  Kit::Values operands{place(thread), in};
  bool partial = infoOf(kernel.row).name.ends_with("Zfill");
  if (partial) {
    // All, none, half of the bytes.
    Value which = kit.rem(thread, 3);
    Value some =
        kit.select(kit.cmp(arith::CmpIPredicate::eq, which, kit.i32(1)),
                   kit.i32(0), kit.i32(unit / 2));
    operands.push_back(
        kit.select(kit.cmp(arith::CmpIPredicate::eq, which, kit.i32(0)),
                   kit.i32(unit), some));
  }
  kit.op(kernel.row, operands, {0, 16});
  kit.op(Ptx::CpAsyncCommit, {});
  kit.op(Ptx::CpAsyncWait, {}, {0});
  syncWarp();
  show(lane(3, 1));
}

/// The older of two groups, then both.
void Writer::groups() {
  clear();
  for (int64_t i = 0; i < 2; ++i) {
    kit.op(Ptx::CpAsync8, {place(thread), in}, {8 * i, 8 * i});
    kit.op(Ptx::CpAsyncCommit, {});
  }
  kit.op(Ptx::CpAsyncWait, {}, {1});
  outputs(kit.op(Ptx::Lds64, {place(thread)}, {0}));
  kit.op(Ptx::CpAsyncWait, {}, {0});
  show(thread);
}

//===----------------------------------------------------------------------===//
// Threads that wait for each other
//===----------------------------------------------------------------------===//

/// Each thread puts a word and takes another's: of its warp, of the other warp
/// of two (BarSync), the first warp those of the second (BarArrive).
void Writer::barriers() {
  int64_t threads = kernel.threads;
  kit.op(Ptx::Sts32, {place(thread), input(0)}, {0});
  Value other = kit.rem(kit.add(thread, threads > kWarp ? 37 : 5), threads);
  auto take = [&] { output(kit.op1(Ptx::Lds32, {place(other)}, {0})); };
  if (kernel.row == Ptx::WarpSync) {
    syncWarp();
    take();
  } else if (kernel.row == Ptx::BarSync) {
    kit.op(Ptx::BarSync, {}, {1, threads});
    take();
  } else {
    Value warp = kit.op1(Ptx::ShflIdx, {kit.div(thread, kWarp), kit.i32(0)});
    Value first = kit.cmp(arith::CmpIPredicate::eq, warp, kit.i32(0));
    kit.when(
        first,
        [&] {
          kit.op(Ptx::BarSync, {}, {1, threads});
          Value of = kit.add(kit.rem(other, kWarp), kWarp);
          output(kit.op1(Ptx::Lds32, {place(of)}, {0}));
        },
        [&] { kit.op(Ptx::BarArrive, {}, {1, threads}); });
  }
}

/// All lanes arrive at a barrier in memory, behind the threads' places.
void Writer::arrivals() {
  Value barrier = kit.add(smem(), kOwn * kernel.threads);
  Value first = kit.cmp(arith::CmpIPredicate::eq, thread, kit.i32(0));
  kit.when(first, [&] { kit.op(Ptx::MbarInit, {barrier}, {kWarp}); });
  bool waits = isIn(kernel.row, {Ptx::MbarFenceInit, Ptx::MbarWait});
  if (waits)
    kit.op(Ptx::MbarFenceInit, {});
  syncWarp();
  kit.op(Ptx::Sts32, {place(thread), input(0)}, {0});
  kit.op(Ptx::MbarArrive, {barrier});
  if (waits)
    kit.op(Ptx::MbarWait, {barrier, kit.i32(0)});
  else
    syncWarp();
  output(kit.op1(Ptx::Lds32, {place(lane(1, 9))}, {0}));
}

/// The warp's words in one copy, over what its lanes had put there.
void Writer::bulk() {
  clear();
  Value barrier = kit.add(smem(), kOwn * kernel.threads);
  Value first = kit.cmp(arith::CmpIPredicate::eq, thread, kit.i32(0));
  kit.when(first, [&] { kit.op(Ptx::MbarInit, {barrier}, {1}); });
  kit.op(Ptx::MbarFenceInit, {});
  kit.op(Ptx::FenceProxyAsync, {});
  syncWarp();
  kit.when(first, [&] {
    Value bytes = kit.i32(kOwn * kWarp);
    kit.op(Ptx::MbarArriveExpectTx, {barrier, bytes});
    kit.op(kernel.row == Ptx::BulkCopyCta ? Ptx::BulkCopyCta : Ptx::BulkCopy,
           {smem(), in, bytes, barrier});
  });
  kit.op(Ptx::MbarWait, {barrier, kit.i32(0)});
  show(lane(7, 2));
}

/// Whether it is one lane; which is nobody's business.
void Writer::election() {
  Value bits = kit.op1(Ptx::Ballot, kit.op1(Ptx::ElectOne, {}));
  Value some = kit.cmp(arith::CmpIPredicate::ne, bits, kit.i32(0));
  output(kit.select(some, kit.i32(1), kit.i32(0)));
  output(kit.and_(bits, kit.add(bits, -1)));
}

/// A counter of each thread, twice.
void Writer::atomics() {
  for (int i = 0; i < 2; ++i) {
    Value counter = kit.ptr(out, 8);
    output(kit.op1(kernel.row, {counter, input(i)}));
  }
}

void Writer::emit() {
  begin();
  switch (aroundOf(kernel.row)) {
  case Around::Operands:
    return onOperands();
  case Around::Loads:
    return loads();
  case Around::Stores:
    return stores();
  case Around::Copies:
    return copies();
  case Around::Groups:
    return groups();
  case Around::Barriers:
    return barriers();
  case Around::Arrivals:
    return arrivals();
  case Around::Bulk:
    return bulk();
  case Around::Election:
    return election();
  case Around::Atomics:
    return atomics();
  }
}

//===----------------------------------------------------------------------===//
// The list
//===----------------------------------------------------------------------===//

/// Words of a thread, threads, shared memory.
void size(OpKernel &kernel) {
  int64_t in = 0, out = 0, constants = constantsOf(kernel.row).size();
  for (StringRef constraint : constraintsOf(kernel.row))
    (constraint.starts_with("=") ? out : in) += constraint != "n";
  switch (aroundOf(kernel.row)) {
  case Around::Operands:
    out *= constants;
    break;
  case Around::Loads:
    in = 4, out *= infoOf(kernel.row).kind == OpKind::Collective ? 2 : 1;
    break;
  case Around::Stores:
    in = 4, out = 4;
    break;
  case Around::Copies:
    in = 8, out = 4; // copies begin at an offset
    break;
  case Around::Groups:
    in = 4, out = 6;
    break;
  case Around::Barriers:
    in = out = 1;
    kernel.threads = kernel.row == Ptx::WarpSync ? kWarp : 2 * kWarp;
    break;
  case Around::Arrivals:
    in = out = 1;
    break;
  case Around::Bulk:
    in = out = 4;
    break;
  case Around::Election:
    in = 1, out = 2;
    break;
  case Around::Atomics:
    in = 2, out = 4;
    break;
  }
  kernel.inWords = uint32_t(in), kernel.outWords = uint32_t(out);
  kernel.shared = uint32_t(kOwn * kernel.threads + kOwn);
}

/// The kernels of one row.
std::vector<OpKernel> kernelsOf(Ptx row) {
  OpKernel kernel;
  kernel.name = infoOf(row).name.str();
  kernel.row = row;
  size(kernel);
  if (isIn(row, {Ptx::MmaBF16, Ptx::MmaF16})) {
    kernel.bf16 = row == Ptx::MmaBF16;
    kernel.words = Words::Integers;
    OpKernel rounded = kernel;
    rounded.name += ".rounded";
    rounded.words = Words::Halves;
    // 16 products of at most 1 and a sum of that size: tensor cores cut off
    // below the largest by a few bits more than f32 has.
    rounded.check = Check::Sums, rounded.limit = 0x1p-17;
    return {kernel, rounded};
  }
  if (isIn(row, {Ptx::Ex2, Ptx::Lg2, Ptx::Rcp}))
    kernel.check = Check::Ulps, kernel.limit = 4;
  if (row == Ptx::SubF16x2)
    kernel.words = Words::Halves;
  else if (StringRef(infoOf(row).constraints).contains('f'))
    kernel.words = Words::Floats;
  return {kernel};
}

void emitKernel(ModuleOp module, OpKernel &kernel) {
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Location loc = b.getUnknownLoc();
  MLIRContext *context = module.getContext();
  auto type = LLVM::LLVMFunctionType::get(
      LLVM::LLVMVoidType::get(context), {LLVM::LLVMPointerType::get(context)});
  auto function =
      LLVM::LLVMFuncOp::create(b, loc, symbolName(kernel.name), type);
  function.setArgAttr(
      0, "llvm.byval",
      TypeAttr::get(LLVM::LLVMArrayType::get(b.getI8Type(), sizeof(Params))));
  function.setArgAttr(0, "llvm.align", b.getI64IntegerAttr(8));
  function->setAttr("kvc.kernel", b.getStringAttr(kernel.name));
  b.setInsertionPointToStart(function.addEntryBlock(b));
  Writer(b, loc, function.getArgument(0), kernel).emit();
  LLVM::ReturnOp::create(b, loc, ValueRange());
}

} // namespace

FailureOr<std::vector<OpKernel>>
kvc::opvectors::emitOpKernels(ModuleOp module, const SmTarget &sm) {
  constexpr Ptx kRows[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Ptx::NAME,
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
  };
  std::vector<OpKernel> kernels;
  for (Ptx row : kRows) {
    if (infoOf(row).minSm > sm.version)
      continue;
    for (OpKernel &kernel : kernelsOf(row)) {
      emitKernel(module, kernel);
      kernels.push_back(std::move(kernel));
    }
  }
  // Each row has to be in its kernel.
  for (OpKernel &kernel : kernels) {
    bool found = false;
    auto function =
        module.lookupSymbol<LLVM::LLVMFuncOp>(symbolName(kernel.name));
    function.walk(
        [&](LLVM::InlineAsmOp op) { found |= ptxOf(op) == kernel.row; });
    if (!found)
      return module.emitError("no vector uses `") << kernel.name << "`";
  }
  return kernels;
}
