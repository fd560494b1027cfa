//===- Decode.cpp - AMX instructions in machine code ----------------------===//
#include "lib/base/Amx/Decode.h"

#include <cstring>

using namespace kvc::amx;

namespace {

/// What VEX's `pp` stands for.
enum Prefix : uint8_t { None, P66, F3, F2 };
enum Operands : uint8_t { Nothing, Memory, Tile, Rows, Product };

struct Form {
  uint8_t opcode;
  Prefix prefix;
  Operands operands;
};
constexpr Form kForms[] = {
#define KVC_AMX(NAME, OPCODE, PREFIX, OPERANDS) {OPCODE, PREFIX, OPERANDS},
    KVC_AMX_INSTRUCTIONS(KVC_AMX)
#undef KVC_AMX
};

/// The bits of VEX, ModRM and SIB; those that VEX stores inverted are not.
struct Fields {
  unsigned r, x, b, vvvv, mod, reg, rm;
};

bool matches(Operands operands, const Fields &f) {
  bool memory = f.mod != 3;
  switch (operands) {
  case Nothing:
    return !memory && !f.r && !f.vvvv && f.reg == 0 && f.rm == 0;
  case Memory:
    return memory && !f.r && !f.vvvv && f.reg == 0;
  case Tile:
    return !memory && !f.r && !f.vvvv && f.rm == 0;
  case Rows: // always with a SIB byte
    return memory && !f.r && !f.vvvv && f.rm == 4;
  case Product: // there are tmm0 to tmm7
    return !memory && !f.r && !f.b && f.vvvv < 8;
  }
  return false;
}

/// Reads what follows ModRM; `next` ends behind the instruction.
void readAddress(const Fields &f, const uint64_t (&registers)[16], bool rows,
                 const uint8_t *&next, Instruction &to) {
  uint64_t base = 0, index = 0;
  unsigned number = f.rm;
  if (f.rm == 4) {
    unsigned sib = *next++, indexNumber = (sib >> 3 & 7) | f.x << 3;
    number = sib & 7;
    if (indexNumber != 4) // rsp's number says that there is none
      index = registers[indexNumber] << (sib >> 6);
  }
  bool noBase = f.mod == 0 && number == 5;
  if (!noBase)
    base = registers[number | f.b << 3];
  if (f.mod == 1) {
    base += uint64_t(int64_t(int8_t(*next++)));
  } else if (f.mod == 2 || noBase) {
    int32_t displacement;
    std::memcpy(&displacement, next, 4);
    next += 4;
    base += uint64_t(int64_t(displacement));
  }
  if (noBase && f.rm != 4)
    base += reinterpret_cast<uint64_t>(next); // relative to what follows
  to.memory = rows ? base : base + index;
  to.stride = index;
}

} // namespace

std::optional<Instruction> kvc::amx::decode(const uint8_t *code,
                                            const uint64_t (&registers)[16]) {
  // Three bytes of VEX, map 0F38, W and L of 0.
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || code[2] & 0x84)
    return std::nullopt;
  uint8_t opcode = code[3];
  if (opcode != 0x49 && opcode != 0x4b && opcode != 0x5c && opcode != 0x5e)
    return std::nullopt;
  unsigned modrm = code[4];
  Fields f = {};
  f.r = ~code[1] >> 7 & 1, f.x = ~code[1] >> 6 & 1, f.b = ~code[1] >> 5 & 1;
  f.vvvv = ~code[2] >> 3 & 15;
  f.mod = modrm >> 6, f.reg = modrm >> 3 & 7, f.rm = modrm & 7;
  for (size_t i = 0; i < kOps; ++i) {
    const Form &form = kForms[i];
    if (form.opcode != opcode || form.prefix != (code[2] & 3) ||
        !matches(form.operands, f))
      continue;
    Instruction found;
    found.op = Op(i);
    found.tiles[0] = uint8_t(f.reg);
    found.tiles[1] = uint8_t(f.rm);
    found.tiles[2] = uint8_t(f.vvvv);
    const uint8_t *next = code + 5;
    if (f.mod != 3)
      readAddress(f, registers, form.operands == Rows, next, found);
    found.bytes = size_t(next - code);
    return found;
  }
  return std::nullopt;
}
