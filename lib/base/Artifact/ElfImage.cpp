//===- ElfImage.cpp - runs an object file without a linker ----------------===//
#include "lib/base/Artifact/ElfImage.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <elf.h>
#include <new>
#include <sys/mman.h>
#include <vector>

using namespace kvc::artifact;

static constexpr uint64_t kPage = 4096;
static constexpr size_t kMaxSections = 1024, kMaxSymbols = 65536;
/// Hostile names may share bytes of the file, so its size does not bound what
/// looking for their ends costs.
static constexpr uint64_t kMaxName = 512;
/// Relocations of all sections: hostile tables may share bytes of the file, so
/// its size does not bound them.
static constexpr uint64_t kMaxRelocations = 1u << 20;

/// A name of the object, cut and made printable for one line.
static std::string quoted(std::string_view name) {
  std::string out = "`";
  for (char c : name.substr(0, 64))
    out += c >= ' ' && c <= '~' ? c : '?';
  return out + '`';
}

static uint64_t alignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

namespace kvc::artifact {
/// The steps of one load. Each returns false after setting `error`.
class ElfLoader {
public:
  ElfLoader(std::span<const uint8_t> object, std::string &error)
      : object(object), error(error), image(new ElfImage) {}

  std::unique_ptr<ElfImage> run() {
    if (readHeader() && readSections() && layOut() && copySections() &&
        readSymbols() && relocate() && protect())
      return std::move(image);
    return nullptr;
  }

private:
  enum class Kind : uint8_t { Skip, Code, Constants };
  struct Section {
    Elf64_Shdr header;
    std::string_view name;
    Kind kind = Kind::Skip;
    uint64_t offset = 0; ///< in the image
  };
  /// A symbol that a relocation may use.
  struct Symbol {
    bool loaded = false;
    uint64_t address = 0;
  };

  bool fail(std::string message) {
    error = std::move(message);
    return false;
  }
  bool has(uint64_t offset, uint64_t size) const {
    return offset <= object.size() && size <= object.size() - offset;
  }
  /// The caller has checked the bounds.
  template <typename T> T get(uint64_t offset) const {
    T value;
    std::memcpy(&value, object.data() + offset, sizeof(T));
    return value;
  }

  bool readHeader();
  bool readSections();
  bool classify(Section &section);
  bool stringAt(uint32_t table, uint64_t offset, std::string_view &out);
  bool layOut();
  bool copySections();
  bool readSymbols();
  bool readSymbol(const Elf64_Sym &entry, std::string_view name, Symbol &out);
  bool relocate();
  bool relocateSection(const Section &table);
  bool apply(const Section &target, const Elf64_Rela &relocation);
  bool protect();

  std::span<const uint8_t> object;
  std::string &error;
  std::unique_ptr<ElfImage> image;
  Elf64_Ehdr header;
  std::vector<Section> sections;
  uint32_t symbolTable = 0; ///< section index; 0: none
  std::vector<Symbol> symbols;
  uint64_t codeBytes = 0; ///< whole pages, first in the image
  uint64_t relocations = 0;
};
} // namespace kvc::artifact

bool ElfLoader::readHeader() {
  if (!has(0, sizeof(Elf64_Ehdr)) || object.size() > kMaxImageBytes)
    return fail("expected an object of " + std::to_string(sizeof(Elf64_Ehdr)) +
                " to " + std::to_string(kMaxImageBytes) + " bytes, found " +
                std::to_string(object.size()));
  header = get<Elf64_Ehdr>(0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64 ||
      header.e_type != ET_REL)
    return fail("expected an x86-64 relocatable ELF object");
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum < 1 ||
      header.e_shnum > kMaxSections ||
      !has(header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr)))
    return fail("expected 1 to " + std::to_string(kMaxSections) +
                " sections within the object");
  return true;
}

bool ElfLoader::stringAt(uint32_t table, uint64_t offset,
                         std::string_view &out) {
  if (table >= sections.size() || sections[table].header.sh_type != SHT_STRTAB)
    return fail("expected a string table in section " + std::to_string(table));
  const Elf64_Shdr &strings = sections[table].header;
  if (offset >= strings.sh_size)
    return fail("expected a name within its string table");
  const char *begin = reinterpret_cast<const char *>(
      object.data() + strings.sh_offset + offset);
  const void *end =
      std::memchr(begin, 0, std::min(strings.sh_size - offset, kMaxName + 1));
  if (!end)
    return fail("expected a name of at most " + std::to_string(kMaxName) +
                " bytes that ends within its string table");
  out = {begin, size_t(static_cast<const char *>(end) - begin)};
  return true;
}

