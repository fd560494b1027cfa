//===- WindowPagesTest.cpp - windows hold the pages that are seen ---------===//
//
// Sequences under a window, in a cache that gives pages back as the window
// leaves them, and in pages of the test's own that are all kept: the results
// must be the same bits. Page 0, which tables name where a page is gone, and
// all free pages hold NaN: whatever a kernel took of them would be seen.
//
//===----------------------------------------------------------------------===//
#include "kvc/runtime.hpp"
#include "test/support/AlignedBytes.h"
#include "test/support/Compile.h"

#include <cstring>
#include <gtest/gtest.h>
#include <optional>
#include <random>

using namespace kvc;
using test::AlignedBytes;

namespace {

constexpr uint32_t kHeads = 2, kQueryHeads = 4, kDim = 32, kPage = 16,
                   kRecent = 22, kStepTokens = 40;

std::string specOf(uint32_t sink, const char *codec, const char *order) {
  return R"({"kvc": "0.1", "name": "window",
    "model": {"layers": 1, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
              "dtype": "f16"},
    "streams": {"k": {"codec": ")" +
         std::string(codec) + R"("}, "v": {"codec": "f16"}},
    "layout": {"kind": "paged", "page": 16, "order": ")" +
         order + R"("},
    "reads": {"kind": "window", "sink": )" +
         std::to_string(sink) + R"(, "recent": 22}})";
}

/// Bytes that are NaN of every float type.
AlignedBytes nans(size_t bytes) { return AlignedBytes(bytes, 0xff); }

/// Rows of f16 from 0.25 to 4, either sign.
class Rows {
public:
  Rows(const Device &device, uint32_t heads)
      : device(device), width(heads * kDim),
        memory(nans(kStepTokens * width * 2)) {
    kvc_sim_allow(device.get(), memory.data(), kStepTokens * width * 2, true);
  }
  ~Rows() { kvc_sim_forget(device.get(), memory.data()); }

  void randomize(std::mt19937 &random) {
    for (uint32_t i = 0; i < kStepTokens * width; ++i)
      data()[i] = uint16_t((random() & 0x8fff) | 0x3400);
  }
  uint16_t *data() { return memory.as<uint16_t>(); }
  std::vector<uint16_t> first(uint32_t rows) {
    return {data(), data() + rows * width};
  }
  int64_t stride() const { return width * 2; }

private:
  const Device &device;
  uint32_t width;
  AlignedBytes memory;
};

/// All tokens of one sequence, in pages of the test's own.
class Kept {
public:
  Kept(const Device &device, const Program &program, uint32_t tokens)
      : device(device), program(program), info(*program.store(0)) {
    uint32_t pages = (tokens + kPage - 1) / kPage;
    for (uint32_t i = 0; i < pages; ++i)
      table.push_back(int32_t(pages - 1 - i));
    slots.resize(kStepTokens);
    workspaceBytes =
        *program.attendWorkspace(0, 1, kStepTokens, uint32_t(tokens));
    workspace = nans(workspaceBytes);
    memory = nans(pages * info.page_bytes);
    for (uint32_t p = 0; p < info.plane_count; ++p)
      planes.push_back({memory.data() + info.planes[p].page_offset,
                        int64_t(info.page_bytes), info.planes[p].head_stride});
    allow(memory.data(), pages * info.page_bytes);
    allow(workspace.data(), workspaceBytes);
    allow(table.data(), table.size() * 4);
    allow(slots.data(), slots.size() * 8);
    allow(cuQ, sizeof(cuQ));
    allow(&length, sizeof(length));
  }
  ~Kept() {
    for (const void *base : allowed)
      kvc_sim_forget(device.get(), base);
  }

