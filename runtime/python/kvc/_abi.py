"""The C ABI of kvc/runtime.h and kvc/compiler.h, made by tools/python-abi."""

import ctypes as c

KVC_ALL_LAYERS = 4294967295
KVC_COMPILER_ABI = 1
KVC_RUNTIME_ABI = 4
KVC_OK = 0
KVC_WOULD_BLOCK = 1
KVC_OUT_OF_PAGES = 2
KVC_OUT_OF_SEQUENCES = 3
KVC_STALE = 4
KVC_BUSY = 5
KVC_INVALID_ARGUMENT = 6
KVC_UNSUPPORTED = 7
KVC_OUT_OF_MEMORY = 8
KVC_IO_ERROR = 9
KVC_CORRUPT = 10
KVC_DEVICE_ERROR = 11
KVC_POISONED = 12
KVC_SEQUENCE_FULL = 13
KVC_NOT_APPENDED = 14
KVC_SIM_COUNT = 1
KVC_SINGLE_OWNER = 1
KVC_SCRUB = 2
KVC_COMPILE_OK = 0
KVC_COMPILE_FAILED = 1
KVC_COMPILE_INVALID_ARGUMENT = 2
KVC_COMPILE_BUG = 3
KVC_ORC_JITDUMP = 1


class Status(c.Structure):
    _fields_ = [
        ("code", c.c_uint32), ("where", c.c_uint32), ("need", c.c_uint64),
        ("have", c.c_uint64), ("have_later", c.c_uint64)
    ]


class Parallel(c.Structure):
    _fields_ = [
        ("context", c.c_void_p), ("workers", c.c_uint32),
        ("run", c.c_void_p)
    ]


class CodeLoader(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("context", c.c_void_p), ("load", c.c_void_p),
        ("symbol", c.c_void_p), ("release", c.c_void_p)
    ]


class CpuOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("threads", c.c_uint32),
        ("parallel", c.c_void_p), ("code_loader", c.c_void_p)
    ]


class CudaOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("ordinal", c.c_int32),
        ("context", c.c_void_p)
    ]


class SimOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("target", c.c_char_p), ("seed", c.c_uint64),
        ("flags", c.c_uint32), ("threads", c.c_uint32)
    ]


class SimCounters(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("launches", c.c_uint64),
        ("ctas", c.c_uint64), ("instructions", c.c_uint64),
        ("mma", c.c_uint64), ("bytes_read", c.c_uint64),
        ("bytes_written", c.c_uint64), ("wavefronts", c.c_uint64),
        ("wavefronts_best", c.c_uint64), ("sectors", c.c_uint64),
        ("sectors_best", c.c_uint64), ("sectors_distinct", c.c_uint64),
        ("most_in_flight", c.c_uint64)
    ]


class ModelInfo(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("layers", c.c_uint32),
        ("q_heads", c.c_uint32), ("kv_heads", c.c_uint32),
        ("head_dim_k", c.c_uint32), ("head_dim_v", c.c_uint32),
        ("dtype", c.c_char_p), ("softmax_scale", c.c_double)
    ]


class PlaneInfo(c.Structure):
    _fields_ = [
        ("stream", c.c_char_p), ("role", c.c_char_p), ("type", c.c_char_p),
        ("elements", c.c_uint32), ("row_tokens", c.c_uint32),
        ("row_stride", c.c_uint32), ("head_stride", c.c_uint32),
        ("page_offset", c.c_uint64)
    ]


class ConstantInfo(c.Structure):
    _fields_ = [
        ("name", c.c_char_p), ("size", c.c_uint32), ("type", c.c_char_p),
        ("per_sequence", c.c_uint32)
    ]


class StoreInfo(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("name", c.c_char_p), ("layers", c.c_void_p),
        ("layer_count", c.c_uint32), ("head_begin", c.c_uint32),
        ("head_end", c.c_uint32), ("page_tokens", c.c_uint32),
        ("page_bytes", c.c_uint64), ("plane_count", c.c_uint32),
        ("plan_group", c.c_uint32), ("planes", c.c_void_p),
        ("constant_count", c.c_uint32), ("constants", c.c_void_p)
    ]


class Plane(c.Structure):
    _fields_ = [
        ("base", c.c_void_p), ("page_stride", c.c_int64),
        ("head_stride", c.c_int64)
    ]


class AppendArgs(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("rows", c.c_uint32), ("k", c.c_void_p),
        ("k_row_stride", c.c_int64), ("k_head_stride", c.c_int64),
        ("v", c.c_void_p), ("v_row_stride", c.c_int64),
        ("v_head_stride", c.c_int64), ("slot", c.c_void_p),
        ("slot_tokens", c.c_int64), ("page_count", c.c_int64),
        ("planes", c.c_void_p), ("plane_count", c.c_uint32),
        ("stream", c.c_void_p)
    ]


