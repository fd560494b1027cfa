//===- Aliases.cpp - kernels by hand under their symbols ------------------===//
#include "test/unit/Runtime/Aliases.h"

#include <cstring>
#include <elf.h>
#include <map>

using Bytes = std::vector<uint8_t>;

template <class T> static T get(const Bytes &bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

/// Moves a section to the end of the file, where it may be larger.
static void move(Bytes &bytes, const Elf64_Ehdr &header, size_t index,
                 const Bytes &section) {
  bytes.resize((bytes.size() + 7) / 8 * 8);
  size_t at = header.e_shoff + index * sizeof(Elf64_Shdr);
  auto to = get<Elf64_Shdr>(bytes, at);
  to.sh_offset = bytes.size();
  to.sh_size = section.size();
  std::memcpy(bytes.data() + at, &to, sizeof(to));
  bytes.insert(bytes.end(), section.begin(), section.end());
}

Bytes kvc::test::withAliases(
    std::span<const uint8_t> object,
    const std::vector<std::pair<std::string, std::string>> &aliases) {
  Bytes bytes(object.begin(), object.end());
  auto header = get<Elf64_Ehdr>(bytes, 0);
  size_t table = 0;
  Elf64_Shdr symbols = {};
  for (; symbols.sh_type != SHT_SYMTAB; ++table)
    symbols =
        get<Elf64_Shdr>(bytes, header.e_shoff + table * sizeof(Elf64_Shdr));
  --table;
  auto names = get<Elf64_Shdr>(bytes, header.e_shoff +
                                          symbols.sh_link * sizeof(Elf64_Shdr));
  auto contents = [&](const Elf64_Shdr &section) {
    auto *from = bytes.data() + section.sh_offset;
    return Bytes(from, from + section.sh_size);
  };
  Bytes entries = contents(symbols), strings = contents(names);
  std::map<std::string, Elf64_Sym> known;
  for (size_t at = 0; at < entries.size(); at += sizeof(Elf64_Sym)) {
    auto entry = get<Elf64_Sym>(entries, at);
    known[reinterpret_cast<const char *>(&strings[entry.st_name])] = entry;
  }
  for (const auto &[name, alias] : aliases) {
    auto from = known.find(name);
    if (from == known.end() || known.count(alias))
      continue;
    Elf64_Sym entry = from->second;
    entry.st_name = Elf64_Word(strings.size());
    known[alias] = entry;
    strings.insert(strings.end(), alias.c_str(),
                   alias.c_str() + alias.size() + 1);
    auto *raw = reinterpret_cast<const uint8_t *>(&entry);
    entries.insert(entries.end(), raw, raw + sizeof(entry));
  }
  move(bytes, header, table, entries);
  move(bytes, header, symbols.sh_link, strings);
  return bytes;
}
