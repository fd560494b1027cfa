//===- Version.h - what the language has since when -------------*- C++ -*-===//
//
// A spec names the version that it is written in. What came later is refused in
// it, so that an older kvc reads every spec that says the older version. A key
// or value that is new is marked in its table of words, and a new form of a
// value that has others asks Context::has().
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_VERSION_H
#define KVC_LIB_BASE_SPEC_VERSION_H

#include "llvm/ADT/StringRef.h"

#include <iterator>

namespace kvc::spec {

/// Versions of the language in the order of their release.
enum class Version : uint8_t { V0_1, V0_2 };
/// As the key `kvc` has them; indexed by Version.
inline constexpr llvm::StringLiteral kVersions[] = {"0.1", "0.2"};

/// A key or value of the language.
struct Word {
  template <size_t N>
  constexpr Word(const char (&text)[N], Version since = Version::V0_1)
      : text(text, N - 1), since(since) {}
  constexpr operator llvm::StringRef() const { return text; }

  llvm::StringRef text;
  Version since;
};

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_VERSION_H