class GatherArgs(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("rows", c.c_uint32), ("k", c.c_void_p),
        ("k_row_stride", c.c_int64), ("k_head_stride", c.c_int64),
        ("v", c.c_void_p), ("v_row_stride", c.c_int64),
        ("v_head_stride", c.c_int64), ("slot", c.c_void_p),
        ("slot_tokens", c.c_int64), ("page_count", c.c_int64),
        ("planes", c.c_void_p), ("plane_count", c.c_uint32),
        ("stream", c.c_void_p)
    ]


class AttendArgs(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("batch", c.c_uint32), ("q", c.c_void_p),
        ("q_row_stride", c.c_int64), ("q_head_stride", c.c_int64),
        ("out", c.c_void_p), ("out_row_stride", c.c_int64),
        ("out_head_stride", c.c_int64), ("lse", c.c_void_p),
        ("lse_row_stride", c.c_int64), ("lse_head_stride", c.c_int64),
        ("cu_q", c.c_void_p), ("kv_len", c.c_void_p), ("table", c.c_void_p),
        ("table_stride", c.c_int64), ("page_count", c.c_int64),
        ("slot_tokens", c.c_int64), ("workspace", c.c_void_p),
        ("workspace_bytes", c.c_size_t), ("planes", c.c_void_p),
        ("plane_count", c.c_uint32), ("stream", c.c_void_p),
        ("rows", c.c_uint32), ("max_queries", c.c_uint32),
        ("max_kv_len", c.c_uint32), ("max_kv_tokens", c.c_uint64),
        ("plan", c.c_void_p), ("constant_count", c.c_uint32),
        ("constants", c.c_void_p)
    ]


class Seq(c.Structure):
    _fields_ = [
        ("slot", c.c_uint32), ("generation", c.c_uint32)
    ]


class Step(c.Structure):
    _fields_ = [
        ("slot", c.c_uint32), ("generation", c.c_uint32)
    ]


class CacheOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("arena", c.c_void_p),
        ("arena_bytes", c.c_size_t), ("max_sequences", c.c_uint32),
        ("max_batch", c.c_uint32), ("max_step_tokens", c.c_uint32),
        ("max_tokens_per_seq", c.c_uint32), ("flags", c.c_uint32),
        ("max_rollback", c.c_uint32)
    ]


class Stride(c.Structure):
    _fields_ = [
        ("row", c.c_int64), ("head", c.c_int64)
    ]


class SlotRequest(c.Structure):
    _fields_ = [
        ("seq", Seq), ("new_tokens", c.c_uint32)
    ]


class BatchView(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("batch", c.c_uint32), ("rows", c.c_uint32),
        ("cu_q", c.c_void_p), ("kv_len", c.c_void_p), ("table", c.c_void_p),
        ("table_stride", c.c_int64), ("write_slot", c.c_void_p),
        ("page_count", c.c_int64), ("slot_tokens", c.c_int64),
        ("plane_count", c.c_uint32), ("planes", c.c_void_p)
    ]


class CacheStats(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("pages_total", c.c_uint64),
        ("pages_free", c.c_uint64), ("pages_live", c.c_uint64),
        ("sequences", c.c_uint64), ("steps", c.c_uint64),
        ("bytes", c.c_uint64), ("refused", c.c_uint64),
        ("pages_shared", c.c_uint64), ("pages_copied", c.c_uint64)
    ]


class SeqStats(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("tokens", c.c_uint32),
        ("new_tokens", c.c_uint32), ("pages", c.c_uint64),
        ("pages_shared", c.c_uint64), ("bytes", c.c_uint64)
    ]


class CompileOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("name", c.c_char_p), ("targets", c.c_void_p),
        ("target_count", c.c_size_t), ("schedule", c.c_void_p),
        ("schedule_count", c.c_size_t), ("use_cache", c.c_uint32)
    ]


class ExplainOptions(c.Structure):
    _fields_ = [
        ("size", c.c_size_t), ("context", c.c_uint32),
        ("batch", c.c_uint32), ("bandwidth_gb_s", c.c_double),
        ("tflop_s", c.c_double)
    ]


