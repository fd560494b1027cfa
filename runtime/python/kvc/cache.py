"""Cache: sequences whose pages kvc manages, and steps of attention over them."""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from . import _abi
from ._arrays import TENSORS, empty, empty_like, pinned, view
from ._library import check, runtime
from ._scalars import MOST_32, MOST_64, integer
from .errors import Busy, Error, InvalidArgument, Stale
from .program import (Array, Program, Store, _vector, constant_addresses,
                      writable_bytes)

ALL_LAYERS = _abi.KVC_ALL_LAYERS


def options_of(program, tokens, sequences=1, tokens_per_sequence=None,
               batch=None, step_tokens=None, rollback=0, scrub=False,
               single_owner=False):
    """The kvc_cache_options of Cache's arguments, but for the arena."""
    options = _abi.CacheOptions(size=c.sizeof(_abi.CacheOptions))
    options.max_sequences = integer("sequences", sequences)
    options.max_tokens_per_seq = min(tokens, MOST_32) \
        if tokens_per_sequence is None else \
        integer("tokens_per_sequence", tokens_per_sequence)
    options.max_batch = options.max_sequences if batch is None else \
        integer("batch", batch)
    options.max_step_tokens = min(
        options.max_batch * options.max_tokens_per_seq, 1 << 16) \
        if step_tokens is None else integer("step_tokens", step_tokens)
    options.max_rollback = integer("rollback", rollback)
    options.flags = (_abi.KVC_SCRUB if scrub else 0) | (
        _abi.KVC_SINGLE_OWNER if single_owner else 0)
    return options


_NO_LOCK = contextlib.nullcontext()


class _Owner:
    """The C handle of a cache, no attribute once it is destroyed. Sequences and
    steps hold it too, so that whatever the collector ends first, nobody calls a
    cache that is gone. `steps` are the handles of open steps by their value."""

    __slots__ = ("handle", "program", "arena", "steps", "is_open", "_lock",
                 "_pid")

    def __init__(self, handle, program, arena):
        self.handle, self.program, self.arena = handle, program, arena
        self.steps, self.is_open = {}, True
        self._lock, self._pid = threading.RLock(), os.getpid()

    def alone(self):
        """The lock of what is Busy while a sequence is read, and of reads. In a
        child of fork() a thread that is not there may hold it for ever, and
        every call is Stale."""
        return self._lock if os.getpid() == self._pid else _NO_LOCK

    def __getattr__(self, name):
        if name == "handle":
            raise Stale("cache: expected an open one, found one that was "
                        "closed")
        raise AttributeError(name)

    def close(self):
        if not self.is_open:
            return
        for step in list(self.steps.values()):
            status = runtime.kvc_cache_abandon(self.handle, step)
            if status.code == Busy.code:
                check(status)
        self.is_open, handle = False, self.handle
        del self.handle
        runtime.kvc_cache_destroy(handle)
        self.arena = None

    __del__ = close


class _Rows:
    """What is known of arrays [rows, heads, dim] that were given as one
    argument. A tensor like one that was checked before is not checked again:
    of a step's few microseconds, checks in Python would be most."""

    __slots__ = ("program", "name", "heads", "dim", "known")
    _MOST = 256  # prompts have a length each

    def __init__(self, program, name, heads, dim):
        self.program, self.name = program, name
        self.heads, self.dim = heads, dim
        self.known = {}

    def of(self, array, rows, writes=False):
        """(address, kvc_stride, whether it is a tensor of the model's own
        dtype). The address is good as long as the caller has the array."""
        if type(array) in TENSORS:
            key = (array.dtype, array.device, array.shape, array.stride())
            found = self.known.get(key)
            if found is not None and found[0] == rows and not array.is_neg():
                return array.data_ptr(), found[1], True
        else:
            key = None
        address, row, head, _ = self.program._rows(
            self.name, array, self.heads, self.dim, rows, writes)
        stride = _abi.Stride(row, head)
        # Tensors that stand for bits of another dtype are not like others.
        if key is None or view(array).dtype != self.program.model.dtype:
            return address, stride, False
        if len(self.known) >= self._MOST:
            self.known.clear()
        self.known[key] = (rows, stride)
        return address, stride, True


#: Says that rows and heads are dense.
_DENSE = _abi.Stride(0, 0)


