//===- Params.cpp - the parameter block of a kernel -----------------------===//
#include "lib/base/Artifact/Params.h"

#include <algorithm>
#include <charconv>

using namespace kvc::artifact;

const WordInfo *kvc::artifact::findWord(std::string_view name) {
  const WordInfo *found =
      std::find_if(std::begin(kWords), std::end(kWords),
                   [&](const WordInfo &word) { return name == word.name; });
  return found == std::end(kWords) ? nullptr : found;
}

static constexpr std::string_view kAttend = "attend.";

std::string kvc::artifact::attendName(size_t index) {
  return std::string(kAttend) + std::to_string(index);
}

std::optional<uint32_t> kvc::artifact::attendOf(std::string_view of) {
  if (!of.starts_with(kAttend))
    return std::nullopt;
  std::string_view digits = of.substr(kAttend.size());
  uint32_t index = 0;
  auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), index);
  // Neither "attend.00" nor "attend.0x".
  if (error != std::errc() || std::to_string(index) != digits)
    return std::nullopt;
  return index;
}

uint32_t ParamBlock::offsetOf(Word what, std::string_view of) {
  const char *name = kWords[size_t(what)].name;
  auto known =
      std::find_if(words.begin(), words.end(), [&](const ParamInfo &word) {
        return word.what == name && word.of == of;
      });
  if (known != words.end())
    return known->offset;
  return words.emplace_back(ParamInfo{bytes(), name, std::string(of)}).offset;
}
