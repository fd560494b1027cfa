//===- OpsTest.cpp - every row of Ops.def on every GPU that has it --------===//
//
// A row used must come out of LLVM as it stands, as often as its kind says, and
// both assemblers must take it.
//
//===----------------------------------------------------------------------===//
#include "test/unit/Nvptx/KitModule.h"

#include "llvm/Support/Regex.h"

using namespace kvc;
using namespace kvc::nvptx;
using llvm::StringRef;
using mlir::Value;

namespace {

constexpr Ptx kRows[] = {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) Ptx::NAME,
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
};

//===----------------------------------------------------------------------===//
// A use of a row
//===----------------------------------------------------------------------===//

struct Use {
  Kit::Values operands;
  llvm::SmallVector<int64_t> constants;
};

std::vector<StringRef> constraintsOf(Ptx row) {
  llvm::SmallVector<StringRef> parts;
  infoOf(row).constraints.split(parts, ',', -1, /*KeepEmpty=*/false);
  return {parts.begin(), parts.end()};
}

/// Constants that tell themselves apart; barriers want their own.
llvm::SmallVector<int64_t> constantsOf(Ptx row) {
  if (row == Ptx::BarSync)
    return {0, 32};
  if (row == Ptx::BarArrive)
    return {1, 64};
  llvm::SmallVector<int64_t> constants;
  for (StringRef constraint : constraintsOf(row))
    if (constraint == "n")
      constants.push_back(16 * (constants.size() + 1));
  return constants;
}

/// Operands from memory that no pass knows.
Use someUse(Kit &kit, Ptx row, Value from) {
  Use use;
  use.constants = constantsOf(row);
  for (StringRef constraint : constraintsOf(row)) {
    mlir::Type type = constraint == "f"   ? kit.f32()
                      : constraint == "l" ? kit.global()
                                          : kit.i32();
    if (constraint.starts_with("=") || constraint == "n")
      continue;
    from = kit.ptr(from, 8);
    use.operands.push_back(kit.load(type, from, 8));
  }
  return use;
}

/// What the row's text may look like with registers in it.
std::string patternOf(Ptx row) {
  llvm::SmallVector<int64_t> constants = constantsOf(row);
  std::vector<StringRef> constraints = constraintsOf(row);
  StringRef text = infoOf(row).text;
  std::string pattern;
  while (!text.empty()) {
    size_t index;
    if (text.consume_front("${:uid}")) {
      pattern += "[0-9]+";
    } else if (text.consume_front("$")) {
      EXPECT_FALSE(text.consumeInteger(10, index));
      size_t n = std::count(constraints.begin(), constraints.begin() + index,
                            StringRef("n"));
      pattern += constraints[index] == "n" ? std::to_string(constants[n])
                                           : "%[a-z]+[0-9]+";
    } else {
      pattern += llvm::Regex::escape(text.take_front());
      text = text.drop_front();
    }
  }
  return pattern;
}

unsigned countOf(StringRef text, const std::string &pattern) {
  llvm::Regex regex(pattern);
  llvm::SmallVector<StringRef> match;
  unsigned count = 0;
  for (; regex.match(text, &match); ++count)
    text = text.substr(match[0].end() - text.begin());
  return count;
}

/// A kernel's part of the text.
StringRef bodyOf(StringRef ptx, Ptx row) {
  std::string entry = ".entry " + symbolName(infoOf(row).name) + "(";
  size_t begin = ptx.find(entry);
  EXPECT_NE(begin, StringRef::npos) << entry;
  StringRef rest = ptx.drop_front(begin);
  return rest.take_front(rest.find("\n}"));
}

//===----------------------------------------------------------------------===//
// On every GPU
//===----------------------------------------------------------------------===//

class OnGpu : public testing::TestWithParam<SmTarget> {};

/// A kernel for each row that uses it twice, with the same operands.
std::string everyRowTwice(const SmTarget &sm, LaunchInfos &launches) {
  KitModule module;
  for (Ptx row : kRows)
    if (infoOf(row).minSm <= sm.version)
      module.kernel(infoOf(row).name, [&](Kit &kit, Value memory, Value) {
        Value own = kit.ptr(memory, kit.mul(kit.threadId(), 512));
        Use use = someUse(kit, row, own);
        Value to = kit.ptr(own, 256);
        for (int i = 0; i < 2; ++i)
          for (Value result : kit.op(row, use.operands, use.constants)) {
            kit.store(result, to, 4);
            to = kit.ptr(to, 4);
          }
      });
  module.lower();
  std::string ptx = emitPtx(*module.module, sm, module.launches);
  EXPECT_EQ(module.errors, "");
  launches = std::move(module.launches);
  return ptx;
}

