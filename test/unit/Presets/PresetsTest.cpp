//===- PresetsTest.cpp - codecs that claim to be a public quantiser -------===//
//
// test/data/quantisers.safetensors holds codes and dequantised values of public
// quantisers, by the names of the presets that claim to be them.
//
//===----------------------------------------------------------------------===//
#include "dialect/KvcDialect.h"
#include "lib/base/Spec/Reader.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Verify/Safetensors.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "gtest/gtest.h"

#include <set>

using namespace kvc;

namespace {

/// Presets of which no public quantiser is, and why.
const std::map<std::string, std::string> kOthers = {
    {"k8v4", "its parts: fp8 as it is, and vLLM's kernel needs a GPU"},
    {"fp8k-nvfp4v", "its parts are fp8 as it is and nvfp4"},
    {"kv4-qserve", "its kernel needs a GPU; the formula is IntCodecTest's"},
    {"edge-layers-bf16", "as k8v4, in some layers"},
};

std::vector<std::string> presets() {
  std::vector<std::string> names;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator file(KVC_PRESETS, error), end;
       file != end && !error; file.increment(error))
    if (llvm::sys::path::extension(file->path()) == ".json")
      names.push_back(llvm::sys::path::stem(file->path()).str());
  llvm::sort(names);
  return names;
}

class PresetsTest : public testing::Test {
protected:
  PresetsTest() {
    std::string error;
    file = verify::Safetensors::open(KVC_QUANTISERS, error);
    EXPECT_TRUE(file) << error;
  }
  std::vector<float> values(const std::string &name) {
    std::string error;
    auto found = file->tensors().find(name);
    if (found == file->tensors().end())
      return {};
    auto values = file->values(found->second, UINT64_MAX, error);
    EXPECT_TRUE(values) << name << ": " << error;
    return values.value_or(std::vector<float>());
  }
  /// Of the preset's one store.
  CodecAttrInterface codec(const std::string &preset, llvm::StringRef stream) {
    Diagnostics diagnostics;
    std::string path = KVC_PRESETS "/" + preset + ".json";
    auto spec = spec::readFile(path, diagnostics);
    EXPECT_TRUE(spec) << path;
    module = importSpec(context, *spec);
    auto store = *module->getOps<StoreOp>().begin();
    return cast<CacheType>(store.getCache()).stream(stream).codec;
  }
  void compare(const std::string &preset, const std::string &stream);

  std::optional<verify::Safetensors> file;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// Blocks that torchao's NVFP4 gives the least scale that it takes, 2^-6: kvc
/// has smaller ones.
bool isBelowTorchao(const std::string &preset, llvm::ArrayRef<float> block) {
  float absmax = 0;
  for (float x : block)
    absmax = std::max(absmax, std::fabs(x));
  return preset == "nvfp4" && absmax / 6 < 0x1p-6f;
}

/// Codes and what they read as, bit for bit but for the sign of a zero.
void PresetsTest::compare(const std::string &preset,
                          const std::string &stream) {
  SCOPED_TRACE(preset + " " + stream);
  std::vector<float> x = values(stream);
  std::vector<float> codes = values(preset + "." + stream + ".codes");
  std::vector<float> deq = values(preset + "." + stream + ".deq");
  int64_t dim = int64_t(file->tensors().at(stream).shape.back());
  ASSERT_EQ(codes.size(), x.size());
  ASSERT_EQ(deq.size(), x.size());
  CodecAttrInterface codec = this->codec(preset, stream);
  auto planes = codec.getPlanes(dim);
  mlir::Type type = planes.front().type;
  bool hasSign = type.isInteger() && planes.size() == 2;
  unsigned bits = type.getIntOrFloatBitWidth();
  std::vector<std::vector<uint8_t>> bytes;
  llvm::SmallVector<uint8_t *, 3> to;
  llvm::SmallVector<const uint8_t *, 3> from;
  for (const CodecPlane &plane : planes)
    bytes.emplace_back(plane.elements * plane.type.getIntOrFloatBitWidth() / 8);
  for (std::vector<uint8_t> &plane : bytes)
    to.push_back(plane.data()), from.push_back(plane.data());
  std::vector<float> row(dim);
  size_t below = 0;
  double errors = 0, theirErrors = 0;
  for (size_t first = 0; first < x.size(); first += dim) {
    codec.quantizeRows(llvm::ArrayRef(x).slice(first, dim), 1, to);
    codec.dequantizeRow(from, row);
    for (int64_t c = 0; c < dim; ++c) {
      int64_t block = c / 16 * 16;
      llvm::ArrayRef<float> given(&x[first + block], 16);
      if (isBelowTorchao(preset, given)) {
        double ours = row[c] - x[first + c],
               theirs = deq[first + c] - x[first + c];
        errors += ours * ours, theirErrors += theirs * theirs;
        ++below;
        continue;
      }
      ASSERT_EQ(unpackCode(from[0], c, bits, hasSign), codes[first + c])
          << "row " << first / dim << " channel " << c << ": " << x[first + c];
      ASSERT_EQ(row[c], deq[first + c]);
    }
  }
  EXPECT_LE(below, x.size() / 20);
  EXPECT_LE(errors, theirErrors);
}

TEST_F(PresetsTest, AreWhatTheyClaimToBe) {
  unsigned compared = 0;
  for (const std::string &preset : presets()) {
    if (kOthers.count(preset))
      continue;
    for (const char *stream : {"k", "v"})
      compare(preset, stream);
    ++compared;
  }
  EXPECT_EQ(compared, 10u);
}

/// No name is in a table alone.
TEST_F(PresetsTest, AreAllKnown) {
  std::vector<std::string> names = presets();
  std::set<std::string> known(names.begin(), names.end());
  for (const auto &[preset, reason] : kOthers)
    EXPECT_TRUE(known.count(preset)) << preset;
  for (const auto &[tensor, place] : file->tensors())
    if (size_t dot = tensor.find('.'); dot != std::string::npos)
      EXPECT_TRUE(known.count(tensor.substr(0, dot))) << tensor;
}

} // namespace
