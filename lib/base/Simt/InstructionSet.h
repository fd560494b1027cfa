//===- InstructionSet.h - which instructions a kernel was made for -*- C++
//-*-===//
//
// An emulated kernel names an instruction by the index of its row in Ops.def,
// so one that was made for other rows would run wrong ones. The first line of
// its artifact's `sites` entry says which rows it was made for.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_SIMT_INSTRUCTIONSET_H
#define KVC_LIB_BASE_SIMT_INSTRUCTIONSET_H

#include "lib/base/Simt/SimAbi.h"

#include <string>
#include <string_view>

namespace kvc::simt {

/// FNV-1a of KVC_SIM_ABI and of the name and operands of every row.
inline constexpr uint64_t kInstructionSet = [] {
  uint64_t hash = 0xcbf29ce484222325 ^ KVC_SIM_ABI;
  for (std::string_view text : {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM)                           \
  std::string_view(#NAME " " CONSTRAINTS ";"),
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
       })
    for (char c : text)
      hash = (hash ^ uint8_t(c)) * 0x100000001b3;
  return hash;
}();

/// The line that says it.
inline std::string instructionSetLine() {
  return "instructions " + std::to_string(kInstructionSet);
}

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_INSTRUCTIONSET_H