TEST_P(OnGpu, EveryRowIsPrintedAndAssembles) {
  LaunchInfos launches;
  std::string ptx = everyRowTwice(GetParam(), launches);
  for (Ptx row : kRows)
    if (infoOf(row).minSm <= GetParam().version) {
      unsigned count = countOf(bodyOf(ptx, row), patternOf(row));
      SCOPED_TRACE(infoOf(row).name.str() + "\n" + bodyOf(ptx, row).str());
      // What depends on operands alone is done once.
      if (infoOf(row).kind != OpKind::Pure)
        EXPECT_EQ(count, 2u);
      else if (StringRef(infoOf(row).constraints).contains(','))
        EXPECT_EQ(count, 1u);
      else
        EXPECT_GE(count, 1u);
    }
  if (assemblerName().empty())
    GTEST_SKIP() << "no CUDA assembler is here";
  for (Assembler assembler : {Assembler::JitLink, Assembler::Ptxas}) {
    std::string error;
    std::optional<Cubin> cubin = assemble(ptx, GetParam(), error, assembler);
    if (StringRef(error).starts_with("there is no assembler"))
      continue;
    ASSERT_TRUE(cubin) << error;
    ASSERT_GT(cubin->bytes.size(), 4u);
    EXPECT_EQ(StringRef(reinterpret_cast<char *>(cubin->bytes.data()), 4),
              "\x7f"
              "ELF");
    bool jitLink = StringRef(cubin->assembler).starts_with("nvJitLink");
    EXPECT_EQ(jitLink, assembler == Assembler::JitLink) << cubin->assembler;
    EXPECT_EQ(cubin->kernels.size(), launches.size());
    for (auto &[name, report] : cubin->kernels) {
      EXPECT_GT(report.registers, 0u) << name.str();
      EXPECT_EQ(report.spillStores + report.spillLoads + report.stack, 0u);
    }
  }
}

TEST_P(OnGpu, RowsOfLaterGpusAreRefused) {
  for (Ptx row : kRows) {
    const OpInfo &info = infoOf(row);
    if (info.minSm <= GetParam().version)
      continue;
    KitModule module;
    module.kernel("late", [&](Kit &kit, Value memory, Value) {
      Use use = someUse(kit, row, memory);
      kit.op(row, use.operands, use.constants);
    });
    module.lower();
    EXPECT_EQ(emitPtx(*module.module, GetParam(), module.launches), "");
    EXPECT_EQ(module.errors, "`" + info.name.str() + "` needs sm_" +
                                 std::to_string(info.minSm) + ", " +
                                 GetParam().name + " has not got it");
  }
}

INSTANTIATE_TEST_SUITE_P(All, OnGpu, testing::ValuesIn(smTargets()),
                         [](const testing::TestParamInfo<SmTarget> &info) {
                           return info.param.name;
                         });

//===----------------------------------------------------------------------===//
// What passes may do
//===----------------------------------------------------------------------===//

const SmTarget &newest() { return smTargets().back(); }

/// For each row, what is left of it in a kernel that `body` writes.
void forEachRow(llvm::function_ref<void(Kit &, Ptx, Value)> body,
                llvm::function_ref<void(Ptx, StringRef)> check) {
  KitModule module;
  for (Ptx row : kRows)
    module.kernel(infoOf(row).name, [&](Kit &kit, Value memory, Value) {
      body(kit, row, memory);
    });
  module.lower();
  std::string ptx = emitPtx(*module.module, newest(), module.launches);
  ASSERT_EQ(module.errors, "");
  for (Ptx row : kRows) {
    SCOPED_TRACE(infoOf(row).name.str());
    check(row, bodyOf(ptx, row));
  }
}

TEST(Rows, WhatHasAnEffectStaysThoughNobodyUsesIt) {
  forEachRow(
      [](Kit &kit, Ptx row, Value memory) {
        Use use = someUse(kit, row, memory);
        kit.op(row, use.operands, use.constants);
      },
      [](Ptx row, StringRef body) {
        bool pure = infoOf(row).kind == OpKind::Pure;
        EXPECT_EQ(countOf(body, patternOf(row)), pure ? 0u : 1u) << body.str();
      });
}

// A result that only some lanes use does not make the instruction theirs, and
// four iterations stay a loop.
TEST(Rows, WhatLanesDoTogetherIsNeitherMovedNorRepeated) {
  forEachRow(
      [](Kit &kit, Ptx row, Value memory) {
        Use use = someUse(kit, row, memory);
        Value first =
            kit.cmp(mlir::arith::CmpIPredicate::eq, kit.threadId(), kit.i32(0));
        kit.loop(kit.i32(0), kit.i32(4), kit.i32(1), [&](Value i) {
          Kit::Values results = kit.op(row, use.operands, use.constants);
          kit.when(first, [&] {
            Value to = kit.ptr(memory, kit.mul(i, 256));
            for (Value result : results)
              kit.store(result, to = kit.ptr(to, 4), 4);
            if (results.empty())
              kit.store(i, to, 4);
          });
        });
      },
      [](Ptx row, StringRef body) {
        if (infoOf(row).kind == OpKind::Pure)
          return;
        EXPECT_EQ(countOf(body, patternOf(row)), 1u) << body.str();
        llvm::SmallVector<StringRef> match;
        ASSERT_TRUE(llvm::Regex(patternOf(row)).match(body, &match));
        // After the branch out of the loop, before that around the store.
        size_t at = match[0].begin() - body.begin();
        EXPECT_EQ(body.take_front(at).count("@%p"), 1u) << body.str();
        EXPECT_EQ(body.drop_front(at).count("@%p"), 1u) << body.str();
        EXPECT_LT(at, body.find("st.global")) << body.str();
      });
}

} // namespace
