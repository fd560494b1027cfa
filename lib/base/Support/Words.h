//===- Words.h - names and numbers in messages ------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SUPPORT_WORDS_H
#define KVC_LIB_BASE_SUPPORT_WORDS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace kvc {

/// `text` in backticks, cut to a readable length, control characters replaced.
std::string quote(llvm::StringRef text);
/// "`a`, `b` or `c`".
std::string quoteAll(llvm::ArrayRef<llvm::StringRef> names);

/// The one of `names` of which `word` is a misspelling: at most one letter in
/// three is wrong. "" if there is none; a word of other letters but the same
/// meaning is none.
llvm::StringRef nearestName(llvm::StringRef word,
                            llvm::ArrayRef<llvm::StringRef> names);

/// Ascending numbers in as few words as they take: "0-7", "0-24 step 2",
/// "0, 5, 11-14".
std::string rangesOf(llvm::ArrayRef<unsigned> numbers);
/// The same of begin, begin + 1, ... below end.
std::string rangeOf(unsigned begin, unsigned end);

} // namespace kvc

#endif // KVC_LIB_BASE_SUPPORT_WORDS_H
