//===- OutputFile.h - what a user names with -o -----------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_ARTIFACT_OUTPUTFILE_H
#define KVC_LIB_BASE_ARTIFACT_OUTPUTFILE_H

#include <cstdint>
#include <span>
#include <string>

namespace kvc::artifact {

/// Writes `bytes` to `path`; on failure sets `error` to one line that names
/// `path`. Safe from many threads and processes.
///
/// - A file, or a name that is free: whole or not at all. Another process, or
///   this one after a crash, sees the old file or the new one, and nothing is
///   left beside it. The new file has the old one's permissions and owner.
/// - A symbolic link: what it points to is written, and the link stays.
/// - A file that cannot be replaced (it is a mount point, its directory is
///   read-only, its owner could not be kept) is overwritten where it stands. If
///   that fails, it gets its old bytes back; readers may see it half written.
/// - A FIFO, a character device or a descriptor (/dev/stdout, /dev/fd/N): the
///   bytes are written to it.
/// - A directory, or anything else: refused.
bool writeOutputFile(const std::string &path, std::span<const uint8_t> bytes,
                     std::string &error);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_OUTPUTFILE_H
