"""PyTorch operators: steps of a Cache, and kernels on your own pages, in modules
that torch.compile(fullgraph=True) takes as a whole.

    import kvc.torch

    with kvc.torch.step(cache, {sequence: rows}) as step:
        out = model(x, kvc.torch.handle(step))

    # and in the model, for each layer
    out = kvc.torch.append_attend(handle, layer, q, k, v)

A step is an argument of the operators as its *handle*: an int64 tensor of one
element, on the CPU, that holds a number of the step. To a compiler it is the
cache: the operators say that they write to it, and that is the truth of it, for
each call changes or reads what the calls before it left. So no compiler drops an
append, whose result nobody reads, merges two attends, or moves one before the
append that it needs, and all this without private interfaces of PyTorch. Being a
tensor, the handle of the next step is also no reason to compile again, as an
integer would be.

The operators of your own pages need no handle, for the pool that they write to is
an argument.

Where nothing is compiled, the Step itself may be given for its handle, which
spares each call PyTorch's dispatcher, some 5 us.

On a GPU all of them run in torch's current stream. None has a gradient: inputs
that need one raise. Errors are kvc's, compiled or not.
"""

from __future__ import annotations

import itertools
import weakref

import torch

from ._arrays import torch_empty
from .cache import Cache, Sequence, Step
from .errors import Stale
from .program import Program

__all__ = ["append", "append_attend", "attend", "attend_lse", "handle",
           "pages_append", "pages_attend", "read", "step"]

_steps = weakref.WeakValueDictionary()
_programs = weakref.WeakValueDictionary()
_ids = itertools.count(1)
_library = torch.library.Library("kvc", "FRAGMENT")


# --- steps ------------------------------------------------------------------

def step(cache: Cache, requests) -> Step:
    """Cache.step() in torch's current stream: `with` commits it, or abandons it
    on an exception."""
    return cache.step(requests, _stream_of(cache.program.device.place))


def handle(step: Step, out: torch.Tensor | None = None) -> torch.Tensor:
    """The handle of a step: int64 [1] on the CPU, good for as long as the step
    is open. `out`, a handle of an earlier step, is overwritten and returned."""
    if not isinstance(step, Step):
        raise TypeError(f"step: expected a kvc.Step, found "
                        f"{type(step).__name__}")
    ident = getattr(step, "_torch_id", None)
    if ident is None:
        ident = step._torch_id = next(_ids)
        _steps[ident] = step
    if out is None:
        return torch.tensor([ident], dtype=torch.int64)
    return out.fill_(ident)


