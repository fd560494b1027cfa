#!/usr/bin/env python3
"""Appends and attends through the C ABI from another language.

    consumer.py LIBRARY ARTIFACT

Knows <kvc/runtime.h> and the artifact only. Does what consumer/main.c does: an
f32 model whose streams are stored as f32 or as int8 with an f32 scale, on this
program's own buffers, against plain loops. Standard library only.
"""
import ctypes as c
import math
import os
import random
import sys

# The package's declarations, which are made of the headers.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "../../runtime/python/kvc"))
from _abi import (KVC_OK, KVC_RUNTIME_ABI, RUNTIME, AppendArgs, AttendArgs,
                  ModelInfo, Plane, PlaneInfo, StoreInfo)

KV_LEN = [21, 0, 9]
CAPACITY = 32


def fail(message):
    sys.exit(f"consumer.py: {message}")


def declare(library):
    """The library, each function with its types."""
    lib = c.CDLL(library)
    for name, result, arguments in RUNTIME:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def must(lib, status):
    if status.code != KVC_OK:
        fail(lib.kvc_error_text().decode())


class Memory:
    """Bytes at a multiple of 64, all 0xFF: NaN as f32."""

    def __init__(self, size):
        self.raw = c.create_string_buffer(b"\xff" * (size + 64), size + 64)
        self.address = (c.addressof(self.raw) + 63) // 64 * 64


