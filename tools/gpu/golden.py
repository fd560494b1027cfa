"""Small calls whose results another device must give again.

The kit's builder runs them on an emulated GPU. The bytes of the cache must be
equal on the real one; products may round otherwise there, so outputs are
compared by how many steps of their type they are apart.
"""
import json
import random
import zlib

import cases
import floats
import kvc

SEEDS = range(2)


def case_of(program, seed):
    return cases.Case(program, 0, f"golden {seed}", sequences=3, longest=150)


def compute(device, program, seed):
    """[pools..., out, lse, out of a cache] as bytes."""
    case = case_of(program, seed)
    with device.memory() as memory:
        run = cases.Placement(case, memory, f"golden {seed}", "nan")
        run.append()
        results = run.attend()
        if run.findings:
            raise RuntimeError(run.findings[0])
    return run.after + [b"".join(out for out, _ in results),
                        b"".join(lse for _, lse in results),
                        through_cache(device, program, seed)]


def through_cache(device, program, seed):
    """Outputs of steps in pages that the runtime manages: prompts, tokens one
    by one, and a sequence that takes the place of another."""
    model, rng = program.model, random.Random(f"cache {seed}")
    dtype = model["dtype"]
    width = floats.WIDTH[dtype]
    cache = kvc.Cache(program, arena_bytes=4 << 20, max_sequences=3,
                      max_batch=3, max_step_tokens=60, max_tokens_per_seq=96)
    outs = []

    def rows(count, heads, dim):
        return floats.random_rows(rng, dtype, count * model[heads] * model[dim])

    def step(wanted):
        count, opened = sum(n for _, n in wanted), cache.reserve(wanted)
        for layer in range(model["layers"]):
            with device.memory() as memory:
                k, v, q = (memory.upload(rows(count, *what)) for what in
                           (("kv_heads", "head_dim_k"),
                            ("kv_heads", "head_dim_v"),
                            ("q_heads", "head_dim_k")))
                out = memory.upload(bytes(
                    count * model["q_heads"] * model["head_dim_v"] * width))
                cache.append(opened, layer, k, v)
                cache.attend(opened, layer, q, out)
                outs.append(memory.download(out))
        cache.commit(opened)

    try:
        a, b = cache.open(), cache.open()
        step([(a, 19), (b, 33)])
        for _ in range(5):
            step([(b, 1), (a, 1)])
        cache.release(b)
        b = cache.open()
        step([(b, 40), (a, 1)])
        step([(a, 1), (b, 1)])
        cache.check()
    finally:
        cache.close()
    return b"".join(outs)


def write(path, parts):
    head = json.dumps([len(part) for part in parts]).encode() + b"\n"
    path.write_bytes(zlib.compress(head + b"".join(parts), 9))


def read(path):
    head, _, data = zlib.decompress(path.read_bytes()).partition(b"\n")
    parts = []
    for size in json.loads(head):
        parts.append(data[:size])
        data = data[size:]
    return parts


def distance(kind, a, b):
    """How two outputs of a type differ."""
    steps = [abs(x - y) for x, y in
             zip(floats.ordinal(kind, a), floats.ordinal(kind, b))]
    x, y = floats.decode(kind, a), floats.decode(kind, b)
    largest = max((abs(v) for v in x), default=0)
    worst = max((abs(p - q) if p != q else 0 for p, q in zip(x, y)), default=0)
    return {"elements": len(steps), "differ": sum(s > 0 for s in steps),
            "max_ulp": max(steps, default=0),
            "max_error": worst, "ulps_of_largest":
            worst / (2 * floats.half_ulp(kind, largest)) if largest else 0}


def compare(program, expected, found):
    """A row: `same` bits of the cache, and how outputs differ."""
    findings = []
    if expected[:-3] != found[:-3]:
        findings.append("append gave other bytes than the emulator")
    dtype = program.model["dtype"]
    out = distance(dtype, expected[-3], found[-3])
    cached = distance(dtype, expected[-1], found[-1])
    # Two of the type's steps at the largest output; f32: rounding of sums.
    room = 256 if dtype == "f32" else 2
    for what, far in (("outputs", out), ("a cache's outputs", cached)):
        if not far["ulps_of_largest"] <= room:
            findings.append(f"{what} are {far['ulps_of_largest']:.3g} units in "
                            "the last place of the largest apart")
    # Padding rows give -inf on both.
    a, b = (floats.decode("f32", x[-2]) for x in (expected, found))
    worst = max((abs(x - y) if x != y else 0 for x, y in zip(a, b)), default=0)
    room = 1e-4 if dtype == "f32" else 0.1
    if not worst <= room:
        findings.append(f"lse is {worst:.3g} apart")
    return {"out": out, "cache": cached, "lse_max_error": worst,
            "findings": findings}
