//===- Cache.h - sequences, steps and their pages ---------------*- C++ -*-===//
//
// A sequence holds its pages; a step holds nothing, it only marks its
// sequences, whose new tokens commit makes theirs or gives back. Which pages a
// sequence holds follows from its tokens, so there is no count to go wrong:
//
//   committed tokens                     | reserved by its open step
//   <- length -------------------------> | <- reserved ----------->
//   sink | unseen | seen by later queries                  ceil(sum / page)
//   pages
//          pages given back (StoreLayout::unseen): their entries are page 0
//
// What no later query sees follows from the committed tokens alone, less those
// that may be truncated, so that a rejected draft needs nothing that is gone.
// Committed tokens have been written in every layer: a step counts the layers
// that were, and neither attend nor commit takes another.
//
// A fork holds the pages of its parent. Pages are written behind a sequence's
// tokens only, so full ones never again: whoever writes to a page that is
// partly filled and that others hold too gets a copy of it first.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_CACHE_H
#define KVC_RUNTIME_CACHE_H

#include "runtime/CacheLayout.h"
#include "runtime/KernelArray.h"
#include "runtime/PagePool.h"
#include "runtime/Program.h"

#include <mutex>
#include <optional>

namespace kvc::rt {

/// What a step's tables still hold of a sequence that was in it: its first
/// `intact` tokens' pages, less those that its `floor` made unseen, in row
/// `row` if that is still the sequence's. Saves copying long tables for every
/// step.
struct Remembered {
  uint32_t row = 0, intact = 0, floor = 0;
};

struct Sequence {
  uint32_t generation = 0; ///< odd: open
  uint32_t length = 0;
  uint32_t reserved = 0;
  /// It never has fewer tokens again, but none: windows have given back what no
  /// query from there on sees.
  uint32_t floor = 0;
  uint32_t step = 0;    ///< 1 + index of the step that it is in; 0: none
  uint32_t readers = 0; ///< reads under way
  Remembered remembered[kMaxSteps];

  bool isOpen() const { return generation & 1; }
  uint32_t tokens() const { return length + reserved; }
};

/// Rows of a launch of a read.
inline constexpr uint32_t kReadRows = 1024;

/// What a step's kernels read of one store.
struct StepTable {
  KernelArray<int32_t> table; ///< [max_batch][tableWidth]
  HostArray<uint32_t> filled; ///< [max_batch] entries that are not 0
  KernelArray<int64_t> slots; ///< [max_step_tokens]
};

struct Step {
  uint32_t generation = 0; ///< odd: open
  uint32_t batch = 0, rows = 0;
  void *stream = nullptr;        ///< of a GPU
  uint32_t running = 0;          ///< append and attend calls under way
  uint32_t written = 0;          ///< layers of which the rows are written
  HostArray<uint32_t> writtenIn; ///< [layers] the last generation in which a
                                 ///< layer was
  HostArray<uint32_t> sequences; ///< [max_batch] slots
  HostArray<uint32_t> owners;    ///< [max_batch] 1 + slot of a row's last user
  uint32_t maxQueries = 0;       ///< new tokens of a sequence, at most
  HostArray<uint32_t> plannedIn; ///< [plans] the last generation that has one
  KernelMemory memory;           ///< of the arrays that kernels read
  KernelArray<int32_t> cuQ, kvLen;
  std::vector<StepTable> tables; ///< one per store

  bool isOpen() const { return generation & 1; }
  bool isWritten(uint32_t layer) const {
    return writtenIn[layer] == generation;
  }
  void setWritten(uint32_t layer) {
    written += !isWritten(layer);
    writtenIn[layer] = generation;
  }
};

/// Locks a mutex, if there is one.
class Guard {
public:
  explicit Guard(std::mutex *mutex) : mutex(mutex) {
    if (mutex)
      mutex->lock();
  }
  ~Guard() {
    if (mutex)
      mutex->unlock();
  }
  Guard(const Guard &) = delete;
  Guard &operator=(const Guard &) = delete;

private:
  std::mutex *mutex;
};

class Cache {
public:
  static kvc_status create(Program &program, const kvc_cache_options &options,
                           Cache *&cache);
  ~Cache();

