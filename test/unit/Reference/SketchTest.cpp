//===- SketchTest.cpp - kernels of caches that nothing compiles yet -------===//
//
// Runs the kernels of test/sketches in the tile interpreter, and holds what
// they give against the formulas, worked out here from rows and not from ops.
//
//===----------------------------------------------------------------------===//
#include "lib/driver/Reference/TileInterpreter.h"

#include "mlir/Parser/Parser.h"
#include "gmock/gmock.h"

#include <cmath>
#include <numeric>
#include <random>

using namespace kvc;
using namespace kvc::reference;

namespace {

using Row = std::vector<double>;

double dot(const Row &x, const Row &y) {
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

/// Softmax of `scores`, and what it makes of rows `v`.
struct Softmax {
  Softmax(const std::vector<double> &scores, const std::vector<Row> &v) {
    double largest = *std::max_element(scores.begin(), scores.end()), sum = 0;
    for (double s : scores)
      sum += std::exp(s - largest);
    lse = largest + std::log(sum);
    o.resize(v.front().size());
    for (size_t t = 0; t < v.size(); ++t) {
      p.push_back(std::exp(scores[t] - lse));
      for (size_t c = 0; c < o.size(); ++c)
        o[c] += p[t] * v[t][c];
    }
  }
  Row o, p;
  double lse;
};

/// A sketch's module, and a cache of its store that holds sequences of these
/// lengths, each with this many query tokens.
class Sketch {
public:
  Sketch(const char *name, std::vector<int32_t> lengths,
         std::vector<int32_t> queries)
      : lengths(lengths) {
    context.loadDialect<KvcDialect, tile::TileDialect,
                        mlir::arith::ArithDialect, mlir::math::MathDialect>();
    module = mlir::parseSourceFile<mlir::ModuleOp>(
        std::string(KVC_TEST_DATA) + "/../../sketches/" + name + ".mlir",
        &context);
    store = *module->getOps<StoreOp>().begin();
    auto type = mlir::cast<CacheType>(store.getCache());
    page = type.layout().getPageTokens();
    int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    stride = page ? llvm::divideCeil(longest, page) : 1;
    int64_t sequences = lengths.size();
    arena.emplace(type, sequences * stride, page ? page : 64);
    if (!page)
      page = 64;
    // Pages stand in no order.
    for (int64_t i = 0; i < sequences * stride; ++i)
      table.push_back((i * 7 + 3) % (sequences * stride));
    EXPECT_EQ(std::gcd<int64_t>(7, sequences * stride), 1);
    for (int32_t count : queries)
      cuQ.push_back(cuQ.back() + count);
  }

  TileInterpreter kernel(const char *name) {
    return TileInterpreter(module->lookupSymbol<tile::KernelOp>(name));
  }
  HostBatch batch() { return {cuQ, lengths, table, stride}; }
  HostCache &cache() { return arena->cache(); }
  HostStream stream(llvm::StringRef name) { return {cache(), name}; }
  int64_t heads() { return cache().type.getHeads(); }
  int64_t group() { return store.getGroup(); }
  int64_t outer(int64_t b, int64_t t) { return table[b * stride + t / page]; }

  /// Rows of heads, normally distributed.
  std::vector<float> draw(int64_t rows, int64_t heads, int64_t dim) {
    std::vector<float> data(rows * heads * dim);
    for (float &x : data)
      x = normal(random);
    return data;
  }
  Rows drawRows(std::vector<float> &data, int64_t heads, int64_t dim) {
    data = draw(cuQ.back(), heads, dim);
    return {data, cuQ.back(), heads, dim};
  }
  /// Fills the tokens [begin, end) of all sequences and heads.
  void fill(llvm::StringRef name, int64_t step = 1) {
    HostStream to = stream(name);
    for (size_t b = 0; b < lengths.size(); ++b)
      for (int64_t head = 0; head < heads(); ++head)
        for (int64_t t = 0; t < lengths[b]; t += step)
          to.quantize(outer(b, t), head, t % page, draw(step, 1, to.dim()));
  }
  Row cached(llvm::StringRef name, int64_t b, int64_t head, int64_t t) {
    HostStream from = stream(name);
    std::vector<float> row(from.dim());
    from.dequantize(outer(b, t), head, t % page, row);
    return Row(row.begin(), row.end());
  }
  static Row rowOf(Rows rows, int64_t row, int64_t head) {
    llvm::ArrayRef<float> data = rows.row(row, head);
    return Row(data.begin(), data.end());
  }
  /// Calls `body(b, kv head, row of q, q head, tokens that the row sees)`.
  template <typename Fn> void forRows(Fn body) {
    for (size_t b = 0; b < lengths.size(); ++b)
      for (int64_t row = cuQ[b]; row < cuQ[b + 1]; ++row)
        for (int64_t head = 0; head < heads(); ++head)
          for (int64_t i = 0; i < group(); ++i)
            body(b, head, row, head * group() + i,
                 lengths[b] - (cuQ[b + 1] - row) + 1);
  }
  void expectRow(const AttendResult &got, int64_t row, int64_t qHead,
                 const Softmax &want, double tolerance) {
    int64_t at = row * store.getQHeads() + qHead, dim = want.o.size();
    EXPECT_NEAR(got.lse.data[at], want.lse, tolerance);
    for (int64_t c = 0; c < dim; ++c)
      EXPECT_NEAR(got.o.data[at * dim + c], want.o[c], tolerance)
          << "row " << row << " head " << qHead << " channel " << c;
  }

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  StoreOp store;
  std::vector<int32_t> lengths, cuQ{0}, table;
  int64_t page = 0, stride = 0;
  std::optional<HostArena> arena;
  std::mt19937 random{1};
  std::normal_distribution<float> normal;
};

/// What a kernel gives, which must succeed.
TileOutputs run(Sketch &sketch, const char *kernel, const TileInputs &inputs) {
  auto outputs =
      sketch.kernel(kernel).run(inputs, sketch.cache(), sketch.batch());
  EXPECT_TRUE(mlir::succeeded(outputs));
  return mlir::succeeded(outputs) ? *outputs : TileOutputs();
}

TEST(Sketch, Kivi) {
  Sketch sketch("kivi", {150, 70}, {2, 1});
  sketch.fill("k", 32), sketch.fill("v");
  sketch.fill("k_new"), sketch.fill("v_new");
  TileInputs inputs;
  std::vector<float> q;
  inputs.q = sketch.drawRows(q, 6, 64);
  // K moves in blocks of 32, V token by token, and not before K.
  std::vector<int64_t> oldK{128, 64}, oldV{118, 38};
  for (size_t b = 0; b < 2; ++b) {
    inputs.spans["k"].push_back({0, oldK[b]});
    inputs.spans["k_new"].push_back({oldK[b], sketch.lengths[b]});
    inputs.spans["v"].push_back({0, oldV[b]});
    inputs.spans["v_new"].push_back({oldV[b], sketch.lengths[b]});
  }
  TileOutputs got = run(sketch, "s.attend", inputs);
  EXPECT_EQ(got.lse.data.size(), 3u * 6);
  double furthest = 0;
  sketch.forRows(
      [&](int64_t b, int64_t head, int64_t row, int64_t qHead, int64_t seen) {
        std::vector<double> scores;
        std::vector<Row> values;
        for (int64_t t = 0; t < seen; ++t) {
          bool newK = t >= oldK[b], newV = t >= oldV[b];
          Row k = sketch.cached(newK ? "k_new" : "k", b, head, t);
          scores.push_back(0.18033688 * M_LN2 *
                           dot(Sketch::rowOf(inputs.q, row, qHead), k));
          values.push_back(sketch.cached(newV ? "v_new" : "v", b, head, t));
        }
        Softmax want(scores, values);
        sketch.expectRow(got, row, qHead, want, 1e-5);
        furthest = std::max(furthest, std::fabs(want.lse));
      });
  EXPECT_GT(furthest, 1);
}

TEST(Sketch, Mla) {
  Sketch sketch("mla", {37, 5}, {1, 3});
  sketch.fill("c");
  TileInputs inputs;
  std::vector<float> q;
  inputs.q = sketch.drawRows(q, 16, 576);
  TileOutputs got = run(sketch, "s.attend", inputs);
  EXPECT_EQ(got.o.data.size(), 4u * 16 * 512);
  sketch.forRows(
      [&](int64_t b, int64_t head, int64_t row, int64_t qHead, int64_t seen) {
        std::vector<double> scores;
        std::vector<Row> values;
        for (int64_t t = 0; t < seen; ++t) {
          Row c = sketch.cached("c", b, head, t);
          scores.push_back(0.05 * dot(Sketch::rowOf(inputs.q, row, qHead), c));
          values.push_back(Row(c.begin(), c.begin() + 512));
        }
        sketch.expectRow(got, row, qHead, Softmax(scores, values), 1e-9);
      });
}

TEST(Sketch, Quest) {
  Sketch sketch("quest", {150, 20}, {1, 1});
  sketch.fill("k"), sketch.fill("v");
  // A summary as append would keep it.
  HostStream range = sketch.stream("range");
  for (size_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t first = 0; first < sketch.lengths[b]; first += 16) {
        std::vector<float> row(64, INFINITY);
        std::fill(row.begin() + 32, row.end(), -INFINITY);
        for (int64_t t = first;
             t < std::min<int64_t>(first + 16, sketch.lengths[b]); ++t)
          for (auto [c, x] : llvm::enumerate(sketch.cached("k", b, head, t))) {
            row[c] = std::min(row[c], float(x));
            row[32 + c] = std::max(row[32 + c], float(x));
          }
        range.quantize(sketch.outer(b, first), head, 0, row);
      }
  TileInputs inputs;
  std::vector<float> q;
  inputs.q = sketch.drawRows(q, 4, 32);
  TileOutputs lists = run(sketch, "s.pages", inputs);
  std::vector<std::vector<int64_t>> &pages = lists.lists["pages"];
  ASSERT_EQ(pages.size(), 4u);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head) {
      int64_t count = llvm::divideCeil(sketch.lengths[b], 16);
      std::vector<std::pair<double, int64_t>> bounds;
      for (int64_t page = 0; page < count; ++page) {
        std::vector<float> row(64);
        range.dequantize(sketch.outer(b, page * 16), head, 0, row);
        double best = -INFINITY;
        for (int64_t i = 0; i < 2; ++i) {
          Row x = Sketch::rowOf(inputs.q, sketch.cuQ[b], head * 2 + i);
          double sum = 0;
          for (size_t c = 0; c < 32; ++c)
            sum += std::max(x[c] * row[c], x[c] * row[32 + c]);
          best = std::max(best, sum);
        }
        bounds.push_back({-best, page});
      }
      std::sort(bounds.begin(), bounds.end());
      std::vector<int64_t> want{count - 1};
      for (size_t i = 0; i < std::min<size_t>(3, bounds.size()); ++i)
        want.push_back(bounds[i].second);
      std::sort(want.begin(), want.end());
      want.erase(std::unique(want.begin(), want.end()), want.end());
      EXPECT_EQ(pages[b * 2 + head], want) << "sequence " << b;
    }
  EXPECT_LE(pages[0].size(), 4u); // of ten
  inputs.lists = lists.lists;
  TileOutputs got = run(sketch, "s.attend", inputs);
  sketch.forRows(
      [&](int64_t b, int64_t head, int64_t row, int64_t qHead, int64_t seen) {
        std::vector<double> scores;
        std::vector<Row> values;
        for (int64_t page : pages[b * 2 + head])
          for (int64_t t = page * 16; t < std::min(seen, page * 16 + 16); ++t) {
            scores.push_back(0.25 * dot(Sketch::rowOf(inputs.q, row, qHead),
                                        sketch.cached("k", b, head, t)));
            values.push_back(sketch.cached("v", b, head, t));
          }
        sketch.expectRow(got, row, qHead, Softmax(scores, values), 1e-9);
      });
}

TEST(Sketch, H2o) {
  Sketch sketch("h2o", {20, 33}, {1, 2});
  sketch.fill("k"), sketch.fill("v");
  HostStream position = sketch.stream("position");
  std::vector<std::vector<Row>> sums(4);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t t = 0; t < sketch.lengths[b]; ++t) {
        position.quantize(sketch.outer(b, t), head, t % 8, {float(t)});
        std::vector<float> start = sketch.draw(1, 1, 1);
        sketch.stream("sum").quantize(sketch.outer(b, t), head, t % 8, start);
        sums[b * 2 + head].push_back({start[0]});
      }
  TileInputs inputs;
  std::vector<float> q;
  inputs.q = sketch.drawRows(q, 4, 16);
  // What attention would have stored.
  Tensor lse({3, 4}, -INFINITY);
  sketch.forRows(
      [&](int64_t b, int64_t head, int64_t row, int64_t qHead, int64_t seen) {
        std::vector<double> scores;
        for (int64_t t = 0; t < seen; ++t)
          scores.push_back(0.25 * dot(Sketch::rowOf(inputs.q, row, qHead),
                                      sketch.cached("k", b, head, t)));
        Softmax softmax(scores, std::vector<Row>(scores.size(), Row(1)));
        lse.data[row * 4 + qHead] = softmax.lse;
        for (int64_t t = 0; t < seen; ++t)
          sums[b * 2 + head][t][0] += softmax.p[t];
      });
  inputs.lse = &lse;
  run(sketch, "s.scores", inputs);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t t = 0; t < sketch.lengths[b]; ++t)
        EXPECT_NEAR(sketch.cached("sum", b, head, t)[0],
                    sums[b * 2 + head][t][0], 1e-6);

  std::vector<int64_t> victims;
  std::vector<Row> lastV;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head) {
      const std::vector<Row> &own = sums[b * 2 + head];
      victims.push_back(std::min_element(own.begin(), own.end() - 4) -
                        own.begin());
      lastV.push_back(sketch.cached("v", b, head, sketch.lengths[b] - 1));
    }
  TileOutputs evicted = run(sketch, "s.evict", inputs);
  EXPECT_EQ(evicted.lengths, (std::vector<int64_t>{19, 19, 32, 32}));
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t t = 0; t < sketch.lengths[b] - 1; ++t) {
        bool moved = t == victims[b * 2 + head];
        EXPECT_EQ(sketch.cached("position", b, head, t)[0],
                  moved ? sketch.lengths[b] - 1 : t);
        if (moved) {
          EXPECT_EQ(sketch.cached("v", b, head, t), lastV[b * 2 + head]);
          EXPECT_NEAR(sketch.cached("sum", b, head, t)[0],
                      sums[b * 2 + head].back()[0], 1e-6);
        }
      }
}

