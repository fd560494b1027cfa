//===- ElfImageTest.cpp - objects run, or are refused by name -------------===//
#include "Sample.h"

#include "lib/base/Artifact/ElfImage.h"

#include <gtest/gtest.h>

#include <cstring>
#include <elf.h>
#include <fstream>
#include <functional>

using namespace kvc::artifact;
using Bytes = std::vector<uint8_t>;

static std::string errorOf(const Bytes &bytes) {
  std::string error;
  EXPECT_FALSE(ElfImage::load(bytes, error));
  EXPECT_FALSE(error.empty());
  EXPECT_EQ(error.find('\n'), error.npos) << error;
  return error;
}

namespace {
class Loaded : public testing::Test {
protected:
  void SetUp() override {
    std::string error;
    // The object's own bytes go away, as those of a bundle may.
    image = ElfImage::load(testObject("accepted"), error);
    ASSERT_TRUE(image) << error;
  }
  template <typename Type> Type *function(const char *name) {
    void *address = image->symbol(name);
    EXPECT_TRUE(address) << name;
    return reinterpret_cast<Type *>(address);
  }
  std::unique_ptr<ElfImage> image;
};
} // namespace

TEST_F(Loaded, Constants) {
  auto *weigh = function<float(float, int)>("weigh");
  EXPECT_EQ(weigh(2, 0), 7.5f);
  EXPECT_EQ(weigh(0, 15), 16.5f);
}

TEST_F(Loaded, CallsAndTables) {
  EXPECT_EQ(function<int(int)>("callTwice")(20), 41);
  auto *jump = function<int(int, int)>("jump");
  const int expected[] = {900, 13, 60 ^ 5, 10, 480, ~30, -1};
  for (int n = 0; n < 7; ++n)
    EXPECT_EQ(jump(n, 30), expected[n]) << n;
  auto *apply = function<int(int, int)>("apply");
  EXPECT_EQ(apply(0, 5), -5);
  EXPECT_EQ(apply(1, 5), 6);
  EXPECT_EQ(function<int(int)>("callByDistance")(21), 42);
}

TEST_F(Loaded, OnlyGlobalFunctionsHaveNames) {
  for (const char *name : {"", "negate", "weights", "distance", ".text", "no"})
    EXPECT_FALSE(image->symbol(name)) << name;
}

/// The permissions of the page at `address`, such as "r-xp".
static std::string permissions(const void *address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin, end;
    char mode[5];
    if (std::sscanf(line.c_str(), "%zx-%zx %4s", &begin, &end, mode) == 3 &&
        uintptr_t(address) >= begin && uintptr_t(address) < end)
      return mode;
  }
  return "";
}

TEST_F(Loaded, NothingIsWritable) {
  auto *text = static_cast<uint8_t *>(image->symbol("weigh"));
  EXPECT_EQ(permissions(text), "r-xp");
  EXPECT_EQ(permissions(text + 4096), "r--p"); // constants follow the code
}

TEST(ElfImage, RefusesByName) {
  const std::pair<const char *, const char *> objects[] = {
      {"undefined", "undefined symbol `elsewhere`"},
      {"writable", "found writable section `.data`"},
      {"zeroed", "found writable section `.bss`"},
      {"thread_local", "found thread-local section `.tdata`"},
      {"global_offset", "found type 42 in `.text`"},
      {"indirect", "found symbol `kernel` of type 10"},
      {"overaligned", "section `.rodata` to be aligned"},
      {"empty", "expected code, found none"},
  };
  for (auto [name, error] : objects)
    EXPECT_NE(errorOf(testObject(name)).find(error), std::string::npos)
        << name << ": " << errorOf(testObject(name));
}

namespace {
/// Edits the tables of an object in place.
class Editor {
public:
  explicit Editor(Bytes &bytes) : bytes(bytes) {}
  Elf64_Ehdr &header() { return at<Elf64_Ehdr>(0); }
  Elf64_Shdr &section(size_t index) {
    return at<Elf64_Shdr>(header().e_shoff + index * sizeof(Elf64_Shdr));
  }
  size_t index(std::string_view name) {
    for (size_t i = 0; i < header().e_shnum; ++i)
      if (name == string(header().e_shstrndx, section(i).sh_name))
        return i;
    ADD_FAILURE() << "no section " << name;
    return 0;
  }
  Elf64_Shdr &section(std::string_view name) { return section(index(name)); }
  Elf64_Rela &relocation(std::string_view table, size_t n) {
    return at<Elf64_Rela>(section(table).sh_offset + n * sizeof(Elf64_Rela));
  }
  Elf64_Sym &symbol(std::string_view name) {
    Elf64_Shdr &table = section(".symtab");
    for (size_t i = 0; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
      auto &entry = at<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
      if (name == string(table.sh_link, entry.st_name))
        return entry;
    }
    ADD_FAILURE() << "no symbol " << name;
    return at<Elf64_Sym>(table.sh_offset);
  }
  Bytes &bytes;

private:
  template <typename T> T &at(size_t offset) {
    return *reinterpret_cast<T *>(&bytes.at(offset + sizeof(T) - 1) -
                                  (sizeof(T) - 1));
  }
  const char *string(size_t table, size_t offset) {
    return reinterpret_cast<char *>(
        &bytes.at(section(table).sh_offset + offset));
  }
};

/// A change of a good object, and what the message must say.
struct Change {
  const char *error;
  std::function<void(Editor)> apply;
};
} // namespace