RUNTIME = [
    ("kvc_runtime_abi", c.c_uint32, [
    ]),
    ("kvc_code_name", c.c_char_p, [
        c.c_uint32
    ]),
    ("kvc_error_text", c.c_char_p, [
    ]),
    ("kvc_device_create_cpu", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_device_create_cuda", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_device_create_sim", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_sim_allow", Status, [
        c.c_void_p, c.c_void_p, c.c_size_t, c.c_int
    ]),
    ("kvc_sim_forget", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_sim_get_counters", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_device_release", None, [
        c.c_void_p
    ]),
    ("kvc_program_load", Status, [
        c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p
    ]),
    ("kvc_program_load_file", Status, [
        c.c_void_p, c.c_char_p, c.c_void_p
    ]),
    ("kvc_program_release", None, [
        c.c_void_p
    ]),
    ("kvc_program_name", c.c_char_p, [
        c.c_void_p
    ]),
    ("kvc_program_target", c.c_char_p, [
        c.c_void_p
    ]),
    ("kvc_program_remarks", c.c_char_p, [
        c.c_void_p
    ]),
    ("kvc_program_get_model", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_program_store_count", c.c_uint32, [
        c.c_void_p
    ]),
    ("kvc_program_get_store", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_append", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_gather", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_attend_workspace", Status, [
        c.c_void_p, c.c_uint32, c.c_uint32, c.c_uint32, c.c_uint32,
        c.c_void_p
    ]),
    ("kvc_attend_workspace_of", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p, c.c_void_p
    ]),
    ("kvc_attend_plan_bytes", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p, c.c_void_p
    ]),
    ("kvc_attend_plan", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_attend", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_cache_create", Status, [
        c.c_void_p, c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_destroy", None, [
        c.c_void_p
    ]),
    ("kvc_cache_arena_bytes", Status, [
        c.c_void_p, c.c_void_p, c.c_uint64, c.c_void_p
    ]),
    ("kvc_cache_tokens_that_fit", Status, [
        c.c_void_p, c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_open", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_fork", Status, [
        c.c_void_p, Seq, c.c_void_p
    ]),
    ("kvc_cache_truncate", Status, [
        c.c_void_p, Seq, c.c_uint32
    ]),
    ("kvc_cache_release", Status, [
        c.c_void_p, Seq
    ]),
    ("kvc_cache_length", Status, [
        c.c_void_p, Seq, c.c_void_p
    ]),
    ("kvc_cache_read", Status, [
        c.c_void_p, Seq, c.c_uint32, c.c_uint32, c.c_uint32, c.c_void_p,
        Stride, c.c_void_p, Stride, c.c_void_p
    ]),
    ("kvc_cache_reserve", Status, [
        c.c_void_p, c.c_void_p, c.c_uint32, c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_view", Status, [
        c.c_void_p, Step, c.c_uint32, c.c_uint32, c.c_void_p
    ]),
    ("kvc_cache_append", Status, [
        c.c_void_p, Step, c.c_uint32, c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_append_strided", Status, [
        c.c_void_p, Step, c.c_uint32, c.c_void_p, Stride, c.c_void_p, Stride
    ]),
    ("kvc_cache_mark_appended", Status, [
        c.c_void_p, Step, c.c_uint32
    ]),
    ("kvc_cache_set_constants", Status, [
        c.c_void_p, c.c_uint32, c.c_uint32, c.c_void_p, c.c_uint32
    ]),
    ("kvc_cache_attend", Status, [
        c.c_void_p, Step, c.c_uint32, c.c_void_p, c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_attend_strided", Status, [
        c.c_void_p, Step, c.c_uint32, c.c_void_p, Stride, c.c_void_p,
        Stride, c.c_void_p, Stride
    ]),
    ("kvc_cache_commit", Status, [
        c.c_void_p, Step, c.c_void_p
    ]),
    ("kvc_cache_abandon", Status, [
        c.c_void_p, Step
    ]),
    ("kvc_cache_get_stats", Status, [
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_cache_get_seq_stats", Status, [
        c.c_void_p, Seq, c.c_void_p
    ]),
    ("kvc_cache_layer_bytes", Status, [
        c.c_void_p, c.c_uint32, c.c_void_p
    ]),
    ("kvc_cache_check", Status, [
        c.c_void_p, c.c_uint32
    ]),
]

COMPILER = [
    ("kvc_compiler_abi", c.c_uint32, [
    ]),
    ("kvc_compiler_version", c.c_char_p, [
    ]),
    ("kvc_compile", c.c_uint32, [
        c.c_char_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_void_p,
        c.c_void_p, c.c_void_p
    ]),
    ("kvc_explain", c.c_uint32, [
        c.c_char_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_void_p,
        c.c_void_p, c.c_void_p, c.c_void_p
    ]),
    ("kvc_compile_free", None, [
        c.c_void_p
    ]),
    ("kvc_orc_code_loader", c.c_void_p, [
        c.c_uint32
    ]),
]