class Cache:
    """Pages for `tokens` cached tokens, however `sequences` sequences share
    them.

    tokens_per_sequence  of the longest, by default all
    batch, step_tokens   sequences and new tokens of one step at most; by
                         default all sequences, and 65,536 tokens or what they
                         can have
    rollback             committed tokens that Sequence.truncate can take back
                         where a store has a window; elsewhere any number
    arena                memory for the pages, 64-byte aligned: a writable
                         array of at least Program.bytes_for() bytes, on the
                         program's device. By default the cache has its own.
    scrub                zero pages before another sequence can have them

    Any thread may call it. After fork() a child makes its own.
    """

    def __init__(self, program: Program, tokens: int, sequences: int = 1, *,
                 arena: Array | None = None, **limits: Any):
        self.program = program
        tokens = integer("tokens", tokens, most=MOST_64)
        self._options = options = options_of(program, tokens, sequences,
                                             **limits)
        size = c.c_uint64()
        check(runtime.kvc_cache_arena_bytes(
            program._handle, c.byref(options), tokens, c.byref(size)))
        options.arena_bytes = size.value
        self._held = {}
        if arena is not None:
            arena = pinned(arena)
            options.arena, options.arena_bytes = writable_bytes(
                "arena", arena[0], program.device.place)
        handle = c.c_void_p()
        check(runtime.kvc_cache_create(program._handle, c.byref(options),
                                       c.byref(handle)))
        self._owner = _Owner(handle, program, arena)
        model = program.model
        self._layers = model.layers
        self._k = _Rows(program, "k", model.kv_heads, model.head_dim_k)
        self._v = _Rows(program, "v", model.kv_heads, model.head_dim_v)
        self._q = _Rows(program, "q", model.q_heads, model.head_dim_k)
        self._out = _Rows(program, "out", model.q_heads, model.head_dim_v)

    def close(self) -> None:
        """Frees the pages now, and ends open steps; the cache, its sequences
        and its steps are Stale then. Busy while another thread is in a call of
        a step; no other call may be under way."""
        self._owner.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def open(self) -> Sequence:
        """A new, empty Sequence."""
        seq = _abi.Seq()
        check(runtime.kvc_cache_open(self._owner.handle, c.byref(seq)))
        return Sequence(self, seq)

    def step(self, requests: Mapping[Sequence, int] |
             Iterable[tuple[Sequence, int]],
             stream: int | None = None) -> Step:
        """Opens a Step: room for the new tokens of every sequence, all or
        nothing; `with` commits it, or abandons it on an exception.

        requests  {sequence: new tokens}, or such pairs; rows of the step are
                  in their order
        stream    of a GPU: a CUstream that the step's work is in the order of

        Raises OutOfPages, SequenceFull, Busy for a sequence in another step.
        """
        try:
            pairs = [(seq, tokens) for seq, tokens in (
                requests.items() if hasattr(requests, "items") else requests)]
        except (TypeError, ValueError):
            raise TypeError("requests: expected {sequence: new tokens}, found "
                            f"{requests!r}") from None
        array = (_abi.SlotRequest * max(len(pairs), 1))(
            *(self._request(*pair) for pair in pairs))
        handle = _abi.Step()
        with self._owner.alone():
            check(runtime.kvc_cache_reserve(self._owner.handle, array,
                                            len(pairs), stream,
                                            c.byref(handle)))
        return Step(self, handle, pairs, stream)

    def _request(self, sequence, tokens):
        if not isinstance(sequence, Sequence):
            raise TypeError(f"requests: expected a Sequence, found "
                            f"{sequence!r}")
        # Another cache's handle may name a sequence here, too.
        if sequence._owner is not self._owner:
            raise InvalidArgument("requests: expected sequences of this cache, "
                                  f"found {sequence!r} of another")
        return sequence._handle, integer("new tokens", tokens)

    def _layer(self, layer):
        if layer == ALL_LAYERS:
            return layer
        return integer("layer", layer, most=self._layers - 1)

    def set_constants(self, store: Store | str | int,
                      constants: Mapping[str, Array] | list[Array],
                      layer: int = ALL_LAYERS) -> None:
        """The constants of a store's expressions that calls give: arrays in the
        order of Store.constants, or a dict by name. They are read by each
        attend that follows, and kept alive by the cache."""
        store = self.program.store(store)
        addresses = constant_addresses(store, constants,
                                       self._options.max_batch,
                                       self.program.device.place)
        check(runtime.kvc_cache_set_constants(
            self._owner.handle, store.index, self._layer(layer), addresses,
            len(store.constants)))
        arrays = constants.values() if isinstance(constants, dict) else \
            constants
        self._held[store.index, layer] = [pinned(each) for each in arrays]

    def stats(self) -> dict[str, int]:
        """Counts of pages, sequences, steps and bytes, by name; see
        kvc_cache_stats."""
        stats = _abi.CacheStats(size=c.sizeof(_abi.CacheStats))
        check(runtime.kvc_cache_get_stats(self._owner.handle, c.byref(stats)))
        return _fields(stats)

    def layer_bytes(self, layer: int) -> int:
        """Bytes in use as pages of one layer."""
        size = c.c_uint64()
        check(runtime.kvc_cache_layer_bytes(
            self._owner.handle,
            integer("layer", layer, most=self._layers - 1), c.byref(size)))
        return size.value

    def check(self, level: int = 2) -> None:
        """Audits the invariants; raises Poisoned with the first that broke."""
        check(runtime.kvc_cache_check(self._owner.handle,
                                      integer("level", level)))

    def __repr__(self):
        try:
            return f"<kvc.Cache of {self.program.name!r}: {self.stats()}>"
        except Stale:
            return "<kvc.Cache, closed>"


