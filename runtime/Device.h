//===- Device.h - what a device must do -------------------------*- C++ -*-===//
//
// Everything above this interface is the same for all devices: handles,
// arguments, pages, tables. A device loads the kernels of a program and runs
// them.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_DEVICE_H
#define KVC_RUNTIME_DEVICE_H

#include "lib/base/Artifact/Bundle.h"
#include "runtime/RefCounted.h"
#include "runtime/Status.h"

#include <memory>

namespace kvc::rt {

/// What attends of a step and their plan stay within. Where things are in a
/// plan follows from it, so a plan and its attends are given the same.
struct AttendBounds {
  uint32_t batch, rows;          ///< sequences, and rows of q
  uint32_t maxQueries, maxKvLen; ///< of a sequence
  uint64_t maxTokens;            ///< cached ones, of all sequences together

  static AttendBounds of(const kvc_attend_args &args);
};

/// Kernels that are given rows of K and V and a slot for each.
enum class RowKernel : uint8_t {
  Append, ///< encodes the rows into the slots
  Gather, ///< decodes the slots into the rows
};

/// What one of them is called with.
struct RowCall {
  RowKernel kernel = RowKernel::Append;
  uint32_t rows = 0;
  const void *k = nullptr; ///< of gather to be written, and null: not wanted
  int64_t kRowStride = 0, kHeadStride = 0;
  const void *v = nullptr; ///< likewise
  int64_t vRowStride = 0, vHeadStride = 0;
  const int64_t *slot = nullptr;
  int64_t slotTokens = 0, pageCount = 0;
  const kvc_plane *planes = nullptr;
  uint32_t planeCount = 0;
  void *stream = nullptr;

  RowCall() = default;
  explicit RowCall(const kvc_append_args &args)
      : RowCall(RowKernel::Append, args) {}
  explicit RowCall(const kvc_gather_args &args)
      : RowCall(RowKernel::Gather, args) {}

  /// Its kind, as manifests have it.
  const char *kind() const {
    return kernel == RowKernel::Append ? "append" : "gather";
  }

private:
  template <class Args>
  RowCall(RowKernel kernel, const Args &args)
      : kernel(kernel), rows(args.rows), k(args.k),
        kRowStride(args.k_row_stride), kHeadStride(args.k_head_stride),
        v(args.v), vRowStride(args.v_row_stride),
        vHeadStride(args.v_head_stride), slot(args.slot),
        slotTokens(args.slot_tokens), pageCount(args.page_count),
        planes(args.planes), planeCount(args.plane_count), stream(args.stream) {
  }
};

/// The kernels of one program, loaded on one device. Stores are indices into
/// the manifest's. Arguments were checked by the caller (Arguments.h). Calls
/// are safe from any thread.
class Executable {
public:
  virtual ~Executable() = default;
  /// The variant's name: "x86-64-v4".
  virtual const std::string &target() const = 0;
  /// What a user should know of how the kernels were loaded, in lines; "" if
  /// nothing.
  virtual const char *remarks() const { return ""; }
  virtual kvc_status move(uint32_t store, const RowCall &call) = 0;
  /// Whether the store can be gathered from: artifacts of earlier compilers
  /// have no kernel for it.
  virtual bool gathers(uint32_t store) const = 0;
  /// Bytes that suffice for any attend() within these bounds that makes its own
  /// plan; where it is given one, planBytes() less. SIZE_MAX: none do.
  virtual size_t attendWorkspace(uint32_t store,
                                 const AttendBounds &bounds) const = 0;
  /// With `args.plan`, that must be what plan() made within these bounds for
  /// the batch of `args` and a store of the same group.
  virtual kvc_status attend(uint32_t store, const kvc_attend_args &args,
                            const AttendBounds &bounds) = 0;

  /// The first store that cuts batches as this one does.
  virtual uint32_t planGroup(uint32_t store) const { return store; }
  /// 0: a device that plans within attend().
  virtual size_t planBytes(uint32_t, const AttendBounds &) const { return 0; }
  /// Writes a plan of the batch to `args.plan`. Of `args` nothing else is read
  /// but batch, cu_q, kv_len, bounds and stream.
  virtual kvc_status plan(uint32_t, const kvc_attend_args &,
                          const AttendBounds &) {
    return ok();
  }
};

class Device : public RefCounted {
public:
  /// Loads the best variant that runs here. The manifest must outlive the
  /// executable. KVC_UNSUPPORTED: the error text lists every variant and what
  /// it lacks.
  virtual kvc_status load(const artifact::Manifest &manifest,
                          const artifact::Bundle &bundle,
                          std::unique_ptr<Executable> &executable) = 0;

  /// Whether arguments that point to memory are the host's to read. If not, the
  /// caller vouches for lengths, tables and slots.
  virtual bool readsHostMemory() const { return true; }
  /// Whether it is a GpuDevice (devices/Gpu.h): there is no RTTI here.
  virtual bool isGpu() const { return false; }
  /// The caller's memory that kernels may touch is lent to an emulated GPU
  /// first, and taken back.
  virtual void lend(const void *, size_t, bool /*writable*/) {}
  virtual void takeBack(const void *) {}

  /// Counts what an emulated CPU did; false if this is none.
  virtual bool count(kvc_sim_counters &) const { return false; }

  /// Zeroed memory that kernels can reach, 64-byte aligned; null if there is
  /// not enough.
  virtual void *allocate(size_t bytes) = 0;
  virtual void deallocate(void *memory, size_t bytes) = 0;
  /// Zeroes memory that kernels can reach.
  virtual void zero(void *memory, size_t bytes) = 0;
  /// The same in the order of the stream.
  virtual kvc_status scrub(void *memory, size_t bytes, void *stream) = 0;
  /// Of a GPU: what is launched on `stream` from now on waits for what was
  /// launched on `other`.
  virtual kvc_status wait(void * /*stream*/, void * /*other*/) { return ok(); }
  /// Copies within memory that kernels can reach, in the order of the stream.
  virtual kvc_status copy(void *to, const void *from, size_t bytes,
                          void *stream) = 0;
  /// Of a GPU: copies to its memory, in the order of the stream. The host's
  /// memory may be written again when it returns.
  virtual kvc_status upload(void *to, const void *from, size_t bytes,
                            void *stream) = 0;
  /// Copies from memory that kernels can reach, once they are done.
  virtual kvc_status download(void *to, const void *from, size_t bytes) = 0;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_DEVICE_H
