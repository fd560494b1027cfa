/*===- SimAbi.h - what an emulated GPU kernel calls ---------------*- C -*-===//
 *
 * A kernel for `sim:sm_90` is the module that becomes PTX, with every
 * instruction of Ops.def turned into a call through `ops`, and with a call
 * before every access to global memory. It is an x86-64 object like those of
 * KernelAbi.h: no undefined symbols, loaded by ElfImage.
 *
 *   void kernel(KvcSimThread *thread, const void *params);
 *
 * One call is one GPU thread. `params` is the struct that a real launch passes
 * by value (GpuAbi.h).
 *
 *===----------------------------------------------------------------------===*/
#ifndef KVC_LIB_BASE_SIMT_SIMABI_H
#define KVC_LIB_BASE_SIMT_SIMABI_H

#include <stdint.h>

#define KVC_SIM_ABI 1

enum {
#define KVC_PTX_OP(NAME, SM, KIND, CONSTRAINTS, ASM) KVC_OP_##NAME,
#include "lib/base/Simt/Ops.def"
#undef KVC_PTX_OP
  KVC_OP_COUNT
};

/* `flags` of an access. */
enum { KVC_SIM_WRITE = 1 };

typedef struct KvcSimThread {
  /* Executes instruction `op` of Ops.def for this thread: operands in `in`, in
   * the order of its constraints, constants included; results into `out`. Each
   * has its own slot; 32-bit values and f32 bits are in the lower half, the
   * upper half does not matter. Returns when this thread may go on. */
  void (*op)(struct KvcSimThread *thread, uint32_t op, uint32_t site);
  /* Checks an access to global memory that comes next. */
  void (*access)(struct KvcSimThread *thread, const void *address,
                 uint32_t bytes, uint32_t flags, uint32_t site);
  uint64_t in[32];
  uint64_t out[16];
  /* The emulator's own fields follow. */
} KvcSimThread;

/* A site is the index, from 0, of a line of the artifact's `sites` entry after
 * its first (InstructionSet.h): "op file:line"
 * of the C++ line in codegen/nvptx that emitted it. */

#endif /* KVC_LIB_BASE_SIMT_SIMABI_H */
