//===- Fixture.cpp - a cache, a batch, and attention done by hand ---------===//
#include "test/unit/Reference/Fixture.h"

using namespace kvc;
using namespace kvc::reference;

Scene::Scene(const Shape &shape, uint8_t fill) : shape(shape) {
  context.loadDialect<KvcDialect, mlir::func::FuncDialect>();
  parse();
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  int64_t tokens = 0;
  cuQ.push_back(0);
  for (auto [length, queries] : llvm::zip(shape.lengths, shape.queries)) {
    firstRow.push_back(tokens);
    tokens += length;
    cuQ.push_back(cuQ.back() + queries);
  }
  auto draw = [&](std::vector<float> &data, int64_t count) {
    data.resize(count);
    for (float &x : data)
      x = normal(random);
  };
  draw(kData, tokens * shape.kvHeads * shape.dimK);
  draw(vData, tokens * shape.kvHeads * shape.dimV);
  draw(qData, cuQ.back() * qHeads() * shape.dimK);
  placeTokens(random);
  auto cache =
      mlir::cast<CacheType>(module->lookupSymbol<StoreOp>("s").getCache());
  // Twice the memory that is needed: what nobody owns stays `fill`.
  int64_t longest = *llvm::max_element(shape.lengths);
  arena = std::make_unique<HostArena>(cache, 2 * table.size() + 2,
                                      shape.page ? 0 : longest + 3, fill);
  for (int64_t &slot : slots)
    if (!shape.page)
      slot = slot / 1000 * (longest + 3) + slot % 1000;
  run("append", {k(), v(), Slots(slots), &arena->cache()});
}

/// Every sequence on pages (or slots) drawn at random; the table has one entry
/// too many per sequence, which nobody may read.
void Scene::placeTokens(std::mt19937 &random) {
  int64_t batchSize = shape.lengths.size();
  int64_t unit = shape.page ? shape.page : 1000;
  if (shape.page)
    tableStride = *llvm::max_element(shape.lengths) / shape.page + 2;
  std::vector<int32_t> outers(2 * batchSize * tableStride + 2);
  std::iota(outers.begin(), outers.end(), 0);
  std::shuffle(outers.begin(), outers.end(), random);
  table.assign(batchSize * tableStride, -1);
  for (int64_t b = 0; b < batchSize; ++b)
    for (int64_t t = 0; t < shape.lengths[b]; ++t) {
      int32_t &outer = table[b * tableStride + t / unit];
      if (outer < 0)
        outer = outers[b * tableStride + t / unit];
      slots.push_back(outer * unit + t % unit);
    }
}

