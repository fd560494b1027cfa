//===- MutationTest.cpp - planted bugs, and whether they are caught -------===//
//
// Takes a kernel as it is emitted, plants one bug in it, and runs it in the
// emulator: it must find something, or the results must be others than those of
// the kernel without the bug, by more than rounding. A bug that is not caught
// either changes nothing, and is listed here with the reason, or is one that
// the tests of this folder would let through.
//
// What caught each is a property of the test case (--gtest_output=xml).
//
//===----------------------------------------------------------------------===//
#include "test/unit/Nvptx/MutationSubject.h"

#include <map>

using namespace kvc::nvptx;

namespace {

//===----------------------------------------------------------------------===//
// What changes nothing
//===----------------------------------------------------------------------===//

/// A bug that no results and no rule of the machine depend on.
struct EquivalentMutant {
  const char *store; ///< "": every
  const char *bug;   ///< of an attend kernel; `*` at the end: and what follows
  const char *reason;
};

constexpr const char *kStepsBeginWithOne =
    "every step begins with one, before anything is read";

const EquivalentMutant kEquivalentMutants[] = {
    {"Paged", "NoWarpSync_Attend_1", kStepsBeginWithOne},
    {"Contiguous", "NoWarpSync_Attend_1", kStepsBeginWithOne},
    {"Window", "NoWarpSync_Attend_1", kStepsBeginWithOne},
    {"Int8", "NoWarpSync_Attend_1", kStepsBeginWithOne},
    {"Fma", "NoWarpSync_Attend_1", kStepsBeginWithOne},
    {"Rows", "NoBarSync_Attend_1", kStepsBeginWithOne},
    {"RowsInt8", "NoBarSync_Attend_1", kStepsBeginWithOne},
    {"", "NoWait_AttendCopy_3",
     "after the last step, all groups under way are of no copies"},
    {"", "WaitsForOneLess_AttendCopy_3",
     "after the last step, all groups under way are of no copies"},
    {"", "NoLowerClamp_1", "an item that has steps has a token"},
    {"Int8", "NoScaleMask_*",
     "without a window some row sees each token, and its scale is a number"},
    {"", "NoZfill_*",
     "which row is read is clamped; what nobody sees is masked as a score, and "
     "kept out of products where it is no number"},
    {"", "OwnVote_AttendMma_*",
     "all lanes of a row agree, and the branch has nothing that a warp does "
     "together"},
    // Steps that are not full: one, of the two query tokens of an item.
    {"Paged", "NoWrap_4", "only the first of the last steps copies another"},
    {"Int8", "NoWrap_4", "only the first of the last steps copies another"},
    {"Fma", "NoWrap_4", "only the first of the last steps copies another"},
    // Where several splits are combined at a time.
    {"Paged", "NoFirstRound_15", "there are fewer splits than that"},
    {"Window", "NoFirstRound_16", "there are fewer splits than that"},
    {"Int8", "NoFirstRound_14", "there are fewer splits than that"},
    {"Rows", "NoFirstRound_15", "there are fewer splits than that"},
    {"Fma", "NoFirstRound_22", "there are fewer splits than that"},
    {"Bulk", "NoFirstRound_14", "there are fewer splits than that"},
    {"BulkRows", "NoFirstRound_14", "there are fewer splits than that"},
    // In the loop over full steps.
    {"Window", "NoUpperClamp_1", "all tokens of a full step are there"},
    {"Window", "NoUpperClamp_2", "all tokens of a full step are there"},
    {"Window", "NoUpperClamp_7", "all tokens of a full step are there"},
    {"Window", "NoUpperClamp_8", "all tokens of a full step are there"},
    {"Rows", "NoUpperClamp_1", "all tokens of a full step are there"},
    {"Rows", "NoUpperClamp_2", "all tokens of a full step are there"},
    {"Rows", "NoUpperClamp_5", "all tokens of a full step are there"},
    {"Rows", "NoUpperClamp_6", "all tokens of a full step are there"},
    {"Int8", "NoUpperClamp_6", "all tokens of a full step are there"},
    {"Fma", "NoMask_1", "a full step hides nothing"},
    {"Fma", "NoMask_2", "a full step hides nothing"},
    {"Fma", "NoMask_3", "a full step hides nothing"},
    {"Fma", "NoMask_4", "a full step hides nothing"},
    // Items of one query token, of one page for all warps.
    {"Fma", "NoRowClamp_*", "an item has all its rows"},
    {"Fma", "NoUpperClamp_1", "the first steps of all warps are in one page"},
    {"Fma", "NoWarpSync_AttendFma_1",
     "the step began with one, after the last read of probabilities"},
    {"Fma", "NoWarpSync_AttendFma_3",
     "the step began with one, after the last read of probabilities"},
    // Where a warp copies.
    {"Bulk", "NoUpperClamp_1", "a tile has its first token"},
    {"BulkRows", "NoUpperClamp_7", "a tile has its first token"},
    {"BulkRows", "NoUpperClamp_2", "the token was clamped before"},
    {"BulkRows", "NoUpperClamp_4", "the token was clamped before"},
    {"BulkRows", "NoUpperClamp_6", "the token was clamped before"},
    {"Bulk", "NoWrap_2", "behind a step that is not full there is none"},
    {"Bulk", "NoWarpSync_AttendBulk_2",
     "nothing is copied to the stage of a step that is not full"},
    {"Bulk", "NoWarpSync_Attend_2", "every step ends with one"},
    {"Bulk", "NoWarpSync_AttendBulk_3",
     "the barrier that ends the item waits for each lane"},
    {"BulkRows", "NoWarpSync_AttendBulk_3",
     "the barrier that ends the item waits for each lane"},
    // Items of one step for each warp.
    {"Splits", "CopiesWholeSteps_3", "no step copies another"},
    {"Splits", "CopiesWholeSteps_4", "no step copies another"},
    {"Splits", "NoUpperClamp_5", "no step is followed by another"},
    {"Splits", "NoUpperClamp_6", "no step is followed by another"},
    {"Splits", "NoFirstRound_5", "no step is followed by another"},
    {"Splits", "NoFirstRound_7", "no step copies another"},
    {"Splits", "NoFirstRound_8", "no step copies another"},
    {"Splits", "OneRoundMore_7", "no step copies another"},
    {"Splits", "OneRoundMore_8", "no step copies another"},
    // Two stages: the copies before the first step, once more.
    {"Window", "OneRoundMore_2", "the first step copies that one again"},
    {"Int8", "OneRoundMore_2", "the first step copies that one again"},
    {"Fma", "OneRoundMore_6", "the first step copies that one again"},
    {"Splits", "OneRoundMore_2", "the first step copies that one again"},
    {"Rows", "OneRoundMore_2", "the first step copies that one again"},
    // Of V, before the first step, one after the other.
    {"Paged", "OneRoundMore_4", "the stage behind is filled later"},
    {"Window", "OneRoundMore_4", "the stage behind is filled later"},
    {"Int8", "OneRoundMore_4", "the stage behind is filled later"},
    {"Fma", "OneRoundMore_8", "the stage behind is filled later"},
    {"Splits", "OneRoundMore_4", "the stage behind is filled later"},
    {"Rows", "OneRoundMore_4", "the stage behind is filled later"},
    // Over the steps that are not full, or the pieces of one.
    {"Paged", "OneRoundMore_6", "no row sees what is behind the last"},
    {"Int8", "OneRoundMore_6", "no row sees what is behind the last"},
    {"Fma", "OneRoundMore_12", "no row sees what is behind the last"},
    {"Splits", "OneRoundMore_6", "no row sees what is behind the last"},
    {"Rows", "OneRoundMore_6", "no row sees what is behind the last"},
    {"Bulk", "OneRoundMore_4", "no row sees what is behind the last"},
};

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

Subject &subject(size_t store) {
  static std::map<size_t, Subject> subjects;
  return subjects.try_emplace(store, mutationStores()[store]).first->second;
}

struct Planted {
  size_t store;
  Suspects which;
  Mutation mutation;

