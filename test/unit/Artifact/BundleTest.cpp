//===- BundleTest.cpp - the container: whole, or refused ------------------===//
#include "Sample.h"

#include "lib/base/Artifact/ElfImage.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>

using namespace kvc::artifact;
using Bytes = std::vector<uint8_t>;

static Bytes packSample(const Bytes &object) {
  std::string error;
  std::vector<Entry> blobs = {{kSampleBlob, object}, {"empty", {}}};
  Bytes out = pack(sampleManifest(), blobs, error);
  EXPECT_FALSE(out.empty()) << error;
  return out;
}

static Bytes small() { return packSample({1, 2, 3, 4, 5, 6, 7}); }

static std::string errorOf(const Bytes &bytes) {
  std::string error;
  EXPECT_FALSE(Bundle::open(bytes, error));
  EXPECT_FALSE(error.empty());
  EXPECT_EQ(error.find('\n'), error.npos) << error;
  return error;
}

static bool sameEntries(const Bundle &a, const Bundle &b) {
  if (a.entries().size() != b.entries().size())
    return false;
  for (size_t i = 0; i < a.entries().size(); ++i) {
    const Entry &x = a.entries()[i], &y = b.entries()[i];
    if (x.name != y.name || !std::equal(x.bytes.begin(), x.bytes.end(),
                                        y.bytes.begin(), y.bytes.end()))
      return false;
  }
  return a.manifest() == b.manifest();
}

TEST(Crc32, KnownValues) {
  auto crc = [](std::string_view text) {
    return crc32({reinterpret_cast<const uint8_t *>(text.data()), text.size()});
  };
  // From Python's zlib.crc32.
  EXPECT_EQ(crc(""), 0u);
  EXPECT_EQ(crc("a"), 0xe8b7be43u);
  EXPECT_EQ(crc("123456789"), 0xcbf43926u);
  EXPECT_EQ(crc("The quick brown fox jumps over the lazy dog"), 0x414fa339u);
  Bytes ramp(1021);
  for (size_t i = 0; i < ramp.size(); ++i)
    ramp[i] = uint8_t(i * 7);
  EXPECT_EQ(crc32(ramp), 0xda59b73au);
}

TEST(Bundle, RoundTrip) {
  Bytes bytes = small();
  std::string error;
  std::optional<Bundle> bundle = Bundle::open(bytes, error);
  ASSERT_TRUE(bundle) << error;
  EXPECT_EQ(bundle->manifest(), sampleManifest());
  ASSERT_EQ(bundle->entries().size(), 3u);
  EXPECT_EQ(bundle->entries()[0].name, kManifestName);
  auto blob = bundle->find(kSampleBlob);
  ASSERT_TRUE(blob);
  EXPECT_EQ(Bytes(blob->begin(), blob->end()), Bytes({1, 2, 3, 4, 5, 6, 7}));
  ASSERT_TRUE(bundle->find("empty"));
  EXPECT_EQ(bundle->find("empty")->size(), 0u);
  EXPECT_FALSE(bundle->find("cpu"));
  for (const Entry &entry : bundle->entries()) {
    EXPECT_EQ((entry.bytes.data() - bytes.data()) % 64, 0) << entry.name;
    EXPECT_LE(entry.bytes.data() + entry.bytes.size(), &bytes.back());
  }
  EXPECT_EQ(bytes, small());
}

RC_GTEST_PROP(Bundle, AnyBlobsRoundTrip, ()) {
  auto contents =
      *rc::gen::container<std::vector<Bytes>>(rc::gen::arbitrary<Bytes>());
  auto nameChar = rc::gen::element('a', 'Z', '0', '_', '-', '/');
  std::vector<Entry> blobs = {{kSampleBlob, {}}};
  for (size_t i = 0; i < contents.size(); ++i) {
    auto middle = *rc::gen::container<std::string>(nameChar);
    std::string name = "n" + middle.substr(0, 100) + "." + std::to_string(i);
    blobs.push_back({name, contents[i]});
  }
  std::string error;
  Bytes bytes = pack(sampleManifest(), blobs, error);
  std::optional<Bundle> bundle = Bundle::open(bytes, error);
  RC_ASSERT(bundle.has_value());
  RC_ASSERT(bundle->entries().size() == blobs.size() + 1);
  for (size_t i = 0; i < blobs.size(); ++i) {
    const Entry &entry = bundle->entries()[i + 1];
    RC_ASSERT(entry.name == blobs[i].name);
    RC_ASSERT(std::equal(entry.bytes.begin(), entry.bytes.end(),
                         blobs[i].bytes.begin(), blobs[i].bytes.end()));
  }
}

