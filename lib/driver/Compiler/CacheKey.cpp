//===- CacheKey.cpp - what an artifact depends on -------------------------===//
#include "lib/base/Artifact/GpuAbi.h"
#include "lib/base/Artifact/Manifest.h"
#include "lib/base/Simt/SimAbi.h"
#include "lib/base/Support/Version.h"
#include "lib/driver/Compiler/BuildId.h"
#include "lib/driver/Compiler/KernelCache.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/BLAKE3.h"

#include <link.h>

using namespace kvc;
using llvm::ArrayRef;
using llvm::StringRef;

std::string CacheKey::hex() const {
  return llvm::toHex(ArrayRef<uint8_t>(bytes), /*LowerCase=*/true);
}

/// The GNU build id among the notes of one loaded library; "" without one.
static std::string buildIdOf(const dl_phdr_info &info) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const auto &header = info.dlpi_phdr[i];
    if (header.p_type != PT_NOTE)
      continue;
    const auto *note =
        reinterpret_cast<const char *>(info.dlpi_addr + header.p_vaddr);
    const char *end = note + header.p_memsz;
    while (note + sizeof(ElfW(Nhdr)) <= end) {
      const auto *head = reinterpret_cast<const ElfW(Nhdr) *>(note);
      const char *name = note + sizeof(*head);
      const char *value = name + (head->n_namesz + 3) / 4 * 4;
      if (head->n_type == NT_GNU_BUILD_ID &&
          StringRef(name, head->n_namesz) == StringRef("GNU", 4))
        return std::string(value, head->n_descsz);
      note = value + (head->n_descsz + 3) / 4 * 4;
    }
  }
  return "";
}

/// LLVM is a shared library: a patched build of the same version may emit other
/// code than the one that kvc was linked with.
static std::string loadedLlvm() {
  std::string ids;
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        StringRef name = info->dlpi_name;
        if (name.contains("libLLVM") || name.contains("libMLIR"))
          *static_cast<std::string *>(data) += buildIdOf(*info);
        return 0;
      },
      &ids);
  return ids;
}

CacheKeyBuilder::CacheKeyBuilder() {
  static const std::string llvmIds = loadedLlvm();
  add(version()).add(buildId()).add(llvmVersion()).add(llvmIds);
  add(artifact::kFormatMajor).add(artifact::kFormatMinor).add(KVC_CPU_ABI);
  add(KVC_GPU_ABI).add(KVC_SIM_ABI);
}

CacheKeyBuilder &CacheKeyBuilder::add(std::string_view part) {
  parts += std::to_string(part.size()) + ":";
  parts += part;
  return *this;
}

CacheKey CacheKeyBuilder::key() const {
  CacheKey key;
  llvm::BLAKE3 hasher;
  hasher.update(StringRef(parts));
  llvm::BLAKE3Result<32> digest = hasher.final();
  llvm::copy(digest, key.bytes.begin());
  return key;
}