static void expectRefused(const std::vector<Change> &changes) {
  const Bytes good = testObject("accepted");
  for (size_t i = 0; i < changes.size(); ++i) {
    Bytes bytes = good;
    changes[i].apply(Editor(bytes));
    std::string error = errorOf(bytes);
    EXPECT_NE(error.find(changes[i].error), error.npos)
        << i << " expected: " << changes[i].error << "\nfound: " << error;
  }
}

TEST(ElfImage, RefusesHostileHeaders) {
  expectRefused({
      {"bytes, found 63", [](Editor e) { e.bytes.resize(63); }},
      {"x86-64 reloc", [](Editor e) { e.header().e_ident[0] = 0; }},
      {"x86-64 reloc", [](Editor e) { e.header().e_ident[EI_CLASS] = 1; }},
      {"x86-64 reloc", [](Editor e) { e.header().e_ident[EI_DATA] = 2; }},
      {"x86-64 reloc", [](Editor e) { e.header().e_machine = EM_AARCH64; }},
      {"x86-64 reloc", [](Editor e) { e.header().e_type = ET_DYN; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shentsize = 63; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shnum = 0; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shnum = 65535; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shnum += 1; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shoff = ~0ull; }},
      {"1 to 1024 sections", [](Editor e) { e.header().e_shoff += 1; }},
      {"a string table", [](Editor e) { e.header().e_shstrndx = 65535; }},
      {"a string table",
       [](Editor e) { e.header().e_shstrndx = uint16_t(e.index(".text")); }},
  });
}

TEST(ElfImage, RefusesHostileSections) {
  expectRefused({
      {"to lie within", [](Editor e) { e.section(".text").sh_size = ~0ull; }},
      {"to lie within", [](Editor e) { e.section(".text").sh_offset = ~0ull; }},
      {"to lie within",
       [](Editor e) { e.section(".comment").sh_size = e.bytes.size(); }},
      {"within its string", [](Editor e) { e.section(".text").sh_name = ~0u; }},
      {"ends within its string",
       [](Editor e) {
         Elf64_Shdr &names = e.section(".strtab");
         while (e.bytes[names.sh_offset + names.sh_size - 1] == 0)
           --names.sh_size;
         e.section(".text").sh_name = uint32_t(names.sh_size - 1);
       }},
      {"one symbol table",
       [](Editor e) { e.section(".comment").sh_type = SHT_SYMTAB; }},
      {"unknown kind of section `.text`",
       [](Editor e) { e.section(".text").sh_type = SHT_NOBITS; }},
      {"unknown kind of section `.rodata`",
       [](Editor e) { e.section(".rodata").sh_flags |= SHF_COMPRESSED; }},
      {"unknown kind of section `.text`",
       [](Editor e) { e.section(".text").sh_flags |= SHF_GROUP; }},
      {"writable section `.text`",
       [](Editor e) { e.section(".text").sh_flags |= SHF_WRITE; }},
      {"writable section `.data.rel.ro",
       [](Editor e) { e.section(".data.rel.ro").sh_flags |= SHF_EXECINSTR; }},
      {"power of two", [](Editor e) { e.section(".text").sh_addralign = 24; }},
      {"power of two",
       [](Editor e) { e.section(".text").sh_addralign = 8192; }},
      {"expected code, found none",
       [](Editor e) { e.section(".text").sh_flags = SHF_ALLOC; }},
  });
}