  Status append(uint32_t from, uint32_t rows, Rows &k, Rows &v) {
    kvc_append_args args = {};
    args.size = sizeof(args);
    args.rows = rows;
    args.k = k.data(), args.v = v.data();
    args.k_row_stride = k.stride(), args.v_row_stride = v.stride();
    for (uint32_t i = 0; i < rows; ++i)
      slots[i] =
          table[(from + i) / kPage] * int64_t(kPage) + (from + i) % kPage;
    args.slot = slots.data();
    args.planes = planes.data(), args.plane_count = info.plane_count;
    return program.append(0, args);
  }
  Status attend(uint32_t tokens, uint32_t rows, Rows &q, Rows &out) {
    kvc_attend_args args = {};
    args.size = sizeof(args);
    args.batch = 1;
    args.q = q.data(), args.out = out.data();
    args.q_row_stride = q.stride(), args.out_row_stride = out.stride();
    cuQ[1] = int32_t(rows), length = int32_t(tokens);
    args.cu_q = cuQ, args.kv_len = &length;
    args.table = table.data(), args.table_stride = int64_t(table.size());
    args.rows = rows, args.max_kv_len = tokens;
    args.workspace = workspace.data(), args.workspace_bytes = workspaceBytes;
    args.planes = planes.data(), args.plane_count = info.plane_count;
    return program.attend(0, args);
  }

private:
  void allow(void *base, size_t bytes) {
    kvc_sim_allow(device.get(), base, bytes, true);
    allowed.push_back(base);
  }

  const Device &device;
  const Program &program;
  kvc_store_info info;
  std::vector<kvc_plane> planes;
  std::vector<int32_t> table;
  std::vector<int64_t> slots;
  int32_t cuQ[2] = {}, length = 0;
  size_t workspaceBytes = 0;
  AlignedBytes memory, workspace;
  std::vector<const void *> allowed;
};

/// One sequence in a cache and in pages that are kept.
class Twins {
public:
  Twins(const Device &device, const Program &program, uint32_t sink,
        uint32_t tokens)
      : kept(device, program, tokens + kStepTokens),
        sinkPages((sink + kPage - 1) / kPage), k(device, kHeads),
        v(device, kHeads), q(device, kQueryHeads), out(device, kQueryHeads),
        wanted(device, kQueryHeads) {
    kvc_cache_options options = {};
    options.size = sizeof(options);
    options.max_sequences = options.max_batch = 1;
    options.max_step_tokens = kStepTokens;
    options.max_tokens_per_seq = tokens + kStepTokens;
    size_t page = program.store(0)->page_bytes;
    options.arena_bytes = 40 * page;
    arena = nans(options.arena_bytes);
    options.arena = arena.data();
    auto created = Cache::create(program, options);
    EXPECT_TRUE(created) << created.status().text();
    cache = std::move(*created);
    std::memset(arena.data(), 0xff, page); // page 0
    seq = *cache.open();
  }

  /// Steps until `tokens` are committed. `mixed`: of several tokens, of which
  /// some are rejected; otherwise of one.
  void run(uint32_t tokens, bool mixed) {
    while (length < tokens && !testing::Test::HasFailure()) {
      uint32_t count = 1;
      if (mixed && random() % 2)
        count = 1 + random() % (random() % 2 ? 5 : kStepTokens);
      step(count, mixed && random() % 3 == 0 ? random() % (count + 1) : count);
    }
  }

private:
  void step(uint32_t count, uint32_t accepted) {
    kvc_slot_request request = {seq, count};
    auto step = cache.reserve({&request, 1});
    ASSERT_TRUE(step) << step.status().text();
    // A window, which begins within a page, and the new tokens.
    uint32_t most =
        sinkPages + (kRecent - 1 + count + kPage - 1 + kPage - 1) / kPage;
    ASSERT_LE(cache.stats().pages_live, most) << length;
    if (count == 1)
      ASSERT_LE(cache.stats().pages_live, sinkPages + 3) << length;
    for (Rows *rows : {&k, &v, &q})
      rows->randomize(random);
    ASSERT_TRUE(cache.append(*step, 0, k.data(), v.data()));
    Status attended = cache.attend(*step, 0, q.data(), out.data());
    ASSERT_TRUE(attended) << attended.text();
    ASSERT_TRUE(kept.append(length, count, k, v));
    attended = kept.attend(length + count, count, q, wanted);
    ASSERT_TRUE(attended) << attended.text();
    ASSERT_EQ(out.first(count), wanted.first(count)) << length;
    for (uint16_t bits : out.first(count))
      ASSERT_LT(bits & 0x7fff, 0x7c00) << "not a number at " << length;
    ASSERT_TRUE(cache.commit(*step, {&accepted, 1}));
    length += accepted;
    ASSERT_LE(cache.stats().pages_live, sinkPages + 3) << length;
  }

