//===- Fields.h - typed values out of located JSON --------------*- C++ -*-===//
//
// The vocabulary of the reader: each function reads one kind of value, reports
// what is wrong with it at its place, and says what would be legal.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SPEC_FIELDS_H
#define KVC_LIB_BASE_SPEC_FIELDS_H

#include "lib/base/Spec/LocatedJson.h"
#include "lib/base/Spec/Version.h"
#include "lib/base/Support/Words.h"

#include "llvm/ADT/ArrayRef.h"

#include <optional>

namespace kvc::spec {

/// The document being read and where its errors go.
class Context {
public:
  Context(const Document &document, Diagnostics &diagnostics)
      : document(document), diagnostics(diagnostics) {}

  /// Reports an error. After `kMaxErrors` the rest is dropped, so that a
  /// hostile file cannot fill the memory with messages about itself.
  Diagnostic &error(const char *code, SourceLoc loc, std::string message);
  bool failed() const { return errors != 0; }
  unsigned errorCount() const { return errors; }

  /// Whether the spec's version has what came with `since`; reports `what`,
  /// which stands at `loc`, if not.
  bool has(Version since, const SourceLoc &loc, const std::string &what);

  static void addNote(Diagnostic &to, SourceLoc loc, std::string message);
  /// Help stands at the place of the error.
  static void addHelp(Diagnostic &to, std::string message);

  const Document &document;
  /// The spec's; the newest until it is read.
  Version version = Version(std::size(kVersions) - 1);
  static constexpr unsigned kMaxErrors = 50;

private:
  Diagnostics &diagnostics;
  Diagnostic dropped;
  unsigned errors = 0;
};

std::optional<int64_t> readInteger(Context &context, const Node &node,
                                   int64_t low, int64_t high);
std::optional<bool> readBoolean(Context &context, const Node &node);
std::optional<double> readNumber(Context &context, const Node &node, double low,
                                 double high);
/// [A-Za-z0-9_.-]{1,64}
std::optional<std::string> readName(Context &context, const Node &node);
/// A string out of `names`; returns its index. Those of `later` are names that
/// the language will have.
std::optional<unsigned> readEnum(Context &context, const Node &node,
                                 llvm::ArrayRef<Word> names,
                                 llvm::ArrayRef<Word> later = {});
/// The `kind` of an object, or a string that stands for an object with that
/// kind and defaults; returns its index in `kinds`. `example` is such a value.
std::optional<unsigned> readKind(Context &context, const Node &node,
                                 llvm::ArrayRef<Word> kinds,
                                 llvm::StringRef example,
                                 llvm::ArrayRef<Word> later = {});

/// One object whose keys are known.
class Fields {
public:
  enum class Form : uint8_t {
    Object,
    ObjectOrKind, ///< a string is an object with that kind and defaults
  };
  /// Reports a value of another form, and every key that is not in `known`:
  /// keys of the language that the spec's version lacks by name, others with
  /// the one that was probably meant, or all that are known.
  Fields(Context &context, const Node &node, llvm::ArrayRef<Word> known,
         Form form = Form::Object);
  /// `example` is a legal object, for the report of another form.
  Fields(Context &context, const Node &node, llvm::ArrayRef<Word> known,
         llvm::StringRef example)
      : Fields(context, node, known, Form::Object, example) {}

  const Node *find(llvm::StringRef key) const { return node.find(key); }
  /// As find, but reports a missing key; `example` shows a legal member.
  const Node *require(llvm::StringRef key, llvm::StringRef example);

private:
  Fields(Context &context, const Node &node, llvm::ArrayRef<Word> known,
         Form form, llvm::StringRef example);

  Context &context;
  const Node &node;
  bool readable;
};

} // namespace kvc::spec

#endif // KVC_LIB_BASE_SPEC_FIELDS_H