  std::string name() const {
    const char *kernel = which == Suspects::Plan     ? "Plan"
                         : which == Suspects::Append ? "Append"
                                                     : "Attend";
    return std::string(mutationStores()[store].name) + "_" + kernel + "_" +
           mutation.name;
  }
};

bool isWanted(const StoreCase &store, const Mutation &mutation) {
  llvm::StringRef kind = llvm::StringRef(mutation.name).split('_').first;
  llvm::SmallVector<llvm::StringRef> only;
  llvm::StringRef(store.only).split(only, ' ', -1, /*KeepEmpty=*/false);
  return only.empty() || llvm::is_contained(only, kind);
}

std::vector<Planted> allPlanted() {
  std::vector<Planted> all;
  auto add = [&](size_t store, Suspects which) {
    for (Mutation &mutation : subject(store).mutations(which))
      if (isWanted(mutationStores()[store], mutation))
        all.push_back({store, which, mutation});
  };
  for (size_t store = 0; store < mutationStores().size(); ++store) {
    add(store, Suspects::Attend);
    // What a plan depends on is the read, an append the codec.
    llvm::StringRef name = mutationStores()[store].name;
    if (name == "Paged" || name == "Window")
      add(store, Suspects::Plan);
    if (name == "Paged" || name == "Int8")
      add(store, Suspects::Append);
  }
  return all;
}

void PrintTo(const Planted &planted, std::ostream *os) {
  *os << planted.name();
}

const EquivalentMutant *equivalentOf(const Planted &planted) {
  if (planted.which != Suspects::Attend)
    return nullptr;
  for (const EquivalentMutant &equivalent : kEquivalentMutants) {
    llvm::StringRef store = equivalent.store, bug = equivalent.bug;
    if (!store.empty() && store != mutationStores()[planted.store].name)
      continue;
    llvm::StringRef name = planted.mutation.name;
    if (bug.consume_back("*") ? name.starts_with(bug) : name == bug)
      return &equivalent;
  }
  return nullptr;
}

class GpuMutation : public testing::TestWithParam<Planted> {};

TEST_P(GpuMutation, IsCaught) {
  const Planted &planted = GetParam();
  Subject &it = subject(planted.store);
  ASSERT_EQ(it.plain(), "") << "without a bug";
  std::string caught = it.plant(planted.which, planted.mutation);
  RecordProperty("caught", caught);
  if (const EquivalentMutant *equivalent = equivalentOf(planted))
    EXPECT_EQ(caught, "") << "is listed as equivalent: " << equivalent->reason;
  else
    EXPECT_NE(caught, "") << "nothing caught it, before "
                          << planted.mutation.before;
}

INSTANTIATE_TEST_SUITE_P(Kernels, GpuMutation, testing::ValuesIn(allPlanted()),
                         [](const auto &info) { return info.param.name(); });

} // namespace