class Store:
    """One layer's cache in this program's memory."""

    def __init__(self, model, info):
        self.model, self.info = model, info
        self.page = info.page_tokens or CAPACITY
        self.table_stride = CAPACITY // self.page if info.page_tokens else 1
        self.page_count = len(KV_LEN) * self.table_stride
        order = list(range(self.page_count))
        random.shuffle(order)
        for i in range(self.page_count):
            b, page = divmod(i, self.table_stride)
            if page * self.page >= KV_LEN[b]:
                order[i] = -1  # no token there: never read
        self.table = (c.c_int32 * self.page_count)(*order)
        self.plane_info = (PlaneInfo * info.plane_count).from_address(
            info.planes)
        self.planes = (Plane * info.plane_count)()
        self.memory = []
        pages = self.allocate(self.page_count * info.page_bytes)
        for i in range(info.plane_count):
            self.place(self.planes[i], self.plane_info[i], pages)

    def allocate(self, size):
        self.memory.append(Memory(size))
        return self.memory[-1].address

    def place(self, to, plane, pages):
        to.head_stride = plane.head_stride
        if self.info.page_tokens:
            to.base = pages + plane.page_offset
            to.page_stride = self.info.page_bytes
            return
        slot = self.page * plane.row_stride
        if not plane.head_stride:
            to.head_stride = slot
            slot *= self.info.head_end - self.info.head_begin
        to.page_stride = slot
        to.base = self.allocate(self.page_count * slot)

    def slot(self, sequence, token):
        page_id = self.table[sequence * self.table_stride + token // self.page]
        return page_id * self.page + token % self.page

    def row(self, stream, sequence, head, token):
        """A cached row as floats, and the largest error of its codec."""
        page_id, inner = divmod(self.slot(sequence, token), self.page)
        scale, row = None, []
        for i in range(self.info.plane_count):
            plane, at = self.plane_info[i], self.planes[i]
            if plane.stream.decode() != stream:
                continue
            address = (at.base + page_id * at.page_stride +
                       head * at.head_stride + inner * plane.row_stride)
            kind = c.c_int8 if plane.type == b"i8" else c.c_float
            values = list((kind * plane.elements).from_address(address))
            if plane.role == b"scales":
                scale = values[0]
            else:
                row = values
        if scale is None:
            return row, 0.0
        return [code * scale for code in row], scale * 0.501


def random_rows(*shape):
    count = math.prod(shape)
    return (c.c_float * count)(*(random.uniform(-1, 1) for _ in range(count)))


def append(lib, program, index, store):
    """Appends all tokens of all sequences and reads them back."""
    model = store.model
    tokens = [(b, t) for b, n in enumerate(KV_LEN) for t in range(n)]
    sides = {"k": model.head_dim_k, "v": model.head_dim_v}
    data = {s: random_rows(len(tokens), model.kv_heads, d)
            for s, d in sides.items()}
    slots = (c.c_int64 * len(tokens))(*(store.slot(b, t) for b, t in tokens))
    args = AppendArgs(
        size=c.sizeof(AppendArgs), rows=len(tokens), slot=c.addressof(slots),
        k=c.addressof(data["k"]), k_row_stride=4 * model.kv_heads * sides["k"],
        v=c.addressof(data["v"]), v_row_stride=4 * model.kv_heads * sides["v"],
        slot_tokens=store.page, page_count=store.page_count,
        planes=c.addressof(store.planes), plane_count=store.info.plane_count)
    must(lib, lib.kvc_append(program, index, c.byref(args)))
    for stream, dim in sides.items():
        for row, (b, t) in enumerate(tokens):
            for head in range(model.kv_heads):
                got, error = store.row(stream, b, head, t)
                at = (row * model.kv_heads + head) * dim
                want = data[stream][at:at + dim]
                if not all(abs(g - w) <= error for g, w in zip(got, want)):
                    fail(f"append wrote a wrong {stream} row")


def reference(store, q, sequence, head, tokens):
    """Attention of one query over the first `tokens` tokens: out and lse."""
    if not tokens:
        return [0.0] * store.model.head_dim_v, -math.inf
    keys = [store.row("k", sequence, head, t)[0] for t in range(tokens)]
    values = [store.row("v", sequence, head, t)[0] for t in range(tokens)]
    scores = [store.model.softmax_scale * sum(a * b for a, b in zip(q, key))
              for key in keys]
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    total = sum(weights)
    out = [sum(w * v[i] for w, v in zip(weights, values)) / total
           for i in range(store.model.head_dim_v)]
    return out, top + math.log(total)


def attend(lib, program, index, store):
    """One query per sequence, the newest token's."""
    model, batch = store.model, len(KV_LEN)
    q = random_rows(batch, model.q_heads, model.head_dim_k)
    out = Memory(4 * batch * model.q_heads * model.head_dim_v)
    lse = Memory(4 * batch * model.q_heads)
    size = c.c_size_t()
    must(lib, lib.kvc_attend_workspace(program, index, batch, batch, CAPACITY,
                                       c.byref(size)))
    workspace = Memory(size.value)
    cu_q = (c.c_int32 * (batch + 1))(*range(batch + 1))
    kv_len = (c.c_int32 * batch)(*KV_LEN)
    args = AttendArgs(
        size=c.sizeof(AttendArgs), batch=batch, q=c.addressof(q),
        q_row_stride=4 * model.q_heads * model.head_dim_k, out=out.address,
        out_row_stride=4 * model.q_heads * model.head_dim_v, lse=lse.address,
        lse_row_stride=4 * model.q_heads, cu_q=c.addressof(cu_q),
        kv_len=c.addressof(kv_len), table=c.addressof(store.table),
        table_stride=store.table_stride, page_count=store.page_count,
        slot_tokens=store.page, workspace=workspace.address,
        workspace_bytes=size.value, planes=c.addressof(store.planes),
        plane_count=store.info.plane_count)
    must(lib, lib.kvc_attend(program, index, c.byref(args)))
    for b in range(batch):
        for head in range(model.q_heads):
            check(store, b, head, q, out, lse)


def check(store, b, head, q, out, lse):
    model = store.model
    at = b * model.q_heads + head
    query = q[at * model.head_dim_k:(at + 1) * model.head_dim_k]
    want, want_lse = reference(store, query, b,
                               head // (model.q_heads // model.kv_heads),
                               KV_LEN[b])
    row = out.address + 4 * at * model.head_dim_v
    got = list((c.c_float * model.head_dim_v).from_address(row))
    got.append(c.c_float.from_address(lse.address + 4 * at).value)
    for g, w in zip(got, want + [want_lse]):
        if not (g == w or abs(g - w) <= 2e-5):
            fail(f"sequence {b}, head {head}: expected {w}, found {g}")


def main():
    lib = declare(sys.argv[1])
    if lib.kvc_runtime_abi() != KVC_RUNTIME_ABI:
        fail("another ABI")
    random.seed(1)
    device, program = c.c_void_p(), c.c_void_p()
    must(lib, lib.kvc_device_create_cpu(None, c.byref(device)))
    must(lib, lib.kvc_program_load_file(device, sys.argv[2].encode(),
                                        c.byref(program)))
    stores = lib.kvc_program_store_count(program)
    if not stores:
        fail("no stores")
    layers = []
    for i in range(stores):
        model = ModelInfo(size=c.sizeof(ModelInfo))
        info = StoreInfo(size=c.sizeof(StoreInfo))
        must(lib, lib.kvc_program_get_model(program, c.byref(model)))
        must(lib, lib.kvc_program_get_store(program, i, c.byref(info)))
        layers += (c.c_uint32 * info.layer_count).from_address(info.layers)
        store = Store(model, info)
        append(lib, program, i, store)
        attend(lib, program, i, store)
        print(f"store {info.name.decode()}: append and attend are right")
    if sorted(layers) != list(range(model.layers)):
        fail(f"the stores have the layers {layers}")
    lib.kvc_program_release(program)
    lib.kvc_device_release(device)


main()
