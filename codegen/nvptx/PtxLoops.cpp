//===- PtxLoops.cpp - the loops of PTX ------------------------------------===//
#include "codegen/nvptx/Loops.h"

#include "llvm/ADT/StringExtras.h"

using namespace kvc;
using llvm::StringRef;

/// What instructions do whose name begins so; the first that fits counts.
static constexpr std::pair<llvm::StringLiteral, Work> kNames[] = {
    {"mma.", Work::Mma},
    {"wgmma.mma", Work::Mma},
    {"ldmatrix", Work::Shared},
    {"stmatrix", Work::Shared},
    {"movmatrix", Work::Shared},
    {"ld.shared", Work::Shared},
    {"st.shared", Work::Shared},
    {"atom.shared", Work::Shared},
    {"red.shared", Work::Shared},
    {"cp.async.wait", Work::Control},
    {"cp.async.commit", Work::Control},
    {"cp.async.bulk.wait", Work::Control},
    {"cp.async.bulk.commit", Work::Control},
    {"cp.async.mbarrier", Work::Control},
    {"cp.", Work::Global},
    {"ld.param", Work::Integer},
    {"ld.const", Work::Integer},
    {"ld.", Work::Global},
    {"st.", Work::Global},
    {"atom.", Work::Global},
    {"red.", Work::Global},
    {"prefetch", Work::Global},
    {"shfl.", Work::Shuffle},
    {"vote.", Work::Shuffle},
    {"match.", Work::Shuffle},
    {"redux.", Work::Shuffle},
    {"activemask", Work::Shuffle},
    {"ex2.", Work::Special},
    {"lg2.", Work::Special},
    {"rcp.", Work::Special},
    {"rsqrt.", Work::Special},
    {"sqrt.", Work::Special},
    {"tanh.", Work::Special},
    {"cvta", Work::Integer},
    {"cvt.", Work::Convert},
    {"mov.", Work::Copy},
    {"bar.", Work::Control},
    {"barrier.", Work::Control},
    {"bra", Work::Control},
    {"brx", Work::Control},
    {"call", Work::Control},
    {"elect.", Work::Control},
    {"exit", Work::Control},
    {"fence.", Work::Control},
    {"griddepcontrol", Work::Control},
    {"mbarrier.", Work::Control},
    {"membar", Work::Control},
    {"nanosleep", Work::Control},
    {"ret", Work::Control},
    {"setmaxnreg", Work::Control},
    {"trap", Work::Control},
};

static Work workOf(StringRef name) {
  for (const auto &[prefix, work] : kNames)
    if (name.starts_with(prefix))
      return work;
  StringRef type = name.rsplit('.').second;
  return type.starts_with("f") || type.starts_with("bf") ? Work::Float
                                                         : Work::Integer;
}

/// Between the braces of a kernel's body.
static StringRef bodyOf(StringRef ptx, StringRef symbol) {
  size_t entry = ptx.find((".entry " + symbol + "(").str());
  if (entry == StringRef::npos)
    return "";
  StringRef rest = ptx.substr(entry);
  size_t open = rest.find("\n{"), close = rest.find("\n}");
  return open < close ? rest.slice(open + 2, close) : "";
}

/// Adds a statement, without its semicolon, which labels and predicates may
/// stand before.
static void addStatement(Listing &listing, StringRef &place, StringRef text) {
  for (;;) {
    text = text.trim(" \t{}");
    auto [word, rest] = text.split(':');
    if (word.size() == text.size() || word.find_first_of(" \t.") != word.npos)
      break;
    listing.label(word);
    place = word;
    text = rest;
  }
  if (text.starts_with("@"))
    text = text.drop_until([](char c) { return c == ' ' || c == '\t'; }).trim();
  if (text.empty() || text.starts_with("."))
    return;
  StringRef name =
      text.take_until([](char c) { return c == ' ' || c == '\t'; });
  bool branches = name == "bra" || name == "bra.uni";
  listing.instruction(workOf(name), place,
                      branches ? text.substr(name.size()).trim() : "");
}

std::vector<Loop> kvc::ptxLoops(StringRef ptx, StringRef symbol) {
  Listing listing;
  StringRef place = "begin";
  for (StringRef line : llvm::split(bodyOf(ptx, symbol), '\n'))
    for (StringRef statement : llvm::split(line.split("//").first, ';'))
      addStatement(listing, place, statement);
  return listing.loops();
}
