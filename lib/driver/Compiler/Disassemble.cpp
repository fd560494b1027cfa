//===- Disassemble.cpp - the code of an object as text --------------------===//
#include "lib/driver/Compiler/TargetCompiler.h"

#include "llvm/MC/MCAsmInfo.h"
#include "llvm/MC/MCContext.h"
#include "llvm/MC/MCDisassembler/MCDisassembler.h"
#include "llvm/MC/MCInst.h"
#include "llvm/MC/MCInstPrinter.h"
#include "llvm/MC/MCInstrInfo.h"
#include "llvm/MC/MCRegisterInfo.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/MCTargetOptions.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/TargetSelect.h"

using namespace kvc;
using namespace llvm;

namespace {

/// LLVM's parts that turn bytes into text. All features are on: an object says
/// nothing about which it was made for.
class Printer {
public:
  Printer() : triple("x86_64-unknown-linux-gnu") {
    InitializeNativeTarget();
    InitializeNativeTargetDisassembler();
    std::string error;
    const llvm::Target *target = TargetRegistry::lookupTarget(triple, error);
    if (!target)
      return;
    registers.reset(target->createMCRegInfo(triple));
    info.reset(target->createMCAsmInfo(*registers, triple, MCTargetOptions()));
    subtarget.reset(
        target->createMCSubtargetInfo(triple, "sapphirerapids", ""));
    instructions.reset(target->createMCInstrInfo());
    context = std::make_unique<MCContext>(triple, info.get(), registers.get(),
                                          subtarget.get());
    disassembler.reset(target->createMCDisassembler(*subtarget, *context));
    printer.reset(target->createMCInstPrinter(triple, /*Intel=*/1, *info,
                                              *instructions, *registers));
    // Jumps name the offset in the function's section that they go to.
    printer->setPrintBranchImmAsAddress(true);
  }

  bool ready() const { return printer != nullptr; }

  void print(raw_ostream &os, ArrayRef<uint8_t> bytes, uint64_t address) {
    uint64_t size = 1;
    for (uint64_t at = 0; at < bytes.size();
         at += std::max<uint64_t>(size, 1)) {
      MCInst inst;
      auto status = disassembler->getInstruction(inst, size, bytes.slice(at),
                                                 address + at, nulls());
      os << format("%6x:", unsigned(address + at));
      if (status == MCDisassembler::Fail)
        os << "\t.byte " << unsigned(bytes[at]);
      else
        printer->printInst(&inst, address + at, "", *subtarget, os);
      os << "\n";
    }
  }

private:
  Triple triple;
  std::unique_ptr<MCRegisterInfo> registers;
  std::unique_ptr<MCAsmInfo> info;
  std::unique_ptr<MCSubtargetInfo> subtarget;
  std::unique_ptr<MCInstrInfo> instructions;
  std::unique_ptr<MCContext> context;
  std::unique_ptr<MCDisassembler> disassembler;
  std::unique_ptr<MCInstPrinter> printer;
};

/// Prints one symbol if it is a function.
Error printFunction(Printer &printer, raw_ostream &os,
                    object::ELFSymbolRef symbol) {
  auto type = symbol.getType();
  if (!type)
    return type.takeError();
  if (*type != object::SymbolRef::ST_Function)
    return Error::success();
  auto name = symbol.getName();
  auto section = symbol.getSection();
  auto address = symbol.getAddress();
  if (!name || !section || !address)
    return joinErrors(joinErrors(name.takeError(), section.takeError()),
                      address.takeError());
  auto contents = (*section)->getContents();
  if (!contents)
    return contents.takeError();
  ArrayRef<uint8_t> bytes(contents->bytes_begin(), contents->size());
  uint64_t begin = *address - (*section)->getAddress();
  if (begin > bytes.size() || symbol.getSize() > bytes.size() - begin)
    return createStringError("a function ends beyond its section");
  os << *name << ":\n";
  printer.print(os, bytes.slice(begin, symbol.getSize()), *address);
  return Error::success();
}

} // namespace

std::optional<std::string> kvc::disassemble(ArrayRef<uint8_t> bytes,
                                            std::string &error) {
  StringRef data(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  auto file = object::ObjectFile::createELFObjectFile({data, "object"});
  if (!file)
    return error = toString(file.takeError()), std::nullopt;
  Printer printer;
  auto *elf = dyn_cast<object::ELFObjectFileBase>(file->get());
  if (!printer.ready() || !elf)
    return error = "no disassembler for this object", std::nullopt;
  std::string text;
  raw_string_ostream os(text);
  for (object::ELFSymbolRef symbol : elf->symbols())
    if (Error failure = printFunction(printer, os, symbol))
      return error = toString(std::move(failure)), std::nullopt;
  return text;
}
