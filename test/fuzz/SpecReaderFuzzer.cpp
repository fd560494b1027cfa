//===- SpecReaderFuzzer.cpp - any bytes are read or refused ---------------===//
//
// Beyond not crashing: a refusal has a reason that can be printed in both
// forms, and a spec that was accepted reads the same from its canonical text.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Spec/Reader.h"
#include "lib/base/Spec/Size.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;

static void require(bool condition) {
  if (!condition)
    __builtin_trap();
}

static std::string print(const Diagnostics &diagnostics,
                         Diagnostics::Format format) {
  std::string text;
  llvm::raw_string_ostream os(text);
  diagnostics.print(os, format);
  return text;
}

static void checkRefusal(const Diagnostics &diagnostics) {
  require(!print(diagnostics, Diagnostics::Format::Text).empty());
  std::string text = print(diagnostics, Diagnostics::Format::Json);
  for (llvm::StringRef rest = text; !rest.empty();) {
    auto [line, tail] = rest.split('\n');
    llvm::Expected<llvm::json::Value> parsed = llvm::json::parse(line);
    require(bool(parsed));
    rest = tail;
  }
}

static void checkAccepted(const spec::Spec &spec) {
  Diagnostics diagnostics;
  auto again = spec::read(spec.canonical, "canonical", diagnostics);
  require(again && again->canonical == spec.canonical);
  require(spec::tokenBytes(spec) > 0);
  for (const spec::Store &store : spec.stores)
    require((spec::pageBytes(store) > 0) == store.layout.paged);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Diagnostics diagnostics;
  std::string_view text(reinterpret_cast<const char *>(data), size);
  auto spec = spec::read(text, "input", diagnostics);
  require(spec.has_value() != diagnostics.hasErrors());
  if (spec)
    checkAccepted(*spec);
  else
    checkRefusal(diagnostics);
  return 0;
}
