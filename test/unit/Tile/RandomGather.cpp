//===- RandomGather.cpp - gather kernels drawn at random ------------------===//
#include "test/unit/Tile/RandomKernel.h"

using namespace kvc;
using namespace kvc::fuzz;

/// Any codec, boxes above all.
static Codec drawAnyCodec(int64_t dim, Random &random) {
  return random.percent(60) ? drawBoxes(dim, random)
                            : drawCodec(random.percent(50), random);
}

/// A stream whose rows have those of K and of V as parts. Its rows need not be
/// whole chunks of channels, nor of one token each.
static WideStream drawWide(const Kernel &kernel, Random &random) {
  WideStream wide{std::max(kernel.dims[0], kernel.dims[1]), 1, {}};
  wide.dim += random.percent(50) ? 8 * random.range(0, 8) : random.range(0, 70);
  wide.codec = drawAnyCodec(wide.dim, random);
  std::optional<Boxes> &boxes = wide.codec.boxes;
  if (boxes && wide.dim * boxes->bits % 8) {
    boxes->bits = 8;
    boxes->code = boxes->code == 'x' ? 'e' : boxes->code;
  }
  if (!boxes || boxes->tokens == 1)
    wide.tokens = random.pick({1, 1, 1, 2, 4});
  return wide;
}

/// Channels of the rows of `from`, of which the kernel makes rows `to`.
static GatheredRow drawRow(const Kernel &kernel, llvm::StringRef to,
                           llvm::StringRef from, Random &random) {
  int64_t dim = kernel.dim(to), more = kernel.dim(from) - dim;
  GatheredRow row{to, from};
  // Often near the end, where a code may be the row's last.
  row.first = random.percent(50)
                  ? random.range(0, more)
                  : std::max<int64_t>(0, more - random.range(0, 3));
  row.column = dim - random.range(1, 8);
  do
    row.channels = random.pick({1, 2, 3, 4, 6, 8, 16});
  while (dim % row.channels);
  return row;
}

/// Rows K and V of the streams that a kernel's choice says.
static void drawGatheredRows(Kernel &kernel, Random &random) {
  auto add = [&](llvm::StringRef to, llvm::StringRef from) {
    kernel.gathered.push_back(drawRow(kernel, to, from, random));
  };
  bool vFirst = random.percent(50);
  auto addBoth = [&](llvm::StringRef k, llvm::StringRef v) {
    if (vFirst)
      add(kStreamV, v);
    add(kStreamK, k);
    if (!vFirst)
      add(kStreamV, v);
  };
  switch (kernel.choice[GatheredRows]) {
  case gathered::Exchanged:
    return addBoth(kStreamV, kStreamK);
  case gathered::KForBoth:
    return addBoth(kStreamK, kStreamK);
  case gathered::VForBoth:
    return addBoth(kStreamV, kStreamV);
  case gathered::WideForBoth:
    return addBoth(kStreamWide, kStreamWide);
  case gathered::OnlyK:
    return add(kStreamK, kStreamK);
  case gathered::OnlyV:
    return add(kStreamV, kStreamV);
  default:
    vFirst = kernel.choice[GatheredRows] == gathered::VThenK;
    return addBoth(kStreamK, kStreamV);
  }
}

void fuzz::drawGather(Kernel &kernel, Random &random) {
  unsigned rows = kernel.choice[GatheredRows];
  if (rows == gathered::Exchanged)
    kernel.dims[1] = kernel.dims[0];
  // One's rows have the other's as a part.
  if ((rows == gathered::KForBoth && kernel.dims[0] < kernel.dims[1]) ||
      (rows == gathered::VForBoth && kernel.dims[1] < kernel.dims[0]))
    std::swap(kernel.dims[0], kernel.dims[1]);
  for (unsigned stream : {0, 1})
    kernel.codecs[stream] = drawAnyCodec(kernel.dims[stream], random);
  if (rows == gathered::WideForBoth)
    kernel.wide = drawWide(kernel, random);
  if (int64_t tokens = kernel.boxTokens(); kernel.page % tokens)
    kernel.page = tokens * random.range(1, 16);
  drawGatheredRows(kernel, random);
}
