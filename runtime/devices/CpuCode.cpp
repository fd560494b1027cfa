//===- CpuCode.cpp - the code of one object, by whoever loads it ----------===//
#include "runtime/devices/CpuCode.h"

#include "lib/base/Artifact/ElfImage.h"

#include <cerrno>
#include <cstdio>
#include <new>

using namespace kvc::rt;
using kvc::artifact::ElfImage;

static void *loadElf(void *, const void *object, size_t bytes, char *error,
                     size_t errorBytes) {
  std::string why;
  auto image =
      ElfImage::load({static_cast<const uint8_t *>(object), bytes}, why);
  if (!image)
    snprintf(error, errorBytes, "%s", why.c_str());
  return image.release();
}

static void *symbolOfElf(void *, void *code, const char *name) {
  return static_cast<ElfImage *>(code)->symbol(name);
}

static void releaseElf(void *, void *code) {
  delete static_cast<ElfImage *>(code);
}

const kvc_code_loader kvc::rt::kElfLoader = {sizeof(kvc_code_loader), nullptr,
                                             loadElf, symbolOfElf, releaseElf};

std::optional<CpuCode> CpuCode::load(const kvc_code_loader &loader,
                                     std::span<const uint8_t> object,
                                     std::string &error, bool &refused) {
  char why[512] = "";
  errno = 0;
  void *handle = loader.load(loader.context, object.data(), object.size(), why,
                             sizeof(why));
  if (handle)
    return CpuCode(loader, handle);
  refused = errno == EACCES || errno == EPERM;
  if (!*why)
    throw std::bad_alloc();
  why[sizeof(why) - 1] = 0; // whatever the caller's loader wrote
  error = why;
  return std::nullopt;
}