  AlignedBytes arena; ///< before its cache dies
  Kept kept;
  uint32_t sinkPages, length = 0;
  Rows k, v, q, out, wanted;
  Cache cache;
  kvc_seq seq = {};
  std::mt19937 random{1};
};

class WindowPages : public testing::TestWithParam<const char *> {};

/// Compiles a spec and loads it; null, and a reason to skip the test, if the
/// CPU lacks something.
std::optional<Program> load(const Device &device, const std::string &target,
                            const std::string &text, std::string &skip) {
  std::vector<uint8_t> artifact = test::artifactOf(text, target);
  auto program = Program::load(device, std::as_bytes(std::span(artifact)));
  if (program)
    return std::move(*program);
  std::string why = program.status().text();
  if (why.find("lacks avx") != why.npos)
    skip = why;
  else
    ADD_FAILURE() << why;
  return std::nullopt;
}

Device makeDevice(const std::string &target) {
  auto device = llvm::StringRef(target).starts_with("sim:")
                    ? Device::sim(target.c_str() + 4)
                    : Device::cpu(1);
  EXPECT_TRUE(device) << device.status().text();
  return std::move(*device);
}

} // namespace

TEST_P(WindowPages, OfThreeHoldTenThousandTokens) {
  std::string target = GetParam(), skip;
  struct {
    uint32_t sink;
    const char *codec, *order;
    bool mixed;
  } cases[] = {{0, "f16", "HND", false},
               {20, "int8", "NHD", false},
               {5, "int8", "HND", true}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.sink);
    Device device = makeDevice(target);
    auto program = load(device, target, specOf(c.sink, c.codec, c.order), skip);
    if (!skip.empty())
      GTEST_SKIP() << skip;
    ASSERT_TRUE(program);
    // Emulated threads take some 10,000 times longer.
    uint32_t tokens =
        llvm::StringRef(target).starts_with("sim:sm") ? 150 : 10000;
    if (target == "sim:x86-64-v4-amx")
      tokens = 1000;
    Twins twins(device, *program, c.sink, tokens);
    twins.run(tokens, c.mixed);
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(WindowPages, EmptyBatchesAreLegalEverywhere) {
  std::string target = GetParam(), skip;
  Device device = makeDevice(target);
  auto program = load(device, target, specOf(5, "int8", "HND"), skip);
  if (!skip.empty())
    GTEST_SKIP() << skip;
  ASSERT_TRUE(program);
  Kept kept(device, *program, kStepTokens);
  Rows k(device, kHeads), q(device, kQueryHeads), out(device, kQueryHeads);
  std::vector<uint16_t> untouched = out.first(3);
  Status status = kept.append(0, 0, k, k);
  EXPECT_TRUE(status) << status.text();
  status = kept.attend(0, 0, q, out);
  EXPECT_TRUE(status) << status.text();
  EXPECT_EQ(out.first(3), untouched) << "no rows";
  status = kept.attend(0, 3, q, out);
  EXPECT_TRUE(status) << status.text();
  EXPECT_EQ(out.first(3), std::vector<uint16_t>(untouched.size()))
      << "rows that see nothing";
}

// A page lies in every layer of its store, and is zeroed in each.
TEST(ScrubbedPages, AreZeroInEveryLayer) {
  constexpr uint32_t kLayers = 5, kPages = 6, kTokens = 20;
  std::vector<uint8_t> artifact =
      test::artifactOf(R"({"kvc": "0.1", "name": "layers",
        "model": {"layers": 5, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
                  "dtype": "f16"}})");
  auto device = Device::cpu();
  ASSERT_TRUE(device);
  auto program = Program::load(*device, std::as_bytes(std::span(artifact)));
  ASSERT_TRUE(program);
  size_t pageBytes = program->store(0)->page_bytes;
  size_t layerBytes = kPages * pageBytes, bytes = kLayers * layerBytes;
  AlignedBytes arena = nans(bytes);
  kvc_cache_options options = {};
  options.size = sizeof(options);
  options.arena = arena.data(), options.arena_bytes = bytes;
  options.max_sequences = options.max_batch = 2;
  options.max_step_tokens = options.max_tokens_per_seq = 32;
  options.flags = KVC_SCRUB;
  auto cache = Cache::create(*program, options);
  ASSERT_TRUE(cache) << kvc_error_text();
  // Pages of a layer that hold nothing but zeros.
  auto zeros = [&](uint32_t layer) {
    uint32_t count = 0;
    for (uint32_t page = 0; page < kPages; ++page) {
      const uint8_t *first =
          arena.data() + layer * layerBytes + page * pageBytes;
      count += std::all_of(first, first + pageBytes,
                           [](uint8_t byte) { return byte == 0; });
    }
    return count;
  };
  kvc_seq sequence = *cache->open();
  kvc_slot_request request = {sequence, kTokens};
  kvc_step step = *cache->reserve({&request, 1});
  std::vector<uint16_t> rows(kTokens * kHeads * kDim, 0x3c00);
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    ASSERT_TRUE(cache->append(step, layer, rows.data(), rows.data()));
  ASSERT_TRUE(cache->commit(step));
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    EXPECT_EQ(zeros(layer), 1u) << "layer " << layer;
  ASSERT_TRUE(cache->release(sequence));
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    EXPECT_EQ(zeros(layer), 3u) << "layer " << layer;
}

