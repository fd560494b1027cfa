//===- GatherTest.cpp - rows out of the caller's pages --------------------===//
#include "test/unit/Runtime/GpuLaunches.h"
#include "test/unit/Runtime/KernelFixture.h"

#include <gmock/gmock.h>
#include <numeric>

using namespace kvc;
using namespace kvc::test;
using testing::ElementsAre;

namespace {

/// A store on a CPU or an emulated GPU.
struct Where {
  uint32_t store;
  bool sim;
};

/// A sequence of 33 tokens in pages that are apart.
class Gathers : public testing::TestWithParam<Where> {
protected:
  void SetUp() override {
    if (GetParam().sim)
      loaded = std::make_unique<LoadedSim>();
    else
      loaded = std::make_unique<Loaded>(2);
    buffers = std::make_unique<Buffers>(*loaded, GetParam().store, 0xff);
    history = buffers->write(pages, kTokens, 1);
  }
  int64_t slotOf(uint32_t token) const {
    int64_t tokens = buffers->tokensPerPage();
    return pages[token / tokens] * tokens + token % tokens;
  }
  kvc_gather_args argsFor(const std::vector<int64_t> &slots) {
    k = Rows(uint32_t(slots.size()), kHeads, kDimK);
    v = Rows(uint32_t(slots.size()), kHeads, kDimV);
    std::fill(k.values.begin(), k.values.end(), 7);
    std::fill(v.values.begin(), v.values.end(), 7);
    kvc_gather_args args = {};
    args.size = sizeof(args);
    args.rows = uint32_t(slots.size());
    args.k = k.values.data();
    args.k_row_stride = k.stride();
    args.v = v.values.data();
    args.v_row_stride = v.stride();
    args.slot = slots.data();
    args.slot_tokens = buffers->tokensPerPage();
    args.page_count = kPages;
    args.planes = buffers->planes;
    args.plane_count = 2;
    return args;
  }
  kvc_status gather(const kvc_gather_args &args) {
    Lent lent(*loaded);
    lent.writes(k.values.data(), k.values.size() * 4);
    lent.writes(v.values.data(), v.values.size() * 4);
    lent.reads(args.slot, args.rows * sizeof(int64_t));
    lent.reads(buffers->memory.data(), buffers->bytes);
    return kvc_gather(loaded->program, GetParam().store, &args);
  }
  /// That `rows` has at `i` what was appended as `token`, of the store's heads;
  /// 7 of others, and of all if there is no token.
  void expectRow(const Rows &rows, const std::vector<std::vector<float>> &wrote,
                 size_t i, int64_t token) const {
    for (int head = 0; head < kHeads; ++head) {
      bool own = token >= 0 && head >= int(buffers->info.head_begin) &&
                 head < int(buffers->info.head_end);
      int dim = rows.width / kHeads;
      for (int c = head * dim; c < (head + 1) * dim; ++c)
        ASSERT_EQ(rows.row(i)[c], own ? wrote[size_t(token)][size_t(c)] : 7)
            << "row " << i << ", element " << c;
    }
  }

  static constexpr uint32_t kTokens = 33;
  const std::vector<int32_t> pages = {9, 2, 63, 0, 31, 4, 8, 40, 5};
  std::unique_ptr<Loaded> loaded;
  std::unique_ptr<Buffers> buffers;
  History history;
  Rows k{0, kHeads, kDimK}, v{0, kHeads, kDimV};
};

std::string nameOf(const testing::TestParamInfo<Where> &info) {
  const char *names[] = {"paged", "window", "flat"};
  return std::string(names[info.param.store]) + (info.param.sim ? "Sim" : "");
}
INSTANTIATE_TEST_SUITE_P(
    Stores, Gathers,
    testing::Values(Where{kPaged, false}, Where{kWindow, false},
                    Where{kFlat, false}, Where{kPaged, true},
                    Where{kWindow, true}, Where{kFlat, true}),
    nameOf);

} // namespace

TEST_P(Gathers, GiveWhatWasAppended) {
  std::vector<int64_t> tokens(kTokens), slots;
  std::iota(tokens.rbegin(), tokens.rend(), 0);
  // A token may be read twice, and none at all.
  tokens.insert(tokens.end(), {5, 5, -1, 32, 5});
  for (int64_t token : tokens)
    slots.push_back(token < 0 ? INT64_MIN : slotOf(uint32_t(token)));
  kvc_gather_args args = argsFor(slots);
  ASSERT_EQ(gather(args).code, KVC_OK) << kvc_error_text();
  for (size_t i = 0; i < tokens.size(); ++i) {
    ASSERT_NO_FATAL_FAILURE(expectRow(k, history.k, i, tokens[i]));
    ASSERT_NO_FATAL_FAILURE(expectRow(v, history.v, i, tokens[i]));
  }
}

