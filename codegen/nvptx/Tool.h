//===- Tool.h - programs of the CUDA toolkit, on a leash --------*- C++ -*-===//
//
// ptxas and nvdisasm are other people's programs, and run in our user's
// process: without a shell, in a folder of their own that goes with all that is
// in it, and with limits. What they leave is looked at before it is believed.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_CODEGEN_NVPTX_TOOL_H
#define KVC_CODEGEN_NVPTX_TOOL_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringRef.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvc::nvptx {

/// A new folder below $TMPDIR that nobody else reads; it is removed with its
/// files. On failure `error` is set, with path and reason, and isOpen() false.
class ToolFolder {
public:
  explicit ToolFolder(std::string &error);
  ~ToolFolder();
  ToolFolder(const ToolFolder &) = delete;
  ToolFolder &operator=(const ToolFolder &) = delete;

  bool isOpen() const { return !root.empty(); }
  std::string path(llvm::StringRef file) const;
  /// Writes a file; false with `error`, path and reason, on failure.
  bool write(llvm::StringRef file, llvm::ArrayRef<uint8_t> bytes,
             std::string &error) const;
  /// Reads a regular file of at most kMaxToolFile bytes; nullopt with `error`.
  std::optional<std::vector<uint8_t>> read(llvm::StringRef file,
                                           std::string &error) const;

private:
  std::string root;
};

/// A file that a tool may write, and what it may say, at most, in bytes.
inline constexpr uint64_t kMaxToolFile = uint64_t(256) << 20;
inline constexpr size_t kMaxToolText = size_t(64) << 20;
/// Its address space: many times what a kernel takes.
inline constexpr uint64_t kMaxToolMemory = uint64_t(32) << 30;

/// Longer than any kernel takes.
inline constexpr std::chrono::milliseconds kToolTime = std::chrono::seconds(60);

/// Runs a program, `args.front()` with the path to it, to its end or to a
/// limit; then it and its children are killed. Returns what it said on both
/// streams, if its exit status was 0. If not, nullopt and `error`: its words,
/// or which limit, or which signal. Safe on many threads; touches none of the
/// host's signals.
std::optional<std::string> runTool(llvm::ArrayRef<std::string> args,
                                   std::string &error,
                                   std::chrono::milliseconds time = kToolTime);

} // namespace kvc::nvptx

#endif // KVC_CODEGEN_NVPTX_TOOL_H
