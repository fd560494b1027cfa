//===- SpecToKvcTest.cpp - a spec by hand, and the IR that it becomes -----===//
#include "lib/driver/Import/SpecToKvc.h"
#include "dialect/KvcDialect.h"

#include "mlir/IR/Verifier.h"
#include "gmock/gmock.h"

using namespace kvc;
using testing::ElementsAre;

namespace {

SourceLoc at(uint32_t line, uint32_t column) {
  SourceLoc loc;
  loc.file = "demo.json";
  loc.line = line, loc.column = column;
  return loc;
}

/// Layers 0-29: all heads, bf16, everything. Layers 30-31: heads 1-2 of 3,
/// int8 K and f32 V, a window, in one piece.
spec::Spec demo() {
  spec::Spec spec;
  spec.name = "demo", spec.file = "demo.json";
  spec.model.layers = 32, spec.model.qHeads = 9, spec.model.kvHeads = 3;
  spec.model.headDimK = 64, spec.model.headDimV = 32;
  spec.model.dtype = spec::DType::BF16, spec.model.softmaxScale = 0.125;
  spec.model.loc = at(2, 3);
  spec::Store full;
  full.name = "full", full.loc = at(10, 5);
  full.scope.layers = spec::layerRange(0, 30), full.scope.headEnd = 3;
  full.k.dim = 64, full.v.dim = 32;
  spec::Store window = full;
  window.name = "window", window.loc = at(20, 7);
  window.scope.layers = {30, 31};
  window.scope.headBegin = 1;
  window.k.codec = spec::IntCodec{8, spec::ParameterType::F16};
  window.v.codec = spec::FloatCodec{spec::DType::F32};
  window.layout = {false, 0, spec::PageOrder::NHD, {}};
  window.read.window = spec::Read::Window{4, 60};
  spec.stores = {full, window};
  return spec;
}

class Import : public testing::Test {
protected:
  std::string import(const spec::Spec &spec) {
    module = importSpec(context, spec);
    EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
    std::string text;
    llvm::raw_string_ostream(text) << *module;
    return text;
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

const char *const expected =
    R"(module attributes {kvc.spec = "demo"} {
  kvc.store @full layers 0 to 30 heads 0 to 3 of 3 queries 9 read(#kvc.read_all) : FULL
  func.func @full.append(%arg0: tensor<?x3x64xbf16>, %arg1: tensor<?x3x32xbf16>, %arg2: tensor<?xi64>, %arg3: FULL) {
    kvc.append @full, %arg0, %arg1 at %arg2 into %arg3 : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>, tensor<?xi64>, SHORT
    return
  }
  func.func @full.gather(%arg0: tensor<?xi64>, %arg1: FULL) -> (tensor<?x3x64xbf16>, tensor<?x3x32xbf16>) {
    %k, %v = kvc.gather @full, %arg0 from %arg1 : tensor<?xi64>, SHORT -> tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
    return %k, %v : tensor<?x3x64xbf16>, tensor<?x3x32xbf16>
  }
  func.func @full.attend(%arg0: tensor<?x9x64xbf16>, %arg1: FULL, %arg2: !kvc.batch) -> (tensor<?x9x32xbf16>, tensor<?x9xf32>) {
    %o, %lse = kvc.attend @full, %arg0, %arg1, %arg2 scale 1.250000e-01 : tensor<?x9x64xbf16>, SHORT -> tensor<?x9x32xbf16>, tensor<?x9xf32>
    return %o, %lse : tensor<?x9x32xbf16>, tensor<?x9xf32>
  }
  kvc.store @window layers 30 to 32 heads 1 to 3 of 3 queries 9 read(#kvc.sliding_window<sink = 4, recent = 60>) : WINDOW
)";

std::string replaceAll(std::string text, const std::string &from,
                       const std::string &to) {
  for (size_t i = 0; (i = text.find(from, i)) != std::string::npos;
       i += to.size())
    text.replace(i, from.size(), to);
  return text;
}

TEST_F(Import, TwoStores) {
  std::string text = import(demo());
  std::string full = "<heads = 3, k = 64 by #kvc.float<bf16>, v = 32 by "
                     "#kvc.float<bf16>, layout = #kvc.paged<16, HND>>";
  std::string window =
      "!kvc.cache<heads = 2, k = 64 by #kvc.int<8, scale = f16>, v = 32 by "
      "#kvc.float<f32>, layout = #kvc.contiguous<NHD>>";
  std::string want = replaceAll(expected, "FULL", "!kvc.cache" + full);
  want = replaceAll(want, "SHORT", full);
  want = replaceAll(want, "WINDOW", window);
  EXPECT_EQ(text.substr(0, want.size()), want);
  std::vector<std::string> names;
  for (mlir::Operation &op : *module->getBody())
    names.push_back(mlir::SymbolTable::getSymbolName(&op).str());
  EXPECT_THAT(names, ElementsAre("full", "full.append", "full.gather",
                                 "full.attend", "window", "window.append",
                                 "window.gather", "window.attend"));
}

TEST_F(Import, IntegerCodecs) {
  spec::Spec spec = demo();
  spec.stores.resize(1);
  spec.stores[0].k.codec =
      spec::IntCodec{4, spec::ParameterType::F16, spec::ParameterType::F32, 32};
  spec.stores[0].v.codec = spec::IntCodec{3, spec::ParameterType::F32};
  EXPECT_THAT(
      import(spec),
      testing::HasSubstr(
          "k = 64 by #kvc.int<4, scale = f16 zero = f32 channels = 32>, "
          "v = 32 by #kvc.int<3, scale = f32>"));
}

TEST_F(Import, FloatsOfEightBits) {
  spec::Spec spec = demo();
  spec.stores.resize(1);
  using Format = spec::MinifloatCodec::Format;
  spec.stores[0].k.codec =
      spec::MinifloatCodec{Format::E4M3, spec::ParameterType::F16, 32};
  spec.stores[0].v.codec = spec::MinifloatCodec{Format::E5M2};
  EXPECT_THAT(import(spec),
              testing::HasSubstr(
                  "k = 64 by #kvc.float<f8E4M3FN, scale = f16 channels = 32>, "
                  "v = 32 by #kvc.float<f8E5M2>"));
}

TEST_F(Import, SoftcapDtypesAndOrders) {
  spec::Spec spec = demo();
  spec.model.logitSoftcap = 30;
  spec.stores.resize(1);
  std::pair<spec::DType, const char *> types[] = {{spec::DType::F32, "f32"},
                                                  {spec::DType::F16, "f16"},
                                                  {spec::DType::BF16, "bf16"}};
  for (auto [type, name] : types) {
    spec.model.dtype = type;
    spec.stores[0].k.codec = spec::FloatCodec{type};
    spec.stores[0].v.codec = spec::IntCodec{8, spec::ParameterType::F32};
    spec.stores[0].layout = {true, 64, spec::PageOrder::NHD, {}};
    std::string text = import(spec);
    EXPECT_THAT(text, testing::HasSubstr("scale 1.250000e-01 logits {"));
    EXPECT_THAT(text, testing::HasSubstr("arith.constant 3.000000e+01 : f32"));
    EXPECT_THAT(text, testing::HasSubstr("} : tensor<?x9x64x" +
                                         std::string(name) + ">"));
    EXPECT_THAT(text,
                testing::HasSubstr("k = 64 by #kvc.float<" + std::string(name) +
                                   ">, v = 32 by #kvc.int<8, scale = "
                                   "f32>, layout = #kvc.paged<64, NHD>"));
  }
}

TEST_F(Import, EveryOpPointsAtItsStore) {
  import(demo());
  EXPECT_EQ(module->getLoc(), mlir::Location(mlir::FileLineColLoc::get(
                                  &context, "demo.json", 2, 3)));
  int64_t ops = 0;
  for (mlir::Operation &top : *module->getBody()) {
    bool full =
        mlir::SymbolTable::getSymbolName(&top).getValue().starts_with("full");
    mlir::Location want = mlir::FileLineColLoc::get(
        &context, "demo.json", full ? 10 : 20, full ? 5 : 7);
    top.walk([&](mlir::Operation *op) {
      EXPECT_EQ(op->getLoc(), want) << op->getName().getStringRef().str();
      ++ops;
    });
  }
  EXPECT_EQ(ops, 2 * 10); // store, 3 functions, 3 verbs, 3 returns
}

} // namespace
