//===- Compiler.cpp - the C ABI of the compiler ---------------------------===//
#include "kvc/compiler.h"

#include "lib/base/Spec/Reader.h"
#include "lib/base/Support/Version.h"
#include "lib/driver/Compiler/Compiler.h"
#include "lib/driver/Explain/Explain.h"
#include "lib/driver/Jit/OrcLoader.h"

#include "llvm/Support/raw_ostream.h"

#include <cmath>
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

static uint32_t codeOf(const Diagnostics &diagnostics) {
  for (const Diagnostic &diagnostic : diagnostics.all())
    if (diagnostic.code == "E-INTERNAL")
      return KVC_COMPILE_BUG;
  return diagnostics.hasErrors() ? KVC_COMPILE_FAILED : KVC_COMPILE_OK;
}

/// Where the fields of a struct end. A caller's may end at each of them, and
/// anywhere behind the last: half a pointer is none.
template <class Options> static std::vector<size_t> fieldEnds();
template <> std::vector<size_t> fieldEnds<kvc_compile_options>() {
  return {offsetof(kvc_compile_options, name),
          offsetof(kvc_compile_options, targets),
          offsetof(kvc_compile_options, target_count),
          offsetof(kvc_compile_options, schedule),
          offsetof(kvc_compile_options, schedule_count),
          offsetof(kvc_compile_options, use_cache),
          offsetof(kvc_compile_options, use_cache) + sizeof(uint32_t)};
}
template <> std::vector<size_t> fieldEnds<kvc_explain_options>() {
  return {offsetof(kvc_explain_options, context),
          offsetof(kvc_explain_options, batch),
          offsetof(kvc_explain_options, bandwidth_gb_s),
          offsetof(kvc_explain_options, tflop_s),
          offsetof(kvc_explain_options, tflop_s) + sizeof(double)};
}

/// The caller's fields, and zeros beyond them. Nothing if one is cut in two.
template <class Options>
static std::optional<Options> read(const Options *options) {
  Options given = {};
  if (!options)
    return given;
  auto ends = fieldEnds<Options>();
  if (options->size < ends.back() && !llvm::is_contained(ends, options->size))
    return std::nullopt;
  std::memcpy(&given, options, std::min(options->size, sizeof(given)));
  return given;
}

namespace {
/// Where a function's result goes; either pointer may be null.
struct Output {
  Output(void **pointer, size_t *size) : pointer(pointer), size(size) {
    set(nullptr, 0);
  }
  void set(void *bytes, size_t count) {
    if (pointer)
      *pointer = bytes;
    if (size)
      *size = count;
  }
  /// False if memory has run out.
  bool copy(llvm::StringRef bytes) {
    void *copied = pointer ? copyOut(bytes.data(), bytes.size()) : nullptr;
    bool failed = pointer && !copied;
    set(copied, failed ? 0 : bytes.size());
    return !failed;
  }

  void **pointer;
  size_t *size;
};
} // namespace

using Make = llvm::function_ref<std::optional<std::string>(
    const spec::Spec &, const CompileOptions &, Diagnostics &)>;

/// What `make` makes of a spec, and the messages.
static uint32_t run(const char *text, size_t bytes,
                    const kvc_compile_options &given, Output result,
                    Output messages, Make make) {
  Diagnostics diagnostics;
  CompileOptions options = translate(given, diagnostics);
  auto spec = spec::read({text, bytes}, given.name ? given.name : "<spec>",
                         diagnostics);
  std::optional<std::string> made;
  if (spec && !diagnostics.hasErrors())
    made = make(*spec, options, diagnostics);
  uint32_t code = codeOf(diagnostics);
  if (code == KVC_COMPILE_OK && !(made && result.copy(*made)))
    code = KVC_COMPILE_FAILED;
  std::string said;
  llvm::raw_string_ostream os(said);
  diagnostics.print(os, Diagnostics::Format::Json);
  messages.copy(said);
  return code;
}

uint32_t kvc_compile(const char *spec, size_t spec_bytes,
                     const kvc_compile_options *options, void **artifact,
                     size_t *artifact_bytes, void **messages,
                     size_t *message_bytes) {
  Output result(artifact, artifact_bytes), said(messages, message_bytes);
  auto given = read(options);
  if (!given || !spec || !artifact || !artifact_bytes || !isComplete(*given))
    return KVC_COMPILE_INVALID_ARGUMENT;
  return run(spec, spec_bytes, *given, result, said,
             [](const spec::Spec &spec, const CompileOptions &options,
                Diagnostics &diagnostics) -> std::optional<std::string> {
               auto output = compile(spec, options, diagnostics);
               if (!output)
                 return std::nullopt;
               return std::string(output->artifact.begin(),
                                  output->artifact.end());
             });
}

uint32_t kvc_explain(const char *spec, size_t spec_bytes,
                     const kvc_compile_options *options,
                     const kvc_explain_options *explain_options, void **json,
                     size_t *json_bytes, void **messages,
                     size_t *message_bytes) {
  Output result(json, json_bytes), said(messages, message_bytes);
  auto given = read(options);
  auto wanted = read(explain_options);
  auto isRate = [](double rate) { return std::isfinite(rate) && rate >= 0; };
  if (!given || !wanted || !spec || !json || !json_bytes ||
      !isComplete(*given) || !isRate(wanted->bandwidth_gb_s) ||
      !isRate(wanted->tflop_s))
    return KVC_COMPILE_INVALID_ARGUMENT;
  DecodeStep step;
  if (wanted->context)
    step.context = wanted->context;
  if (wanted->batch)
    step.batch = wanted->batch;
  step.bandwidth = wanted->bandwidth_gb_s;
  step.tflops = wanted->tflop_s;
  return run(spec, spec_bytes, *given, result, said,
             [&](const spec::Spec &spec, const CompileOptions &options,
                 Diagnostics &diagnostics) -> std::optional<std::string> {
               auto all = explain(spec, options, step, diagnostics);
               return all ? std::optional(toJson(*all)) : std::nullopt;
             });
}
