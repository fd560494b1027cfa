//===- Reader.h - JSON text to a checked spec -------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SPEC_READER_H
#define KVC_LIB_BASE_SPEC_READER_H

#include "lib/base/Spec/Spec.h"
#include "lib/base/Spec/Version.h"

#include <string_view>

namespace kvc::spec {

/// The newest of the versions that this reader reads.
inline constexpr llvm::StringLiteral kLanguageVersion =
    kVersions[std::size(kVersions) - 1];

/// Reads `text` (named `file` in messages): gate (size, depth, node count),
/// parse with locations, shape of every object, then the rules between fields.
/// A spec means in every later version what it means in its own, and may use
/// what its own has.
/// Reports as many independent errors as it can in one run; returns nullopt if
/// there was any. Never throws, and never crashes on any bytes.
std::optional<Spec> read(std::string_view text, std::string file,
                         Diagnostics &diagnostics);

/// Reads a file ("-" is standard input), then as above.
std::optional<Spec> readFile(const std::string &path, Diagnostics &diagnostics);

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_READER_H
