"""Decode at the shapes that others publish, beside PyTorch in one process."""
import zlib

NEEDS = ("gpu", "torch")

# (id, model, lengths, query tokens of each, also FlexAttention)
SHAPES = [
    ("D2", "g32x8-p16-bf16", [4096] * 32, 1, True),
    ("D2", "g64x8-p64-bf16", [131072], 1, False),
    ("D4", "g64x8-p32-bf16", [8192], 1, True),
    ("D3", "g32x8-p16-bf16", [32768] * 8, 1, False),
    ("D3", "g32x8-p16-int8", [32768] * 8, 1, False),
    ("D2", "g64x8-p64-bf16", [131072] * 8, 1, False),
    ("D2", "g64x8-p64-int8", [131072] * 8, 1, False),
    ("D5", "g32x8-p16-bf16", [4641, 45118, 1730, 1696], 4, False),
    ("D1", "g32x4-p16-bf16", [1024] * 128, 1, False),
    ("D1", "g32x4-p16-int8", [1024] * 128, 1, False),
    ("D6", "m32x32-p16-bf16", [4000] * 16, 1, False),
    ("D7", "q16x1-c-bf16", [1024] * 64, 1, True),
    ("D3", "g32x8-p16-bf16", [8192], 1, False),
    ("D3", "g32x8-p16-bf16", [1024], 1, False),
    ("D2", "g32x4-p16-bf16", [262144], 1, False),
    ("D2", "g32x4-p16-bf16", [16384], 1, False),
    ("D2", "g32x4-p16-bf16", [1024], 1, False),
    ("D5", "g32x8-p16-bf16", "zipf", 1, False),
    ("D5", "g32x8-p16-bf16", "uniform", 1, False),
    ("D3", "g32x8-p16-bf16", [2048] * 8, 1, False),
    ("D3", "g32x8-p16-int8", [8192] * 8, 1, False),
    ("D1", "g32x4-p16-bf16", [16384] * 16, 1, False),
    ("D1", "g32x4-p16-int8", [16384] * 16, 1, False),
    ("D1", "g32x4-p16-bf16", [512] * 512, 1, False),
    ("D1", "g32x4-p16-bf16", [4096] * 4, 1, False),
    ("D2", "g64x8-p64-bf16", [131072] * 4, 1, False),
    ("D2", "g64x8-p64-bf16", [131072] * 16, 1, False),
    ("D6", "m32x32-p16-bf16", [2000] * 16, 1, False),
    ("D6", "m32x32-p16-bf16", [128] * 16, 1, False),
    ("D7", "q16x1-c-bf16", [2048] * 32, 1, False),
    ("D7", "q16x1-c-bf16", [512] * 128, 1, False),
    ("D3", "g32x8-p16-bf16", [16384] * 8, 1, False),
    ("D3", "g32x8-p16-bf16", [4096] * 8, 1, False),
    ("D3", "g32x8-p16-bf16", [1024] * 8, 1, False),
]
NAMED = {"zipf": [max(64, 32768 // (i + 1)) for i in range(16)],
         "uniform": [512 + 32 * i for i in range(16)]}
LARGEST_ERROR = {"bf16": 0.02, "f16": 0.004, "i8": 0.03}


def step(context):
    import bench
    models = {m["name"]: m for m in context.models("bench")}
    limit = context.row("ceiling", bench.ceiling)
    context.row("graph with other lengths", lambda: other_lengths(
        context, next(iter(models.values()))), 10)
    for shape, name, lengths, queries, flex in SHAPES:
        title = lengths if isinstance(lengths, str) else (
            f"B={len(lengths)} L={lengths[0]}" if len(set(lengths)) == 1
            else "skewed")
        lengths = NAMED.get(lengths, lengths) if isinstance(lengths, str) \
            else lengths
        if name in models:
            context.row(f"{shape} {name} {title}", lambda: measure(
                context, models[name], lengths, queries, flex, limit), 20)


def inputs(program, lengths, queries):
    import bench
    import torch
    model, batch = program.model, len(lengths)
    kind = bench.TYPES[model["dtype"]]
    torch.manual_seed(zlib.crc32(str(lengths).encode()))
    new = lambda *shape: torch.randn(*shape, dtype=kind, device="cuda")
    k = new(batch, max(lengths), model["kv_heads"], model["head_dim_k"])
    v = new(batch, max(lengths), model["kv_heads"], model["head_dim_v"])
    q = new(batch, queries, model["q_heads"], model["head_dim_k"])
    return q, k, v


def measure(context, model, lengths, queries, flex, limit):
    import bench
    import torch
    first = context.program(model["artifacts"][0])
    q, k, v = inputs(first, lengths, queries)
    scale = first.model["softmax_scale"]
    expected = {b: bench.exact(q[b], k[b, :lengths[b]], v[b, :lengths[b]],
                               scale, lengths[b] - queries)
                for b in {0, len(lengths) - 1}}
    kind = first.stores[0]["planes"][0]["type"]
    subjects, errors = {}, {}

    def admit(name, functions, out, allowed):
        """Into the race, if its results are right."""
        wrong = max(bench.error(out[b], expected[b]) for b in expected)
        errors[name] = wrong
        if wrong <= allowed:
            subjects[name] = functions

    dtype = first.model["dtype"]
    heads = first.model["q_heads"]
    io = q.nbytes + q.shape[0] * queries * heads * \
        first.model["head_dim_v"] * q.element_size()
    nbytes = sum(lengths) * bench.bytes_per_token(first.stores[0]) + io
    copies = bench.sets_for(nbytes)
    # Schedules change no layout: all artifacts share one cache.
    store = bench.Store(first, lengths, k, v, copies)
    findings = []
    for artifact in model["artifacts"]:
        program = context.program(artifact)
        name = "kvc " + artifact["label"]
        functions, out = store.attends(program, q.flatten(0, 1),
                                       [queries] * len(lengths))
        functions[0]()
        torch.cuda.synchronize()
        admit(name, functions, out.view(len(lengths), queries, heads, -1),
              LARGEST_ERROR[kind])
        if name not in subjects:
            findings.append(f"{name}: relative error {errors[name]:.3g}")
    add_peers(admit, errors, q, k, v, copies, lengths, queries, flex,
              LARGEST_ERROR[dtype])
    times = bench.compare(subjects)
    row = summary(times, errors, nbytes, k, io, sum(lengths), limit, findings)
    return {**row, "sm_clock_mhz": bench.sm_clock()}


def add_peers(admit, errors, q, k, v, copies, lengths, queries, flex, allowed):
    import peers
    pairs = [(k, v)] + [(k.clone(), v.clone()) for _ in range(copies - 1)]
    if len(set(lengths)) > 1:
        found = peers.ragged_subjects(q, pairs, lengths, queries)
    else:
        found = peers.sdpa_subjects(q, pairs, queries)
    if flex and queries == 1:
        try:
            found["flex"] = peers.flex_subject(q, pairs)
        except ImportError as error:
            errors["flex"] = str(error)
    for name, (functions, run) in found.items():
        try:
            admit(name, functions, run(), allowed)
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {error}"[:200]


def summary(times, errors, nbytes, k, io, tokens, limit, findings):
    """`nbytes` are read and written by kvc; peers move theirs."""
    # One token of all peers: K and V as the model gives them.
    plain = 2 * tokens * k.shape[2] * k.shape[3] * k.element_size() + io
    ours, others = [], []
    for name, row in times.items():
        if "us" not in row:
            continue
        mine = name.startswith("kvc")
        row["gb_s"] = (nbytes if mine else plain) / row["us"] / 1e3
        row["of_ceiling"] = row["gb_s"] / limit["gb_s"]
        (ours if mine else others).append(name)
    by_time = lambda names: min(names, key=lambda n: times[n]["us"]) \
        if names else None
    best, peer = by_time(ours), by_time(others)
    row = {"bytes": nbytes, "times": times, "errors": errors, "best": best,
           "best_peer": peer, "findings": findings}
    if best:
        row.update(us=times[best]["us"], gb_s=times[best]["gb_s"],
                   of_ceiling=times[best]["of_ceiling"])
    if best and peer:
        row["speedup"] = times[peer]["us"] / times[best]["us"]
        row["peer_us"] = times[peer]["us"]
    return row


def other_lengths(context, model):
    """A captured attend, replayed after the lengths changed, gives the bits of
    a direct call."""
    import bench
    import torch
    program = context.program(model["artifacts"][0])
    lengths = [3000, 700, 64]
    q, k, v = inputs(program, lengths, 1)
    store = bench.Store(program, lengths, k, v, 1)
    functions, out = store.attends(program, q.flatten(0, 1),
                                   [1] * len(lengths))
    graph = bench.capture(functions, 1)
    findings = []
    for shorter in ([1, 700, 33], [2999, 1, 64], [3000, 700, 64]):
        store.kv_len.copy_(torch.tensor(shorter, dtype=torch.int32))
        functions[0]()
        direct = out.clone()
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        if not torch.equal(direct, out):
            findings.append(f"lengths {shorter}: other bits from the graph")
        wrong = max(bench.error(
            direct[b:b + 1], bench.exact(
                q[b], k[b, :n], v[b, :n], program.model["softmax_scale"]))
            for b, n in enumerate(shorter))
        if not wrong <= LARGEST_ERROR["bf16"]:
            findings.append(f"lengths {shorter}: relative error {wrong:.3g}")
    return {"findings": findings}
