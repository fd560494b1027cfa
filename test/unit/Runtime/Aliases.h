//===- Aliases.h - kernels by hand under their symbols ----------*- C++ -*-===//
#ifndef KVC_TEST_UNIT_RUNTIME_ALIASES_H
#define KVC_TEST_UNIT_RUNTIME_ALIASES_H

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kvc::test {

/// An ELF object with more symbols: for each pair, the second names what the
/// first does, if the object has that. Kernels by hand know no keys.
std::vector<uint8_t>
withAliases(std::span<const uint8_t> object,
            const std::vector<std::pair<std::string, std::string>> &aliases);

} // namespace kvc::test

#endif // KVC_TEST_UNIT_RUNTIME_ALIASES_H
