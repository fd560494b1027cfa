//===- PerfDump.h - what is loaded, written down for perf -------*- C++ -*-===//
//
// `perf inject --jit` reads a file jit-PID.dump: a header, and a record with
// name, address and bytes of each function. Not LLVM's listener for it, whose
// stream ends the process if a disk is full.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_DRIVER_JIT_PERFDUMP_H
#define KVC_LIB_DRIVER_JIT_PERFDUMP_H

#include "llvm/ExecutionEngine/JITEventListener.h"

#include <memory>
#include <mutex>
#include <string>

namespace kvc {

/// The dump of this process. Safe on many threads.
class PerfDump : public llvm::JITEventListener {
public:
  /// Creates the file, in a new folder below $JITDUMPDIR/.debug/jit ($HOME, or
  /// the working directory, if unset). Null with `error`, path and reason.
  static std::unique_ptr<PerfDump> create(std::string &error);
  ~PerfDump() override;

  void notifyObjectLoaded(ObjectKey key, const llvm::object::ObjectFile &object,
                          const llvm::RuntimeDyld::LoadedObjectInfo &) override;

  /// Why the dump is not complete; "" if it is. After that nothing is written.
  std::string error() const;

private:
  PerfDump() = default;
  bool start(std::string &error);
  bool append(const std::string &record);
  void writeFunction(llvm::StringRef name, uint64_t address, uint64_t bytes);

  mutable std::mutex lock;
  std::string path, failure;
  int file = -1;
  void *marker = nullptr;
  uint64_t written = 0, functions = 0;
};

} // namespace kvc

#endif // KVC_LIB_DRIVER_JIT_PERFDUMP_H
