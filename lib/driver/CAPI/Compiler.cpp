//===- Compiler.cpp - the C ABI of the compiler ---------------------------===//
#include "kvc/compiler.h"

#include "lib/base/Spec/Reader.h"
#include "lib/base/Support/Version.h"
#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Jit/OrcLoader.h"

#include "llvm/Support/raw_ostream.h"

#include <cstdlib>
#include <cstring>

using namespace kvc;

uint32_t kvc_compiler_abi(void) { return KVC_COMPILER_ABI; }
const char *kvc_compiler_version(void) { return producer(); }
void kvc_compile_free(void *pointer) { std::free(pointer); }

const kvc_code_loader *kvc_orc_code_loader(uint32_t flags) {
  if (flags & ~uint32_t(KVC_ORC_JITDUMP))
    return nullptr;
  std::string why;
  return flags & KVC_ORC_JITDUMP ? orcDumpingCodeLoader(why) : orcCodeLoader();
}

/// A copy that the caller frees, with a null at its end.
static void *copyOut(const void *bytes, size_t size) {
  auto *copy = static_cast<char *>(std::malloc(size + 1));
  if (!copy)
    return nullptr;
  if (size)
    std::memcpy(copy, bytes, size);
  copy[size] = '\0';
  return copy;
}

static CompileOptions translate(const kvc_compile_options &given,
                                Diagnostics &diagnostics) {
  CompileOptions options;
  if (given.target_count)
    options.targets.assign(given.targets, given.targets + given.target_count);
  options.useCache = given.use_cache != 0;
  for (size_t i = 0; i < given.schedule_count; ++i)
    if (auto entry = parseOverride(given.schedule[i]))
      options.schedule.push_back(*entry);
    else
      diagnostics.error("E-USAGE", {},
                        std::string("expected KERNEL.FIELD=VALUE, found `") +
                            given.schedule[i] + "`");
  return options;
}

/// Whether pointers that come with a count are there.
static bool isComplete(const kvc_compile_options &options) {
  auto allThere = [](const char *const *list, size_t count) {
    if (count && !list)
      return false;
    for (size_t i = 0; i < count; ++i)
      if (!list[i])
        return false;
    return true;
  };
  return allThere(options.targets, options.target_count) &&
         allThere(options.schedule, options.schedule_count);
}

static std::vector<uint8_t> run(const char *spec, size_t bytes,
                                const kvc_compile_options &given,
                                Diagnostics &diagnostics) {
  CompileOptions options = translate(given, diagnostics);
  auto read = spec::read({spec, bytes}, given.name ? given.name : "<spec>",
                         diagnostics);
  if (!read || diagnostics.hasErrors())
    return {};
  auto output = compile(*read, options, diagnostics);
  if (!output)
    return {};
  return std::move(output->artifact);
}

static uint32_t codeOf(const Diagnostics &diagnostics) {
  for (const Diagnostic &diagnostic : diagnostics.all())
    if (diagnostic.code == "E-INTERNAL")
      return KVC_COMPILE_BUG;
  return diagnostics.hasErrors() ? KVC_COMPILE_FAILED : KVC_COMPILE_OK;
}

/// Whether a caller's struct ends where a field does: half a pointer is none.
static bool endsAtAField(size_t size) {
  size_t last = offsetof(kvc_compile_options, use_cache);
  return size >= sizeof(size_t) &&
         (size <= last ? size % sizeof(void *) == 0
                       : size >= last + sizeof(uint32_t));
}

uint32_t kvc_compile(const char *spec, size_t spec_bytes,
                     const kvc_compile_options *options, void **artifact,
                     size_t *artifact_bytes, void **messages,
                     size_t *message_bytes) {
  if (artifact)
    *artifact = nullptr;
  if (artifact_bytes)
    *artifact_bytes = 0;
  if (messages)
    *messages = nullptr;
  if (message_bytes)
    *message_bytes = 0;
  kvc_compile_options given = {};
  if (options && !endsAtAField(options->size))
    return KVC_COMPILE_INVALID_ARGUMENT;
  if (options)
    std::memcpy(&given, options, std::min(options->size, sizeof(given)));
  if (!spec || !artifact || !artifact_bytes || !isComplete(given))
    return KVC_COMPILE_INVALID_ARGUMENT;

  Diagnostics diagnostics;
  std::vector<uint8_t> bytes = run(spec, spec_bytes, given, diagnostics);
  uint32_t code = codeOf(diagnostics);
  if (code == KVC_COMPILE_OK) {
    *artifact = copyOut(bytes.data(), bytes.size());
    *artifact_bytes = *artifact ? bytes.size() : 0;
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  diagnostics.print(os, Diagnostics::Format::Json);
  if (messages)
    *messages = copyOut(text.data(), text.size());
  if (message_bytes)
    *message_bytes = text.size();
  return code == KVC_COMPILE_OK && !*artifact ? KVC_COMPILE_FAILED : code;
}
