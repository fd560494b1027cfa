//===- KernelFixture.cpp - append and attend on the caller's buffers ------===//
#include "test/unit/Runtime/KernelFixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace kvc::test;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

Buffers::Buffers(Loaded &loaded, uint32_t store, uint8_t fill)
    : loaded(loaded), store(store) {
  info.size = sizeof(info);
  EXPECT_EQ(kvc_program_get_store(loaded.program, store, &info).code, KVC_OK);
  uint64_t page = info.page_bytes;
  uint64_t offsets[2] = {info.planes[0].page_offset,
                         info.planes[1].page_offset};
  if (!info.page_tokens) {
    offsets[1] = aligned(kCapacity * info.planes[0].row_stride);
    page = offsets[1] + aligned(kCapacity * info.planes[1].row_stride);
  }
  bytes = kPages * page;
  memory = AlignedBytes(bytes, fill);
  for (int i = 0; i < 2; ++i) {
    int64_t head = info.planes[i].head_stride;
    planes[i] = {memory.data() + offsets[i], int64_t(page),
                 head ? head : kCapacity * info.planes[i].row_stride};
  }
}

History Buffers::write(const std::vector<int32_t> &pages, uint32_t length,
                       uint32_t seed) {
  Rows k = Rows::random(length, kHeads, kDimK, seed);
  Rows v = Rows::random(length, kHeads, kDimV, seed + 1);
  History history;
  std::vector<int64_t> slots;
  int64_t tokens = tokensPerPage();
  for (uint32_t t = 0; t < length; ++t) {
    history.k.push_back({k.row(t), k.row(t) + k.width});
    history.v.push_back({v.row(t), v.row(t) + v.width});
    slots.push_back(pages[t / tokens] * tokens + t % tokens);
  }
  kvc_append_args args = {};
  args.size = sizeof(args);
  args.rows = length;
  args.k = k.values.data();
  args.k_row_stride = k.stride();
  args.v = v.values.data();
  args.v_row_stride = v.stride();
  args.slot = slots.data();
  args.slot_tokens = tokens;
  args.page_count = kPages;
  args.planes = planes;
  args.plane_count = 2;
  Lent lent(loaded);
  lent.reads(k.values);
  lent.reads(v.values);
  lent.reads(slots);
  lent.writes(memory.data(), bytes);
  EXPECT_EQ(kvc_append(loaded.program, store, &args).code, KVC_OK)
      << kvc_error_text();
  return history;
}

Batch::Batch(Buffers &buffers, uint32_t seed) : buffers(buffers), random(seed) {
  for (int32_t i = 0; i < kPages; ++i)
    freePages.push_back(i);
  std::shuffle(freePages.begin(), freePages.end(), random);
}

void Batch::add(int32_t queries, int32_t length, uint32_t seed) {
  Sequence s = {queries, length, {}, {}, Rows(0, 0, 0)};
  int64_t tokens = buffers.tokensPerPage();
  for (int64_t t = 0; t < length; t += tokens) {
    s.pages.push_back(freePages.back());
    freePages.pop_back();
  }
  s.history = buffers.write(s.pages, uint32_t(length), seed);
  s.q = Rows::random(uint32_t(queries), kQueryHeads, kDimK, seed + 2);
  sequences.push_back(std::move(s));
}