TEST(Bundle, PackRefusesWhatOpenWould) {
  std::string error;
  auto refused = [&](Manifest manifest, std::vector<Entry> blobs) {
    error.clear();
    EXPECT_TRUE(pack(manifest, blobs, error).empty());
    return error;
  };
  Manifest good = sampleManifest();
  for (const char *name : {"", "/x", "a/../b", "..", "a b", "a\\b", "a:b"})
    EXPECT_NE(refused(good, {{kSampleBlob, {}}, {name, {}}}).find("names"),
              std::string::npos)
        << name;
  std::string longName(kMaxEntryName + 1, 'x');
  EXPECT_NE(refused(good, {{longName, {}}}).find("names"), std::string::npos);
  EXPECT_EQ(refused(good, {{kSampleBlob, {}}, {kSampleBlob, {}}}),
            "cpu/x86-64-v3.o: there twice");
  EXPECT_EQ(refused(good, {{kSampleBlob, {}}, {kManifestName, {}}}),
            "manifest.json: there twice");
  EXPECT_EQ(refused(good, {}), "manifest.json: /kernels/0/blob: expected an "
                               "entry of the artifact, found "
                               "`cpu/x86-64-v3.o`");
  EXPECT_NE(refused(good, std::vector<Entry>(1024, {kSampleBlob, {}}))
                .find("at most 1024"),
            std::string::npos);
  // Sizes are refused before a byte is touched.
  const uint8_t byte = 0;
  std::span<const uint8_t> huge(&byte, kMaxBundleBytes + 1);
  EXPECT_NE(refused(good, {{kSampleBlob, huge}}).find("at most"),
            std::string::npos);
  EXPECT_FALSE(Bundle::open(huge, error));
  EXPECT_EQ(error, "expected at most 268435456 bytes, found 268435457");
  good.model.softmaxScale = 0;
  EXPECT_EQ(refused(good, {{kSampleBlob, {}}}).substr(0, 35),
            "manifest.json: /model/softmax_scale");
}

TEST(Bundle, EveryTruncationIsRefused) {
  Bytes bytes = small();
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A vector of its own, so that ASan sees a read beyond the end.
    errorOf(Bytes(bytes.begin(), bytes.begin() + long(size)));
    errorOf(Bytes(bytes.end() - long(size), bytes.end()));
  }
}

TEST(Bundle, EveryFlippedBitIsRefusedOrHarmless) {
  const Bytes bytes = small();
  std::string error;
  std::optional<Bundle> good = Bundle::open(bytes, error);
  ASSERT_TRUE(good);
  unsigned refused = 0, harmless = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      Bytes changed = bytes;
      changed[i] ^= uint8_t(1 << bit);
      std::optional<Bundle> bundle = Bundle::open(changed, error);
      bundle ? ++harmless : ++refused;
      ASSERT_TRUE(!bundle || sameEntries(*bundle, *good)) << i << ' ' << bit;
    }
  EXPECT_GT(refused, 8 * bytes.size() / 2);
  // Padding and attributes.
  EXPECT_GT(harmless, 0u);
}

namespace {
/// A change of a small bundle, and what the message must say.
struct Change {
  const char *what;
  std::function<void(Bytes &)> apply;
  const char *error;
};
} // namespace

static void put16(Bytes &bytes, size_t at, uint16_t value) {
  std::memcpy(&bytes.at(at + 1) - 1, &value, 2);
}
static void put32(Bytes &bytes, size_t at, uint32_t value) {
  std::memcpy(&bytes.at(at + 3) - 3, &value, 4);
}
static uint32_t get32(const Bytes &bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, &bytes.at(at + 3) - 3, 4);
  return value;
}
static size_t endRecord(const Bytes &bytes) { return bytes.size() - 22; }
/// Where the n-th record of the central directory, or the local header that it
/// names, begins.
static size_t central(const Bytes &bytes, int n) {
  size_t at = get32(bytes, endRecord(bytes) + 16);
  for (; n > 0; --n)
    at += 46 + bytes.at(at + 28);
  return at;
}
static size_t local(const Bytes &bytes, int n) {
  return get32(bytes, central(bytes, n) + 42);
}

/// Sets a field in both headers of the n-th entry; `at` is its place in the
/// local one.
static void putBoth(Bytes &bytes, int n, size_t at, uint32_t value, int width) {
  for (size_t place : {local(bytes, n) + at, central(bytes, n) + at + 2})
    width == 2 ? put16(bytes, place, uint16_t(value))
               : put32(bytes, place, value);
}

