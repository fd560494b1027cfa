//===- StructFields.cpp - where the fields of ABI structs end -------------===//
#include "runtime/StructFields.h"

using namespace kvc::rt;

/// Whether nothing but padding lies between the fields and after the last.
static constexpr bool areAll(std::span<const Field> fields, size_t size,
                             size_t alignment) {
  size_t end = 0;
  for (const Field &field : fields) {
    if (field.begin < end || field.begin - end >= field.alignment)
      return false;
    end = field.end;
  }
  return size >= end && size - end < alignment;
}

#define FIELD(name)                                                            \
  Field {                                                                      \
    #name, offsetof(T, name), offsetof(T, name) + sizeof(T::name),             \
        alignof(decltype(T::name))                                             \
  }
#define FIELDS(type, ...)                                                      \
  template <> std::span<const Field> kvc::rt::fieldsOf<type>() {               \
    using T = type;                                                            \
    static constexpr Field fields[] = {__VA_ARGS__};                           \
    static_assert(areAll(fields, sizeof(T), alignof(T)), #type);               \
    return fields;                                                             \
  }

FIELDS(kvc_code_loader, FIELD(size), FIELD(context), FIELD(load), FIELD(symbol),
       FIELD(release))
FIELDS(kvc_cpu_options, FIELD(size), FIELD(threads), FIELD(parallel),
       FIELD(code_loader))
FIELDS(kvc_cuda_options, FIELD(size), FIELD(ordinal), FIELD(context))
FIELDS(kvc_sim_options, FIELD(size), FIELD(target), FIELD(seed), FIELD(flags),
       FIELD(threads))
FIELDS(kvc_sim_counters, FIELD(size), FIELD(launches), FIELD(ctas),
       FIELD(instructions), FIELD(mma), FIELD(bytes_read), FIELD(bytes_written),
       FIELD(wavefronts), FIELD(wavefronts_best), FIELD(sectors),
       FIELD(sectors_best), FIELD(sectors_distinct), FIELD(most_in_flight))
FIELDS(kvc_model_info, FIELD(size), FIELD(layers), FIELD(q_heads),
       FIELD(kv_heads), FIELD(head_dim_k), FIELD(head_dim_v), FIELD(dtype),
       FIELD(softmax_scale))
FIELDS(kvc_store_info, FIELD(size), FIELD(name), FIELD(layers),
       FIELD(layer_count), FIELD(head_begin), FIELD(head_end),
       FIELD(page_tokens), FIELD(page_bytes), FIELD(plane_count),
       FIELD(plan_group), FIELD(planes), FIELD(constant_count),
       FIELD(constants))
FIELDS(kvc_append_args, FIELD(size), FIELD(rows), FIELD(k), FIELD(k_row_stride),
       FIELD(k_head_stride), FIELD(v), FIELD(v_row_stride),
       FIELD(v_head_stride), FIELD(slot), FIELD(slot_tokens), FIELD(page_count),
       FIELD(planes), FIELD(plane_count), FIELD(stream))
FIELDS(kvc_gather_args, FIELD(size), FIELD(rows), FIELD(k), FIELD(k_row_stride),
       FIELD(k_head_stride), FIELD(v), FIELD(v_row_stride),
       FIELD(v_head_stride), FIELD(slot), FIELD(slot_tokens), FIELD(page_count),
       FIELD(planes), FIELD(plane_count), FIELD(stream))
FIELDS(kvc_attend_args, FIELD(size), FIELD(batch), FIELD(q),
       FIELD(q_row_stride), FIELD(q_head_stride), FIELD(out),
       FIELD(out_row_stride), FIELD(out_head_stride), FIELD(lse),
       FIELD(lse_row_stride), FIELD(lse_head_stride), FIELD(cu_q),
       FIELD(kv_len), FIELD(table), FIELD(table_stride), FIELD(page_count),
       FIELD(slot_tokens), FIELD(workspace), FIELD(workspace_bytes),
       FIELD(planes), FIELD(plane_count), FIELD(stream), FIELD(rows),
       FIELD(max_queries), FIELD(max_kv_len), FIELD(max_kv_tokens), FIELD(plan),
       FIELD(constant_count), FIELD(constants))
FIELDS(kvc_cache_options, FIELD(size), FIELD(arena), FIELD(arena_bytes),
       FIELD(max_sequences), FIELD(max_batch), FIELD(max_step_tokens),
       FIELD(max_tokens_per_seq), FIELD(flags), FIELD(max_rollback))
FIELDS(kvc_batch_view, FIELD(size), FIELD(batch), FIELD(rows), FIELD(cu_q),
       FIELD(kv_len), FIELD(table), FIELD(table_stride), FIELD(write_slot),
       FIELD(page_count), FIELD(slot_tokens), FIELD(plane_count), FIELD(planes))
FIELDS(kvc_cache_stats, FIELD(size), FIELD(pages_total), FIELD(pages_free),
       FIELD(pages_live), FIELD(sequences), FIELD(steps), FIELD(bytes),
       FIELD(refused), FIELD(pages_shared), FIELD(pages_copied))
FIELDS(kvc_seq_stats, FIELD(size), FIELD(tokens), FIELD(new_tokens),
       FIELD(pages), FIELD(pages_shared), FIELD(bytes))
