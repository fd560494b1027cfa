//===- SafetensorsTest.cpp - the reader of captured tensors ---------------===//
#include "lib/driver/Verify/Safetensors.h"
#include "lib/driver/Verify/Random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fcntl.h>
#include <unistd.h>

using namespace kvc;
using namespace kvc::verify;
using testing::ElementsAre;
using testing::HasSubstr;

static std::vector<uint8_t> fileOf(std::string_view header,
                                   std::vector<uint8_t> data) {
  uint64_t length = header.size();
  std::vector<uint8_t> bytes(8);
  std::memcpy(bytes.data(), &length, 8);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

static constexpr std::string_view kHeader =
    R"({"__metadata__":{"model":"m","rope":"none"},)"
    R"("h":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},)"
    R"("b":{"dtype":"BF16","shape":[1,1],"data_offsets":[12,14]},)"
    R"("f":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
    R"("none":{"dtype":"F32","shape":[0,3],"data_offsets":[14,14]}})";
static const std::vector<uint8_t> kData = {
    0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0x3c, 0, 0xc2, 0x40, 0x40};

TEST(Safetensors, ReadsEveryType) {
  std::string error;
  auto file = Safetensors::read(fileOf(kHeader, kData), error);
  ASSERT_TRUE(file) << error;
  auto values = [&](const char *name) {
    return *file->values(file->tensors().at(name), UINT64_MAX, error);
  };
  EXPECT_THAT(values("f"), ElementsAre(1, -2));
  EXPECT_THAT(values("h"), ElementsAre(1, -3));
  EXPECT_THAT(values("b"), ElementsAre(3));
  EXPECT_THAT(*file->values(file->tensors().at("h"), 1, error), ElementsAre(1));
  EXPECT_TRUE(values("none").empty());
  EXPECT_THAT(file->tensors().at("f").shape, ElementsAre(2, 1));
  EXPECT_EQ(file->metadata().at("model"), "m");
}

struct Refused {
  const char *header, *error;
};

class SafetensorsRefuses : public testing::TestWithParam<Refused> {};

TEST_P(SafetensorsRefuses, WithAReason) {
  std::string error;
  std::vector<uint8_t> data(8);
  EXPECT_FALSE(Safetensors::read(fileOf(GetParam().header, data), error));
  EXPECT_THAT(error, HasSubstr(GetParam().error));
}

static const Refused kRefused[] = {
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"{\"a\":", "not a JSON object"},
    {"{}", "do not fill the file"},
    {"{\"a\":[[[[[]]]]]}", "too deeply"},
    {R"({"a":1})", "expected an object"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})",
     "expected an object"},
    {R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})",
     "expected dtype"},
    {R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,8]}})", "expected dtype"},
    {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
     "more bytes than the file"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})",
     "needs 4 bytes, data_offsets hold 8"},
    {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})",
     "whole numbers"},
    {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
     "whole numbers"},
    {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,2],)"
     R"("data_offsets":[0,8]}})",
     "more bytes than the file"},
    {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],)"
     R"("data_offsets":[0,8]}})",
     "at most 8 axes"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
     "outside of the file"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
     "outside of the file"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
     R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
     "different names"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
     R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     "do not fill the file"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     "do not fill the file"},
    {R"({"__metadata__":{"x":1}})", "more than strings"},
    {R"({"__metadata__":1})", "not an object"},
};
INSTANTIATE_TEST_SUITE_P(All, SafetensorsRefuses, testing::ValuesIn(kRefused));

TEST(Safetensors, RefusesEveryTruncation) {
  std::vector<uint8_t> whole = fileOf(kHeader, kData);
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string error;
    EXPECT_FALSE(
        Safetensors::read({whole.begin(), whole.begin() + size}, error))
        << size;
    EXPECT_FALSE(error.empty());
  }
}

