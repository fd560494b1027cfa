//===- PerfDump.cpp - what is loaded, written down for perf ---------------===//
#include "lib/driver/Jit/PerfDump.h"

#include "lib/base/Artifact/File.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/ExecutionEngine/RuntimeDyld.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Object/SymbolSize.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace kvc;
using namespace llvm;

/// The clock of `perf record -k 1`.
static uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return uint64_t(time.tv_sec) * 1'000'000'000 + uint64_t(time.tv_nsec);
}

namespace {

constexpr uint32_t kMagic = 0x4A695444, kVersion = 1, kCodeLoad = 0;

/// Numbers of the format, in the machine's order of bytes.
class Record {
public:
  Record &u32(uint32_t value) { return add(value); }
  Record &u64(uint64_t value) { return add(value); }
  std::string bytes;

private:
  template <typename T> Record &add(T value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof(value));
    return *this;
  }
};

} // namespace

static std::string systemError(StringRef what, StringRef path, int code) {
  return ("cannot " + what + " `" + path + "`: " + std::strerror(code)).str();
}

std::unique_ptr<PerfDump> PerfDump::create(std::string &error) {
  std::unique_ptr<PerfDump> dump(new PerfDump());
  return dump->start(error) ? std::move(dump) : nullptr;
}

bool PerfDump::start(std::string &error) {
  SmallString<128> folder(".");
  for (const char *variable : {"HOME", "JITDUMPDIR"})
    if (auto value = sys::Process::GetEnv(variable))
      folder = *value;
  sys::path::append(folder, ".debug", "jit");
  if (std::error_code code = sys::fs::create_directories(folder)) {
    error = ("cannot create `" + folder + "`: " + code.message()).str();
    return false;
  }
  std::string unique = std::string(folder) + "/kvc-XXXXXX";
  if (!mkdtemp(unique.data())) {
    error = systemError("create a directory in", folder, errno);
    return false;
  }
  path = unique + "/jit-" + std::to_string(getpid()) + ".dump";
  file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) {
    error = systemError("create", path, errno);
    rmdir(unique.c_str());
    return false;
  }
  constexpr uint32_t kHeaderBytes = 40;
  Record header;
  header.u32(kMagic).u32(kVersion).u32(kHeaderBytes).u32(ELF::EM_X86_64);
  header.u32(0).u32(uint32_t(getpid())).u64(now()).u64(0);
  if (append(header.bytes)) {
    // perf learns of the file by this: a mapping that may be executed.
    marker = mmap(nullptr, size_t(sysconf(_SC_PAGESIZE)), PROT_READ | PROT_EXEC,
                  MAP_PRIVATE, file, 0);
    if (marker != MAP_FAILED)
      return true;
    marker = nullptr;
    failure = systemError("map", path, errno);
  }
  error = failure;
  unlink(path.c_str());
  rmdir(unique.c_str());
  return false;
}

PerfDump::~PerfDump() {
  if (marker)
    munmap(marker, size_t(sysconf(_SC_PAGESIZE)));
  if (file >= 0)
    close(file);
}

std::string PerfDump::error() const {
  std::lock_guard guard(lock);
  return failure;
}

bool PerfDump::append(const std::string &record) {
  if (!failure.empty())
    return false;
  if (artifact::writeAll(file, arrayRefFromStringRef(record))) {
    written += record.size();
    return true;
  }
  failure = systemError("write", path, errno);
  // What is there stays readable.
  (void)!ftruncate(file, off_t(written));
  return false;
}

void PerfDump::writeFunction(StringRef name, uint64_t address, uint64_t bytes) {
  constexpr uint32_t kBeforeName = 56;
  uint32_t size = kBeforeName + uint32_t(name.size()) + 1 + uint32_t(bytes);
  Record record;
  record.u32(kCodeLoad).u32(size).u64(now());
  record.u32(uint32_t(getpid())).u32(uint32_t(syscall(SYS_gettid)));
  record.u64(address).u64(address).u64(bytes).u64(functions++);
  record.bytes += name;
  record.bytes += '\0';
  record.bytes.append(reinterpret_cast<const char *>(address), bytes);
  append(record.bytes);
}

void PerfDump::notifyObjectLoaded(ObjectKey, const object::ObjectFile &object,
                                  const RuntimeDyld::LoadedObjectInfo &loaded) {
  // The object with its symbols where they were put.
  object::OwningBinary<object::ObjectFile> placed =
      loaded.getObjectForDebug(object);
  if (!placed.getBinary())
    return;
  std::lock_guard guard(lock);
  for (const auto &[symbol, bytes] : computeSymbolSizes(*placed.getBinary())) {
    auto type = symbol.getType();
    auto name = symbol.getName();
    auto address = symbol.getAddress();
    if (type && name && address && *type == object::SymbolRef::ST_Function &&
        bytes)
      writeFunction(*name, *address, bytes);
    consumeError(type.takeError());
    consumeError(name.takeError());
    consumeError(address.takeError());
  }
}