bool ElfLoader::readSections() {
  sections.resize(header.e_shnum);
  for (size_t i = 0; i < sections.size(); ++i) {
    Elf64_Shdr &section = sections[i].header;
    section = get<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL &&
        !has(section.sh_offset, section.sh_size))
      return fail("expected section " + std::to_string(i) +
                  " to lie within the object");
  }
  for (size_t i = 1; i < sections.size(); ++i) {
    Section &section = sections[i];
    if (!stringAt(header.e_shstrndx, section.header.sh_name, section.name))
      return false;
    if (section.header.sh_type == SHT_SYMTAB) {
      if (symbolTable)
        return fail("expected one symbol table, found two");
      symbolTable = uint32_t(i);
    }
    if (!classify(section))
      return false;
  }
  return true;
}

/// Sections that hold the program are code or constants; all others of a known
/// type are not needed to run it.
bool ElfLoader::classify(Section &section) {
  const Elf64_Shdr &h = section.header;
  if (!(h.sh_flags & SHF_ALLOC) || h.sh_type == SHT_NOTE)
    return true;
  // Unwind tables serve exceptions and debuggers: kernels throw nothing and
  // call nothing, so no unwinder ever stands in one.
  if (section.name == ".eh_frame")
    return true;
  auto refuse = [&](const char *what) {
    return fail("expected code and constants only, found " + std::string(what) +
                " section " + quoted(section.name));
  };
  if (h.sh_flags & SHF_TLS)
    return refuse("thread-local");
  // Constants that hold addresses; nothing writes them after relocation.
  bool relro = section.name.substr(0, 12) == ".data.rel.ro";
  if (h.sh_flags & SHF_WRITE && (!relro || h.sh_flags & SHF_EXECINSTR))
    return refuse("writable");
  uint64_t known =
      SHF_ALLOC | SHF_EXECINSTR | SHF_MERGE | SHF_STRINGS | SHF_WRITE;
  if (h.sh_type != SHT_PROGBITS || h.sh_flags & ~known)
    return refuse("unknown kind of");
  uint64_t alignment = h.sh_addralign;
  if (alignment > kPage || (alignment && !std::has_single_bit(alignment)))
    return fail("expected section " + quoted(section.name) +
                " to be aligned to a power of two up to " +
                std::to_string(kPage) + ", found " + std::to_string(alignment));
  section.kind = h.sh_flags & SHF_EXECINSTR ? Kind::Code : Kind::Constants;
  return true;
}