/// Values of whatever is accepted are read as well: their place was checked.
TEST(Safetensors, SurvivesMutations) {
  std::vector<uint8_t> whole = fileOf(kHeader, kData);
  unsigned accepted = 0;
  for (uint64_t round = 0; round < 20'000; ++round) {
    Random random(1, round);
    std::vector<uint8_t> bytes = whole;
    for (uint64_t changes = 1 + random.below(4); changes; --changes) {
      size_t at = random.below(bytes.size());
      switch (random.below(4)) {
      case 0:
        bytes[at] = uint8_t(random.next());
        break;
      case 1: // a digit, bracket or quote moves much
        bytes[at] = random.pick({'0', '9', '[', ']', '{', '}', '"', ',', '-'});
        break;
      case 2:
        bytes.erase(bytes.begin() + at);
        break;
      case 3:
        bytes.insert(bytes.begin() + at, bytes[random.below(bytes.size())]);
        break;
      }
    }
    std::string error;
    auto file = Safetensors::read(bytes, error);
    EXPECT_EQ(file.has_value(), error.empty());
    if (!file)
      continue;
    ++accepted;
    for (const auto &[name, tensor] : file->tensors())
      EXPECT_EQ(file->values(tensor, UINT64_MAX, error)->size() *
                    spec::bytes(tensor.dtype),
                tensor.end - tensor.begin);
  }
  EXPECT_GT(accepted, 100u); // changed names and values are no errors
}

TEST(Safetensors, RefusesAHugeHeader) {
  std::vector<uint8_t> bytes(8 + Safetensors::kMaxHeader + 1, ' ');
  uint64_t length = Safetensors::kMaxHeader + 1;
  std::memcpy(bytes.data(), &length, 8);
  std::string error;
  EXPECT_FALSE(Safetensors::read(bytes, error));
  EXPECT_THAT(error, HasSubstr("a header of"));
}

namespace {
/// A file of 5 GiB and a bit, of which the disk holds the ends.
struct SparseFile {
  static constexpr uint64_t kBytes = uint64_t(5) << 30;

  SparseFile() {
    std::string end = std::to_string(kBytes);
    std::string header =
        R"({"a":{"dtype":"F32","shape":[)" + std::to_string(kBytes / 4) +
        R"(],"data_offsets":[0,)" + end +
        R"(]},"b":{"dtype":"F16","shape":[2],)" + R"("data_offsets":[)" + end +
        "," + std::to_string(kBytes + 4) + "]}}";
    std::vector<uint8_t> head = fileOf(header, {});
    const uint8_t tail[] = {0, 0x3c, 0, 0xc2};
    last = off_t(head.size() + kBytes);
    EXPECT_EQ(pwrite(file, head.data(), head.size(), 0), ssize_t(head.size()));
    EXPECT_EQ(pwrite(file, tail, sizeof(tail), last), ssize_t(sizeof(tail)));
  }
  ~SparseFile() {
    close(file);
    unlink(path.c_str());
  }

  std::string path = testing::TempDir() + "sparse-XXXXXX";
  int file = mkstemp(path.data());
  off_t last = 0; ///< where the second tensor is
};
} // namespace

TEST(Safetensors, ReadsOfALargeFileWhatIsAskedFor) {
  SparseFile sparse;
  std::string error;
  auto file = Safetensors::open(sparse.path, error);
  ASSERT_TRUE(file) << error;
  const auto &tensors = file->tensors();
  EXPECT_THAT(*file->values(tensors.at("a"), 3, error), ElementsAre(0, 0, 0));
  EXPECT_THAT(*file->values(tensors.at("b"), UINT64_MAX, error),
              ElementsAre(1, -3));
  // Another process may cut it short.
  ASSERT_EQ(ftruncate(sparse.file, sparse.last + 2), 0);
  EXPECT_FALSE(file->values(tensors.at("b"), UINT64_MAX, error));
  EXPECT_THAT(error, HasSubstr("became shorter"));
  EXPECT_FALSE(Safetensors::open(sparse.path, error));
  EXPECT_THAT(error, HasSubstr("outside of the file"));
}

TEST(Safetensors, ALargeFileOfSomethingElseIsRefusedByItsHeader) {
  SparseFile sparse;
  uint64_t length = SparseFile::kBytes;
  ASSERT_EQ(pwrite(sparse.file, &length, 8, 0), 8);
  std::string error;
  EXPECT_FALSE(Safetensors::open(sparse.path, error));
  EXPECT_THAT(error, HasSubstr("a header of 5368709120 bytes"));
}

TEST(Safetensors, OpensRegularFiles) {
  std::string error;
  EXPECT_FALSE(Safetensors::open("/no/such/file", error));
  EXPECT_THAT(error, HasSubstr("cannot read: "));
  EXPECT_FALSE(Safetensors::open("/dev/zero", error));
  EXPECT_THAT(error, HasSubstr("not a regular file"));
}
