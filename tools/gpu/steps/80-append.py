"""Append of new tokens, beside PyTorch's index_put into the same pages and a
plain copy of the bytes."""

NEEDS = ("gpu", "torch")

SHAPES = {"one token each": [1] * 8, "one long": [4993] + [1] * 7,
          "5000 of one": [5000], "eight of 625": [625] * 8,
          "512 tokens": [1] * 512, "64 times 1024": [1024] * 64}
MODELS = ("g32x8-p16-bf16", "g32x8-p16-int8")


def step(context):
    models = {m["name"]: m for m in context.models("bench")}
    for title, lengths in SHAPES.items():
        for name in MODELS:
            if name in models:
                context.row(f"A1 {name} {title}", lambda: measure(
                    context, models[name], lengths), 8)


def measure(context, model, lengths):
    import bench
    import torch
    program = context.program(model["artifacts"][0])
    shape, rows = program.model, sum(lengths)
    torch.manual_seed(rows)
    make = lambda: torch.randn(rows, shape["kv_heads"], shape["head_dim_k"],
                               device="cuda", dtype=bench.TYPES[shape["dtype"]])
    given = 2 * rows * shape["kv_heads"] * shape["head_dim_k"] * 2
    nbytes = given + rows * bench.bytes_per_token(program.stores[0])
    copies = bench.sets_for(nbytes)
    inputs = [(make(), make()) for _ in range(copies)]
    padded = [torch.zeros(len(lengths), max(lengths), *inputs[0][0].shape[1:],
                          device="cuda", dtype=inputs[0][0].dtype)
              for _ in "kv"]
    store = bench.Store(program, lengths, *padded, copies)
    slots = store.slots()
    subjects = {"kvc": [
        lambda k=k, v=v, planes=planes: store.append(k, v, slots, planes)
        for (k, v), planes in zip(inputs, store.planes)]}
    to = [torch.empty_like(torch.cat(pair)) for pair in inputs]
    subjects["copy of the input"] = [
        lambda k=k, v=v, out=out: (out[:rows].copy_(k), out[rows:].copy_(v))
        for (k, v), out in zip(inputs, to)]
    findings = []
    if program.stores[0]["planes"][0]["type"] == shape["dtype"]:
        subjects["index_put"] = puts(store, inputs, slots)
        findings = check(store, inputs[0], slots)
    times = bench.compare(subjects)
    for row in times.values():
        if "us" in row:
            row["gb_s"] = nbytes / row["us"] / 1e3
    row = {"bytes": nbytes, "times": times, "findings": findings,
           "best": "kvc"}
    if "us" in times["kvc"]:
        row.update(us=times["kvc"]["us"], gb_s=times["kvc"]["gb_s"])
        peer = min((n for n in times if n != "kvc" and "us" in times[n]),
                   key=lambda n: times[n]["us"], default=None)
        if peer:
            row.update(best_peer=peer, peer_us=times[peer]["us"],
                       speedup=times[peer]["us"] / times["kvc"]["us"])
    return row


def views(store, copy):
    """K and V of a paged pool as [pages][heads][tokens][dim]."""
    import torch
    info, pool = store.info, store.pools[copy][0]
    heads = info["kv_heads"][1] - info["kv_heads"][0]
    whole = pool.view(torch.bfloat16).view(store.page_count, -1)
    found = []
    for plane in info["planes"]:
        begin = plane["page_offset"] // 2
        size = heads * store.page * plane["elements"]
        found.append(whole[:, begin:begin + size].view(
            store.page_count, heads, store.page, plane["elements"]))
    return found


def puts(store, inputs, slots):
    page, inner = slots // store.page, slots % store.page

    def of(copy, k, v):
        to_k, to_v = views(store, copy)
        def put():
            to_k[page, :, inner] = k
            to_v[page, :, inner] = v
        return put
    return [of(i, k, v) for i, (k, v) in enumerate(inputs)]


def check(store, pair, slots):
    """The pages must hold exactly the rows."""
    import torch
    page, inner = slots // store.page, slots % store.page
    store.append(*pair, slots, store.planes[0])
    torch.cuda.synchronize()
    for given, plane in zip(pair, views(store, 0)):
        if not torch.equal(plane[page, :, inner], given):
            return ["append: pages do not hold the rows that were given"]
    return []