TEST(ElfImage, RefusesHostileSymbolsAndRelocations) {
  auto type = [](Elf64_Rela &r, uint32_t t) {
    r.r_info = ELF64_R_INFO(ELF64_R_SYM(r.r_info), t);
  };
  auto symbol = [](Elf64_Rela &r, uint32_t s) {
    r.r_info = ELF64_R_INFO(s, ELF64_R_TYPE(r.r_info));
  };
  expectRefused({
      {"symbols of 24", [](Editor e) { e.section(".symtab").sh_entsize = 16; }},
      {"symbols of 24", [](Editor e) { e.section(".symtab").sh_size -= 1; }},
      {"a string table", [](Editor e) { e.section(".symtab").sh_link = 0; }},
      {"undefined symbol", [](Editor e) { e.symbol("weigh").st_shndx = 0; }},
      {"in section 65522",
       [](Editor e) { e.symbol("weigh").st_shndx = SHN_COMMON; }},
      {"of type 6", [](Editor e) { e.symbol("weigh").st_info = 0x16; }},
      {"a symbol table, found none",
       [](Editor e) { e.section(".symtab").sh_type = SHT_PROGBITS; }},
      {"against code or a constant",
       [](Editor e) {
         e.symbol("twice").st_shndx = uint16_t(e.index(".comment"));
       }},
      {"`weigh` to lie within",
       [](Editor e) { e.symbol("weigh").st_value = ~0ull; }},
      {"`weigh` to lie within",
       [](Editor e) { e.symbol("weigh").st_size = ~0ull; }},
      {"is there twice",
       [](Editor e) { e.symbol("weigh").st_name = e.symbol("jump").st_name; }},
      {"within its string", [](Editor e) { e.symbol("weigh").st_name = ~0u; }},
      {"relocations of 24",
       [](Editor e) { e.section(".rela.text").sh_entsize = 16; }},
      {"relocations of 24",
       [](Editor e) { e.section(".rela.text").sh_size -= 1; }},
      {"relocations of 24",
       [](Editor e) { e.section(".rela.text").sh_link = 0; }},
      {"relocations with addends",
       [](Editor e) { e.section(".rela.text").sh_type = SHT_REL; }},
      {"to name the section",
       [](Editor e) { e.section(".rela.text").sh_info = 60000; }},
      {"type 10 in `.text`",
       [=](Editor e) { type(e.relocation(".rela.text", 0), R_X86_64_32); }},
      {"symbol 0 in `.text`",
       [=](Editor e) { symbol(e.relocation(".rela.text", 0), 0); }},
      {"symbol 99999 in `.text`",
       [=](Editor e) { symbol(e.relocation(".rela.text", 0), 99999); }},
      {"at offset 18446744073709551615",
       [](Editor e) { e.relocation(".rela.text", 0).r_offset = ~0ull; }},
      {"relocations within `.text`",
       [](Editor e) {
         e.relocation(".rela.text", 0).r_offset =
             e.section(".text").sh_size - 3;
       }},
      {"2 GiB at most",
       [](Editor e) {
         e.relocation(".rela.text", 0).r_addend = int64_t(1) << 33;
       }},
  });
}

/// `bytes` with headers added up to the limit, all equal to `header`.
static Bytes withHeaders(Bytes bytes, const Elf64_Shdr &header) {
  Elf64_Ehdr &elf = Editor(bytes).header();
  auto begin = bytes.begin() + long(elf.e_shoff);
  Bytes headers(begin, begin + elf.e_shnum * long(sizeof(Elf64_Shdr)));
  elf.e_shoff = bytes.size();
  for (; elf.e_shnum < 1024; ++elf.e_shnum) {
    auto *raw = reinterpret_cast<const uint8_t *>(&header);
    headers.insert(headers.end(), raw, raw + sizeof(header));
  }
  bytes.insert(bytes.end(), headers.begin(), headers.end());
  return bytes;
}

// Tables and sections that share bytes of the file must not cost more than it.
TEST(ElfImage, BoundsWhatSharedBytesCost) {
  Bytes bytes = testObject("accepted");
  size_t table = bytes.size(), entries = 100000;
  size_t tableBytes = entries * sizeof(Elf64_Rela);
  bytes.resize(table + tableBytes);
  for (size_t i = 0; i < entries; ++i)
    std::memcpy(&bytes[table + i * sizeof(Elf64_Rela)],
                &Editor(bytes).relocation(".rela.text", 0), sizeof(Elf64_Rela));

  Bytes manySymbols = bytes;
  Editor(manySymbols).section(".symtab").sh_offset = table;
  Editor(manySymbols).section(".symtab").sh_size = tableBytes;
  EXPECT_EQ(errorOf(manySymbols), "expected at most 65536 symbols of 24 bytes");

  Elf64_Shdr header = Editor(bytes).section(".rela.text");
  header.sh_offset = table;
  header.sh_size = tableBytes;
  EXPECT_EQ(errorOf(withHeaders(bytes, header)),
            "expected at most 1048576 relocations");

  header = Editor(bytes).section(".rodata");
  header.sh_offset = table;
  header.sh_size = tableBytes;
  std::string error = errorOf(withHeaders(bytes, header));
  EXPECT_EQ(error.substr(0, 44),
            "expected an image of at most 67108864 bytes,");

  // A name may not be longer than a name.
  Elf64_Shdr &names = Editor(bytes).section(".strtab");
  std::memset(&bytes[table], 'x', tableBytes - 1);
  bytes.back() = 0;
  names.sh_size = bytes.size() - names.sh_offset;
  Editor(bytes).section(".text").sh_name = uint32_t(table - names.sh_offset);
  EXPECT_NE(errorOf(bytes).find("at most 512 bytes"), std::string::npos);
}

TEST(ElfImage, EveryTruncationIsRefused) {
  const Bytes bytes = testObject("accepted");
  for (size_t size = 0; size < bytes.size(); ++size)
    errorOf(Bytes(bytes.begin(), bytes.begin() + long(size)));
}

// Loading must be safe for any bytes; nothing here is called.
TEST(ElfImage, EveryFlippedByteLoadsOrIsRefused) {
  const Bytes good = testObject("accepted");
  for (size_t i = 0; i < good.size(); ++i)
    for (uint8_t mask : {0x01, 0x80, 0xff}) {
      Bytes bytes = good;
      bytes[i] ^= mask;
      std::string error;
      bool loaded = ElfImage::load(bytes, error) != nullptr;
      ASSERT_EQ(loaded, error.empty()) << i;
    }
}
