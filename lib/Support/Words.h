//===- Words.h - names in messages -------------------------------*- C++
//-*-===//
#ifndef KVC_LIB_SUPPORT_WORDS_H
#define KVC_LIB_SUPPORT_WORDS_H

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

} // namespace kvc

#endif // KVC_LIB_SUPPORT_WORDS_H