TEST(Bundle, HostileDirectories) {
  const std::vector<Change> changes = {
      {"end magic", [](Bytes &b) { b[endRecord(b)] ^= 1; }, "no end record"},
      {"trailing byte", [](Bytes &b) { b.push_back(0); }, "no end record"},
      {"disk", [](Bytes &b) { put16(b, endRecord(b) + 4, 1); }, "single"},
      {"comment", [](Bytes &b) { put16(b, endRecord(b) + 20, 1); }, "single"},
      {"counts differ", [](Bytes &b) { put16(b, endRecord(b) + 8, 2); },
       "single"},
      {"no entry", [](Bytes &b) { put32(b, endRecord(b) + 8, 0); },
       "1 to 1024 entries"},
      {"zip64 count", [](Bytes &b) { put32(b, endRecord(b) + 8, ~0u); },
       "1 to 1024 entries"},
      {"one entry more", [](Bytes &b) { put32(b, endRecord(b) + 8, 0x40004); },
       "central directory record"},
      {"one entry less", [](Bytes &b) { put32(b, endRecord(b) + 8, 0x20002); },
       "nothing between"},
      {"directory size", [](Bytes &b) { put32(b, endRecord(b) + 12, 1); },
       "end at the end record"},
      {"zip64 offset", [](Bytes &b) { put32(b, endRecord(b) + 16, ~0u); },
       "end at the end record"},
      {"central magic", [](Bytes &b) { b[central(b, 1)] ^= 1; },
       "central directory record"},
      {"central name size",
       [](Bytes &b) { put16(b, central(b, 2) + 28, 60000); },
       "central directory record"},
      {"central extra", [](Bytes &b) { put16(b, central(b, 2) + 30, 1); },
       "no extra field"},
      {"central comment", [](Bytes &b) { put16(b, central(b, 2) + 32, 1); },
       "no extra field"},
      {"other disk", [](Bytes &b) { put16(b, central(b, 2) + 34, 1); },
       "no extra field"},
      {"offset of the first", [](Bytes &b) { put32(b, central(b, 0) + 42, 1); },
       "without gaps"},
      {"overlap",
       [](Bytes &b) {
         put32(b, central(b, 1) + 42, get32(b, central(b, 0) + 42));
       },
       "without gaps"},
      {"offset beyond", [](Bytes &b) { put32(b, central(b, 1) + 42, ~0u); },
       "without gaps"},
  };
  for (const Change &change : changes) {
    Bytes bytes = small();
    change.apply(bytes);
    EXPECT_NE(errorOf(bytes).find(change.error), std::string::npos)
        << change.what << ": " << errorOf(bytes);
  }
}

TEST(Bundle, HostileFiles) {
  const std::vector<Change> changes = {
      {"local magic", [](Bytes &b) { b[local(b, 1)] ^= 1; }, "local header"},
      {"encrypted", [](Bytes &b) { putBoth(b, 1, 6, 1, 2); }, "stored file"},
      {"descriptor", [](Bytes &b) { putBoth(b, 1, 6, 8, 2); }, "stored file"},
      {"deflated", [](Bytes &b) { putBoth(b, 1, 8, 8, 2); }, "stored file"},
      {"zip64 version", [](Bytes &b) { putBoth(b, 1, 4, 45, 2); },
       "stored file"},
      {"sizes differ", [](Bytes &b) { putBoth(b, 1, 18, 6, 4); },
       "stored file"},
      {"zip64 sizes",
       [](Bytes &b) {
         putBoth(b, 1, 18, ~0u, 4);
         putBoth(b, 1, 22, ~0u, 4);
       },
       "local header and data"},
      {"size beyond the files",
       [](Bytes &b) {
         putBoth(b, 2, 18, 1, 4);
         putBoth(b, 2, 22, 1, 4);
       },
       "local header and data"},
      {"extra beyond the files",
       [](Bytes &b) { put16(b, local(b, 2) + 28, 60000); },
       "local header and data"},
      {"only the local name", [](Bytes &b) { b[local(b, 1) + 30] = 'x'; },
       "agree"},
      {"only the local method", [](Bytes &b) { put16(b, local(b, 1) + 8, 8); },
       "agree"},
      {"only the local time", [](Bytes &b) { put32(b, local(b, 1) + 10, 1); },
       "agree"},
      {"only the central checksum",
       [](Bytes &b) { put32(b, central(b, 1) + 16, 1); }, "agree"},
      {"checksum", [](Bytes &b) { putBoth(b, 1, 14, 1, 4); },
       "checksum mismatch"},
      {"alignment",
       [](Bytes &b) { // one byte of padding becomes data
         put16(b, local(b, 1) + 28, b[local(b, 1) + 28] - 1);
         putBoth(b, 1, 18, 8, 4), putBoth(b, 1, 22, 8, 4);
       },
       "multiple of 64"},
      {"name",
       [](Bytes &b) { b[local(b, 1) + 30] = b[central(b, 1) + 46] = '/'; },
       "without leading"},
      {"manifest not first",
       [](Bytes &b) { b[local(b, 0) + 30] = b[central(b, 0) + 46] = 'M'; },
       "to be the first entry"},
  };
  for (const Change &change : changes) {
    Bytes bytes = small();
    change.apply(bytes);
    EXPECT_NE(errorOf(bytes).find(change.error), std::string::npos)
        << change.what << ": " << errorOf(bytes);
  }
}

