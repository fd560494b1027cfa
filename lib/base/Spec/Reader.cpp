//===- Reader.cpp - bytes of a file to a checked spec ---------------------===//
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Check.h"
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Shape.h"

#include "llvm/Support/FileSystem.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::StringLiteral;
using llvm::StringRef;

/// What a file is that was given in place of a spec, by how it begins; "" if
/// nothing tells. Its bytes would say less than its kind.
static std::string foreignKind(StringRef text) {
  static constexpr std::pair<StringLiteral, StringLiteral> kKinds[] = {
      {"PK\x03\x04", "an artifact (.kvca) or another ZIP archive"},
      {"\x7f"
       "ELF",
       "an ELF file"},
      {"GGUF", "a GGUF file"},
      {"\x1f\x8b", "a gzip file"},
      {"\x28\xb5\x2f\xfd", "a zstd file"},
      {"\xff\xfe", "text in UTF-16"},
      {"\xfe\xff", "text in UTF-16"},
  };
  for (auto [magic, kind] : kKinds)
    if (text.starts_with(magic))
      return kind.str();
  // The length of its header, 8 bytes, and the header.
  if (text.size() > 8 && text[8] == '{' &&
      text.substr(4, 4) == StringRef("\0\0\0\0", 4))
    return "a safetensors file";
  return "";
}

static bool checkKind(StringRef text, const std::string &file,
                      Diagnostics &diagnostics) {
  std::string kind = foreignKind(text);
  if (kind.empty())
    return true;
  SourceLoc loc;
  loc.file = file;
  Diagnostic &error = diagnostics.error(
      "E-NOT-TEXT", loc, "expected a spec, JSON in UTF-8, found " + kind);
  if (text.starts_with("PK"))
    Context::addHelp(error, "`kvc inspect` shows what is in an artifact, its "
                            "spec with `--extract=spec.json`");
  return false;
}

std::optional<Spec> spec::read(std::string_view text, std::string file,
                               Diagnostics &diagnostics) {
  if (!checkKind(StringRef(text), file, diagnostics))
    return std::nullopt;
  diagnostics.addSource(file, std::string(text.substr(0, GateLimits::bytes)));
  size_t before = diagnostics.all().size();
  auto document = Document::parse(text, file, diagnostics);
  if (!document)
    return std::nullopt;
  bool duplicates = diagnostics.all().size() != before;
  Context context(*document, diagnostics);
  Spec spec;
  spec.file = std::move(file);
  readShape(context, spec);
  check(context, spec);
  if (duplicates || context.failed())
    return std::nullopt;
  spec.canonical = canonicalText(spec);
  return spec;
}

/// Reads at most one byte more than the gate lets through, whatever the size of
/// the file says: a pipe or a device has none.
static std::error_code readBounded(llvm::sys::fs::file_t handle,
                                   std::string &text) {
  text.resize(GateLimits::bytes + 1);
  size_t size = 0;
  while (size < text.size()) {
    llvm::Expected<size_t> count = llvm::sys::fs::readNativeFile(
        handle, {text.data() + size, text.size() - size});
    if (!count)
      return llvm::errorToErrorCode(count.takeError());
    if (!*count)
      break;
    size += *count;
  }
  text.resize(size);
  return {};
}

std::optional<Spec> spec::readFile(const std::string &path,
                                   Diagnostics &diagnostics) {
  namespace fs = llvm::sys::fs;
  std::string text, name = path == "-" ? "<stdin>" : path;
  std::error_code failure;
  if (path == "-") {
    failure = readBounded(fs::getStdinHandle(), text);
  } else if (auto handle = fs::openNativeFileForRead(path)) {
    failure = readBounded(*handle, text);
    fs::closeFile(*handle);
  } else {
    failure = llvm::errorToErrorCode(handle.takeError());
  }
  if (!failure)
    return read(text, name, diagnostics);
  SourceLoc loc;
  loc.file = name;
  diagnostics.error("E-FILE", loc, "cannot read: " + failure.message());
  return std::nullopt;
}