  kvc_status open(kvc_seq &seq);
  kvc_status release(kvc_seq seq);
  kvc_status fork(kvc_seq parent, kvc_seq &child);
  kvc_status truncate(kvc_seq seq, uint32_t tokens);
  kvc_status length(kvc_seq seq, uint32_t &tokens) const;
  kvc_status read(kvc_seq seq, uint32_t layer, uint32_t begin, uint32_t count,
                  void *k, kvc_stride kStride, void *v, kvc_stride vStride,
                  void *stream);
  kvc_status reserve(const kvc_slot_request *requests, uint32_t count,
                     void *stream, kvc_step &step);
  kvc_status view(kvc_step step, uint32_t store, uint32_t layer,
                  kvc_batch_view &view) const;
  kvc_status append(kvc_step step, uint32_t layer, const void *k,
                    kvc_stride kStride, const void *v, kvc_stride vStride);
  kvc_status attend(kvc_step step, uint32_t layer, const void *q,
                    kvc_stride qStride, void *out, kvc_stride outStride,
                    float *lse, kvc_stride lseStride);
  /// Of a layer of the store, or KVC_ALL_LAYERS.
  kvc_status setConstants(uint32_t store, uint32_t layer,
                          const void *const *constants, uint32_t count);
  /// The caller vouches for the rows of a layer, or KVC_ALL_LAYERS.
  kvc_status markAppended(kvc_step step, uint32_t layer);
  /// `accepted` null: all.
  kvc_status commit(kvc_step step, const uint32_t *accepted);
  kvc_status abandon(kvc_step step);
  kvc_cache_stats stats() const;
  kvc_status stats(kvc_seq seq, kvc_seq_stats &stats) const;
  kvc_status layerBytes(uint32_t layer, uint64_t &bytes) const;
  kvc_status check(uint32_t level);

  /// Whether it was made before fork(), by the parent of this process.
  bool isParents() const { return origin.isParent(); }
  /// Whether its memory must stay as it is, too: a GPU's driver does not work
  /// in a child of fork().
  bool isLeft() const { return isParents() && program->device().isGpu(); }

  /// A hash of everything that calls can see or depend on, but for `refused`.
  uint64_t digest() const;

private:
  friend struct CacheTestPeer;
  struct Store {
    StoreLayout layout;
    uint32_t plan = 0;           ///< index of the plan that it shares
    HostArray<kvc_plane> planes; ///< [layers][planes], what kernels are given
    HostArray<const void *> constants; ///< [layers][constants], null: not set
    PagePool pool;                     ///< paged
    HostArray<int32_t> tables;         ///< paged: [max_sequences][tableWidth]
    HostArray<uint32_t> marks;         ///< paged: [pages], of whoever counts

    const char *name() const { return layout.info->name.c_str(); }
    /// False if there is not enough memory.
    bool placePlanes(uint8_t *arena);
    /// Of the `layer`-th of its layers, as the next.
    const void *const *constantsOf(uint32_t layer) const {
      return constants.data() + layer * layout.info->constants.size();
    }
    const kvc_plane *planesOf(uint32_t layer) const {
      return planes.data() + layer * layout.planeCount();
    }
    /// Pages, or slots of `sequences` open sequences, in use.
    uint64_t used(uint32_t sequences) const {
      return layout.paged() ? pool.live() : sequences;
    }
    int32_t *table(uint32_t sequence) const {
      return tables.data() + size_t(sequence) * layout.tableWidth;
    }
  };
  /// What the attends of a step share, over the stores that cut batches alike.
  struct Plan {
    uint32_t store = 0; ///< the first of them
    AttendBounds bounds = {};
    size_t bytes = 0;  ///< 0: the device needs none
    size_t offset = 0; ///< in a step's part of the memory
  };
  Cache(Program &program, const kvc_cache_options &options)
      : program(&program), options(options) {}
  kvc_status init();
  kvc_status initStores();
  bool initStep(Step &step);

