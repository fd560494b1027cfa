//===- Environment.cpp - the words that a call gives its kernels ----------===//
#include "runtime/Environment.h"

#include "runtime/include/kvc/runtime.h"

using namespace kvc;
using namespace kvc::rt;

WordSet kvc::rt::setOf(std::initializer_list<Word> words) {
  WordSet set;
  for (Word word : words)
    set.set(size_t(word));
  return set;
}

const WordSet &kvc::rt::rowWords() {
  static const WordSet words =
      setOf({Word::Rows, Word::K, Word::KRowStride, Word::KHeadStride, Word::V,
             Word::VRowStride, Word::VHeadStride, Word::Slot, Word::SlotTokens,
             Word::PlaneBase, Word::PlanePageStride, Word::PlaneHeadStride});
  return words;
}

const WordSet &kvc::rt::attendWords() {
  static const WordSet words = setOf({Word::Q,
                                      Word::QRowStride,
                                      Word::QHeadStride,
                                      Word::Out,
                                      Word::OutRowStride,
                                      Word::OutHeadStride,
                                      Word::Lse,
                                      Word::LseRowStride,
                                      Word::LseHeadStride,
                                      Word::Batch,
                                      Word::Rows,
                                      Word::CuQ,
                                      Word::KvLen,
                                      Word::MaxKvLen,
                                      Word::Table,
                                      Word::TableStride,
                                      Word::PlaneBase,
                                      Word::PlanePageStride,
                                      Word::PlaneHeadStride,
                                      Word::ConstantValues});
  return words;
}

void Environment::setPlanes(const kvc_plane *planes, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    words[indexOf(Word::PlaneBase, i)] = uintptr_t(planes[i].base);
    words[indexOf(Word::PlanePageStride, i)] = uint64_t(planes[i].page_stride);
    words[indexOf(Word::PlaneHeadStride, i)] = uint64_t(planes[i].head_stride);
  }
}

Environment::Environment(const RowCall &call, int64_t slotTokens)
    : Environment() {
  set(Word::Rows, call.rows);
  set(Word::K, call.k);
  set(Word::KRowStride, call.kRowStride);
  set(Word::KHeadStride, call.kHeadStride);
  set(Word::V, call.v);
  set(Word::VRowStride, call.vRowStride);
  set(Word::VHeadStride, call.vHeadStride);
  set(Word::Slot, call.slot);
  set(Word::SlotTokens, slotTokens);
  setPlanes(call.planes, call.planeCount);
}

Environment::Environment(const kvc_attend_args &args) : Environment() {
  set(Word::Q, args.q);
  set(Word::QRowStride, args.q_row_stride);
  set(Word::QHeadStride, args.q_head_stride);
  set(Word::Out, args.out);
  set(Word::OutRowStride, args.out_row_stride);
  set(Word::OutHeadStride, args.out_head_stride);
  set(Word::Lse, args.lse);
  set(Word::LseRowStride, args.lse_row_stride);
  set(Word::LseHeadStride, args.lse_head_stride);
  set(Word::Rows, args.rows);
  set(Word::Table, args.table);
  set(Word::TableStride, args.table_stride);
  setBatch(args);
  setPlanes(args.planes, args.plane_count);
  for (uint32_t i = 0; i < args.constant_count; ++i)
    words[indexOf(Word::ConstantValues, i)] = uintptr_t(args.constants[i]);
}

Environment Environment::ofBatch(const kvc_attend_args &args) {
  Environment words;
  words.setBatch(args);
  return words;
}

void Environment::setBatch(const kvc_attend_args &args) {
  set(Word::Batch, args.batch);
  set(Word::CuQ, args.cu_q);
  set(Word::KvLen, args.kv_len);
  set(Word::MaxKvLen, args.max_kv_len);
}

/// Of a checked manifest.
static uint32_t planeOf(const artifact::StoreInfo &store,
                        const std::string &name) {
  uint32_t index = 0;
  while (index + 1 < store.planes.size() &&
         name != store.planes[index].stream + "." + store.planes[index].role)
    ++index;
  return index;
}

/// Likewise.
static uint32_t constantOf(const artifact::StoreInfo &store,
                           const std::string &name) {
  uint32_t index = 0;
  while (index + 1 < store.constants.size() &&
         name != store.constants[index].name)
    ++index;
  return index;
}

kvc_status KernelBlock::resolve(const artifact::KernelInfo &kernel,
                                const artifact::StoreInfo &store,
                                const WordSet &given, uint32_t attend,
                                KernelBlock &block) {
  block.sources.assign(kernel.paramBytes / artifact::kWordBytes,
                       Environment::zero());
  for (const artifact::ParamInfo &param : kernel.params) {
    const artifact::WordInfo *word = artifact::findWord(param.what);
    if (!word || !given[size_t(word->word)])
      return fail(KVC_CORRUPT, 336,
                  "`%s`: expected words that a launch of kind `%s` sets, found "
                  "`%s`",
                  kernel.name.c_str(), kernel.kind.c_str(), param.what.c_str());
    uint32_t of = attend;
    if (word->scope == artifact::WordScope::Plane)
      of = planeOf(store, param.of);
    else if (word->scope == artifact::WordScope::Constant)
      of = constantOf(store, param.of);
    else if (word->scope == artifact::WordScope::Attend && !param.of.empty())
      of = artifact::attendOf(param.of).value_or(0);
    block.sources[param.offset / artifact::kWordBytes] =
        Environment::indexOf(word->word, of);
  }
  return ok();
}
