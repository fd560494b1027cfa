"""Random batches through kvc_append and kvc_attend, held against float64.

A case is what a seed says: lengths, query tokens and rows of K, V and Q. A
placement is where they lie and what fills all bytes that nobody owns; it must
change no bit of a result. Standard library only.
"""
import array
import math
import random
import re

import floats
import kvc
import reference

# Bugs that can be planted in an attend call. "table" reads beyond the pool:
# only where accesses are checked.
FAULTS = ("page-stride", "live-row", "length", "table")


def as_bytes(code, values):
    return array.array(code, values).tobytes()


class Case:
    """Sequences of one store: tokens[b] cached tokens, of which the last
    queries[b] have a row of q; 0 tokens: a padding row."""

    def __init__(self, program, store, seed, sequences=5, longest=0,
                 prefill=True):
        self.program, self.store = program, store
        self.model, self.info = program.model, program.stores[store]
        self.seed = seed
        rng = random.Random(f"case {seed}")
        page = self.info.get("page") or 16
        split = program.split(store) or 1024
        window = self.window()
        edges = [0, 1, page - 1, page, page + 1, 2 * page]
        if window:
            edges += [window[1], window[1] + 1, sum(window) + page]
        far = [split - 1, split, split + 1, 2 * split + 1]
        limit = longest or 2 * split + page
        edges = [n for n in edges + far if n <= limit]
        self.tokens = [rng.choice(edges) if rng.random() < 0.6 else
                       rng.randint(1, limit) for _ in range(sequences)]
        self.queries = []
        for n in self.tokens:
            many = prefill and rng.random() < 0.4
            self.queries.append(
                min(n, rng.choice([2, 3, 16, 17, 33])) if many and n else 1)
        heads = self.info["kv_heads"]
        self.heads = heads[1] - heads[0]
        self.first_head = heads[0]
        self.group = self.model["q_heads"] // self.model["kv_heads"]
        self.dims = {"k": self.model["head_dim_k"],
                     "v": self.model["head_dim_v"]}
        dtype = self.model["dtype"]
        self.width = floats.WIDTH[dtype]
        # Rows as a model gives them, all heads of the model.
        self.rows = {
            side: [floats.random_rows(rng, dtype,
                                      n * self.model["kv_heads"] * dim)
                   for n in self.tokens] for side, dim in self.dims.items()}
        self.q = [floats.random_rows(
            rng, dtype, n * self.model["q_heads"] * self.dims["k"])
            for n in self.queries]

    def window(self):
        """(sink, recent) tokens that a query sees; None: all."""
        window = self.info.get("window")
        return (window["sink"], window["recent"]) if window else None

    def softcap(self):
        """Of the store's logits, the one expression that the formula here
        knows; 0: none. Others are a ValueError."""
        text = self.info.get("attend")
        if not text:
            return 0
        found = re.fullmatch(r'{"logits":"(\S+) \* tanh\(s / \1\)"}', text)
        if not found:
            raise ValueError(f"no formula here for {text}")
        return float(found[1])

    def row_bytes(self, side):
        return self.model["kv_heads"] * self.dims[side] * self.width

    def describe(self):
        return (f"seed {self.seed}, tokens {self.tokens}, "
                f"queries {self.queries}")