TEST_P(Gathers, OneOfTheTwoWillDo) {
  std::vector<int64_t> slots = {slotOf(20), slotOf(3)};
  for (bool wantsK : {true, false}) {
    kvc_gather_args args = argsFor(slots);
    (wantsK ? args.v : args.k) = nullptr;
    // Of what is null nothing is looked at.
    (wantsK ? args.v_row_stride : args.k_row_stride) = 3;
    ASSERT_EQ(gather(args).code, KVC_OK) << kvc_error_text();
    for (size_t i : {0, 1}) {
      int64_t token = i ? 3 : 20;
      ASSERT_NO_FATAL_FAILURE(expectRow(k, history.k, i, wantsK ? token : -1));
      ASSERT_NO_FATAL_FAILURE(expectRow(v, history.v, i, wantsK ? -1 : token));
    }
  }
}

TEST_P(Gathers, WritesRowsAndHeadsThatAreApart) {
  constexpr size_t kRows = 3, kGap = 16;
  std::vector<int64_t> slots = {slotOf(1), slotOf(32), slotOf(9)};
  kvc_gather_args args = argsFor(slots);
  // [heads][rows][dim and a gap]
  std::vector<float> apart(kHeads * kRows * (kDimV + kGap), 7);
  args.v = apart.data();
  args.v_row_stride = (kDimV + kGap) * 4;
  args.v_head_stride = kRows * args.v_row_stride;
  {
    Lent lent(*loaded);
    lent.writes(apart.data(), apart.size() * 4);
    ASSERT_EQ(gather(args).code, KVC_OK) << kvc_error_text();
  }
  for (size_t head = 0; head < size_t(kHeads); ++head)
    for (size_t i = 0; i < kRows; ++i)
      for (size_t c = 0; c < kDimV + kGap; ++c) {
        bool own = head >= buffers->info.head_begin &&
                   head < buffers->info.head_end && c < kDimV;
        int64_t token = i == 0 ? 1 : i == 1 ? 32 : 9;
        float wanted = own ? history.v[size_t(token)][head * kDimV + c] : 7;
        ASSERT_EQ(apart[(head * kRows + i) * (kDimV + kGap) + c], wanted);
      }
}

//===----------------------------------------------------------------------===//
// What is refused
//===----------------------------------------------------------------------===//

TEST_P(Gathers, WrongArgumentsAreRefusedBeforeAnyWrite) {
  std::vector<int64_t> slots = {slotOf(1), slotOf(2)};
  using Change = void (*)(kvc_gather_args &);
  struct {
    const char *text;
    Change change;
  } cases[] = {
      {"`k` and `v`: expected at least one buffer, found null",
       [](kvc_gather_args &a) { a.k = a.v = nullptr; }},
      {"`k`: expected address and strides to be multiples of 4",
       [](kvc_gather_args &a) { a.k_row_stride += 2; }},
      {"`v_row_stride`: expected at least 128 bytes, found 124",
       [](kvc_gather_args &a) { a.v_row_stride = 124; }},
      {"`k_head_stride`: expected 0, or 32 to 2^31 - 1 bytes, found 28",
       [](kvc_gather_args &a) { a.k_head_stride = 28; }},
      {"`slot`: expected an array, found null",
       [](kvc_gather_args &a) { a.slot = nullptr; }},
      {"`planes`: expected an array, found null",
       [](kvc_gather_args &a) { a.planes = nullptr; }},
      {"`page_count`: expected 0 or more, found -1",
       [](kvc_gather_args &a) { a.page_count = -1; }},
      {"`rows`: expected below 2^31",
       [](kvc_gather_args &a) { a.rows = 1u << 31; }},
      {"kvc_gather_args: expected `size` to be 112, found 0",
       [](kvc_gather_args &a) { a.size = 0; }},
  };
  for (auto &c : cases) {
    kvc_gather_args args = argsFor(slots);
    c.change(args);
    EXPECT_EQ(kvc_gather(loaded->program, GetParam().store, &args).code,
              KVC_INVALID_ARGUMENT);
    EXPECT_STREQ(kvc_error_text(), c.text);
    EXPECT_EQ(std::count(k.values.begin(), k.values.end(), 7),
              long(k.values.size()));
  }
  kvc_gather_args args = argsFor(slots);
  args.rows = 0;
  args.k = args.v = nullptr;
  EXPECT_EQ(gather(args).code, KVC_OK) << "nothing to do";
  if (GetParam().sim)
    return;
  args = argsFor(slots);
  args.page_count = 2;
  EXPECT_EQ(gather(args).code, KVC_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(kvc_error_text()),
            "`slot[0]`: expected below 2 * " +
                std::to_string(buffers->tokensPerPage()) + ", found " +
                std::to_string(slots[0]));
}