INSTANTIATE_TEST_SUITE_P(Targets, WindowPages,
                         testing::Values("x86-64-v3", "native",
                                         "sim:x86-64-v4-amx", "sim:sm_80",
                                         "sim:sm_90a"));

// On a GPU one plan serves the stores that it cuts alike: a step of a window is
// not that of another.
TEST(PlanGroups, AreOfOneWindow) {
  std::string stores;
  const char *reads[] = {R"("all")",
                         R"({"kind": "window", "recent": 100})",
                         R"({"kind": "window", "recent": 400})",
                         R"({"kind": "window", "sink": 4, "recent": 100})",
                         R"({"kind": "window", "recent": 100})",
                         R"("all")"};
  for (size_t i = 0; i < std::size(reads); ++i)
    stores += (i ? ", " : "") + std::string(R"({"name": "s)") +
              std::to_string(i) + R"(", "scope": {"layers": [)" +
              std::to_string(i) + ", " + std::to_string(i + 1) +
              R"(]}, "layout": {"kind": "paged", "page": 16}, "reads": )" +
              reads[i] + "}";
  Diagnostics diagnostics;
  CompileOptions options;
  options.targets = {"sim:sm_80"};
  auto compiled = compile(test::specOf(R"({"kvc": "0.1", "name": "windows",
    "model": {"layers": 6, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
              "dtype": "f16"}, "stores": [)" +
                                       stores + "]}"),
                          options, diagnostics);
  ASSERT_TRUE(compiled);
  auto device = Device::sim("sm_80");
  auto program =
      Program::load(*device, std::as_bytes(std::span(compiled->artifact)));
  ASSERT_TRUE(program) << program.status().text();
  std::vector<uint32_t> groups;
  for (uint32_t i = 0; i < program->storeCount(); ++i)
    groups.push_back(program->store(i)->plan_group);
  EXPECT_EQ(groups, (std::vector<uint32_t>{0, 1, 2, 3, 1, 0}));
}