  /// Null if the cache has a single owner.
  std::mutex *shared(std::mutex &mutex) const {
    return options.flags & KVC_SINGLE_OWNER ? nullptr : &mutex;
  }
  /// For what is launched beside kernels. On a CPU that is done when the call
  /// returns, and need not wait for kernels under way.
  std::mutex *orderOfStreams() {
    return program->device().isGpu() ? shared(launchLock) : nullptr;
  }
  kvc_status usable() const;
  kvc_status find(kvc_seq seq) const;
  kvc_status find(kvc_step step) const;
  kvc_status findIdle(kvc_step step) const;
  kvc_status findIdle(kvc_seq seq) const;
  kvc_status checkUnread(uint32_t slot) const;
  kvc_status checkRoom() const;
  kvc_status checkRequests(const kvc_slot_request *requests, uint32_t count);
  kvc_status checkRequest(const kvc_slot_request &request, uint32_t index,
                          uint64_t &rows) const;
  kvc_status checkPages(const kvc_slot_request *requests, uint32_t count);
  int32_t *openPage(const Store &store, uint32_t slot) const;
  uint64_t copiesFor(Store &store, const kvc_slot_request *requests,
                     uint32_t count) const;
  kvc_status unshare(uint32_t slot, void *stream);
  kvc_status copyPage(const StoreLayout &store, int32_t from, int32_t to,
                      void *stream);
  kvc_status copySlot(const StoreLayout &store, uint32_t from, uint32_t to,
                      uint32_t tokens);
  kvc_status fillStep(uint32_t index);
  void fillTable(Step &step, uint32_t store, uint32_t row,
                 const Remembered &kept);
  kvc_status checkLayer(uint32_t layer) const;
  kvc_status checkConstantsOf(uint32_t layer) const;
  kvc_status begin(kvc_step step, uint32_t layer, bool pointers, bool reads);
  void finish(kvc_step step, const kvc_status &status,
              std::optional<uint32_t> wrote = std::nullopt);
  kvc_batch_view viewOf(const Step &step, LayerTable::Entry kept) const;
  /// A call with these buffers and strides; and what of it is a store's.
  RowCall callOf(RowKernel kernel, const void *k, kvc_stride kStride,
                 const void *v, kvc_stride vStride) const;
  RowCall over(RowCall call, LayerTable::Entry kept) const;
  /// Whether any store of the layer has rows of V.
  bool storesV(uint32_t layer) const;
  kvc_status checkThere(const Sequence &sequence, uint32_t layer,
                        uint32_t begin, uint32_t count) const;
  kvc_status beginRead(kvc_seq seq, uint32_t layer, uint32_t begin,
                       const RowCall &whole);
  kvc_status readRows(uint32_t slot, uint32_t store, uint32_t first,
                      const RowCall &call);
  /// What all attends of a store stay within.
  AttendBounds boundsOf(uint32_t store) const;
  kvc_status initPlans();
  kvc_attend_args planArgs(const Step &step, uint32_t plan) const;
  kvc_attend_args attendArgs(const Step &step, uint32_t store,
                             const kvc_batch_view &view) const;
  /// Makes plan `index` of a step, if it is not made.
  kvc_status makePlan(Step &step, uint32_t index);
  template <class Kept> void end(Step &step, Kept kept);
  void shrink(uint32_t sequence, uint32_t from, uint32_t to);
  void empty(uint32_t sequence);
  void slide(uint32_t slot, uint32_t length);
  void giveBack(Store &store, int32_t &entry);
  void scrub(const StoreLayout &store, uint32_t page);
  kvc_status follow(void *stream);
  kvc_status poison(const kvc_status &status);

  kvc_status audit(uint32_t level) const;
  kvc_status auditSequences() const;
  kvc_status auditSteps() const;
  kvc_status auditStepTables(const Step &step) const;
  kvc_status auditTable(const Store &store, uint32_t slot) const;
  kvc_status auditStore(const Store &store) const;
  kvc_status auditZeroPage(const Store &store) const;

  Origin origin;
  Ref<Program> program;
  kvc_cache_options options;
  uint8_t *arena = nullptr;
  bool ownsArena = false;
  bool lent = false; ///< the caller's arena, to the device
  void *workspace = nullptr;
  size_t workspaceBytes = 0;
  std::vector<Plan> plans;
  uint8_t *planMemory = nullptr; ///< [kMaxSteps][stepPlanBytes]
  size_t stepPlanBytes = 0;
  std::vector<std::unique_ptr<Store>> stores;
  HostArray<Sequence> sequences;
  HostArray<uint32_t> freeSequences; ///< a stack
  uint32_t freeSequenceCount = 0;
  Step steps[kMaxSteps];
  KernelMemory readMemory; ///< guarded by `launchLock`
  KernelArray<int64_t> readSlots;
  uint64_t refused = 0, copied = 0;
  /// The first cause; later calls repeat its text.
  kvc_status poisoned = {};
  char poisonText[512] = {};
  mutable std::mutex stateLock;
  /// Held while something is launched. All of it is in one order: steps share
  /// the workspace, reads their slots, and pages go from one to the next.
  std::mutex launchLock;
  /// Of a GPU: what was launched last is on it, if anything was.
  std::optional<void *> lastStream;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_CACHE_H
