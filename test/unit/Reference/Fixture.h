//===- Fixture.h - a cache, a batch, and attention done by hand -*- C++ -*-===//
#ifndef KVC_TEST_UNIT_REFERENCE_FIXTURE_H
#define KVC_TEST_UNIT_REFERENCE_FIXTURE_H

#include "lib/driver/Reference/Interpreter.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/FormatVariadic.h"
#include "gmock/gmock.h"

#include <cmath>
#include <random>

namespace kvc::reference {

/// What is cached and how it is asked for. The store covers kv heads
/// [firstHead, firstHead + heads) of kvHeads.
struct Shape {
  int64_t kvHeads = 3, firstHead = 0, heads = 3, group = 2;
  int64_t dimK = 16, dimV = 8;
  std::string codecK = "#kvc.float<f32>", codecV = "#kvc.float<f32>";
  int64_t page = 4; ///< 0: contiguous
  std::string order = "HND";
  int64_t sink = -1, recent = -1; ///< a window if not -1
  double scale = 0.25, softcap = 0;
  /// Bodies of regions, of %s, %p, %t, %h and %g, and what they do by hand.
  std::string logits = "", visible = "";
  std::function<double(double s, int64_t p, int64_t t, int64_t h)> logitOf = {};
  std::function<bool(int64_t p, int64_t t, int64_t h)> isVisible = {};
  /// A region's body of %h and %g, and the same by hand; the kvc.merge has it
  /// where attend makes splits.
  std::string sinkLogit = "";
  std::function<double(int64_t h)> sinkOf = {};
  std::vector<int32_t> lengths = {9, 0, 4, 1};
  std::vector<int32_t> queries = {2, 1, 4, 1};
  int64_t splitTokens = 3;
};

/// h / 2 - 2 g.
std::string sinkRegion();

/// s - (h + 1) / 4 * (p - t): each head forgets at its own pace.
std::string alibiRegion();
double alibi(double s, int64_t p, int64_t t, int64_t h);
/// p // 5 == t // 5, but for q head 1, which sees all.
std::string chunksRegion();
bool inChunk(int64_t p, int64_t t, int64_t h);

/// A module with append, gather, attend, attend in splits and merge of one
/// store
/// @s, and a cache that holds random tokens on scattered pages.
class Scene {
public:
  explicit Scene(const Shape &shape, uint8_t fill = 0);

  /// Runs a function that must succeed.
  llvm::SmallVector<HostValue> run(llvm::StringRef function,
                                   llvm::ArrayRef<HostValue> arguments);
  AttendResult attend(llvm::StringRef function = "attend");
  Gathered gather(Slots slots);
  /// Straight from the formula, over the rows as the model gave them.
  AttendResult naive() const;

  Rows rows(const std::vector<float> &data, int64_t heads, int64_t dim) const {
    return {data, int64_t(data.size()) / (heads * dim), heads, dim};
  }
  Rows k() const { return rows(kData, shape.kvHeads, shape.dimK); }
  Rows v() const { return rows(vData, shape.kvHeads, shape.dimV); }
  Rows q() const { return rows(qData, qHeads(), shape.dimK); }
  int64_t qHeads() const { return shape.kvHeads * shape.group; }
  HostBatch batch() const { return {cuQ, shape.lengths, table, tableStride}; }
  /// Row of k and v of token t of sequence b.
  int64_t tokenRow(int64_t b, int64_t t) const { return firstRow[b] + t; }
  AttendOp attendOp(llvm::StringRef function) {
    auto op = module->lookupSymbol<mlir::func::FuncOp>(function);
    return *op.getOps<AttendOp>().begin();
  }

  Shape shape;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<float> kData, vData, qData;
  std::vector<int32_t> cuQ, table;
  std::vector<int64_t> slots, firstRow;
  int64_t tableStride = 1;
  std::unique_ptr<HostArena> arena;

private:
  void parse();
  void placeTokens(std::mt19937 &random);
};

/// Both K and V, bit by bit.
inline void expectSame(const Gathered &got, const Gathered &want) {
  for (auto part : {&Gathered::k, &Gathered::v}) {
    ASSERT_EQ((got.*part).shape, (want.*part).shape);
    ASSERT_EQ((got.*part).data, (want.*part).data);
  }
}

/// Both o and lse, element by element; NaN equals NaN.
inline void expectNear(const AttendResult &got, const AttendResult &want,
                       double tolerance) {
  for (auto part : {&AttendResult::o, &AttendResult::lse}) {
    const Tensor &a = got.*part, &b = want.*part;
    ASSERT_EQ(a.shape, b.shape);
    for (size_t i = 0; i < a.data.size(); ++i) {
      if (std::isnan(b.data[i]))
        ASSERT_TRUE(std::isnan(a.data[i])) << i;
      else if (std::isinf(b.data[i]))
        ASSERT_EQ(a.data[i], b.data[i]) << i;
      else
        ASSERT_NEAR(a.data[i], b.data[i], tolerance) << i;
    }
  }
}

} // namespace kvc::reference

#endif // KVC_TEST_UNIT_REFERENCE_FIXTURE_H
