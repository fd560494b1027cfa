//===- Compile.h - artifacts of a test's own specs --------------*- C++ -*-===//
#ifndef KVC_TEST_SUPPORT_COMPILE_H
#define KVC_TEST_SUPPORT_COMPILE_H

#include "lib/base/Spec/Reader.h"
#include "lib/driver/Compiler/Compiler.h"

#include "gtest/gtest.h"

namespace kvc::test {

/// A spec that must be right; an empty one if it is not, and the test fails.
inline spec::Spec specOf(const std::string &text) {
  Diagnostics diagnostics;
  auto spec = spec::read(text, "test.json", diagnostics);
  EXPECT_TRUE(spec) << text;
  return spec ? *spec : spec::Spec();
}

/// Its artifact; "" compiles for this machine's CPU. Empty if it cannot be
/// compiled, and the test fails.
inline std::vector<uint8_t> artifactOf(const std::string &text,
                                       const std::string &target = "") {
  Diagnostics diagnostics;
  CompileOptions options;
  if (!target.empty())
    options.targets = {target};
  auto output = compile(specOf(text), options, diagnostics);
  for (const Diagnostic &diagnostic : diagnostics.all())
    EXPECT_NE(diagnostic.severity, Severity::Error) << diagnostic.message;
  EXPECT_TRUE(output) << text;
  return output ? output->artifact : std::vector<uint8_t>();
}

} // namespace kvc::test

#endif // KVC_TEST_SUPPORT_COMPILE_H