TEST(Sketch, LinearAttention) {
  Sketch sketch("linear-attention", {9, 4}, {5, 4});
  TileInputs inputs;
  std::vector<float> q, k, v;
  Rows queries = sketch.drawRows(q, 6, 16);
  inputs.q = queries;
  inputs.rows["q"] = queries;
  inputs.rows["k"] = sketch.drawRows(k, 2, 16);
  inputs.rows["v"] = sketch.drawRows(v, 2, 8);
  // Of a step before.
  std::vector<std::vector<float>> states;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head) {
      states.push_back(sketch.draw(1, 1, 128));
      sketch.stream("state").quantize(sketch.outer(b, 0), head, 0,
                                      states.back());
    }
  TileOutputs got = run(sketch, "s.step", inputs);
  ASSERT_EQ(got.rows.data.size(), 9u * 6 * 8);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t head = 0; head < 2; ++head) {
      Row s(states[b * 2 + head].begin(), states[b * 2 + head].end());
      for (int64_t row = sketch.cuQ[b]; row < sketch.cuQ[b + 1]; ++row) {
        Row key = Sketch::rowOf(inputs.rows["k"], row, head);
        Row value = Sketch::rowOf(inputs.rows["v"], row, head);
        for (size_t i = 0; i < 8; ++i)
          for (size_t j = 0; j < 16; ++j)
            s[i * 16 + j] = float(0.9f) * s[i * 16 + j] + value[i] * key[j];
        for (int64_t qHead = head * 3; qHead < head * 3 + 3; ++qHead)
          for (size_t i = 0; i < 8; ++i)
            EXPECT_NEAR(got.rows.data[(row * 6 + qHead) * 8 + i],
                        dot(Sketch::rowOf(queries, row, qHead),
                            Row(s.begin() + i * 16, s.begin() + i * 16 + 16)),
                        1e-9);
      }
      std::vector<float> kept(128);
      sketch.stream("state").dequantize(sketch.outer(b, 0), head, 0, kept);
      for (size_t i = 0; i < 128; ++i)
        EXPECT_NEAR(kept[i], s[i], 1e-5);
    }
}

} // namespace
