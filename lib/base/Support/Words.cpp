//===- Words.cpp - names and numbers in messages --------------------------===//
#include "lib/base/Support/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringExtras.h"

#include <algorithm>

using namespace kvc;
using llvm::ArrayRef;
using llvm::StringRef;

std::string kvc::quote(StringRef text) {
  constexpr size_t longest = 48;
  std::string quoted = "`";
  size_t end = std::min(text.size(), longest);
  while (end < text.size() && end && (text[end] & 0xc0) == 0x80)
    --end; // not inside a UTF-8 sequence
  for (char c : text.take_front(end)) {
    // Lines and what they are indented by are one blank.
    if (llvm::isSpace(c) && quoted.ends_with(' '))
      continue;
    quoted += llvm::isSpace(c) ? ' ' : uint8_t(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return quoted + (end < text.size() ? "...`" : "`");
}

std::string kvc::quoteAll(ArrayRef<StringRef> names) {
  std::string text;
  for (auto [index, name] : llvm::enumerate(names)) {
    if (index)
      text += index + 1 == names.size() ? " or " : ", ";
    text += quote(name);
  }
  return text;
}

/// Letters that changed places count as one.
static unsigned distanceOf(StringRef word, StringRef name, unsigned most) {
  if (word.equals_insensitive(name))
    return 0;
  unsigned distance = word.edit_distance(name, /*AllowReplacements=*/true,
                                         /*MaxEditDistance=*/most);
  if (distance <= 2 && word.size() == name.size() &&
      std::is_permutation(word.begin(), word.end(), name.begin()))
    return 1;
  return distance;
}

StringRef kvc::nearestName(StringRef word, ArrayRef<StringRef> names) {
  StringRef best;
  unsigned bestDistance = word.size() / 3 + 1;
  for (StringRef name : names) {
    unsigned distance = distanceOf(word, name, std::max(2u, bestDistance));
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

/// How many of the first numbers are `step` apart.
static size_t runOf(ArrayRef<unsigned> numbers, unsigned step) {
  size_t count = 1;
  while (count < numbers.size() && numbers[count] - numbers[count - 1] == step)
    ++count;
  return count;
}

std::string kvc::rangesOf(ArrayRef<unsigned> numbers) {
  std::string text;
  while (!numbers.empty()) {
    unsigned step = numbers.size() > 1 ? numbers[1] - numbers[0] : 1;
    size_t count = runOf(numbers, step);
    // Two with a gap are shorter without a step, and the last of three may
    // begin a run of its own.
    if (step > 1 && count < (count == numbers.size() ? 3 : 4))
      count = 1;
    text += (text.empty() ? "" : ", ") + std::to_string(numbers[0]);
    if (count > 1)
      text += "-" + std::to_string(numbers[count - 1]);
    if (count > 1 && step > 1)
      text += " step " + std::to_string(step);
    numbers = numbers.drop_front(count);
  }
  return text;
}

std::string kvc::rangeOf(unsigned begin, unsigned end) {
  return rangesOf(llvm::to_vector(llvm::seq(begin, std::max(begin, end))));
}
