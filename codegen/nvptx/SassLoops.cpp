//===- SassLoops.cpp - the loops of SASS ----------------------------------===//
#include "codegen/nvptx/Loops.h"
#include "codegen/nvptx/Tool.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Program.h"

using namespace kvc;
using llvm::StringRef;

/// What instructions do whose name begins so; the first that fits counts.
static constexpr std::pair<llvm::StringLiteral, Work> kNames[] = {
    {"HMMA", Work::Mma},           {"IMMA", Work::Mma},
    {"QMMA", Work::Mma},           {"OMMA", Work::Mma},
    {"DMMA", Work::Mma},           {"HGMMA", Work::Mma},
    {"IGMMA", Work::Mma},          {"QGMMA", Work::Mma},
    {"UTCHMMA", Work::Mma},        {"UTCIMMA", Work::Mma},
    {"UTCQMMA", Work::Mma},        {"LDS", Work::Shared},
    {"STS", Work::Shared},         {"ATOMS", Work::Shared},
    {"MOVM", Work::Shared},        {"LDGDEPBAR", Work::Control},
    {"LDG", Work::Global},         {"STG", Work::Global},
    {"LDL", Work::Global},         {"STL", Work::Global},
    {"LD.", Work::Global},         {"ST.", Work::Global},
    {"UBLK", Work::Global},        {"UTMA", Work::Global},
    {"REDUX", Work::Shuffle},      {"CREDUX", Work::Shuffle},
    {"RED", Work::Global},         {"ATOM", Work::Global},
    {"CCTL", Work::Global},        {"SHFL", Work::Shuffle},
    {"VOTE", Work::Shuffle},       {"MATCH", Work::Shuffle},
    {"MUFU", Work::Special},       {"F2", Work::Convert},
    {"I2", Work::Convert},         {"FRND", Work::Convert},
    {"HADD2.F32", Work::Convert},  {"FADD", Work::Float},
    {"FMUL", Work::Float},         {"FFMA", Work::Float},
    {"FMNMX", Work::Float},        {"FSEL", Work::Float},
    {"FSET", Work::Float},         {"FCHK", Work::Float},
    {"HADD2", Work::Float},        {"HMUL2", Work::Float},
    {"HFMA2", Work::Float},        {"HMNMX2", Work::Float},
    {"HSET", Work::Float},         {"DADD", Work::Float},
    {"DMUL", Work::Float},         {"DFMA", Work::Float},
    {"BAR", Work::Control},        {"BRA", Work::Control},
    {"BRX", Work::Control},        {"BSSY", Work::Control},
    {"BSYNC", Work::Control},      {"BREAK", Work::Control},
    {"CALL", Work::Control},       {"DEPBAR", Work::Control},
    {"ELECT", Work::Control},      {"ERRBAR", Work::Control},
    {"EXIT", Work::Control},       {"FENCE", Work::Control},
    {"JMP", Work::Control},        {"MEMBAR", Work::Control},
    {"NANOSLEEP", Work::Control},  {"NOP", Work::Control},
    {"PREEXIT", Work::Control},    {"ACQBULK", Work::Control},
    {"ARRIVES", Work::Control},    {"RET", Work::Control},
    {"SYNCS", Work::Control},      {"UBRA", Work::Control},
    {"USETMAXREG", Work::Control}, {"WARPSYNC", Work::Control},
    {"YIELD", Work::Control},
};

static Work workOf(StringRef name) {
  for (const auto &[prefix, work] : kNames)
    if (name.starts_with(prefix))
      return work;
  return Work::Integer;
}

/// Adds a line "/*01a0*/ @!P0 BRA `(.L_x_4) ;".
static void addInstruction(Listing &listing, StringRef line) {
  StringRef rest = line;
  if (!rest.consume_front("/*"))
    return;
  auto [number, text] = rest.split("*/");
  uint64_t address = 0;
  number.getAsInteger(16, address);
  text = text.trim();
  if (text.starts_with("@"))
    text = text.split(' ').second.trim();
  StringRef name = text.take_while(
      [](char c) { return llvm::isAlnum(c) || c == '.' || c == '_'; });
  // Encodings have lines of their own.
  if (name.empty() || !llvm::isAlpha(name.front()))
    return;
  StringRef target;
  if (name.starts_with("BRA") || name.starts_with("UBRA"))
    target = text.split("`(").second.split(')').first;
  listing.instruction(workOf(name),
                      "0x" + llvm::utohexstr(address, /*LowerCase=*/true),
                      target);
}

llvm::StringMap<std::vector<Loop>> kvc::sassLoops(StringRef text) {
  llvm::StringMap<std::vector<Loop>> all;
  Listing listing;
  std::string symbol;
  auto finish = [&] {
    if (!symbol.empty())
      all[symbol] = listing.loops();
    listing = Listing();
  };
  for (StringRef line : llvm::split(text, '\n')) {
    line = line.trim();
    StringRef label = line;
    if (!label.consume_back(":") || label.contains(' '))
      addInstruction(listing, line);
    else if (label.consume_front(".text."))
      finish(), symbol = label.str();
    else
      listing.label(label);
  }
  finish();
  return all;
}

std::optional<std::string> kvc::nvdisasm(llvm::ArrayRef<uint8_t> cubin,
                                         std::string &error) {
  auto program = llvm::sys::findProgramByName("nvdisasm");
  if (!program) {
    error = "nvdisasm is not in PATH";
    return std::nullopt;
  }
  static constexpr const char *kInput = "kernels.cubin";
  nvptx::ToolFolder folder(error);
  if (!folder.isOpen() || !folder.write(kInput, cubin, error))
    return std::nullopt;
  auto text = nvptx::runTool({*program, "-c", folder.path(kInput)}, error);
  if (!text)
    error = "`" + *program + "` cannot read the cubin: " + error;
  return text;
}