/// What a compiler made before there was the kernel.
static void dropGather(artifact::Manifest &manifest, const char *store) {
  std::erase_if(manifest.kernels, [&](auto &kernel) {
    return kernel.kind == "gather" && kernel.store == store;
  });
}

TEST(Gather, ArtifactsWithoutTheKernelSaySo) {
  artifact::Manifest manifest = fixtureManifest();
  dropGather(manifest, "window");
  kvc_device *device = nullptr;
  ASSERT_EQ(kvc_device_create_cpu(nullptr, &device).code, KVC_OK);
  Loaded loaded(device, pack(manifest));
  kvc_gather_args args = {};
  args.size = sizeof(args);
  EXPECT_EQ(kvc_gather(loaded.program, kWindow, &args).code, KVC_UNSUPPORTED)
      << "whatever is asked for";
  EXPECT_STREQ(kvc_error_text(),
               "`window` has no gather kernel for `generic`: the artifact is "
               "of an earlier version; compile its spec again");
  EXPECT_EQ(kvc_gather(loaded.program, kFlat, &args).code, KVC_OK);
}

//===----------------------------------------------------------------------===//
// On a GPU
//===----------------------------------------------------------------------===//

TEST_F(Launches, GatherIsOneWarpPerRowAndHead) {
  kvc_append_args from = appendArgs();
  kvc_gather_args args = {};
  args.size = sizeof(args);
  args.rows = 5;
  args.k = fakeAddress<void>(0x10000);
  args.k_row_stride = 64;
  args.v_row_stride = 132; // of nothing
  args.slot = from.slot;
  args.slot_tokens = 96;
  args.planes = from.planes;
  args.plane_count = 2;
  args.stream = from.stream;
  auto gather = [&](uint32_t store) {
    return kvc_gather(loaded->program, store, &args);
  };
  ASSERT_EQ(gather(kPaged).code, KVC_OK) << kvc_error_text();
  ASSERT_EQ(gather(kFlat).code, KVC_OK) << kvc_error_text();
  ASSERT_THAT(names(), ElementsAre("paged.gather", "flat.gather"));
  EXPECT_EQ(notes.launches[0].grid, 5u); // 5 rows, 2 heads, 2 warps a CTA
  EXPECT_EQ(notes.launches[1].grid, 3u);
  EXPECT_EQ(notes.launches[0].stream, from.stream);
  auto params = notes.launches[0].as<RowBlock>();
  EXPECT_EQ(params.rows, 5);
  EXPECT_EQ(params.k, args.k);
  EXPECT_EQ(params.k_row_stride, 64);
  EXPECT_EQ(params.k_head_stride, 32);
  EXPECT_EQ(params.v, nullptr);
  EXPECT_EQ(params.slot, args.slot);
  EXPECT_EQ(params.slot_tokens, 4) << "a page's";
  EXPECT_EQ(params.planes[1].base, args.planes[1].base);
  EXPECT_EQ(params.planes[1].page_stride, 768);
  notes.launches.clear();
  args.v = fakeAddress<void>(0x20000);
  expectRefused(gather(kPaged),
                "`v`: a GPU expects address, row stride and head stride to be "
                "multiples of 16, found 0x20000, 132 and 64");
}

TEST(GpuPrograms, MayHaveNoGather) {
  Notes notes;
  notes.fits["sm_80"] = 1;
  artifact::Manifest manifest = gpuManifest("cuda", {"sm_80"});
  dropGather(manifest, "paged");
  Loaded loaded(fakeDevice(notes), packGpu(manifest));
  kvc_gather_args args = {};
  args.size = sizeof(args);
  EXPECT_EQ(kvc_gather(loaded.program, kPaged, &args).code, KVC_UNSUPPORTED);
  EXPECT_STREQ(kvc_error_text(),
               "`paged` has no gather kernel for `sm_80`: the artifact is of "
               "an earlier version; compile its spec again");
  EXPECT_EQ(kvc_gather(loaded.program, kWindow, &args).code, KVC_OK);
}