Result Batch::attend(const Change &change) {
  int64_t stride = 25; // more than any sequence needs
  uint32_t longest = 96;
  std::vector<int32_t> cuQ = {0}, kvLen, table;
  Rows q(0, kQueryHeads, kDimK);
  for (const Sequence &s : sequences) {
    cuQ.push_back(cuQ.back() + s.queries);
    kvLen.push_back(s.length);
    q.values.insert(q.values.end(), s.q.values.begin(), s.q.values.end());
    size_t row = table.size();
    // Entries past the end are never read.
    table.resize(row + size_t(stride), -12345);
    std::copy(s.pages.begin(), s.pages.end(), table.begin() + row);
  }
  Result result;
  auto rows = uint32_t(cuQ.back());
  result.out.assign(size_t(rows) * kQueryHeads * kDimV, 7);
  result.lse.assign(size_t(rows) * kQueryHeads, 7);
  size_t workspaceBytes = 0;
  EXPECT_EQ(kvc_attend_workspace(buffers.loaded.program, buffers.store,
                                 uint32_t(sequences.size()), rows, longest,
                                 &workspaceBytes)
                .code,
            KVC_OK);
  AlignedBytes workspace(workspaceBytes, poison);
  kvc_attend_args args = {};
  args.size = sizeof(args);
  args.batch = uint32_t(sequences.size());
  args.q = q.values.data();
  args.q_row_stride = q.stride();
  args.out = result.out.data();
  args.out_row_stride = kQueryHeads * kDimV * 4;
  args.lse = result.lse.data();
  args.lse_row_stride = kQueryHeads * 4;
  args.cu_q = cuQ.data();
  args.kv_len = kvLen.data();
  args.table = table.data();
  args.table_stride = stride;
  args.page_count = kPages;
  args.slot_tokens = kCapacity;
  args.workspace = workspace.data();
  args.workspace_bytes = workspaceBytes;
  args.rows = rows;
  args.max_kv_len = longest;
  kvc_plane planes[] = {buffers.planes[0], buffers.planes[1]};
  args.planes = planes;
  args.plane_count = 2;
  change(args);
  Lent lent(buffers.loaded);
  lent.reads(q.values);
  lent.reads(cuQ);
  lent.reads(kvLen);
  lent.reads(table);
  lent.reads(buffers.memory.data(), buffers.bytes);
  lent.writes(result.out.data(), result.out.size() * 4);
  lent.writes(result.lse.data(), result.lse.size() * 4);
  lent.writes(workspace.data(), args.workspace_bytes);
  result.status = kvc_attend(buffers.loaded.program, buffers.store, &args);
  return result;
}

void kvc::test::expectRight(const Batch &batch, const Result &result) {
  ASSERT_EQ(result.status.code, KVC_OK) << kvc_error_text();
  uint32_t store = batch.buffers.store;
  int first = store == kFlat ? 2 : 0, last = store == kWindow ? 2 : 4;
  size_t row = 0;
  double largest = 0;
  for (const Sequence &s : batch.sequences)
    for (int i = 0; i < s.queries; ++i, ++row) {
      double out[kQueryHeads * kDimV] = {}, lse[kQueryHeads];
      std::fill_n(lse, kQueryHeads, -INFINITY);
      if (s.length)
        expectedOfStore(s.history, store, s.length - s.queries + i,
                        s.q.row(size_t(i)), out, lse);
      for (int h = 0; h < kQueryHeads; ++h) {
        bool own = h >= first && h < last;
        size_t at = row * kQueryHeads + size_t(h);
        if (own && s.length == 0)
          ASSERT_EQ(result.lse[at], -INFINITY);
        else
          ASSERT_NEAR(result.lse[at], own ? lse[h] : 7, 1e-5);
        for (int c = 0; c < kDimV; ++c) {
          double wanted = own ? out[h * kDimV + c] : 7;
          ASSERT_NEAR(result.out[at * kDimV + size_t(c)], wanted, 1e-5)
              << "row " << row << " head " << h << " channel " << c;
          largest = std::max(largest, own ? std::abs(wanted) : 0);
        }
      }
    }
  ASSERT_GT(largest, 0.1) << "an empty test";
}

void kvc::test::addMixed(Batch &batch) {
  batch.add(1, 33, 10);
  batch.add(0, 9, 20);
  batch.add(3, 0, 30);
  batch.add(12, 12, 40);
  batch.add(2, 17, 50);
  batch.add(7, 40, 60);
}
