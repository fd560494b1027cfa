"""load(): an artifact to a Program, and its kernels on your own pages."""

from __future__ import annotations

import contextlib
import ctypes as c
import io
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from . import _abi
from ._arrays import (elements, empty_like, extent_of, is_dense, size_of,
                      view)
from ._library import check, runtime
from ._scalars import MOST_64, c_string, integer
from .compiler import Artifact
from .errors import Corrupt, InvalidArgument

#: PyTorch's, numpy's, or any with DLPack or the buffer protocol.
Array = Any

#: What 16-bit floats may come as, where a library has no such type.
_BITS = {"f16": ("f16", "u16", "i16"), "bf16": ("bf16", "u16", "i16"),
         "f32": ("f32",)}


class Model(NamedTuple):
    """The model that a cache is for. Rows of K and V are [kv_heads, head_dim],
    of Q and the output [q_heads, head_dim], of `dtype`."""

    layers: int
    q_heads: int
    kv_heads: int
    head_dim_k: int
    head_dim_v: int
    dtype: str
    softmax_scale: float


class PlaneInfo(NamedTuple):
    """An array of a store's pages; strides and offset in bytes."""

    stream: str
    role: str
    type: str
    elements: int
    row_tokens: int
    row_stride: int
    head_stride: int
    page_offset: int


class ConstantInfo(NamedTuple):
    """A constant of a store's expressions that each call gives: `size` values,
    or as many for each sequence."""

    name: str
    size: int
    type: str
    per_sequence: bool


class Store(NamedTuple):
    """Layers that are kept alike. `page_tokens` is 0 if it is contiguous,
    `page_bytes` are those of one layer."""

    name: str
    index: int
    layers: tuple
    head_begin: int
    head_end: int
    page_tokens: int
    page_bytes: int
    plan_group: int
    planes: tuple
    constants: tuple


def _plane_of(index, given):
    """A Plane, or three integers in its place."""
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise TypeError(f"planes[{index}]: expected a Plane (base, page_stride, "
                        f"head_stride), found {given!r:.80}")
    most = (1 << 63) - 1
    least = {"base": 0, "page_stride": -most, "head_stride": -most}
    return Plane(*(
        integer(f"planes[{index}].{name}", value, least[name],
                (1 << 64) - 1 if name == "base" else most)
        for name, value in zip(Plane._fields, given)))


class Plane(NamedTuple):
    """Where a plane of one layer is: (page, head, row) at base +
    page * page_stride + head * head_stride + row * PlaneInfo.row_stride."""

    base: int
    page_stride: int
    head_stride: int