@torch.compiler.disable
def read(sequence: Sequence, layer: int, start: int = 0,
         stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequence.read() into new tensors (k, v), each [stop - start, kv_heads,
    head_dim], in torch's current stream. A compiler leaves it out of graphs."""
    program = sequence.cache.program
    model, place = program.model, program.device.place
    start, count = sequence._tokens(start, stop)
    k, v = (torch_empty((count, model.kv_heads, dim), model.dtype, place)
            for dim in (model.head_dim_k, model.head_dim_v))
    with program.device.lent(k, v):
        return sequence.read(layer, start, start + count, k, v,
                             stream=_stream_of(place))


def _stream_of(device):
    if str(device) == "cpu":
        return None
    return torch.cuda.current_stream(device).cuda_stream


def _step_of(handle, rows):
    """The Step of a handle, for operators; `rows` is one of its tensors."""
    found = _steps.get(handle.item())
    if found is None:
        raise Stale("the step of this handle has ended")
    _check_stream(found, rows)
    return found


def _check_stream(step, rows):
    if rows.is_cuda and (step.stream or 0) != _stream_of(rows.device):
        raise ValueError("the step was opened in another stream than torch's "
                         "current one: open it by kvc.torch.step()")


def _check_gradients(*tensors):
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                raise NotImplementedError(
                    "kernels of kvc have no gradient: use torch.no_grad()")


def _check_rows(name, tensor):
    if tensor.dim() != 3:
        raise ValueError(f"{name}: expected [rows, heads, head_dim], found "
                         f"{list(tensor.shape)}")


def _define(schema, kernel, fake):
    """An operator: the kernel for all devices, and what a compiler needs to
    know of its results."""
    name = schema[:schema.index("(")]
    _library.define(schema)
    # Where a graph breaks, a compiler would look into the kernel too.
    _library.impl(name, torch.compiler.disable(kernel),
                  "CompositeExplicitAutograd")
    torch.library.register_fake(f"kvc::{name}", fake, lib=_library)
    return getattr(torch.ops.kvc, name).default


def _append(handle, layer, k, v):
    _check_gradients(k, v)
    _step_of(handle, k).append(layer, k, v)


def _append_fake(handle, layer, k, v):
    _check_rows("k", k)
    if v is not None:
        _check_rows("v", v)


def _attend(handle, layer, q, head_dim_v=None):
    _check_gradients(q)
    step = _step_of(handle, q)
    _check_dim(step, head_dim_v or q.shape[2])
    return step.attend(layer, q)


def _check_dim(step, head_dim_v):
    """That the result has the shape which a compiler was told."""
    model = step.cache.program.model
    if head_dim_v != model.head_dim_v:
        raise ValueError(f"head_dim_v: the cache has {model.head_dim_v}, found "
                         f"{head_dim_v}")


def _attend_fake(handle, layer, q, head_dim_v=None):
    _check_rows("q", q)
    return q.new_empty((q.shape[0], q.shape[1], head_dim_v or q.shape[2]))


def _attend_lse(handle, layer, q, head_dim_v=None):
    _check_gradients(q)
    step = _step_of(handle, q)
    _check_dim(step, head_dim_v or q.shape[2])
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    return step.attend(layer, q, lse=lse), lse


def _attend_lse_fake(handle, layer, q, head_dim_v=None):
    return (_attend_fake(handle, layer, q, head_dim_v),
            q.new_empty(q.shape[:2], dtype=torch.float32))


def _dim_of(q, v, head_dim_v):
    """Of the output's heads."""
    return head_dim_v or (q if v is None else v).shape[2]


def _append_attend(handle, layer, q, k, v, head_dim_v=None):
    _check_gradients(q, k, v)
    step = _step_of(handle, q)
    _check_dim(step, _dim_of(q, v, head_dim_v))
    step.append(layer, k, v)
    return step.attend(layer, q)


def _append_attend_fake(handle, layer, q, k, v, head_dim_v=None):
    _append_fake(handle, layer, k, v)
    return _attend_fake(handle, layer, q, _dim_of(q, v, head_dim_v))


_append_op = _define(
    "append(Tensor(a!) handle, int layer, Tensor k, Tensor? v) -> ()",
    _append, _append_fake)
_attend_op = _define(
    "attend(Tensor(a!) handle, int layer, Tensor q, int? head_dim_v=None) -> "
    "Tensor", _attend, _attend_fake)
_attend_lse_op = _define(
    "attend_lse(Tensor(a!) handle, int layer, Tensor q, int? head_dim_v=None) "
    "-> (Tensor, Tensor)", _attend_lse, _attend_lse_fake)
_append_attend_op = _define(
    "append_attend(Tensor(a!) handle, int layer, Tensor q, Tensor k, Tensor? v, "
    "int? head_dim_v=None) -> Tensor", _append_attend, _append_attend_fake)


def _eager(handle, *rows):
    """The Step, where it was given and no handle: that spares a call the
    dispatcher. Gradients are refused here too, for what an operator's kernel
    sees of them while a compiler traces it depends on the compiler."""
    _check_gradients(*rows)
    if not isinstance(handle, Step):
        return None
    if torch.compiler.is_compiling():
        raise TypeError("a compiled module takes handle(step) as an argument, "
                        "not the Step")
    _check_stream(handle, rows[0])
    return handle


def append(handle: torch.Tensor | Step, layer: int, k: torch.Tensor,
           v: torch.Tensor | None = None) -> None:
    """Encodes the rows of one layer: k and v are [rows, kv_heads, head_dim] of
    the model's dtype; there is no v where it is of k. `handle` may be the Step
    where nothing is compiled."""
    step = _eager(handle, k, v)
    if step is None:
        _append_op(handle, layer, k, v)
    else:
        step.append(layer, k, v)


def attend(handle: torch.Tensor | Step, layer: int, q: torch.Tensor,
           head_dim_v: int | None = None) -> torch.Tensor:
    """Attention of the step's rows over one layer, [rows, q_heads, head_dim].

    q           [rows, q_heads, head_dim] of the model's dtype, unscaled
    head_dim_v  of V, if it is not that of K
    """
    step = _eager(handle, q)
    if step is None:
        return _attend_op(handle, layer, q, head_dim_v)
    return step.attend(layer, q)


def attend_lse(handle: torch.Tensor | Step, layer: int, q: torch.Tensor,
               head_dim_v: int | None = None
               ) -> tuple[torch.Tensor, torch.Tensor]:
    """attend(), and the log-sum-exp of each row and head, f32 [rows,
    q_heads]."""
    step = _eager(handle, q)
    if step is None:
        return _attend_lse_op(handle, layer, q, head_dim_v)
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    return step.attend(layer, q, lse=lse), lse


def append_attend(handle: torch.Tensor | Step, layer: int, q: torch.Tensor,
                  k: torch.Tensor, v: torch.Tensor | None = None,
                  head_dim_v: int | None = None) -> torch.Tensor:
    """append() and attend() in one call. Where there is no v, head_dim_v is
    that of the output, if it is not that of K."""
    step = _eager(handle, q, k, v)
    if step is None:
        return _append_attend_op(handle, layer, q, k, v, head_dim_v)
    step.append(layer, k, v)
    return step.attend(layer, q)


# --- pages of an engine -------------------------------------------------------

def _program_id(program):
    ident = getattr(program, "_torch_id", None)
    if ident is None:
        ident = program._torch_id = next(_ids)
        _programs[ident] = program
    return ident


def _program_of(ident):
    found = _programs.get(ident)
    if found is None:
        raise Stale("the program of this call is gone")
    return found


def _pages_append(program, store, k, v, slots, pool):
    _check_gradients(k, v)
    _program_of(program).append(store, k, v, slots, pool,
                                page_count=pool.shape[0],
                                stream=_stream_of(k.device))


def _pages_append_fake(program, store, k, v, slots, pool):
    _check_rows("k", k)
    if v is not None:
        _check_rows("v", v)


def _pages_attend(program, store, q, cu_q, kv_len, table, pool, head_dim_v,
                  max_queries, max_kv_len, constants):
    _check_gradients(q)
    program = _program_of(program)
    if head_dim_v not in (None, program.model.head_dim_v):
        raise ValueError(f"head_dim_v: the program has "
                         f"{program.model.head_dim_v}, found {head_dim_v}")
    workspace = None
    if q.is_cuda:
        if not max_kv_len:
            raise ValueError("max_kv_len: expected a bound of kv_len, which is "
                             "in the GPU's memory")
        size = program.attend_workspace(store, kv_len.shape[0], q.shape[0],
                                        max_kv_len)
        workspace = q.new_empty(size + 64, dtype=torch.uint8)
    return program.attend(
        store, q, cu_q, kv_len, table, pool, constants=list(constants),
        workspace=workspace, page_count=pool.shape[0], max_queries=max_queries,
        max_kv_len=max_kv_len, stream=_stream_of(q.device))


def _pages_attend_fake(program, store, q, cu_q, kv_len, table, pool, head_dim_v,
                       max_queries, max_kv_len, constants):
    return _attend_fake(None, 0, q, head_dim_v)


_pages_append_op = _define(
    "pages_append(int program, int store, Tensor k, Tensor? v, Tensor slots, "
    "Tensor(a!) pool) -> ()", _pages_append, _pages_append_fake)
_pages_attend_op = _define(
    "pages_attend(int program, int store, Tensor q, Tensor cu_q, Tensor kv_len, "
    "Tensor table, Tensor pool, int? head_dim_v, int max_queries, "
    "int max_kv_len, Tensor[] constants) -> Tensor",
    _pages_attend, _pages_attend_fake)


def pages_append(program: Program, store: int, k: torch.Tensor,
                 v: torch.Tensor | None, slots: torch.Tensor, pool: torch.Tensor) -> None:
    """Encodes rows of K and V into your own pages.

    store  index in Program.stores
    k, v   [rows, kv_heads, head_dim] of the model's dtype; v is None where it
           is of k
    slots  int64 [rows]: page * page_tokens + token; negative: skipped
    pool   uint8 [pages, page_bytes] of one layer

    On a GPU all of them are its memory. As Program.append(), which is the same
    without torch.compile.
    """
    _check_gradients(k, v)
    _pages_append_op(_program_id(program), store, k, v, slots, pool)


def pages_attend(program: Program, store: int, q: torch.Tensor,
                 cu_q: torch.Tensor, kv_len: torch.Tensor, table: torch.Tensor,
                 pool: torch.Tensor, *, head_dim_v: int | None = None,
                 max_queries: int = 0, max_kv_len: int = 0,
                 constants: tuple = ()) -> torch.Tensor:
    """Attention of a ragged batch over your own pages, [rows, q_heads,
    head_dim].

    store        index in Program.stores
    q            [rows, q_heads, head_dim] of the model's dtype, unscaled
    cu_q         int32 [batch + 1]: offsets of the sequences' rows, from 0
    kv_len       int32 [batch]: cached tokens, the queries' own included
    table        int32 [batch, pages]: page ids
    pool         uint8 [pages, page_bytes] of one layer
    max_queries  rows of a sequence at most, max_kv_len of kv_len: a GPU needs
                 the second, and works better with the first
    constants    tensors in the order of Store.constants
    """
    _check_gradients(q)
    return _pages_attend_op(_program_id(program), store, q, cu_q, kv_len, table,
                            pool, head_dim_v, max_queries, max_kv_len,
                            list(constants))
