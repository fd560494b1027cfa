//===- DirectBlocks.cpp - few query rows, in blocks -----------------------===//
#include "codegen/cpu/DirectBlocks.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::cpu;

DirectBlocks::DirectBlocks(AttendKernel &kernel)
    : a(kernel), kit(a.kit), k(a.k), blockRows(a.schedule.rows),
      padded(llvm::PowerOf2Ceil(blockRows)),
      tokensPerVector(std::clamp<int64_t>(kit.lanes / padded, 1, a.tileTokens)),
      maxRows(llvm::alignTo(a.schedule.queries * a.group, blockRows)) {
  while (a.tileTokens % tokensPerVector)
    tokensPerVector /= 2;
}

DirectBlocks::Values DirectBlocks::forScores(
    const TileRows &rows, Values init,
    llvm::function_ref<Values(Value, int64_t, ValueRange)> body) {
  int64_t vectors = a.countRows(rows) / tokensPerVector;
  Value first = rows.from ? kit.div(rows.from, tokensPerVector) : kit.i64(0);
  if (vectors <= 8)
    return body(first, vectors, init);
  return kit.loop(first, kit.add(first, vectors), 4, init,
                  [&](Value vector, ValueRange carried) {
                    return body(vector, 4, carried);
                  });
}