/// Code first, then constants on pages of their own.
bool ElfLoader::layOut() {
  uint64_t end = 0;
  for (Kind kind : {Kind::Code, Kind::Constants}) {
    for (Section &section : sections) {
      if (section.kind != kind)
        continue;
      // Each size is at most the object's, there are at most 1024.
      section.offset =
          alignUp(end, std::max<uint64_t>(section.header.sh_addralign, 1));
      end = section.offset + section.header.sh_size;
    }
    end = alignUp(end, kPage);
    if (kind == Kind::Code)
      codeBytes = end;
  }
  if (end > kMaxImageBytes)
    return fail("expected an image of at most " +
                std::to_string(kMaxImageBytes) + " bytes, found " +
                std::to_string(end));
  if (!codeBytes)
    return fail("expected code, found none");
  void *base = mmap(nullptr, end, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    throw std::bad_alloc();
  image->base = static_cast<uint8_t *>(base);
  image->size = end;
  return true;
}

bool ElfLoader::copySections() {
  constexpr int kBreakpoint = 0xcc; // between functions nothing should run
  std::memset(image->base, kBreakpoint, codeBytes);
  for (const Section &section : sections)
    if (section.kind != Kind::Skip && section.header.sh_size)
      std::memcpy(image->base + section.offset,
                  object.data() + section.header.sh_offset,
                  section.header.sh_size);
  return true;
}

bool ElfLoader::readSymbols() {
  if (!symbolTable)
    return fail("expected a symbol table, found none");
  const Elf64_Shdr &table = sections[symbolTable].header;
  if (table.sh_entsize != sizeof(Elf64_Sym) ||
      table.sh_size % sizeof(Elf64_Sym) ||
      table.sh_size / sizeof(Elf64_Sym) > kMaxSymbols)
    return fail("expected at most " + std::to_string(kMaxSymbols) +
                " symbols of " + std::to_string(sizeof(Elf64_Sym)) + " bytes");
  symbols.resize(table.sh_size / sizeof(Elf64_Sym));
  for (size_t i = 1; i < symbols.size(); ++i) {
    auto entry = get<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
    std::string_view name;
    if (!stringAt(table.sh_link, entry.st_name, name) ||
        !readSymbol(entry, name, symbols[i]))
      return false;
  }
  return true;
}

bool ElfLoader::readSymbol(const Elf64_Sym &entry, std::string_view name,
                           Symbol &out) {
  unsigned type = ELF64_ST_TYPE(entry.st_info);
  if (type == STT_FILE)
    return true;
  if (entry.st_shndx == SHN_UNDEF)
    return fail("undefined symbol " + quoted(name));
  if (entry.st_shndx >= sections.size() ||
      (type != STT_NOTYPE && type != STT_OBJECT && type != STT_FUNC &&
       type != STT_SECTION))
    return fail("expected a function or a constant, found symbol " +
                quoted(name) + " of type " + std::to_string(type) +
                " in section " + std::to_string(entry.st_shndx));
  const Section &section = sections[entry.st_shndx];
  if (section.kind == Kind::Skip)
    return true;
  uint64_t size = section.header.sh_size;
  if (entry.st_value > size || entry.st_size > size - entry.st_value)
    return fail("expected symbol " + quoted(name) + " to lie within section " +
                quoted(section.name));
  uint8_t *address = image->base + section.offset + entry.st_value;
  out = {true, reinterpret_cast<uint64_t>(address)};
  bool function = type == STT_FUNC && section.kind == Kind::Code &&
                  ELF64_ST_BIND(entry.st_info) == STB_GLOBAL;
  if (function && entry.st_value < size &&
      !image->functions.emplace(name, address).second)
    return fail("function " + quoted(name) + " is there twice");
  return true;
}

bool ElfLoader::relocate() {
  for (const Section &section : sections) {
    uint32_t type = section.header.sh_type;
    if (type != SHT_RELA && type != SHT_REL)
      continue;
    if (section.header.sh_info >= sections.size())
      return fail("expected " + quoted(section.name) +
                  " to name the section it relocates");
    if (sections[section.header.sh_info].kind == Kind::Skip)
      continue;
    if (type != SHT_RELA || !relocateSection(section))
      return error.empty() ? fail("expected relocations with addends, found " +
                                  quoted(section.name))
                           : false;
  }
  return true;
}

bool ElfLoader::relocateSection(const Section &table) {
  const Elf64_Shdr &h = table.header;
  if (h.sh_entsize != sizeof(Elf64_Rela) || h.sh_size % sizeof(Elf64_Rela) ||
      h.sh_link != symbolTable)
    return fail("expected relocations of " +
                std::to_string(sizeof(Elf64_Rela)) +
                " bytes against the symbol table, found " + quoted(table.name));
  uint64_t count = h.sh_size / sizeof(Elf64_Rela);
  relocations += count;
  if (relocations > kMaxRelocations)
    return fail("expected at most " + std::to_string(kMaxRelocations) +
                " relocations");
  for (uint64_t i = 0; i < count; ++i)
    if (!apply(sections[h.sh_info],
               get<Elf64_Rela>(h.sh_offset + i * sizeof(Elf64_Rela))))
      return false;
  return true;
}

bool ElfLoader::apply(const Section &target, const Elf64_Rela &relocation) {
  uint64_t index = ELF64_R_SYM(relocation.r_info);
  uint32_t type = ELF64_R_TYPE(relocation.r_info);
  bool wide = type == R_X86_64_64 || type == R_X86_64_PC64;
  // PLT32 is PC32 when the callee is here.
  if (!wide && type != R_X86_64_PC32 && type != R_X86_64_PLT32)
    return fail("expected a relocation of type 64, PC32, PLT32 or PC64, found "
                "type " +
                std::to_string(type) + " in " + quoted(target.name));
  if (index >= symbols.size() || !symbols[index].loaded)
    return fail("expected a relocation against code or a constant, found "
                "symbol " +
                std::to_string(index) + " in " + quoted(target.name));
  uint64_t width = wide ? 8 : 4, size = target.header.sh_size;
  if (relocation.r_offset > size || width > size - relocation.r_offset)
    return fail("expected relocations within " + quoted(target.name) +
                ", found one at offset " + std::to_string(relocation.r_offset));
  uint8_t *place = image->base + target.offset + relocation.r_offset;
  // Unsigned: addends are anything, and wrap as addresses do.
  uint64_t value = symbols[index].address + uint64_t(relocation.r_addend);
  if (type != R_X86_64_64)
    value -= reinterpret_cast<uint64_t>(place);
  if (!wide && int64_t(value) != int32_t(value))
    return fail("expected a relocation that reaches 2 GiB at most in " +
                quoted(target.name));
  std::memcpy(place, &value, width);
  return true;
}

bool ElfLoader::protect() {
  errno = 0;
  if (mprotect(image->base, codeBytes, PROT_READ | PROT_EXEC) != 0 ||
      (image->size > codeBytes &&
       mprotect(image->base + codeBytes, image->size - codeBytes, PROT_READ) !=
           0)) {
    if (errno == ENOMEM) // a process has only so many mappings
      throw std::bad_alloc();
    int refused = errno;
    fail("the system does not let memory become executable: " +
         std::string(std::strerror(refused)));
    errno = refused;
    return false;
  }
  return true;
}

std::unique_ptr<ElfImage> ElfImage::load(std::span<const uint8_t> object,
                                         std::string &error) {
  error.clear();
  errno = 0;
  return ElfLoader(object, error).run();
}

ElfImage::~ElfImage() {
  if (base)
    munmap(base, size);
}

void *ElfImage::symbol(std::string_view name) const {
  auto it = functions.find(name);
  return it == functions.end() ? nullptr : it->second;
}
