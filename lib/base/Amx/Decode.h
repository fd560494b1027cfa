//===- Decode.h - AMX instructions in machine code --------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_AMX_DECODE_H
#define KVC_LIB_BASE_AMX_DECODE_H

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>

namespace kvc::amx {

// KVC_AMX(name, opcode, prefix, operands): all are VEX.128 of map 0F38 with W0.
#define KVC_AMX_INSTRUCTIONS(KVC_AMX)                                          \
  KVC_AMX(ldtilecfg, 0x49, None, Memory)                                       \
  KVC_AMX(sttilecfg, 0x49, P66, Memory)                                        \
  KVC_AMX(tilerelease, 0x49, None, Nothing)                                    \
  KVC_AMX(tilezero, 0x49, F2, Tile)                                            \
  KVC_AMX(tileloadd, 0x4b, F2, Rows)                                           \
  KVC_AMX(tileloaddt1, 0x4b, P66, Rows)                                        \
  KVC_AMX(tilestored, 0x4b, F3, Rows)                                          \
  KVC_AMX(tdpbf16ps, 0x5c, F3, Product)                                        \
  KVC_AMX(tdpbssd, 0x5e, F2, Product)                                          \
  KVC_AMX(tdpbsud, 0x5e, F3, Product)                                          \
  KVC_AMX(tdpbusd, 0x5e, P66, Product)                                         \
  KVC_AMX(tdpbuud, 0x5e, None, Product)

enum class Op : uint8_t {
#define KVC_AMX(NAME, OPCODE, PREFIX, OPERANDS) NAME,
  KVC_AMX_INSTRUCTIONS(KVC_AMX)
#undef KVC_AMX
};
#define KVC_AMX(NAME, OPCODE, PREFIX, OPERANDS) #NAME,
inline constexpr const char *kNames[] = {KVC_AMX_INSTRUCTIONS(KVC_AMX)};
#undef KVC_AMX
inline constexpr size_t kOps = std::size(kNames);

/// One instruction with the values of the registers that it names.
struct Instruction {
  Op op = Op::tilerelease;
  /// tilezero, loads and stores: one. Products: accumulator, A, B.
  uint8_t tiles[3] = {};
  uint64_t memory = 0; ///< address of the configuration or the first row
  uint64_t stride = 0; ///< from row to row, modulo 2^64
  size_t bytes = 0;    ///< of machine code

  uint8_t *row(uint64_t i) const {
    return reinterpret_cast<uint8_t *>(memory + i * stride);
  }
};

/// The AMX instruction at `code`; nullopt if there is another one, or one that
/// no CPU would decode as AMX. `registers` are rax, rcx, rdx, rbx, rsp, rbp,
/// rsi, rdi, r8 to r15. Reads no byte beyond what the bytes before call for.
std::optional<Instruction> decode(const uint8_t *code,
                                  const uint64_t (&registers)[16]);

} // namespace kvc::amx

#endif // KVC_LIB_BASE_AMX_DECODE_H