void Scene::parse() {
  std::string window = shape.recent < 0
                           ? std::string("#kvc.read_all")
                           : llvm::formatv("#kvc.sliding_window<sink = {0}, "
                                           "recent = {1}>",
                                           shape.sink, shape.recent)
                                 .str();
  std::string layout =
      shape.page
          ? llvm::formatv("#kvc.paged<{0}, {1}>", shape.page, shape.order).str()
          : llvm::formatv("#kvc.contiguous<{0}>", shape.order).str();
  std::string logits = shape.logits, visible = shape.visible;
  if (shape.softcap)
    logits = llvm::formatv(R"(
      %cap = arith.constant {0:E} : f32
      %x = arith.divf %s, %cap : f32
      %y = math.tanh %x : f32
      %z = arith.mulf %cap, %y : f32
      kvc.yield %z : f32)",
                           shape.softcap)
                 .str();
  std::string inputs = "%p: i32, %t: i32, %c: i32, %h: i32, %g: i32):", regions;
  if (!logits.empty())
    regions = "logits {\n^bb0(%s: f32, " + inputs + logits + "\n}\n";
  if (!visible.empty())
    regions += "visible {\n^bb0(" + inputs + visible + "\n}\n";
  std::string sink;
  if (!shape.sinkLogit.empty())
    sink = "sink {\n^bb0(%h: i32, %g: i32):" + shape.sinkLogit + "\n}\n";
  std::string text = llvm::formatv(
                         R"(
!cache = !kvc.cache<heads = {0}, k = {1} by {2}, v = {3} by {4}, layout = {5}>
!k = tensor<?x{6}x{1}xf32>
!v = tensor<?x{6}x{3}xf32>
!q = tensor<?x{7}x{1}xf32>
!o = tensor<?x{7}x{3}xf32>
!lse = tensor<?x{7}xf32>
!po = tensor<?x?x{7}x{3}xf32>
!plse = tensor<?x?x{7}xf32>
kvc.store @s layers 0 to 1 heads {8} to {9} of {6} queries {7} read({10}) : !cache
func.func @append(%k: !k, %v: !v, %slot: tensor<?xi64>, %cache: !cache) {{
  kvc.append @s, %k, %v at %slot into %cache : !k, !v, tensor<?xi64>, !cache
  return
}
func.func @gather(%slot: tensor<?xi64>, %cache: !cache) -> (!k, !v) {{
  %k, %v = kvc.gather @s, %slot from %cache : tensor<?xi64>, !cache -> !k, !v
  return %k, %v : !k, !v
}
func.func @attend(%q: !q, %cache: !cache, %batch: !kvc.batch) -> (!o, !lse) {{
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale {11:E} {12} {14} : !q, !cache -> !o, !lse
  return %o, %lse : !o, !lse
}
func.func @attend_splits(%q: !q, %cache: !cache, %batch: !kvc.batch) -> (!po, !plse) {{
  %o, %lse = kvc.attend @s, %q, %cache, %batch scale {11:E} splits {13} {12} : !q, !cache -> !po, !plse
  return %o, %lse : !po, !plse
}
func.func @merge(%po: !po, %plse: !plse) -> (!o, !lse) {{
  %o, %lse = kvc.merge @s, %po, %plse {14} : !po, !plse -> !o, !lse
  return %o, %lse : !o, !lse
}
func.func @attend_and_merge(%q: !q, %cache: !cache, %batch: !kvc.batch) -> (!o, !lse) {{
  %po, %plse = kvc.attend @s, %q, %cache, %batch scale {11:E} splits {13} {12} : !q, !cache -> !po, !plse
  %o, %lse = kvc.merge @s, %po, %plse {14} : !po, !plse -> !o, !lse
  return %o, %lse : !o, !lse
}
)",
                         shape.heads, shape.dimK, shape.codecK, shape.dimV,
                         shape.codecV, layout, shape.kvHeads, qHeads(),
                         shape.firstHead, shape.firstHead + shape.heads, window,
                         shape.scale, regions, shape.splitTokens, sink)
                         .str();
  module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    llvm::report_fatal_error("the test's module does not parse");
}

std::string kvc::reference::sinkRegion() {
  return R"(
      %half = arith.constant 0.5 : f32
      %two = arith.constant -2.0 : f32
      %hf = arith.sitofp %h : i32 to f32
      %gf = arith.sitofp %g : i32 to f32
      %a = arith.mulf %hf, %half : f32
      %b = arith.mulf %gf, %two : f32
      %x = arith.addf %a, %b : f32
      kvc.yield %x : f32)";
}

std::string kvc::reference::alibiRegion() {
  return R"(
      %one = arith.constant 1 : i32
      %quarter = arith.constant 0.25 : f32
      %n = arith.addi %h, %one : i32
      %f = arith.sitofp %n : i32 to f32
      %slope = arith.mulf %f, %quarter : f32
      %age = arith.subi %p, %t : i32
      %a = arith.sitofp %age : i32 to f32
      %b = arith.mulf %slope, %a : f32
      %x = arith.subf %s, %b : f32
      kvc.yield %x : f32)";
}

double kvc::reference::alibi(double s, int64_t p, int64_t t, int64_t h) {
  return s - 0.25 * double(h + 1) * double(p - t);
}

std::string kvc::reference::chunksRegion() {
  return R"(
      %one = arith.constant 1 : i32
      %five = arith.constant 5 : i32
      %a = arith.floordivsi %p, %five : i32
      %b = arith.floordivsi %t, %five : i32
      %same = arith.cmpi eq, %a, %b : i32
      %free = arith.cmpi eq, %h, %one : i32
      %x = arith.ori %same, %free : i1
      kvc.yield %x : i1)";
}

bool kvc::reference::inChunk(int64_t p, int64_t t, int64_t h) {
  return p / 5 == t / 5 || h == 1;
}

llvm::SmallVector<HostValue> Scene::run(llvm::StringRef function,
                                        llvm::ArrayRef<HostValue> arguments) {
  auto result = Interpreter(*module).run(function, arguments);
  EXPECT_TRUE(mlir::succeeded(result));
  return mlir::succeeded(result) ? *result : llvm::SmallVector<HostValue>();
}

AttendResult Scene::attend(llvm::StringRef function) {
  HostBatch view = batch();
  auto results = run(function, {q(), &arena->cache(), &view});
  AttendResult result;
  result.o = std::get<Tensor>(results[0]);
  result.lse = std::get<Tensor>(results[1]);
  return result;
}

Gathered Scene::gather(Slots slots) {
  auto results = run("gather", {slots, &arena->cache()});
  return {std::get<Tensor>(results[0]), std::get<Tensor>(results[1])};
}

AttendResult Scene::naive() const {
  int64_t total = cuQ.back(), heads = qHeads();
  AttendResult result;
  result.o = Tensor({total, heads, shape.dimV}, 0);
  result.lse = Tensor({total, heads}, -INFINITY);
  for (size_t b = 0; b < shape.lengths.size(); ++b)
    for (int64_t i = 0; i < shape.queries[b]; ++i)
      for (int64_t h = shape.firstHead * shape.group;
           h < (shape.firstHead + shape.heads) * shape.group; ++h) {
        int64_t position = shape.lengths[b] - shape.queries[b] + i;
        int64_t row = cuQ[b] + i, kvHead = h / shape.group;
        double sum = shape.sinkOf ? std::exp(shape.sinkOf(h)) : 0;
        std::vector<double> o(shape.dimV);
        for (int64_t t = 0; t < shape.lengths[b]; ++t) {
          if (t > position || (shape.recent >= 0 && t >= shape.sink &&
                               t <= position - shape.recent))
            continue;
          if (shape.isVisible && !shape.isVisible(position, t, h))
            continue;
          double s = 0;
          for (int64_t j = 0; j < shape.dimK; ++j)
            s +=
                double(q().row(row, h)[j]) * k().row(tokenRow(b, t), kvHead)[j];
          s *= shape.scale;
          if (shape.softcap)
            s = shape.softcap * std::tanh(s / shape.softcap);
          if (shape.logitOf)
            s = shape.logitOf(s, position, t, h);
          sum += std::exp(s);
          for (int64_t j = 0; j < shape.dimV; ++j)
            o[j] += std::exp(s) * v().row(tokenRow(b, t), kvHead)[j];
        }
        if (sum == 0)
          continue;
        result.lse.data[row * heads + h] = std::log(sum);
        for (int64_t j = 0; j < shape.dimV; ++j)
          result.o.data[(row * heads + h) * shape.dimV + j] = o[j] / sum;
      }
  return result;
}
