//===- FarPagesTest.cpp - caches of more than 4 GiB -----------------------===//
//
// Where pages stand must not matter, however far: the same tokens in pages side
// by side and in pages whose offsets need 33 bits give the same bits.
//
//===----------------------------------------------------------------------===//
#include "kvc/runtime.hpp"
#include "test/support/Compile.h"

#include <gtest/gtest.h>
#include <random>
#include <sys/mman.h>

using namespace kvc;

namespace {

constexpr uint32_t kHeads = 2, kQueryHeads = 4, kDim = 32, kTokens = 100,
                   kPage = 16, kPages = (kTokens + kPage - 1) / kPage;
/// Address space, of which a test touches a few pages.
constexpr size_t kArena = size_t(16) << 30;

constexpr const char *kPaged = R"({"kvc": "0.1", "name": "far",
  "model": {"layers": 1, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
            "dtype": "f16"},
  "streams": {"k": {"codec": "int8"}, "v": {"codec": "f16"}},
  "layout": {"kind": "paged", "page": 16}})";
constexpr const char *kContiguous = R"({"kvc": "0.1", "name": "far",
  "model": {"layers": 1, "q_heads": 4, "kv_heads": 2, "head_dim": 32,
            "dtype": "f16"},
  "streams": {"k": {"codec": "int8"}, "v": {"codec": "f16"}},
  "layout": {"kind": "contiguous"}})";

/// Where pages or slots stand. Strides of 0 are as small as can be.
struct Placement {
  int64_t first; ///< bytes to the first
  int64_t pageStride, headStride;
};
constexpr int64_t kGiB = int64_t(1) << 30;
constexpr Placement kNear = {0, 0, 0};
constexpr Placement kFar[] = {
    {5 * kGiB, 0, 0},     // high ids
    {0, 5 * kGiB / 4, 0}, // wide strides of a few pages
    {0, 0, 5 * kGiB},     // and of heads
};

std::vector<uint16_t> randomRows(uint32_t heads, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> rows(kTokens * heads * kDim);
  for (uint16_t &x : rows) // f16 of 0.25 to 4, either sign
    x = uint16_t((random() & 0x8fff) | 0x3400);
  return rows;
}

/// An address space of zeros.
class Arena {
public:
  Arena()
      : at(mmap(nullptr, kArena, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Arena() {
    if (*this)
      munmap(at, kArena);
  }
  Arena(const Arena &) = delete;
  explicit operator bool() const { return at != MAP_FAILED; }
  uint8_t *base() const { return static_cast<uint8_t *>(at); }

private:
  void *at;
};

class Placed {
public:
  Placed(const Program &program, uint8_t *base, const Placement &placement)
      : program(program), info(*program.store(0)) {
    int64_t capacity = info.page_tokens ? info.page_tokens : kTokens, end = 0;
    planes.resize(info.plane_count);
    for (uint32_t p = 0; p < info.plane_count; ++p) {
      const kvc_plane_info &plane = info.planes[p];
      int64_t head = plane.row_stride * capacity;
      planes[p].base = base + end;
      planes[p].head_stride =
          placement.headStride ? placement.headStride : head;
      end += (head * kHeads + 63) / 64 * 64;
    }
    for (kvc_plane &plane : planes)
      plane.page_stride = placement.pageStride ? placement.pageStride : end;
    for (uint32_t i = 0; i < kPages; ++i)
      table.push_back(int32_t(placement.first / planes[0].page_stride + 1 + i));
  }

  Status append() {
    kvc_append_args args = {};
    args.size = sizeof(args);
    args.rows = kTokens;
    std::vector<uint16_t> k = randomRows(kHeads, 1), v = randomRows(kHeads, 2);
    std::vector<int64_t> slots;
    for (uint32_t i = 0; i < kTokens; ++i)
      slots.push_back(info.page_tokens
                          ? table[i / kPage] * int64_t(kPage) + i % kPage
                          : table[0] * int64_t(kTokens) + i);
    args.k = k.data(), args.v = v.data();
    args.k_row_stride = args.v_row_stride = kHeads * kDim * 2;
    args.slot = slots.data();
    args.slot_tokens = kTokens;
    args.planes = planes.data(), args.plane_count = info.plane_count;
    return program.append(0, args);
  }

  /// Outputs of the last `queries` tokens.
  Status attend(uint32_t queries, std::vector<uint16_t> &out) {
    kvc_attend_args args = {};
    args.size = sizeof(args);
    args.batch = 1;
    std::vector<uint16_t> q = randomRows(kQueryHeads, 3);
    out.assign(queries * kQueryHeads * kDim, 0);
    int32_t cuQ[2] = {0, int32_t(queries)}, length = kTokens;
    args.q = q.data(), args.out = out.data();
    args.q_row_stride = args.out_row_stride = kQueryHeads * kDim * 2;
    args.cu_q = cuQ, args.kv_len = &length;
    args.table = table.data();
    args.table_stride = info.page_tokens ? kPages : 1;
    args.slot_tokens = kTokens;
    args.rows = args.max_queries = queries;
    args.max_kv_len = kTokens;
    args.workspace_bytes = *program.attendWorkspace(0, 1, queries, kTokens);
    std::vector<uint8_t> workspace(args.workspace_bytes + 64);
    args.workspace = reinterpret_cast<void *>(
        (reinterpret_cast<uintptr_t>(workspace.data()) + 63) & ~uintptr_t(63));
    args.planes = planes.data(), args.plane_count = info.plane_count;
    return program.attend(0, args);
  }

private:
  const Program &program;
  kvc_store_info info;
  std::vector<kvc_plane> planes;
  std::vector<int32_t> table;
};

class FarPages : public testing::TestWithParam<const char *> {};

} // namespace

TEST_P(FarPages, GiveTheSameBits) {
  std::string target = GetParam();
  bool sim = llvm::StringRef(target).starts_with("sim:");
  for (const char *text : {kPaged, kContiguous}) {
    std::vector<uint8_t> artifact = test::artifactOf(text, target);
    auto device = sim ? Device::sim(target.c_str() + 4) : Device::cpu(1);
    auto program = Program::load(*device, std::as_bytes(std::span(artifact)));
    std::string_view why = program.status().text();
    if (!program && why.find("lacks avx") != why.npos)
      GTEST_SKIP() << program.status().text();
    ASSERT_TRUE(program) << program.status().text();
    for (uint32_t queries : {1u, 40u}) {
      std::vector<uint16_t> wanted;
      for (const Placement *placement :
           {&kNear, &kFar[0], &kFar[1], &kFar[2]}) {
        Arena arena;
        if (!arena)
          GTEST_SKIP() << "no room for 16 GiB of addresses";
        Placed run(*program, arena.base(), *placement);
        Status appended = run.append();
        ASSERT_TRUE(appended) << appended.text();
        std::vector<uint16_t> out;
        Status attended = run.attend(queries, out);
        ASSERT_TRUE(attended) << attended.text();
        if (placement == &kNear) {
          wanted = out;
          EXPECT_NE(out.front(), out.back());
        }
        EXPECT_EQ(out, wanted) << text << " placement " << placement - kFar;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FarPages,
                         testing::Values("x86-64-v3", "native",
                                         "sim:x86-64-v4-amx", "sim:sm_80",
                                         "sim:sm_90"));
