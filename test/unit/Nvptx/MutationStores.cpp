//===- MutationStores.cpp - the stores whose kernels bugs are planted in --===//
#include "test/unit/Nvptx/MutationSubject.h"

using namespace kvc;
using namespace kvc::nvptx;
using spec::DType, spec::FloatCodec, spec::IntCodec;

static spec::Layout paged(unsigned page, spec::PageOrder order) {
  spec::Layout layout;
  layout.page = page, layout.order = order;
  return layout;
}
static spec::Layout contiguous() {
  spec::Layout layout;
  layout.paged = false;
  return layout;
}
static spec::Read window(unsigned sink, unsigned recent) {
  spec::Read read;
  read.window = spec::Read::Window{sink, recent};
  return read;
}

static constexpr const char *kOfBulk =
    "NoBarSync NoWarpSync NoMbarWait OtherParity NoMbarArrive OneArrivalMore "
    "NoMbarInit NoMbarFence NoExpect ExpectsMore NoProxyFence NoBulkCopy "
    "AllElected CopiesWholeSteps NoUpperClamp NoLowerClamp NoRowLimit "
    "OneRoundMore NoFirstRound NoWrap NoSharedStore";

static const StoreCase kStores[] = {
    // Rows end in the middle of a product.
    {"Paged", "sm_80", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 40, 24, paged(16, spec::PageOrder::HND),
     spec::Read(), "tokens=16 warps=2 stages=3 rows=8 split=192"},
    {"Contiguous", "sm_90", DType::F16, FloatCodec{DType::F16},
     FloatCodec{DType::F16}, 32, 32, contiguous(), spec::Read(),
     "tokens=32 warps=2 stages=2 rows=16 split=192",
     "NoBarSync NoWarpSync NoWait NoCommit WaitsForOneLess PlainAdd NoMask "
     "NoMasking CopiesWholeSteps NoRowClamp NoWrap WrongStride NoZfill "
     "NoTranspose OwnVote"},
    // Steps straddle pages.
    {"Window", "sm_90", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 32, 32, paged(5, spec::PageOrder::NHD),
     window(5, 90), "tokens=16 warps=2 stages=2 rows=8 split=192"},
    {"Int8", "sm_80", DType::BF16, IntCodec{8, spec::ParameterType::F32},
     IntCodec{8, spec::ParameterType::F16}, 40, 32,
     paged(32, spec::PageOrder::NHD), spec::Read(),
     "tokens=32 warps=2 stages=2 rows=8 split=192"},
    {"Fma", "sm_90", DType::F32, FloatCodec{DType::F32}, FloatCodec{DType::F32},
     8, 64, paged(32, spec::PageOrder::HND), spec::Read(),
     "tokens=16 warps=2 stages=2 rows=4 split=128"},
    // So many splits that several are combined at a time; steps of two pages.
    {"Splits", "sm_80", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 32, 32, paged(8, spec::PageOrder::HND),
     spec::Read(), "tokens=16 warps=2 stages=2 rows=8 split=32",
     "NoBarSync PlainAdd NoFirstRound OneRoundMore NoUpperClamp "
     "CopiesWholeSteps"},
    // Warps that share rows, as prefills do.
    {"Rows", "sm_90", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 40, 24, paged(16, spec::PageOrder::HND),
     spec::Read(), "tokens=32 warps=2 stages=2 rows=32 warpsSplitQ=1 split=192",
     "", 16},
    {"RowsOfSharedQuery", "sm_80", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 40, 24, paged(16, spec::PageOrder::HND),
     spec::Read(),
     "tokens=32 warps=2 stages=2 rows=32 warpsSplitQ=1 queryShared=1 split=192",
     "NoSharedStore", 16},
    {"WindowInt8", "sm_80", DType::BF16, IntCodec{8, spec::ParameterType::F32},
     IntCodec{8, spec::ParameterType::F32}, 32, 32,
     paged(16, spec::PageOrder::HND), window(5, 90),
     "tokens=32 warps=2 stages=2 rows=8 split=192",
     "NoScaleMask NoMask NoMasking"},
    {"RowsInt8", "sm_80", DType::F16, IntCodec{8, spec::ParameterType::F16},
     IntCodec{8, spec::ParameterType::F32}, 32, 48,
     paged(8, spec::PageOrder::NHD), spec::Read(),
     "tokens=64 warps=2 stages=2 rows=32 warpsSplitQ=1 split=192",
     "NoBarSync NoWait NoMask NoMasking NoTranspose NoRowClamp "
     "WrongStride "
     "OwnVote",
     16},
    // A warp that copies.
    {"Bulk", "sm_90", DType::BF16, FloatCodec{DType::BF16},
     FloatCodec{DType::BF16}, 40, 24, paged(8, spec::PageOrder::HND),
     spec::Read(), "tokens=16 warps=2 stages=3 rows=8 split=192 bulk=1",
     kOfBulk},
    // And warps that share rows.
    {"BulkRows", "sm_120", DType::F16, FloatCodec{DType::F16},
     IntCodec{8, spec::ParameterType::F32}, 40, 48,
     paged(24, spec::PageOrder::NHD), window(5, 90),
     "tokens=16 warps=2 stages=2 rows=32 warpsSplitQ=1 split=192 bulk=1",
     kOfBulk},
};

llvm::ArrayRef<StoreCase> kvc::nvptx::mutationStores() { return kStores; }
