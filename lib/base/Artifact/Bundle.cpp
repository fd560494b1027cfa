//===- Bundle.cpp - the .kvca container -----------------------------------===//
#include "lib/base/Artifact/Bundle.h"

#include <array>
#include <cstring>
#include <set>

using namespace kvc::artifact;

static constexpr uint32_t kLocalMagic = 0x04034b50, kCentralMagic = 0x02014b50,
                          kEndMagic = 0x06054b50;
static constexpr size_t kLocalBytes = 30, kEndBytes = 22;
static constexpr uint16_t kVersion = 10;          ///< plain stored files
static constexpr uint16_t kUnixMadeBy = 3 << 8;   ///< so that modes count
static constexpr uint32_t kMode = 0100644u << 16; ///< regular, rw-r--r--
static constexpr uint16_t kPaddingId = 0xd935;
static constexpr uint32_t kTime = 0x00210000; ///< 1980-01-01 00:00, the first

//===----------------------------------------------------------------------===//
// CRC-32
//===----------------------------------------------------------------------===//

/// tables[k][b]: the remainder of byte b followed by k zero bytes.
static constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k)
    for (uint32_t byte = 0; byte < 256; ++byte)
      tables[k][byte] =
          tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 255];
  return tables;
}();

uint32_t kvc::artifact::crc32(std::span<const uint8_t> bytes) {
  const auto &t = kCrcTables;
  uint32_t crc = ~0u;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, &bytes[i], 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k)
      crc ^= t[7 - k][word >> 8 * k & 255];
  }
  for (; i < bytes.size(); ++i)
    crc = crc >> 8 ^ t[0][(crc ^ bytes[i]) & 255];
  return ~crc;
}

//===----------------------------------------------------------------------===//
// Records
//===----------------------------------------------------------------------===//

namespace {
/// Reads a record field by field. Reads beyond the end give zeros and leave
/// `ok` false.
class Fields {
public:
  Fields(std::span<const uint8_t> bytes, size_t offset)
      : bytes(bytes), offset(offset) {}

  uint16_t u16() { return read<uint16_t>(); }
  uint32_t u32() { return read<uint32_t>(); }
  std::span<const uint8_t> take(size_t size) {
    ok = ok && offset <= bytes.size() && size <= bytes.size() - offset;
    if (!ok)
      return {};
    offset += size;
    return bytes.subspan(offset - size, size);
  }
  size_t position() const { return offset; }
  bool ok = true;

private:
  template <typename T> T read() {
    T value = 0;
    if (std::span<const uint8_t> from = take(sizeof(T)); ok)
      std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }
  std::span<const uint8_t> bytes;
  size_t offset;
};

/// What the local header and the central directory both say of a file.
struct FileRecord {
  uint16_t version = kVersion, flags = 0, method = 0;
  uint32_t time = kTime, crc = 0, stored = 0, size = 0;
  uint16_t nameSize = 0, extraSize = 0;

  static FileRecord read(Fields &fields) {
    FileRecord r;
    r.version = fields.u16(), r.flags = fields.u16(), r.method = fields.u16();
    r.time = fields.u32(), r.crc = fields.u32();
    r.stored = fields.u32(), r.size = fields.u32();
    r.nameSize = fields.u16(), r.extraSize = fields.u16();
    return r;
  }
  /// Whether both describe the same file; the extra fields may differ.
  bool agrees(const FileRecord &o) const {
    return version == o.version && flags == o.flags && method == o.method &&
           time == o.time && crc == o.crc && stored == o.stored &&
           size == o.size && nameSize == o.nameSize;
  }
};

struct Writer {
  std::vector<uint8_t> bytes;

  template <typename T> void put(T value) {
    uint8_t raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.insert(bytes.end(), raw, raw + sizeof(T));
  }
  void put(std::span<const uint8_t> data) {
    bytes.insert(bytes.end(), data.begin(), data.end());
  }
  void put(const std::string &text) {
    bytes.insert(bytes.end(), text.begin(), text.end());
  }
  void put(const FileRecord &r) {
    put(r.version), put(r.flags), put(r.method);
    put(r.time), put(r.crc), put(r.stored), put(r.size);
    put(r.nameSize), put(r.extraSize);
  }
};
} // namespace