def _fields(struct):
    return {name: getattr(struct, name) for name, _ in struct._fields_
            if name != "size"}


class Sequence:
    """Cached tokens in their order. len() counts the committed ones.

    It gives its pages back by release(), at the end of a `with`, or when
    nothing refers to it any more.
    """

    def __init__(self, cache, handle):
        self.cache, self._handle, self._pid = cache, handle, os.getpid()
        self._owner = cache._owner

    def __len__(self) -> int:
        tokens = c.c_uint32()
        check(runtime.kvc_cache_length(self._owner.handle, self._handle,
                                       c.byref(tokens)))
        return tokens.value

    def __bool__(self):
        return True

    def fork(self) -> Sequence:
        """A new Sequence with these tokens. The two share pages; one that is
        partly filled is copied once one of them writes to it."""
        child = _abi.Seq()
        check(runtime.kvc_cache_fork(self._owner.handle, self._handle,
                                     c.byref(child)))
        return Sequence(self.cache, child)

    def truncate(self, tokens: int) -> None:
        """Keeps the first `tokens` tokens. Under a window at most the cache's
        `rollback` fewer than it ever had, or none."""
        with self._owner.alone():
            check(runtime.kvc_cache_truncate(self._owner.handle, self._handle,
                                             integer("tokens", tokens)))

    def read(self, layer: int, start: int = 0, stop: int | None = None,
             k: Array | None = None, v: Array | None = None, *,
             stream: int | None = None
             ) -> tuple[Array | None, Array | None]:
        """K and V of the cached tokens from `start` to `stop` of one layer, as
        they are decoded; by default of all. Returns (k, v).

        k, v    [stop - start, kv_heads, head_dim] of the model's dtype that get
                them, any strides between rows and heads. What is not given is
                not read, and None in the result; if neither is, both are new:
                numpy's (bf16 as uint16), on a GPU PyTorch's
        stream  of a GPU: a CUstream that it is in the order of

        New tokens of an open step are not among them. Raises InvalidArgument
        for tokens that are not committed, or whose pages a window gave back,
        Unsupported if the artifact is of a version that could not do it. What
        other threads do to end, cut or extend sequences waits meanwhile.
        """
        cache, model = self.cache, self.cache.program.model
        layer = integer("layer", layer, most=cache._layers - 1)
        start, count = self._tokens(start, stop)
        if k is None and v is None:
            k, v = (empty((count, model.kv_heads, dim), model.dtype,
                          cache.program.device.place, "k` or `v")
                    for dim in (model.head_dim_k, model.head_dim_v))
            with cache.program.device.lent(k, v):
                return self.read(layer, start, start + count, k, v,
                                 stream=stream)
        k_at = v_at = None
        k_stride = v_stride = _DENSE
        if k is not None:
            k_at, k_stride, _ = cache._k.of(k, count, writes=True)
        if v is not None:
            v_at, v_stride, _ = cache._v.of(v, count, writes=True)
        with self._owner.alone():
            check(runtime.kvc_cache_read(
                self._owner.handle, self._handle, layer, start, count, k_at,
                k_stride, v_at, v_stride, stream))
        return k, v

    def _tokens(self, start, stop):
        """(start, count) of a range of the committed tokens."""
        length = len(self)
        stop = length if stop is None else integer("stop", stop, most=length)
        start = integer("start", start, most=stop)
        return start, stop - start

    def stats(self) -> dict[str, int]:
        """{"tokens", "new_tokens", "pages", "pages_shared", "bytes"}."""
        stats = _abi.SeqStats(size=c.sizeof(_abi.SeqStats))
        check(runtime.kvc_cache_get_seq_stats(
            self._owner.handle, self._handle, c.byref(stats)))
        return _fields(stats)

    def release(self) -> None:
        """Gives the pages back that no fork holds. Busy while it is in an open
        step."""
        with self._owner.alone():
            check(runtime.kvc_cache_release(self._owner.handle, self._handle))
        self._pid = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self._pid is None:
            return
        try:
            self.release()
        except Error:
            # An exception that is on its way says more than that its step is
            # still open.
            if kind is None:
                raise

    def __del__(self):
        # In a step it is the step's to keep, and in a child of fork() the
        # parent's.
        if getattr(self, "_pid", None) == os.getpid() and self._owner.is_open:
            runtime.kvc_cache_release(self._owner.handle, self._handle)

    def __repr__(self):
        return f"<kvc.Sequence {self._handle.slot}.{self._handle.generation}>"