/// An artifact with kernels for GPUs.
static Bytes packGpuSample(const Bytes &object) {
  std::string error;
  std::vector<Entry> entries = gpuSampleEntries();
  entries.insert(entries.begin(), {kSampleBlob, object});
  Bytes out = pack(gpuSampleManifest(), entries, error);
  EXPECT_FALSE(out.empty()) << error;
  return out;
}

// What version 5.0 wrote stays readable, and its code runs.
TEST(Bundle, Golden) {
  Bytes golden = readFile(goldenPath());
  std::string error;
  std::optional<Bundle> bundle = Bundle::open(golden, error);
  ASSERT_TRUE(bundle) << error;
  EXPECT_EQ(bundle->manifest(), gpuSampleManifest());
  for (const Entry &entry : gpuSampleEntries()) {
    auto found = bundle->find(entry.name);
    ASSERT_TRUE(found) << entry.name;
    EXPECT_TRUE(std::equal(found->begin(), found->end(), entry.bytes.begin(),
                           entry.bytes.end()));
  }
  auto object = bundle->find(kSampleBlob);
  ASSERT_TRUE(object);
  std::unique_ptr<ElfImage> image = ElfImage::load(*object, error);
  ASSERT_TRUE(image) << error;
  auto *function = reinterpret_cast<int (*)(int)>(image->symbol("kvc_golden"));
  ASSERT_TRUE(function);
  EXPECT_EQ(function(0), 42);
  EXPECT_EQ(function(3), -3);
  // Equal input gives equal bytes, on any day and machine.
  EXPECT_EQ(packGpuSample({object->begin(), object->end()}), golden);
}

// 1: nothing in it shows that its code and its manifest belong together. 2: its
// layers are ranges, and its kernels take structs that are no more. 3: its
// streams are K and V. 4:
// its rows are of one token each.
TEST(Bundle, EarlierFormatsAreRefusedWithAReason) {
  for (const char *version : {"1.1", "2.0", "3.0", "4.0"})
    EXPECT_EQ(errorOf(readFile(goldenPath(version))),
              std::string("manifest.json: /format/major: expected an artifact "
                          "of format 5, found ") +
                  version[0] + ", of an earlier kvc: compile its spec again");
}

TEST(Bundle, KernelsForGpusNeedAllTheirEntries) {
  std::vector<Entry> entries = gpuSampleEntries();
  entries.push_back({kSampleBlob, {}});
  struct {
    const char *drop, *field;
  } cases[] = {{"cuda/sm_90a.cubin", "blob"},
               {"cuda/sm_90a.ptx", "ptx"},
               {"cuda/sm_100a.ptx", "ptx"},
               {"sim/sm_90a.o", "blob"},
               {"sim/sm_90a.sites", "sites"}};
  for (auto &c : cases) {
    std::vector<Entry> fewer = entries;
    std::erase_if(fewer, [&](const Entry &e) { return e.name == c.drop; });
    std::string error;
    EXPECT_TRUE(pack(gpuSampleManifest(), fewer, error).empty());
    EXPECT_NE(error.find(std::string("/") + c.field +
                         ": expected an entry of the artifact, found `" +
                         c.drop + "`"),
              error.npos)
        << error;
  }
}

// --gtest_also_run_disabled_tests --gtest_filter=*WriteGolden writes the file
// of a new format version into the working directory.
TEST(Bundle, DISABLED_WriteGolden) {
  Bytes bytes = packGpuSample(testObject("golden"));
  std::ofstream stream("golden.kvca", std::ios::binary);
  stream.write(reinterpret_cast<const char *>(bytes.data()),
               std::streamsize(bytes.size()));
  EXPECT_TRUE(stream.flush());
}
