"""Prefill of whole sequences, causal: 16384 tokens in all, 2048 = heads times
dim, beside PyTorch."""

NEEDS = ("gpu", "torch")

SHAPES = [("prefill-d128-bf16", n) for n in (4096, 512, 16384)] + [
    ("prefill-d64-bf16", 4096), ("prefill-d256-bf16", 4096),
    ("prefill-d128-bf16", 1024), ("prefill-d64-bf16", 16384),
    ("prefill-d64-bf16", 512), ("prefill-d256-bf16", 16384),
    ("prefill-d256-bf16", 512)]
TOKENS = 16384
LARGEST_ERROR = 0.02


def step(context):
    models = {m["name"]: m for m in context.models("bench")}
    for name, length in SHAPES:
        if name in models:
            context.row(f"P1 {name} L={length}",
                        lambda: measure(context, models[name], length), 20)


def measure(context, model, length):
    import bench
    import peers
    import torch
    first = context.program(model["artifacts"][0])
    shape, batch = first.model, TOKENS // length
    heads, dim = shape["q_heads"], shape["head_dim_k"]
    torch.manual_seed(length)
    q, k, v = (torch.randn(batch, length, n, dim, device="cuda",
                           dtype=bench.TYPES[shape["dtype"]])
               for n in (heads, shape["kv_heads"], shape["kv_heads"]))
    # All heads of one sequence, queries up to a bound: more takes too long.
    rows = slice(max(0, length - 512), length)
    expected = bench.exact(q[0, rows], k[0], v[0], shape["softmax_scale"],
                           rows.start)
    store = bench.Store(first, [length] * batch, k, v, 1)
    subjects, errors, findings = {}, {}, []
    for artifact in model["artifacts"]:
        program = context.program(artifact)
        functions, out = store.attends(program, q.flatten(0, 1),
                                       [length] * batch)
        functions[0]()
        torch.cuda.synchronize()
        name = "kvc " + artifact["label"]
        errors[name] = bench.error(out.view(q.shape)[0, rows], expected)
        if errors[name] <= LARGEST_ERROR:
            subjects[name] = functions
        else:
            findings.append(f"{name}: relative error {errors[name]:.3g}")
    for name, (functions, run) in peers.sdpa_subjects(q, [(k, v)],
                                                      length).items():
        try:
            errors[name] = bench.error(run()[0, rows], expected)
            if errors[name] <= LARGEST_ERROR:
                subjects[name] = functions
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {error}"[:200]
    times = bench.compare(subjects)
    flop = 4 * batch * heads * dim * length * (length + 1) / 2
    return {**summary(times, errors, flop, findings),
            "sm_clock_mhz": bench.sm_clock()}


def summary(times, errors, flop, findings):
    timed = {name: row for name, row in times.items() if "us" in row}
    for row in timed.values():
        row["tflop_s"] = flop / row["us"] / 1e6
    row = {"flop": flop, "times": times, "errors": errors,
           "findings": findings}
    best = {mine: min((n for n in timed if n.startswith("kvc") == mine),
                      key=lambda n: timed[n]["us"], default=None)
            for mine in (True, False)}
    row.update(best=best[True], best_peer=best[False])
    if best[True]:
        row.update(us=timed[best[True]]["us"],
                   tflop_s=timed[best[True]]["tflop_s"])
    if best[True] and best[False]:
        row.update(speedup=timed[best[False]]["us"] / row["us"],
                   peer_us=timed[best[False]]["us"])
    return row
