//===- Check.cpp - kvc check: is a spec legal? ----------------------------===//
#include "lib/base/Spec/Reader.h"
#include "tools/kvc/Cli.h"

using namespace kvc;
using namespace kvc::cli;
namespace cl = llvm::cl;

static cl::SubCommand command("check", "Read and validate specs");
static cl::list<std::string> files(cl::Positional, cl::OneOrMore,
                                   cl::desc("SPEC..."), cl::sub(command),
                                   cl::cat(verbOptions()));

static int runCheck() {
  Diagnostics diagnostics;
  for (const std::string &file : files)
    spec::readFile(file, diagnostics);
  return finish(diagnostics);
}

const Verb kvc::cli::checkVerb{&command, runCheck, R"(
Prints nothing and exits with 0 if every spec is legal. `-` is standard input.

EXAMPLE:
  kvc check --diagnostics=json specs/examples/*.json
)"};