class Layout:
    """Where the bytes of a case lie: pools, planes and a page table."""

    def __init__(self, case, rng):
        info, self.case = case.info, case
        self.paged = info["layout"] == "paged"
        longest = max([1] + case.tokens)
        if self.paged:
            self.page = info["page"]
            self.table_stride = -(-longest // self.page) + 1
        else:
            self.page = -(-longest // 8) * 8 + 8  # capacity of a slot
            self.table_stride = 1
        used = [-(-n // self.page) if self.paged else 1 for n in case.tokens]
        self.page_count = sum(used) + 3
        ids = rng.sample(range(self.page_count), self.page_count)
        self.table = []
        for count in used:
            mine = [ids.pop() for _ in range(count)]
            junk = [rng.choice([-1, 2 ** 31 - 1, self.page_count])
                    for _ in range(self.table_stride - count)]
            self.table.append(mine + junk)
        self.pools, self.places = [], []
        for plane in info["planes"]:
            self.place(info, plane)

    def place(self, info, plane):
        """Appends (pool, offset, page stride, head stride, token stride, row
        bytes) of a plane."""
        token, row = plane["row_stride"], plane["row_bytes"]
        if self.paged:
            if not self.pools:
                self.pools.append(self.page_count * info["page_bytes"])
            self.places.append((0, plane["page_offset"], info["page_bytes"],
                                plane["head_stride"], token, row))
            return
        head, slot = plane["head_stride"], self.page * token
        if not head:
            head, slot = slot, slot * self.case.heads
        self.pools.append(self.page_count * slot)
        self.places.append((len(self.pools) - 1, 0, slot, head, token, row))

    def at(self, plane, sequence, head, token):
        """(pool, begin, end) of a cached row."""
        pool, offset, page_stride, head_stride, row_stride, row = \
            self.places[plane]
        page_id, inner = self.slot(sequence, token)
        begin = (offset + page_id * page_stride + head * head_stride +
                 inner * row_stride)
        return pool, begin, begin + row

    def slot(self, sequence, token):
        entry, inner = divmod(token, self.page)
        return self.table[sequence][entry], inner

    def planes(self, buffers, fault=None):
        planes = []
        for pool, offset, page_stride, head_stride, _, _ in self.places:
            if fault == "page-stride":
                page_stride -= 64
            planes.append(kvc.Plane(buffers[pool].address + offset,
                                    page_stride, head_stride))
        return planes


class Placement:
    """One run of a case: append, then attend as often as asked.

    `findings` gathers what was wrong with the bytes; results are per sequence
    (bytes of out, bytes of lse).
    """

    def __init__(self, case, memory, seed, poison):
        self.case, self.memory, self.how = case, memory, poison
        self.rng = random.Random(f"placement {seed}")
        self.layout = Layout(case, self.rng)
        self.before = [floats.poison(self.rng, poison, size)
                       for size in self.layout.pools]
        self.buffers = [memory.upload(data) for data in self.before]
        self.findings = []

    # Append --------------------------------------------------------------

    def append(self):
        case, layout = self.case, self.layout
        tokens = [(b, t) for b, n in enumerate(case.tokens) for t in range(n)]
        self.rng.shuffle(tokens)
        cut = len(tokens) // 3
        for part in (tokens[:cut], tokens[cut:]):
            self.append_rows(part + [None])  # and a row that goes nowhere
        self.after = [self.memory.download(b) for b in self.buffers]
        self.check_append()

    def append_rows(self, tokens):
        case, layout = self.case, self.layout
        data = {}
        for side in case.rows:
            size = case.row_bytes(side)
            data[side] = self.memory.upload(b"".join(
                case.rows[side][at[0]][at[1] * size:(at[1] + 1) * size]
                if at else b"\xff" * size for at in tokens), writable=False)
        slots = []
        for at in tokens:
            page_id, inner = layout.slot(*at) if at else (-1, 0)
            slots.append(page_id * layout.page + inner if at else -1)
        slot = self.memory.upload(as_bytes("q", slots), writable=False)
        case.program.append(
            case.store, layout.planes(self.buffers), rows=len(tokens),
            k=data["k"].address, k_row_stride=case.row_bytes("k"),
            v=data["v"].address, v_row_stride=case.row_bytes("v"),
            slot=slot.address, slot_tokens=layout.page,
            page_count=layout.page_count)

    def owned(self):
        """(plane, sequence, head, token) of every cached row."""
        case = self.case
        for plane in range(len(case.info["planes"])):
            for b, n in enumerate(case.tokens):
                for head in range(case.heads):
                    for token in range(n):
                        yield plane, b, head, token

    def check_append(self):
        before = [bytearray(data) for data in self.before]
        after = [bytearray(data) for data in self.after]
        for row in self.owned():
            pool, begin, end = self.layout.at(*row)
            nothing = bytes(end - begin)
            before[pool][begin:end] = after[pool][begin:end] = nothing
        if before != after:
            self.findings.append("append wrote bytes that no token owns")
        for side in ("k", "v"):
            finding = self.check_rows(side)
            if finding:
                self.findings.append(finding)

    def plane(self, side, role):
        return next((i for i, plane in enumerate(self.case.info["planes"])
                     if (plane["stream"], plane["role"]) == (side, role)), None)

    def cached(self, side, sequence, head, token):
        """A cached row as floats, and its scale."""
        codes, scales = self.plane(side, "codes"), self.plane(side, "scales")
        planes = self.case.info["planes"]
        pool, begin, end = self.layout.at(codes, sequence, head, token)
        row = floats.decode(planes[codes]["type"], self.after[pool][begin:end])
        if scales is None:
            return row, None
        pool, begin, end = self.layout.at(scales, sequence, head, token)
        scale = floats.decode(planes[scales]["type"],
                              self.after[pool][begin:end])[0]
        return [scale * code for code in row], scale

    def check_rows(self, side):
        case, dim = self.case, self.case.dims[side]
        dtype = case.model["dtype"]
        kind = case.info["planes"][self.plane(side, "codes")]["type"]
        for b, n in enumerate(case.tokens):
            for token in range(n):
                for head in range(case.heads):
                    at = (token * case.model["kv_heads"] + case.first_head +
                          head) * dim * case.width
                    given = case.rows[side][b][at:at + dim * case.width]
                    want = floats.decode(dtype, given)
                    got, scale = self.cached(side, b, head, token)
                    if scale is not None:
                        # Half a step, and rounding of scale and quotient.
                        room = scale * 0.501 + 2e-3 * scale
                        good = all(abs(g - w) <= room + abs(w) * 2 ** -10
                                   for g, w in zip(got, want))
                    elif kind == dtype:
                        good = list(got) == list(want)
                    else:
                        good = all(g == floats.round_to(kind, w)
                                   for g, w in zip(got, want))
                    if not good:
                        return (f"append: {side} of sequence {b}, token "
                                f"{token}, head {head} is wrong")
        return None

    # Attend --------------------------------------------------------------

    def attend(self, sequences=None, fault=None):
        """Results of these sequences in one call, in this order."""
        case, layout, memory = self.case, self.layout, self.memory
        if sequences is None:
            sequences = list(range(len(case.tokens)))
        heads, dims = case.model["q_heads"], case.dims
        q_row, out_row = (heads * dims[s] * case.width for s in "kv")
        cu_q = [0]
        for b in sequences:
            cu_q.append(cu_q[-1] + case.queries[b])
        rows = cu_q[-1]
        guard = 2  # rows behind the last
        out_before = floats.poison(self.rng, self.how, (rows + guard) * out_row)
        lse_before = floats.poison(self.rng, self.how,
                                   (rows + guard) * heads * 4)
        out, lse = memory.upload(out_before), memory.upload(lse_before)
        table = [entry for b in sequences for entry in layout.table[b]]
        lengths = [case.tokens[b] for b in sequences]
        if fault == "table":
            table[0] = layout.page_count + 100000
        if fault == "length":
            lengths[0] -= 1
        longest = max([1] + case.tokens)
        size = case.program.workspace(case.store, len(sequences), rows, longest)
        workspace = memory.upload(floats.poison(self.rng, self.how, size))
        given = lambda data: memory.upload(data, writable=False).address
        case.program.attend(
            case.store, layout.planes(self.buffers, fault),
            batch=len(sequences), rows=rows, max_kv_len=longest,
            q=given(b"".join(case.q[b] for b in sequences)), q_row_stride=q_row,
            out=out.address, out_row_stride=out_row, lse=lse.address,
            lse_row_stride=heads * 4, cu_q=given(as_bytes("i", cu_q)),
            kv_len=given(as_bytes("i", lengths)),
            table=given(as_bytes("i", table)), table_stride=layout.table_stride,
            page_count=0, slot_tokens=layout.page, workspace=workspace.address,
            workspace_bytes=size)
        return self.take(memory.download(out), out_before,
                         memory.download(lse), lse_before, cu_q)

    def take(self, out, out_before, lse, lse_before, cu_q):
        """Splits by sequence; everything beyond the store's heads of the rows
        must be as before."""
        case = self.case
        heads = case.model["q_heads"]
        first, count = case.first_head * case.group, case.heads * case.group
        results = []
        for name, data, before, head in (
                ("out", out, out_before, case.dims["v"] * case.width),
                ("lse", lse, lse_before, 4)):
            rest, mine = bytearray(data), []
            for row in range(cu_q[-1]):
                begin = (row * heads + first) * head
                end = begin + count * head
                mine.append(data[begin:end])
                rest[begin:end] = before[begin:end]
            if rest != before:
                self.findings.append(f"attend wrote bytes of {name} that are "
                                     "not its rows'")
            results.append([b"".join(mine[a:b])
                            for a, b in zip(cu_q, cu_q[1:])])
        return list(zip(*results))

    def flip_live_row(self):
        """Changes the signs of a row of V that a query sees."""
        case, codes = self.case, self.plane("v", "codes")
        b = min((n, b) for b, n in enumerate(case.tokens) if n)[1]
        pool, begin, end = self.layout.at(codes, b, 0, case.tokens[b] - 1)
        width = floats.WIDTH[case.info["planes"][codes]["type"]]
        changed = bytearray(self.after[pool])
        for at in range(begin + width - 1, end, width):
            changed[at] ^= 0x80
        self.buffers[pool] = self.memory.upload(changed)

    # Against the reference ------------------------------------------------

    def judge(self, results):
        """The worst error over its bound."""
        case, worst = self.case, 0.0
        for b, (out, lse) in enumerate(results):
            for head in range(case.heads):
                findings, ratio = self.judge_head(b, head, out, lse)
                worst = max(worst, ratio)
                self.findings += [f"sequence {b} ({case.tokens[b]} tokens, "
                                  f"{case.queries[b]} queries), kv head "
                                  f"{head}, {text}" for text in findings[:2]]
        return worst

    def judge_head(self, b, head, out, lse):
        case, model = self.case, self.case.model
        rows = {side: [x for t in range(case.tokens[b])
                       for x in self.cached(side, b, head, t)[0]]
                for side in "kv"}
        q, dim = floats.decode(model["dtype"], case.q[b]), case.dims["k"]
        group, query, o, l = case.group, [], [], []
        out = floats.decode(model["dtype"], out)
        lse = floats.decode("f32", lse)
        mine = case.heads * group
        for i in range(case.queries[b]):
            for g in range(group):
                at = i * model["q_heads"] + (case.first_head + head) * group + g
                query += q[at * dim:(at + 1) * dim]
                at = i * mine + head * group + g
                o.append(out[at * case.dims["v"]:(at + 1) * case.dims["v"]])
                l.append(lse[at])
        problem = reference.Problem(
            rows["k"], rows["v"], query, (dim, case.dims["v"]), case.tokens[b],
            case.queries[b], group, model["dtype"], model["softmax_scale"],
            case.softcap(), case.window())
        return reference.judge(problem, reference.expect(problem), o, l)


def check(device, case, poisons=floats.POISONS, fault=None):
    """Runs a case in several placements; {"findings": [...], "ratio": worst}.

    `fault` plants a bug in the attend call that must be found.
    """
    findings, ratio, first = [], 0.0, None
    for index, how in enumerate(poisons):
        with device.memory() as memory:
            run = Placement(case, memory, f"{case.seed} {index}", how)
            run.append()
            if fault == "live-row":
                run.flip_live_row()
            results = run.attend(fault=fault)
            if first is None:
                first, ratio = results, run.judge(results)
                if run.attend(fault=fault) != results:
                    findings.append("the same call again gave other bits")
            elif results != first:
                findings.append(f"other pages, and {how} where nobody owns "
                                "bytes, gave other bits")
            if how == poisons[-1] and not fault:
                order = list(range(len(case.tokens)))
                alone = [run.attend([b])[0] for b in order]
                if alone != results:
                    findings.append("a batch of one gave other bits")
            if [memory.download(b) for b in run.buffers] != run.after \
                    and fault != "live-row":
                findings.append("attend changed the cache")
            findings += run.findings
        if fault:
            break
    return {"case": case.describe(), "findings": findings, "ratio": ratio}