class Step:
    """New tokens of some sequences: append a layer's K and V, attend over it,
    for every layer; then commit.

        with cache.step({a: 1, b: 1}) as step:
            for layer in range(layers):
                step.append(layer, k, v)
                out = step.attend(layer, q)

    Rows are the new tokens of the sequences, one sequence after the other, in
    the order of the request; `rows` is their number, and `stream` what the
    step was opened with.
    """

    def __init__(self, cache, handle, pairs, stream=None):
        self.cache, self._handle, self._is_open = cache, handle, True
        self._owner = cache._owner
        self.requests, self.stream = pairs, stream
        # A step that has ended keeps no sequence, and none of its pages.
        self._spans = [(weakref.ref(seq), tokens) for seq, tokens in pairs]
        self.rows = sum(tokens for _, tokens in pairs)
        self._accepted = None
        self._key = handle.slot, handle.generation
        self._owner.steps[self._key] = handle

    def rows_of(self, sequence: Sequence) -> slice:
        """The slice of the step's rows that are a sequence's."""
        begin = 0
        for each, tokens in self._spans:
            if each() is sequence:
                return slice(begin, begin + tokens)
            begin += tokens
        raise KeyError(f"{sequence!r} is not in this step")

    def append(self, layer: int, k: Array, v: Array | None = None) -> None:
        """Encodes the rows of one layer: k and v are [rows, kv_heads, head_dim]
        of the model's dtype, with any strides between rows and heads. Where V
        of a layer is of its K, which MLA says, there is no v."""
        cache = self.cache
        if type(layer) is not int or not 0 <= layer < cache._layers:
            layer = integer("layer", layer, most=cache._layers - 1)
        k_at, k_stride, _ = cache._k.of(k, self.rows)
        v_at, v_stride = None, _DENSE
        if v is not None:
            v_at, v_stride, _ = cache._v.of(v, self.rows)
        status = runtime.kvc_cache_append_strided(
            self._owner.handle, self._handle, layer, k_at, k_stride, v_at,
            v_stride)
        if status.code:
            check(status)

    def attend(self, layer: int, q: Array, out: Array | None = None,
               lse: Array | None = None) -> Array:
        """Attention of the rows over one layer, their own tokens included;
        returns `out`, [rows, q_heads, head_dim].

        q    [rows, q_heads, head_dim] of the model's dtype, unscaled
        lse  f32 [rows, q_heads] that gets the log-sum-exp, or None
        """
        cache, rows, lse_at = self.cache, self.rows, None
        if type(layer) is not int or not 0 <= layer < cache._layers:
            layer = integer("layer", layer, most=cache._layers - 1)
        q_at, q_stride, is_tensor = cache._q.of(q, rows)
        if out is None:
            to = cache._out
            shape = (rows, to.heads, to.dim)
            if is_tensor:
                out = q.new_empty(shape)
            else:
                out = empty_like(q, shape, cache.program.model.dtype)
            if is_tensor or type(out) in TENSORS:
                out_at, out_stride = out.data_ptr(), _DENSE
            else:
                out_at, out_stride, _ = to.of(out, rows, writes=True)
        else:
            out_at, out_stride, _ = cache._out.of(out, rows, writes=True)
        if lse is not None:
            lse_at = _vector("lse", lse, "f32", rows * cache._q.heads,
                             writes=True,
                             memory=cache.program.device.place)
        status = runtime.kvc_cache_attend_strided(
            self._owner.handle, self._handle, layer, q_at, q_stride, out_at,
            out_stride, lse_at, _DENSE)
        if status.code:
            check(status)
        return out

    def mark_appended(self, layer: int = ALL_LAYERS) -> None:
        """Says that the rows of a layer, or of all, were written by other
        means: kernels of your own on view(), or a graph that is replayed."""
        check(runtime.kvc_cache_mark_appended(self._owner.handle, self._handle,
                                              self.cache._layer(layer)))

    def view(self, store: Store | str | int, layer: int) -> _abi.BatchView:
        """What kernels read of this step, as addresses: kvc_batch_view."""
        found = _abi.BatchView(size=c.sizeof(_abi.BatchView))
        check(runtime.kvc_cache_view(
            self._owner.handle, self._handle,
            self.cache.program.store(store).index,
            integer("layer", layer, most=self.cache._layers - 1),
            c.byref(found)))
        return found

    def accept(self, counts: Mapping[Sequence, int] | Iterable[int]) -> None:
        """How many of its new tokens each sequence keeps at commit: {sequence:
        count} or one count a request; by default all."""
        if hasattr(counts, "items"):
            known = {id(seq) for seq, _ in self.requests}
            for seq in counts:
                if id(seq) not in known:
                    raise KeyError(f"{seq!r} is not in this step")
            by_id = {id(seq): count for seq, count in counts.items()}
            counts = [by_id.get(id(seq), tokens)
                      for seq, tokens in self.requests]
        try:
            counts = list(counts)
        except TypeError:
            raise TypeError("counts: expected one a request, found "
                            f"{counts!r}") from None
        if len(counts) != len(self.requests):
            raise ValueError(f"counts: expected {len(self.requests)}, found "
                             f"{len(counts)}")
        self._accepted = [
            integer("counts", count, most=tokens)
            for count, (_, tokens) in zip(counts, self.requests)]

    def commit(self) -> None:
        """Ends the step; its tokens, or those that accept() named, are
        cached."""
        accepted = None
        if self._accepted is not None:
            accepted = (c.c_uint32 * len(self._accepted))(*self._accepted)
        with self._owner.alone():
            check(runtime.kvc_cache_commit(self._owner.handle, self._handle,
                                           accepted))
        self._end()

    def abandon(self) -> None:
        """Ends the step as if it had not been."""
        check(runtime.kvc_cache_abandon(self._owner.handle, self._handle))
        self._end()

    def _end(self):
        self._is_open, self.requests = False, ()
        self._owner.steps.pop(self._key, None)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not self._is_open:
            return
        if kind is not None:
            # The exception that is on its way says more than one of here.
            self._give_up()
            return
        try:
            self.commit()
        except BaseException:
            # What cannot be committed would be open for ever.
            if self._is_open:
                self._give_up()
            raise

    def _give_up(self):
        if self._owner.is_open:
            status = runtime.kvc_cache_abandon(self._owner.handle, self._handle)
            if status.code == Busy.code:
                return  # in another thread's call; the collector tries again
        self._end()

    def __del__(self):
        if getattr(self, "_is_open", False):
            self._give_up()

    def __repr__(self):
        return (f"<kvc.Step of {len(self._spans)} sequences, {self.rows} "
                f"rows{'' if self._is_open else ', ended'}>")