class Device:
    """A CPU ("cpu", "cpu:4" with four threads), a GPU ("cuda", "cuda:1") or an
    emulator ("sim:sm_90", "sim:x86-64-v4-amx")."""

    def __init__(self, name: str = "cpu"):
        self.name, self._handle = name, None
        if not isinstance(name, str):
            raise TypeError(f"device: expected its name, as \"cpu\", found "
                            f"{name!r}")
        handle = c.c_void_p()
        kind, _, rest = name.partition(":")
        if kind == "cpu" and (rest.isdecimal() or not rest):
            options = _abi.CpuOptions(size=c.sizeof(_abi.CpuOptions),
                                      threads=integer("threads",
                                                      int(rest or 0)))
            check(runtime.kvc_device_create_cpu(c.byref(options),
                                                c.byref(handle)))
        elif kind == "cuda" and (rest.isdecimal() or not rest):
            options = _abi.CudaOptions(size=c.sizeof(_abi.CudaOptions),
                                       ordinal=integer("device", int(rest or 0),
                                                       most=(1 << 31) - 1))
            check(runtime.kvc_device_create_cuda(c.byref(options),
                                                 c.byref(handle)))
        elif kind == "sim" and rest:
            options = _abi.SimOptions(size=c.sizeof(_abi.SimOptions),
                                      target=c_string("device", rest))
            check(runtime.kvc_device_create_sim(c.byref(options),
                                                c.byref(handle)))
        else:
            raise ValueError('device: expected "cpu", "cpu:THREADS", "cuda", '
                             f'"cuda:N" or "sim:TARGET", found {name!r}')
        self._handle = handle
        self.is_cpu = kind == "cpu" or rest.startswith("x86-64")
        #: Where arrays for it are, as View.device has it.
        self.place = f"cuda:{int(rest or 0)}" if kind == "cuda" else "cpu"

    @property
    def is_sim(self) -> bool:
        """Whether arrays must be lent to it: an emulated GPU's kernels touch
        nothing else."""
        return self.name.startswith("sim:") and not self.is_cpu

    def allow(self, array, writable=True):
        """Lends an array to an emulated GPU, on which whatever is not lent is
        out of bounds once anything is. A Cache lends its own pages."""
        it = view(array)
        if writable and it.readonly:
            raise ValueError("array: expected one that can be written")
        begin, end = extent_of(it)
        check(runtime.kvc_sim_allow(self._handle, begin, end - begin, writable))

    def forget(self, array):
        """Takes an array back that allow() lent."""
        check(runtime.kvc_sim_forget(self._handle, extent_of(view(array))[0]))

    @contextlib.contextmanager
    def lent(self, *arrays):
        """Lends new arrays of kvc's own for as long as a call writes them."""
        given = []
        try:
            for array in arrays if self.is_sim else ():
                self.allow(array)
                given.append(array)
            yield
        finally:
            for array in given:
                self.forget(array)

    def counters(self):
        """What the kernels of an emulator did, by name; see
        kvc_sim_counters."""
        counters = _abi.SimCounters(size=c.sizeof(_abi.SimCounters))
        check(runtime.kvc_sim_get_counters(self._handle, c.byref(counters)))
        return {name: getattr(counters, name)
                for name, _ in counters._fields_ if name != "size"}

    def __del__(self):
        if getattr(self, "_handle", None):
            runtime.kvc_device_release(self._handle)
            self._handle = None

    def __repr__(self):
        return f"kvc.Device({self.name!r})"


_devices, _devices_lock = {}, threading.Lock()


def _device(name):
    """One device a process and name: programs share its threads. A child of
    fork() makes its own."""
    if isinstance(name, Device):
        return name
    key = (os.getpid(), name)
    with _devices_lock:
        if key not in _devices:
            _devices[key] = Device(name)
        return _devices[key]


def load(artifact: Artifact | bytes | str | os.PathLike,
         device: str | Device = "cpu") -> Program:
    """A Program of an Artifact, the bytes of one, or the path of a file.

    Raises Unsupported if no variant runs on the device, Corrupt for a damaged
    artifact. An artifact is machine code: load only what you would run.
    """
    device = _device(device)
    handle = c.c_void_p()
    if isinstance(artifact, (str, os.PathLike)):
        path = c_string("artifact", os.fsencode(artifact))
        try:
            check(runtime.kvc_program_load_file(device._handle, path,
                                                c.byref(handle)))
        except Corrupt as error:
            if _is_json(path):
                raise Corrupt(f"{os.fsdecode(path)} is a spec, not an artifact: "
                              "kvc.load(kvc.compile(...))",
                              error.where) from None
            raise
        file = path
    else:
        data = artifact.data if isinstance(artifact, Artifact) else artifact
        try:
            data = data if isinstance(data, bytes) else bytes(memoryview(data))
        except TypeError:
            raise TypeError("artifact: expected an Artifact, the bytes of one "
                            "or a path, found "
                            f"{type(artifact).__name__}") from None
        check(runtime.kvc_program_load(device._handle, data, len(data),
                                       c.byref(handle)))
        file = io.BytesIO(data)
    return Program(handle, device, _spec_in(file))


def _is_json(path):
    with open(path, "rb") as file:
        return file.read(64).lstrip()[:1] == b"{"