static std::string checkName(std::string_view name) {
  for (char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
          (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' ||
          c == '/'))
      return "expected names of letters, digits and `_.-/`";
  if (name.empty() || name.size() > kMaxEntryName)
    return "expected names of 1 to " + std::to_string(kMaxEntryName) + " bytes";
  if (name.front() == '/' || name.find("..") != name.npos)
    return "expected names without leading `/` or `..`, found `" +
           std::string(name) + "`";
  return "";
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

/// Appends local header and data; returns what the central directory repeats.
static FileRecord putFile(Writer &out, const Entry &entry) {
  FileRecord record;
  record.crc = crc32(entry.bytes);
  record.stored = record.size = uint32_t(entry.bytes.size());
  record.nameSize = uint16_t(entry.name.size());
  // An extra field is at least id, size and the alignment: 6 bytes.
  size_t plain = out.bytes.size() + kLocalBytes + entry.name.size() + 6;
  size_t padding = (kBlobAlignment - plain % kBlobAlignment) % kBlobAlignment;
  record.extraSize = uint16_t(6 + padding);
  out.put(kLocalMagic);
  out.put(record);
  out.put(entry.name);
  out.put(kPaddingId);
  out.put(uint16_t(2 + padding));
  out.put(uint16_t(kBlobAlignment));
  out.bytes.resize(out.bytes.size() + padding);
  out.put(entry.bytes);
  record.extraSize = 0;
  return record;
}

static std::vector<uint8_t> putAll(std::span<const Entry> entries) {
  Writer out, directory;
  for (const Entry &entry : entries) {
    auto offset = uint32_t(out.bytes.size());
    FileRecord record = putFile(out, entry);
    directory.put(kCentralMagic);
    directory.put(uint16_t(kUnixMadeBy | kVersion));
    directory.put(record);
    directory.put(uint16_t(0)); // comment
    directory.put(uint16_t(0)); // disk
    directory.put(uint16_t(0)); // internal attributes
    directory.put(kMode);
    directory.put(offset);
    directory.put(entry.name);
  }
  auto offset = uint32_t(out.bytes.size());
  out.put(std::span<const uint8_t>(directory.bytes));
  out.put(kEndMagic);
  out.put(uint32_t(0)); // disks
  out.put(uint16_t(entries.size()));
  out.put(uint16_t(entries.size()));
  out.put(uint32_t(directory.bytes.size()));
  out.put(offset);
  out.put(uint16_t(0)); // comment
  return std::move(out.bytes);
}

std::vector<uint8_t> kvc::artifact::pack(const Manifest &manifest,
                                         std::span<const Entry> blobs,
                                         std::string &error) {
  std::string text = write(manifest);
  std::vector<Entry> entries = {
      {kManifestName,
       {reinterpret_cast<const uint8_t *>(text.data()), text.size()}}};
  entries.insert(entries.end(), blobs.begin(), blobs.end());
  // What putAll cannot count must not reach it; open() checks all the rest.
  size_t room = kMaxBundleBytes;
  for (const Entry &entry : entries) {
    error = checkName(entry.name);
    if (error.empty() &&
        (entries.size() > kMaxEntries || entry.bytes.size() > room))
      error = "expected at most " + std::to_string(kMaxEntries) +
              " entries of " + std::to_string(kMaxBundleBytes) +
              " bytes together";
    if (!error.empty())
      return {};
    room -= entry.bytes.size();
  }
  std::vector<uint8_t> bytes = putAll(entries);
  if (!Bundle::open(bytes, error))
    return {};
  return bytes;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {
/// The end record.
struct Directory {
  size_t offset = 0, count = 0;
};
} // namespace

static std::string readEnd(std::span<const uint8_t> bytes, Directory &out) {
  if (bytes.size() > kMaxBundleBytes)
    return "expected at most " + std::to_string(kMaxBundleBytes) +
           " bytes, found " + std::to_string(bytes.size());
  if (bytes.size() < kEndBytes)
    return "not an artifact: too short";
  size_t end = bytes.size() - kEndBytes;
  Fields fields(bytes, end);
  if (fields.u32() != kEndMagic)
    return "not an artifact, or cut short: no end record";
  uint32_t disks = fields.u32();
  uint16_t here = fields.u16();
  out.count = fields.u16();
  uint64_t size = fields.u32();
  out.offset = fields.u32();
  uint16_t comment = fields.u16();
  if (disks || comment || here != out.count)
    return "expected a single archive without a comment";
  if (out.count < 1 || out.count > kMaxEntries)
    return "expected 1 to " + std::to_string(kMaxEntries) + " entries, found " +
           std::to_string(out.count);
  if (out.offset + size != end)
    return "expected the central directory to end at the end record";
  return "";
}

/// Reads the local header at `begin`, where the entry before it ended; `begin`
/// moves to the end of this one's data.
static std::string readLocal(std::span<const uint8_t> bytes,
                             const FileRecord &central, std::string_view name,
                             size_t &begin, Entry &entry) {
  Fields fields(bytes, begin);
  bool magic = fields.u32() == kLocalMagic;
  FileRecord local = FileRecord::read(fields);
  std::span<const uint8_t> localName = fields.take(local.nameSize);
  fields.take(local.extraSize);
  size_t data = fields.position();
  entry.bytes = fields.take(local.size);
  entry.name = name;
  if (!fields.ok || !magic)
    return "expected a local header and data before the central directory";
  if (!local.agrees(central) ||
      std::memcmp(localName.data(), name.data(), name.size()) != 0)
    return "expected the local header to agree with the central directory";
  if (data % kBlobAlignment)
    return "expected data at a multiple of " + std::to_string(kBlobAlignment);
  if (crc32(entry.bytes) != local.crc)
    return "checksum mismatch";
  begin = fields.position();
  return "";
}

/// Reads one record of the central directory and the file that it names.
static std::string readEntry(std::span<const uint8_t> files, Fields &directory,
                             size_t &begin, Entry &entry) {
  bool magic = directory.u32() == kCentralMagic;
  directory.u16(); // made by
  FileRecord record = FileRecord::read(directory);
  uint16_t comment = directory.u16(), disk = directory.u16();
  directory.u16(); // attributes: nothing here depends on them
  directory.u32();
  uint32_t offset = directory.u32();
  std::span<const uint8_t> raw = directory.take(record.nameSize);
  if (!directory.ok || !magic)
    return "expected a central directory record";
  std::string_view name(reinterpret_cast<const char *>(raw.data()), raw.size());
  if (std::string error = checkName(name); !error.empty())
    return error;
  std::string prefix = std::string(name) + ": ";
  if (record.flags || record.method || record.version > 20 ||
      record.stored != record.size)
    return prefix + "expected a stored file without flags";
  if (record.extraSize || comment || disk)
    return prefix + "expected no extra field, comment or other disk in the "
                    "central directory";
  if (offset != begin)
    return prefix + "expected files in order without gaps or overlap";
  std::string error = readLocal(files, record, name, begin, entry);
  return error.empty() ? "" : prefix + error;
}

static std::string readEntries(std::span<const uint8_t> bytes,
                               std::vector<Entry> &list) {
  Directory directory;
  if (std::string error = readEnd(bytes, directory); !error.empty())
    return error;
  std::span<const uint8_t> files = bytes.first(directory.offset);
  Fields fields(bytes.first(bytes.size() - kEndBytes), directory.offset);
  std::set<std::string_view> names;
  size_t begin = 0;
  list.resize(directory.count);
  for (Entry &entry : list) {
    if (std::string error = readEntry(files, fields, begin, entry);
        !error.empty())
      return error;
    if (!names.insert(entry.name).second)
      return entry.name + ": there twice";
  }
  if (begin != directory.offset ||
      fields.position() != bytes.size() - kEndBytes)
    return "expected nothing between the files, the central directory and the "
           "end record";
  if (list.front().name != kManifestName)
    return "expected `" + std::string(kManifestName) +
           "` to be the first entry, found `" + list.front().name + "`";
  return "";
}

std::optional<Bundle> Bundle::open(std::span<const uint8_t> bytes,
                                   std::string &error) {
  Bundle bundle;
  error = readEntries(bytes, bundle.list);
  if (!error.empty())
    return std::nullopt;
  std::span<const uint8_t> text = bundle.list.front().bytes;
  std::optional<Manifest> manifest =
      read({reinterpret_cast<const char *>(text.data()), text.size()}, error);
  if (!manifest) {
    error = std::string(kManifestName) + ": " + error;
    return std::nullopt;
  }
  bundle.info = std::move(*manifest);
  for (size_t i = 0; i < bundle.info.kernels.size(); ++i) {
    const KernelInfo &kernel = bundle.info.kernels[i];
    for (auto [field, entry] : {std::pair{"blob", &kernel.blob},
                                {"ptx", &kernel.ptx},
                                {"sites", &kernel.sites}}) {
      if (entry->empty() || (*entry != kManifestName && bundle.find(*entry)))
        continue;
      error = std::string(kManifestName) + ": /kernels/" + std::to_string(i) +
              "/" + field + ": expected an entry of the artifact, found `" +
              *entry + "`";
      return std::nullopt;
    }
  }
  return bundle;
}

std::optional<std::span<const uint8_t>>
Bundle::find(std::string_view name) const {
  for (const Entry &entry : list)
    if (entry.name == name)
      return entry.bytes;
  return std::nullopt;
}
