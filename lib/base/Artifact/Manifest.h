//===- Manifest.h - what a .kvca says about itself --------------*- C++ -*-===//
//
// The manifest is the first entry of an artifact (`manifest.json`). It is all
// that the runtime knows: stores, page geometry, kernels. No LLVM, no
// exceptions, no RTTI here: the runtime links this.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_LIB_BASE_ARTIFACT_MANIFEST_H
#define KVC_LIB_BASE_ARTIFACT_MANIFEST_H

#include "lib/base/Artifact/Params.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvc::artifact {

/// 2: symbols end in keys (KernelKey.h). 3: a store lists its layers, a kernel
/// the words of its parameter block (Params.h). 4: planes are of streams of any
/// name, and what calls give has a type. What an earlier format wrote is
/// refused.
inline constexpr unsigned kFormatMajor = 5, kFormatMinor = 0;

/// One plane of a store's page: the codes or the scales of one stream.
struct PlaneInfo {
  std::string stream;      ///< "k", "v"
  std::string role;        ///< "codes", or what a codec keeps beside them
  std::string type;        ///< element type: "bf16", "i8", "f32", ...
  uint32_t elements = 0;   ///< elements of a row
  uint32_t rowTokens = 1;  ///< tokens that a row, at one head, stands for
  uint32_t rowBytes = 0;   ///< bytes of a row
  uint32_t rowStride = 0;  ///< bytes between rows of one head
  uint32_t headStride = 0; ///< bytes between heads in a page (paged); 0 if
                           ///< contiguous: rows * rowStride (HND) or
                           ///< rowBytes (NHD) is the runtime's business
  uint64_t pageOffset = 0; ///< of the plane in its page, 64-byte aligned
  bool operator==(const PlaneInfo &) const = default;
};

/// A constant of a store's expressions that each call gives.
struct ConstantInfo {
  std::string name;
  uint32_t size = 0;        ///< values
  std::string type = "f32"; ///< or "i32"
  bool perSequence = false; ///< each sequence of the batch has as many
  bool operator==(const ConstantInfo &) const = default;
};

struct StoreInfo {
  std::string name;
  std::vector<uint32_t> layers;        ///< ascending, each once
  uint32_t headBegin = 0, headEnd = 0; ///< kv heads
  bool paged = true;
  uint32_t page = 0;      ///< tokens per page; 0 if contiguous
  std::string order;      ///< "HND" or "NHD"
  uint64_t pageBytes = 0; ///< all planes of one layer's page, multiple of 64
  /// Codes of k[, scales], codes of v[, scales]. Without a stream `v`, V is the
  /// first elements of K's rows.
  std::vector<PlaneInfo> planes;
  bool window = false;
  uint32_t sink = 0, recent = 0; ///< if window
  bool causal = true;            ///< a query sees no token behind its own
  /// What is compiled into the store's attention: the canonical JSON text of
  /// its `attend`, "" if it has none.
  std::string attend;
  std::vector<ConstantInfo> constants; ///< by name
  /// Whether rows of V are stored, and not the beginnings of K's.
  bool storesV() const;
  bool operator==(const StoreInfo &) const = default;
};

struct KernelInfo {
  std::string name; ///< "full.attend.decode"
  /// "attend", "merge", "append", "plan", "gather", which artifacts of earlier
  /// compilers lack, or another, which no runtime of this version launches.
  std::string kind;
  std::string store;  ///< StoreInfo::name
  std::string target; ///< "x86-64-v3", "sm_90", ...
  /// What runs it: "cpu" (KernelAbi.h), "cuda" or "sim" (GpuAbi.h).
  std::string device = "cpu";
  /// CPU features that must all be there ("avx2", "fma", "amx-bf16", ...).
  std::vector<std::string> features;
  /// C name in the blob, which ends in the kernel's key. Kernels that are the
  /// same share one.
  std::string symbol;
  std::string blob; ///< entry of the artifact: "cpu/x86-64-v3.0.o"
  uint64_t scratchBytes = 0;
  /// The kernel's parameter block: its size, and its words by offset.
  uint32_t paramBytes = 0;
  std::vector<ParamInfo> params;
  /// attend: a sequence with n query tokens uses the store's attend kernel with
  /// the largest minQueries <= n, in items of at most maxQueries tokens each.
  /// So the choice depends on the sequence alone, never on the batch.
  uint32_t minQueries = 0, maxQueries = 0;
  /// attend: tokens per split at absolute multiples, 0 = never split. Fixed
  /// by the schedule, not by the batch: results stay batch-invariant.
  uint32_t split = 0;
  /// attend: tokens of one tile of all that work on an item. A split is whole
  /// tiles.
  uint32_t tileTokens = 0;
  std::string schedule; ///< all its fields, "tokens = 16, rows = 4"; or ""
  // Not for the CPU:
  uint32_t threads = 0;     ///< per CTA
  uint32_t sharedBytes = 0; ///< dynamic shared memory of a CTA
  uint32_t rows = 0;        ///< attend: query rows (tokens x group) per item
  uint32_t registers = 0;   ///< per thread as assembled; 0: not known
  /// cuda: entry with the PTX of the blob, which newer GPUs can compile; the
  /// blob is "" where there was no assembler.
  std::string ptx;
  std::string sites; ///< sim: entry with the lines that sites index
  bool operator==(const KernelInfo &) const = default;
};

struct ModelInfo {
  uint32_t layers = 0, qHeads = 0, kvHeads = 0, headDimK = 0, headDimV = 0;
  std::string dtype; ///< "f32", "f16" or "bf16"
  double softmaxScale = 0;
  bool operator==(const ModelInfo &) const = default;
};

struct Manifest {
  uint32_t formatMajor = kFormatMajor;
  uint32_t formatMinor = kFormatMinor;
  uint32_t cpuAbi = 0;  ///< KVC_CPU_ABI of the CPU kernels
  uint32_t gpuAbi = 0;  ///< KVC_GPU_ABI of the others; 0: there are none
  std::string producer; ///< "kvc 0.1.0, LLVM 22.1.8"
  std::string specName;
  std::string key; ///< hex: everything that changed the code
  ModelInfo model;
  std::vector<StoreInfo> stores;
  std::vector<KernelInfo> kernels;
  bool operator==(const Manifest &) const = default;
};

/// The manifest as JSON text, keys in a fixed order.
std::string write(const Manifest &manifest);

/// Reads and checks: sizes, ranges, overlaps of scopes, geometry that adds up,
/// kernels that name stores and blobs, symbols that end in the kernel's key.
/// Unknown keys are ignored, another major is refused. On failure returns
/// nullopt and sets `error` (one line, names the JSON pointer).
std::optional<Manifest> read(std::string_view json, std::string &error);

} // namespace kvc::artifact

#endif // KVC_LIB_BASE_ARTIFACT_MANIFEST_H
