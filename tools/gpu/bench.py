"""Timing on a GPU beside PyTorch: graphs, cold caches, one process.

A subject is a list of functions that do the same work on different memory, as
many as it takes that what one of them leaves in L2 is gone when its turn comes
again. They are captured in one CUDA graph, one after the other, and the graph
is replayed; its time over its calls is a call's.
"""
import statistics
import subprocess

import torch

import kvc

REPLAYS = 30
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def l2_bytes():
    return torch.cuda.get_device_properties(0).L2_cache_size


def sets_for(nbytes):
    """How many copies of `nbytes` make every call cold."""
    return max(2, min(64, -(-8 * l2_bytes() // nbytes))) \
        if nbytes < 16 * l2_bytes() else 1


def sm_clock():
    """MHz, as it is right now; None where nvidia-smi is not."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=clocks.sm",
             "--format=csv,noheader,nounits"], capture_output=True, text=True,
            timeout=10)
        return int(done.stdout.split()[0])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None


def capture(functions, repeat):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for function in functions[:2]:
            function()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeat):
            for function in functions:
                function()
    return graph


def replay_ms(graph):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


class Subject:
    def __init__(self, functions):
        # Enough work per replay that launching the graph is no part of it.
        self.repeat = 1
        self.calls = len(functions)
        self.graph = capture(functions, 1)
        replay_ms(self.graph)
        once = replay_ms(self.graph)
        if once < 2:
            self.repeat = min(32, max(1, int(2 / max(once, 0.05))))
            self.calls *= self.repeat
            self.graph = capture(functions, self.repeat)
        self.samples = []

    def measure(self, replays):
        replay_ms(self.graph)
        for _ in range(replays):
            self.samples.append(1000 * replay_ms(self.graph) / self.calls)


def compare(subjects, rounds=3, replays=REPLAYS):
    """{name: Subject or functions} -> {name: {"us", "us_min", "us_max"}}, the
    subjects taking turns, in alternating order."""
    ready, rows = {}, {}
    for name, functions in subjects.items():
        try:
            ready[name] = Subject(functions)
        except Exception as error:
            if "illegal" in str(error) or "unspecified launch" in str(error):
                raise
            rows[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    for turn in range(rounds):
        order = list(ready) if turn % 2 == 0 else list(reversed(ready))
        for name in order:
            ready[name].measure(-(-replays // rounds))
    for name, subject in ready.items():
        samples = sorted(subject.samples)
        rows[name] = {"us": statistics.median(samples), "us_min": samples[0],
                      "us_max": samples[-1], "calls": subject.calls}
    return rows


#===--- ceilings -----------------------------------------------------------===#

try:
    import triton
    import triton.language as tl

    @triton.jit
    def read_kernel(data, out, count, STEP: tl.constexpr, UNROLL: tl.constexpr):
        """Sums a stretch of int32 per program, `UNROLL` blocks at a time."""
        total = tl.zeros([STEP], tl.int32)
        at = tl.program_id(0) * STEP * UNROLL
        stride = tl.num_programs(0) * STEP * UNROLL
        while at < count:
            for part in tl.static_range(UNROLL):
                index = at + part * STEP + tl.arange(0, STEP)
                total += tl.load(data + index, mask=index < count, other=0)
            at += stride
        tl.store(out + tl.program_id(0), tl.sum(total, 0))
except ImportError:
    triton = None


def readers(data):
    """{name: function} that read all of an int32 tensor."""
    floats = data.view(torch.float32)
    found = {"torch sum f32": lambda: floats.sum(),
             "torch amax f32": lambda: floats.amax(),
             "torch sum rows": lambda: floats.view(-1, 8192).sum(1),
             "torch amax i32": lambda: data.amax()}
    if triton:
        sms = torch.cuda.get_device_properties(0).multi_processor_count
        for per_sm in (2, 4, 8):
            out = torch.empty(sms * per_sm, dtype=torch.int32, device="cuda")
            found[f"triton read, {per_sm} per SM"] = (
                lambda grid=sms * per_sm, out=out: read_kernel[(grid,)](
                    data, out, data.numel(), STEP=2048, UNROLL=4, num_warps=8))
    return found


def ceiling(nbytes=1 << 30, replays=20):
    """GB/s of the best reader of that many bytes, and of all."""
    data = torch.randint(-9, 9, (nbytes // 4,), dtype=torch.int32,
                         device="cuda")
    rows = compare({name: [function] for name, function in
                    readers(data).items()}, rounds=2, replays=replays)
    speeds = {name: nbytes / row["us_min"] / 1e3 for name, row in rows.items()
              if "us" in row}
    median = {name: nbytes / row["us"] / 1e3 for name, row in rows.items()
              if "us" in row}
    best = max(median, key=median.get)
    return {"gb_s": median[best], "reader": best, "all": median,
            "fastest": speeds, "bytes": nbytes,
            "errors": {n: r["error"] for n, r in rows.items() if "error" in r}}


#===--- a store in device memory -------------------------------------------===#

class Store:
    """One layer's cache of a program, filled from K and V
    [batch][tokens][kv heads][dim]; `copies` of it in different memory."""

    def __init__(self, program, lengths, k, v, copies):
        self.program, self.info = program, program.stores[0]
        self.model, self.lengths = program.model, lengths
        batch, longest = len(lengths), max(lengths)
        self.batch, self.longest = batch, longest
        self.page = self.info.get("page") or -(-longest // 64) * 64
        paged = self.info["layout"] == "paged"
        each = [-(-n // self.page) if paged else 1 for n in lengths]
        self.page_count = sum(each)
        ids = torch.randperm(self.page_count, dtype=torch.int32)
        stride = max(each)
        table = torch.zeros(batch, stride, dtype=torch.int32)
        at = 0
        for b, count in enumerate(each):
            table[b, :count] = ids[at:at + count]
            at += count
        self.host_table, self.stride = table, stride
        self.table = table.cuda()
        self.kv_len = torch.tensor(lengths, dtype=torch.int32).cuda()
        self.pools, self.planes = [], []
        for _ in range(copies):
            pools, planes = self.allocate(paged)
            self.pools.append(pools)
            self.planes.append(planes)
        self.fill(k, v)
        for pools in self.pools[1:]:
            for to, source in zip(pools, self.pools[0]):
                to.copy_(source)

    def allocate(self, paged):
        heads = self.info["kv_heads"][1] - self.info["kv_heads"][0]
        new = lambda n: torch.empty(n, dtype=torch.uint8, device="cuda")
        if paged:
            pool = new(self.page_count * self.info["page_bytes"])
            return [pool], [
                kvc.Plane(pool.data_ptr() + p["page_offset"],
                          self.info["page_bytes"], p["head_stride"])
                for p in self.info["planes"]]
        pools, planes = [], []
        for p in self.info["planes"]:
            head, slot = p["head_stride"], self.page * p["row_stride"]
            if not head:
                head, slot = slot, slot * heads
            pools.append(new(self.page_count * slot))
            planes.append(kvc.Plane(pools[-1].data_ptr(), slot, head))
        return pools, planes

    def slots(self):
        """[rows] int64: where every token of every sequence goes."""
        found = []
        for b, n in enumerate(self.lengths):
            token = torch.arange(n)
            entry = token // self.page
            page_id = self.host_table[b][entry].long()
            found.append(page_id * self.page + token % self.page)
        return torch.cat(found).cuda()

    def append(self, k, v, slots, planes):
        """k, v: [rows][kv heads][dim], dense."""
        self.program.append(
            0, planes, rows=k.shape[0], k=k.data_ptr(),
            k_row_stride=k.stride(0) * k.element_size(), v=v.data_ptr(),
            v_row_stride=v.stride(0) * v.element_size(),
            slot=slots.data_ptr(), slot_tokens=self.page,
            page_count=self.page_count,
            stream=torch.cuda.current_stream().cuda_stream)

    def fill(self, k, v):
        rows = lambda x: torch.cat([x[b, :n] for b, n in
                                    enumerate(self.lengths)]) \
            if len(set(self.lengths)) > 1 else x.flatten(0, 1)
        k, v, slots = rows(k), rows(v), self.slots()
        for at in range(0, len(slots), 1 << 18):
            part = slice(at, at + (1 << 18))
            self.append(k[part], v[part], slots[part], self.planes[0])
        torch.cuda.synchronize()

    def attends(self, program, q, queries):
        """(functions, out): attends of a program with this layout over each
        copy; q [rows][q heads][dim], `queries` rows of each sequence."""
        rows = q.shape[0]
        out = torch.full((rows, self.model["q_heads"],
                          self.model["head_dim_v"]), float("nan"),
                         dtype=q.dtype, device="cuda")
        cu_q = torch.tensor([0] + queries).cumsum(0).int().cuda()
        size = program.workspace(0, self.batch, rows, self.longest)
        workspace = torch.empty(size, dtype=torch.uint8, device="cuda")
        functions = []
        for planes in self.planes:
            args = program.attend_args(
                planes, batch=self.batch, rows=rows, max_queries=max(queries),
                max_kv_len=self.longest, q=q.data_ptr(),
                q_row_stride=q.stride(0) * q.element_size(),
                out=out.data_ptr(),
                out_row_stride=out.stride(0) * out.element_size(),
                cu_q=cu_q.data_ptr(), kv_len=self.kv_len.data_ptr(),
                table=self.table.data_ptr(), table_stride=self.stride,
                page_count=self.page_count, slot_tokens=self.page,
                workspace=workspace.data_ptr(), workspace_bytes=size)
            # Also keeps the memory that the arguments point to.
            functions.append(Attend(program, args,
                                    (q, out, cu_q, workspace, self)))
        return functions, out


def bytes_per_token(info):
    """Of one layer of a store."""
    heads = info["kv_heads"][1] - info["kv_heads"][0]
    return heads * sum(p["row_bytes"] for p in info["planes"])


class Attend:
    """A call of kvc_attend on torch's current stream; its arguments are made
    once."""

    def __init__(self, program, args, keep):
        self.program, self.args, self.keep = program, args, keep

    def __call__(self):
        self.args.stream = torch.cuda.current_stream().cuda_stream
        self.program.launch(0, self.args)


def exact(q, k, v, scale, causal_from=None):
    """Attention in f32 of one sequence: q [n][q heads][dim], k and v
    [tokens][kv heads][dim]. Query i sees tokens up to causal_from + i."""
    group = q.shape[1] // k.shape[1]
    out = torch.empty(q.shape[0], q.shape[1], v.shape[2],
                      dtype=torch.float32, device=q.device)
    for head in range(k.shape[1]):
        keys, values = k[:, head].float(), v[:, head].float()
        for g in range(group):
            at = head * group + g
            scores = scale * (q[:, at].float() @ keys.T)
            if causal_from is not None:
                limit = causal_from + torch.arange(q.shape[0], device=q.device)
                token = torch.arange(k.shape[0], device=q.device)
                scores.masked_fill_(token > limit[:, None], float("-inf"))
            out[:, at] = torch.softmax(scores, -1) @ values
    return out


def error(found, expected):
    """Relative error by norms; NaN never passes."""
    found = found.float()
    return float((found - expected).norm() / expected.norm())