def _spec_in(file):
    """The spec that an artifact keeps of what it was compiled from, or None."""
    try:
        with zipfile.ZipFile(os.fsdecode(file) if isinstance(file, bytes)
                             else file) as archive:
            return json.loads(archive.read("spec.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


class Program:
    """Kernels of one artifact, loaded on one device.

    A Cache manages pages by itself. An engine that has pages calls append(),
    attend() and gather() with its block tables; see planes(). `spec` is what it
    was compiled from, a dict, if the artifact has it.
    """

    def __init__(self, handle, device, spec=None):
        self._handle, self.device, self.spec = handle, device, spec
        info = _abi.ModelInfo(size=c.sizeof(_abi.ModelInfo))
        check(runtime.kvc_program_get_model(handle, c.byref(info)))
        self.model = Model(info.layers, info.q_heads, info.kv_heads,
                           info.head_dim_k, info.head_dim_v,
                           info.dtype.decode(), info.softmax_scale)
        self.name = runtime.kvc_program_name(handle).decode()
        self.target = runtime.kvc_program_target(handle).decode()
        self.remarks = runtime.kvc_program_remarks(handle).decode()
        count = runtime.kvc_program_store_count(handle)
        self.stores = tuple(self._store(i) for i in range(count))

    def _store(self, index):
        info = _abi.StoreInfo(size=c.sizeof(_abi.StoreInfo))
        check(runtime.kvc_program_get_store(self._handle, index,
                                            c.byref(info)))
        layers = (c.c_uint32 * info.layer_count).from_address(info.layers)
        planes = (_abi.PlaneInfo * info.plane_count).from_address(info.planes)
        constants = ()
        if info.constant_count:
            constants = (_abi.ConstantInfo *
                         info.constant_count).from_address(info.constants)
        return Store(
            info.name.decode(), index, tuple(layers), info.head_begin,
            info.head_end, info.page_tokens, info.page_bytes, info.plan_group,
            tuple(PlaneInfo(p.stream.decode(), p.role.decode(),
                            p.type.decode(), p.elements, p.row_tokens,
                            p.row_stride, p.head_stride, p.page_offset)
                  for p in planes),
            tuple(ConstantInfo(k.name.decode(), k.size, k.type.decode(),
                               bool(k.per_sequence)) for k in constants))

    def __del__(self):
        if getattr(self, "_handle", None):
            runtime.kvc_program_release(self._handle)
            self._handle = None

    def __repr__(self):
        return (f"<kvc.Program {self.name!r}: {self.target}, "
                f"{len(self.stores)} stores, {self.model.layers} layers>")

    def store(self, name_or_index: Store | str | int) -> Store:
        """The Store of that name or index."""
        for store in self.stores:
            if name_or_index in (store.name, store.index, store):
                return store
        names = ", ".join(store.name for store in self.stores)
        raise KeyError(f"no store {name_or_index!r}, there are: {names}")

    # --- rows ---------------------------------------------------------------

    def _rows(self, name, array, heads, dim, rows=None, writes=False):
        """(address, row stride, head stride, rows) of an array [rows, heads,
        dim] of the model's dtype. Whatever is copied is an error."""
        it = view(array, name)
        if it.dtype not in _BITS[self.model.dtype]:
            raise TypeError(f"{name}: expected {self.model.dtype}, the dtype of "
                            f"the spec's model, found {it.dtype}")
        shape = it.shape
        if len(shape) == 2 and shape[1] == heads * dim:
            head_stride = dim * it.strides[1]
            shape = (shape[0], heads, dim)
            strides = (it.strides[0], head_stride, it.strides[1])
        else:
            strides = it.strides
        if len(shape) != 3 or shape[1:] != (heads, dim) or \
                rows not in (None, shape[0]):
            wanted = "rows" if rows is None else rows
            raise ValueError(f"{name}: expected [{wanted}, {heads}, {dim}], "
                             f"found {list(it.shape)}")
        element = 4 if self.model.dtype == "f32" else 2
        if dim > 1 and strides[2] != element:
            raise ValueError(f"{name}: expected the elements of a head side by "
                             f"side, found a stride of {strides[2]} bytes")
        if it.device != self.device.place:
            raise _elsewhere(name, it, self.device.place)
        if writes and it.readonly:
            raise ValueError(f"{name}: expected an array that can be written")
        # A stride of one row or head says nothing.
        row = strides[0] if shape[0] > 1 else heads * max(
            strides[1], dim * element)
        head = strides[1] if shape[1] > 1 else dim * element
        # To the C ABI a stride of 0 means dense, to arrays the same row again.
        if not row or not head:
            raise ValueError(f"{name}: expected rows and heads that are "
                             "memory of their own, found strides of "
                             f"{list(it.strides)} bytes")
        return it.address, row, head, shape[0]

    def bytes_for(self, tokens: int, sequences: int = 1,
                  **limits: Any) -> int:
        """Bytes of an arena in which `tokens` cached tokens have pages however
        `sequences` sequences share them. `limits` as of Cache."""
        from .cache import options_of
        tokens = integer("tokens", tokens, most=MOST_64)
        options, size = options_of(self, tokens, sequences, **limits), \
            c.c_uint64()
        check(runtime.kvc_cache_arena_bytes(
            self._handle, c.byref(options), tokens, c.byref(size)))
        return size.value

    def tokens_in(self, size: int, sequences: int = 1,
                  tokens_per_sequence: int | None = None,
                  **limits: Any) -> int:
        """The most cached tokens for which an arena of `size` bytes is
        enough."""
        from .cache import options_of
        size = integer("size", size, most=MOST_64)
        sequences = integer("sequences", sequences)
        longest = tokens_per_sequence or 1 << 20
        options = options_of(self, longest * sequences, sequences,
                             tokens_per_sequence=longest, **limits)
        options.arena_bytes, tokens = size, c.c_uint64()
        check(runtime.kvc_cache_tokens_that_fit(
            self._handle, c.byref(options), c.byref(tokens)))
        return tokens.value

    # --- kernels on the caller's pages ----------------------------------------

    def planes(self, store: Store | str | int,
               pool: Array) -> tuple[Plane, ...]:
        """The Planes of a pool [pages, page_bytes] of one layer, laid out as
        a Cache's: each page has all planes at PlaneInfo.page_offset."""
        return self._planes(self.store(store), pool)[1]

    def _planes_of_pool(self, store, pool, writes):
        it = view(pool, "pool")
        if not store.page_tokens:
            raise ValueError(f"store {store.name!r} is contiguous: give Planes")
        if it.device != self.device.place:
            raise _elsewhere("pool", it, self.device.place)
        element = size_of(it.dtype)
        if len(it.shape) != 2 or it.shape[1] * element < store.page_bytes or \
                it.strides[1] != element or \
                (it.shape[0] > 1 and abs(it.strides[0]) < store.page_bytes):
            raise ValueError(
                f"pool: expected [pages, {store.page_bytes}] bytes, dense in a "
                f"page, found {list(it.shape)} of {it.dtype} with strides of "
                f"{list(it.strides)} bytes")
        if writes and it.readonly:
            raise ValueError("pool: expected an array that can be written")
        return it.shape[0], tuple(
            Plane(it.address + plane.page_offset, it.strides[0],
                  plane.head_stride) for plane in store.planes)

    def _planes(self, store, planes, page_count=0, writes=False):
        """(page count, Planes) of a pool, whose pages are counted, or of
        Planes, whose caller may know."""
        page_count = integer("page_count", page_count, most=(1 << 63) - 1)
        if not isinstance(planes, (tuple, list)):
            pages, planes = self._planes_of_pool(store, planes, writes)
            # A count of 0 would say that the caller vouches for every page.
            if not pages:
                raise ValueError("planes: expected a pool of at least one page")
            if page_count > pages:
                raise ValueError(f"page_count: expected at most the pool's "
                                 f"{pages}, found {page_count}")
            page_count = page_count or pages
        if len(planes) != len(store.planes):
            raise ValueError(f"planes: expected {len(store.planes)} of store "
                             f"{store.name!r}, found {len(planes)}")
        return page_count, tuple(_plane_of(i, each)
                                 for i, each in enumerate(planes))

    def append(self, store: Store | str | int, k: Array, v: Array | None,
               slots: Array,
               planes: Array | tuple[Plane, ...], *, page_count: int = 0,
               slot_tokens: int = 0, stream: int | None = None) -> None:
        """Encodes rows of K and V into your own pages.

        k, v    [rows, kv_heads, head_dim] of the model's dtype, any strides
                between rows and heads. Where V of the store is of its K, which
                MLA says, v is None
        slots   i64 [rows]: page * page_tokens + token; negative: skipped
        planes  of one layer: a pool [pages, page_bytes], or Planes

        On a GPU all of them are its memory, and `stream` is a CUstream.
        """
        store, model = self.store(store), self.model
        args = _abi.AppendArgs(size=c.sizeof(_abi.AppendArgs))
        args.k, args.k_row_stride, args.k_head_stride, args.rows = self._rows(
            "k", k, model.kv_heads, model.head_dim_k)
        if v is not None:
            args.v, args.v_row_stride, args.v_head_stride, _ = self._rows(
                "v", v, model.kv_heads, model.head_dim_v, args.rows)
        args.slot = _vector("slots", slots, "i64", args.rows,
                            memory=self.device.place)
        args.page_count, planes = self._planes(store, planes, page_count, True)
        held = (_abi.Plane * len(planes))(*(tuple(each) for each in planes))
        args.planes, args.plane_count = c.addressof(held), len(held)
        args.slot_tokens = integer("slot_tokens", slot_tokens)
        args.stream = stream
        check(runtime.kvc_append(self._handle, store.index, c.byref(args)))

    def gather(self, store: Store | str | int, slots: Array,
               planes: Array | tuple[Plane, ...], *, k: Array | None = None,
               v: Array | None = None, page_count: int = 0,
               slot_tokens: int = 0, stream: int | None = None
               ) -> tuple[Array | None, Array | None]:
        """Decodes rows of K and V from your own pages; returns (k, v).

        slots   i64 [rows]: page * page_tokens + token, any twice; negative:
                skipped
        planes  of one layer: a pool [pages, page_bytes], or Planes
        k, v    [rows, kv_heads, head_dim] of the model's dtype that get them,
                any strides between rows and heads. What is not given is not
                read, and None in the result; if neither is, both are new

        Skipped rows and heads of other stores stay as they are, so in new
        arrays they are not set. On a GPU all of them are its memory, and
        `stream` is a CUstream. Raises Unsupported if the artifact is of a
        version that could not do it.
        """
        store, model = self.store(store), self.model
        if k is None and v is None:
            rows = _length("slots", slots)
            k, v = (empty_like(slots, (rows, model.kv_heads, dim), model.dtype,
                               "k` or `v")
                    for dim in (model.head_dim_k, model.head_dim_v))
            with self.device.lent(k, v):
                return self.gather(store, slots, planes, k=k, v=v,
                                   page_count=page_count,
                                   slot_tokens=slot_tokens, stream=stream)
        args = _abi.GatherArgs(size=c.sizeof(_abi.GatherArgs))
        args.rows = _length("slots", slots)
        args.slot = _vector("slots", slots, "i64", args.rows,
                            memory=self.device.place)
        if k is not None:
            args.k, args.k_row_stride, args.k_head_stride, _ = self._rows(
                "k", k, model.kv_heads, model.head_dim_k, args.rows,
                writes=True)
        if v is not None:
            args.v, args.v_row_stride, args.v_head_stride, _ = self._rows(
                "v", v, model.kv_heads, model.head_dim_v, args.rows,
                writes=True)
        args.page_count, planes = self._planes(store, planes, page_count)
        held = (_abi.Plane * len(planes))(*(tuple(each) for each in planes))
        args.planes, args.plane_count = c.addressof(held), len(held)
        args.slot_tokens = integer("slot_tokens", slot_tokens)
        args.stream = stream
        check(runtime.kvc_gather(self._handle, store.index, c.byref(args)))
        return k, v

    def attend(self, store: Store | str | int, q: Array, cu_q: Array,
               kv_len: Array, table: Array, planes: Array | tuple[Plane, ...], *,
               out: Array | None = None, lse: Array | None = None,
               constants: Any = (), workspace: Array | None = None,
               page_count: int = 0, slot_tokens: int = 0, max_queries: int = 0,
               max_kv_len: int = 0, max_kv_tokens: int = 0,
               stream: int | None = None) -> Array:
        """Attention of a ragged batch over your own pages; returns `out`.

        q       [rows, q_heads, head_dim] of the model's dtype
        cu_q    i32 [batch + 1]: offsets of the sequences' rows, from 0
        kv_len  i32 [batch]: cached tokens, the queries' own included
        table   i32 [batch, pages]: page ids; contiguous: [batch] slots
        planes  of one layer: a pool [pages, page_bytes], or Planes
        lse     f32 [rows, q_heads] that gets the log-sum-exp, or None
        constants  arrays in the order of Store.constants

        On a GPU all of them are its memory; max_kv_len bounds what kv_len
        holds, and `workspace` is asked for (attend_workspace).
        """
        store, model, memory = self.store(store), self.model, self.device.place
        args = _abi.AttendArgs(size=c.sizeof(_abi.AttendArgs))
        args.q, args.q_row_stride, args.q_head_stride, args.rows = self._rows(
            "q", q, model.q_heads, model.head_dim_k)
        if out is None:
            out = empty_like(q, (args.rows, model.q_heads, model.head_dim_v),
                             model.dtype)
        args.out, args.out_row_stride, args.out_head_stride, _ = self._rows(
            "out", out, model.q_heads, model.head_dim_v, args.rows,
            writes=True)
        if lse is not None:
            args.lse = _vector("lse", lse, "f32", args.rows * model.q_heads,
                               writes=True, memory=memory)
            args.lse_row_stride = 4 * model.q_heads
        args.batch = _length("kv_len", kv_len, "batch")
        args.cu_q = _vector("cu_q", cu_q, "i32", args.batch + 1, memory=memory)
        args.kv_len = _vector("kv_len", kv_len, "i32", args.batch,
                              memory=memory)
        args.table, args.table_stride = _table(table, args.batch, memory)
        if memory == "cpu":
            _check_offsets(args)
        args.page_count, planes = self._planes(store, planes, page_count)
        held = (_abi.Plane * len(planes))(*(tuple(each) for each in planes))
        args.planes, args.plane_count = c.addressof(held), len(held)
        args.slot_tokens = integer("slot_tokens", slot_tokens)
        given = constant_addresses(store, constants, args.batch, memory)
        args.constants = c.addressof(given) if constants else None
        args.constant_count = len(constants)
        args.max_queries = integer("max_queries", max_queries) or args.rows
        args.stream = stream
        args.max_kv_len = integer("max_kv_len", max_kv_len) or (
            _largest(kv_len) if self.device.is_cpu else 0)
        args.max_kv_tokens = integer("max_kv_tokens", max_kv_tokens,
                                     most=MOST_64)
        if workspace is None:
            workspace = self._own_workspace(store, args)
        begin, size = writable_bytes("workspace", workspace, memory)
        args.workspace = (begin + 63) // 64 * 64
        args.workspace_bytes = max(0, begin + size - args.workspace)
        check(runtime.kvc_attend(self._handle, store.index, c.byref(args)))
        return out

    def attend_workspace(self, store: Store | str | int, batch: int, rows: int,
                         kv_len: int, *, max_queries: int = 0,
                         max_kv_tokens: int = 0) -> int:
        """Bytes of workspace for a call of at most so many sequences, rows and
        cached tokens of a sequence; 64 more let it begin anywhere. On a GPU the
        bounds that attend() takes make it smaller."""
        store, size = self.store(store).index, c.c_size_t()
        batch, rows = integer("batch", batch), integer("rows", rows)
        kv_len = integer("kv_len", kv_len)
        if not max_queries and not max_kv_tokens:
            check(runtime.kvc_attend_workspace(self._handle, store, batch, rows,
                                               kv_len, c.byref(size)))
            return size.value
        args = _abi.AttendArgs(size=c.sizeof(_abi.AttendArgs))
        args.batch, args.rows, args.max_kv_len = batch, rows, kv_len
        args.max_queries = integer("max_queries", max_queries)
        args.max_kv_tokens = integer("max_kv_tokens", max_kv_tokens,
                                     most=MOST_64)
        check(runtime.kvc_attend_workspace_of(self._handle, store,
                                              c.byref(args), c.byref(size)))
        return size.value

    def _own_workspace(self, store, args):
        if not self.device.is_cpu:
            raise InvalidArgument(
                "workspace: expected memory of the GPU, see attend_workspace()")
        size = self.attend_workspace(store, args.batch, args.rows,
                                     args.max_kv_len)
        return bytearray(size + 64)


def _elsewhere(name, it, memory):
    return ValueError(f"{name}: expected an array on {memory}, found one on "
                      f"{it.device}")


def _vector(name, array, dtype, count, writes=False, memory=None):
    """The address of a dense array of so many elements."""
    it = view(array, name)
    if it.dtype != dtype or elements(it) < count:
        raise ValueError(f"{name}: expected {count} of {dtype}, found "
                         f"{list(it.shape)} of {it.dtype}")
    if not is_dense(it):
        raise ValueError(f"{name}: expected a dense array, found strides of "
                         f"{list(it.strides)} bytes")
    if memory not in (None, it.device):
        raise _elsewhere(name, it, memory)
    if writes and it.readonly:
        raise ValueError(f"{name}: expected an array that can be written")
    return it.address


def writable_bytes(name, array, memory):
    """(address, bytes) of a dense array that is memory to be written."""
    it = view(array, name)
    if it.device != memory:
        raise _elsewhere(name, it, memory)
    if it.readonly:
        raise ValueError(f"{name}: expected memory that can be written")
    if not is_dense(it):
        raise ValueError(f"{name}: expected a dense array, found strides of "
                         f"{list(it.strides)} bytes")
    return it.address, elements(it) * size_of(it.dtype)


def _length(name, array, extent="rows"):
    it = view(array, name)
    if len(it.shape) != 1:
        raise ValueError(f"{name}: expected [{extent}], found "
                         f"{list(it.shape)}")
    return it.shape[0]


def _table(table, batch, memory):
    it = view(table, "table")
    if it.dtype != "i32" or len(it.shape) not in (1, 2) or \
            it.shape[0] < batch or (
                len(it.shape) == 2 and it.shape[1] > 1 and it.strides[1] != 4):
        raise ValueError(f"table: expected i32 [{batch}, pages], dense in a "
                         f"row, found {list(it.shape)} of {it.dtype}")
    if it.device != memory:
        raise _elsewhere("table", it, memory)
    width = it.shape[1] if len(it.shape) == 2 else 1
    # A stride of one row says nothing.
    return it.address, it.strides[0] // 4 if it.shape[0] > 1 else width


def _check_offsets(args):
    """That the offsets, which the host can read, end within q."""
    end = c.c_int32.from_address(args.cu_q + 4 * args.batch).value
    if end > args.rows:
        raise ValueError(f"cu_q: expected offsets up to the {args.rows} rows "
                         f"of q, found {end}")


def _largest(lengths):
    """Of an array in the host's memory."""
    it = view(lengths)
    return max((c.c_int32 * it.shape[0]).from_address(it.address), default=0)


def constant_addresses(store, constants, batch, memory=None):
    """The addresses of a store's constants, each checked, for the C ABI."""
    if isinstance(constants, dict):
        names = [each.name for each in store.constants]
        unknown = set(constants) - set(names)
        if unknown:
            raise KeyError(f"constants: store {store.name!r} has {names}, not "
                           f"{sorted(unknown)}")
        constants = [constants[name] for name in names if name in constants]
    if not isinstance(constants, (tuple, list)):
        raise TypeError("constants: expected a dict or a list of arrays, found "
                        f"{type(constants).__name__}")
    if len(constants) != len(store.constants):
        raise ValueError(
            f"constants: expected {[each.name for each in store.constants]} of "
            f"store {store.name!r}, found {len(constants)}")
    addresses = (c.c_void_p * max(len(constants), 1))()
    for i, (info, array) in enumerate(zip(store.constants, constants)):
        count = info.size * (batch if info.per_sequence else 1)
        addresses[i] = _vector(info.name, array, info.type, count,
                               memory=memory)
    return addresses
