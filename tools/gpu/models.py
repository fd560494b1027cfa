"""What is in a kit: models, their specs, and the schedules tried on each."""
import random


def spec(name, heads, dim, dtype="bf16", page=16, codec=None, k=None, v=None,
         window=None, softcap=0, order=None, scale=None, layers=1):
    """A spec of one store; `heads` is (q, kv), `page` 0: contiguous."""
    model = {"layers": layers, "q_heads": heads[0], "kv_heads": heads[1],
             "head_dim": dim, "dtype": dtype}
    if softcap:
        model["logit_softcap"] = softcap
    if scale:
        model["softmax_scale"] = scale
    layout = {"kind": "paged", "page": page} if page else {"kind": "contiguous"}
    if order:
        layout["order"] = order
    text = {"kvc": "0.1", "name": name, "model": model, "layout": layout,
            "streams": {"k": {"codec": k or codec or dtype},
                        "v": {"codec": v or codec or dtype}}}
    if window:
        text["reads"] = {"kind": "window", "sink": window[0],
                         "recent": window[1]}
    return text


# Benchmark models, most valuable first.
BENCH = [
    spec("g32x8-p16-bf16", (32, 8), 128),
    spec("g64x8-p64-bf16", (64, 8), 128, page=64),
    spec("g32x8-p16-int8", (32, 8), 128, codec="int8"),
    spec("g64x8-p32-bf16", (64, 8), 128, page=32),
    spec("g32x4-p16-bf16", (32, 4), 128),
    spec("g32x4-p16-int8", (32, 4), 128, codec="int8"),
    spec("g64x8-p64-int8", (64, 8), 128, page=64, codec="int8"),
    spec("m32x32-p16-bf16", (32, 32), 128),
    spec("q16x1-c-bf16", (16, 1), 128, page=0),
    spec("prefill-d128-bf16", (16, 16), 128, page=64),
    spec("prefill-d64-bf16", (32, 32), 64, page=64),
    spec("prefill-d256-bf16", (8, 8), 256, page=64),
]

# Small models whose every row can be checked.
SMALL = [
    spec("small-bf16", (8, 2), 128),
    spec("small-f16", (4, 4), 64, "f16", page=8),
    spec("small-int8", (8, 2), 64, page=64, codec="int8"),
    spec("small-window", (4, 2), 64, page=32, window=(4, 20), softcap=50),
    spec("small-contiguous", (6, 2), 80, "f16", page=0),
    spec("small-k8v16", (4, 1), 128, k={"kind": "int8", "scale": "f16"}),
    spec("small-f32", (4, 2), {"k": 40, "v": 24}, "f32", page=8),
    spec("small-wide", (16, 1), 256, page=32, order="NHD"),
]

# Overrides of the default schedule. What does not fit a model's shared memory
# is refused by the compiler, and left out of the kit with that message. Few:
# a row of a table times them all.
DECODE = [
    {},
    {"decode.split": 512},
    {"decode.split": 2048},
    {"decode.bulk": 1},
    {"decode.tokens": 32, "decode.warps": 4, "decode.stages": 2},
    {"decode.tokens": 16, "decode.warps": 4, "decode.stages": 3},
]
# Small batches cross splits, of 64 tokens where a step is no longer.
SMALL_SCHEDULES = [{}, {"decode.split": 64, "decode.warps": 2},
                   {"decode.bulk": 1, "prefill.bulk": 1, "prefill.warps": 4,
                    "prefill.rows": 64}]

PREFILL = [
    {},
    {"prefill.tokens": 64, "prefill.stages": 2},
    {"prefill.tokens": 32, "prefill.stages": 3},
    {"prefill.queryShared": 1},
    {"prefill.rows": 64, "prefill.warps": 4, "prefill.tokens": 64,
     "prefill.stages": 2},
    {"prefill.rows": 64, "prefill.warps": 4, "prefill.tokens": 32,
     "prefill.stages": 3},
    # As decode does it.
    {"prefill.warpsSplitQ": 0, "prefill.rows": 16, "prefill.tokens": 16,
     "prefill.warps": 4, "prefill.stages": 2},
]


def schedules(name):
    if name == "small-int8":  # whose steps are of 128
        return [{**schedule, "decode.split": 128} if "decode.split" in schedule
                else schedule for schedule in SMALL_SCHEDULES]
    if name == "small-f32":  # whose multiply-adds take 8 rows at most
        return SMALL_SCHEDULES[:2] + [{"decode.bulk": 1, "prefill.bulk": 1}]
    if name.startswith(("small", "random")):
        return SMALL_SCHEDULES
    return PREFILL if name.startswith("prefill") else DECODE


def label(schedule):
    """"default", or "tokens=16 warps=4"."""
    return " ".join(f"{key.split('.')[1]}={value}"
                    for key, value in schedule.items()) or "default"


def drawn(seed, index):
    """A random small model."""
    rng = random.Random(f"model {seed} {index}")
    dtype = rng.choice(["bf16", "bf16", "f16", "f16", "f32"])
    codecs = [dtype, dtype, "int8", {"kind": "int8", "scale": "f16"}]
    group = rng.choice([1, 2, 3, 4, 5, 7, 8, 12, 16])
    kv = rng.choice([1, 2, 3])
    dim = rng.choice([32, 64, 64, 80, 96, 128, 128, 192, 256,
                      8 * rng.randint(4, 24)])
    if rng.random() < 0.25:
        dim = {"k": dim, "v": 8 * rng.randint(4, 16)}
    window = None
    if rng.random() < 0.35:
        window = (rng.choice([0, 1, 4, 16]), rng.choice([1, 7, 40, 64, 200]))
    return spec(f"random-{seed}-{index}", (group * kv, kv), dim, dtype,
                page=rng.choice([0, 1, 8, 16, 16, 32, 64, 128,
                                 rng.randint(1, 40)]),
                k=rng.choice(codecs), v=rng.choice(codecs), window=window,
                softcap=rng.choice([0, 0, 0, 20]),
                order=rng.choice(["HND", "NHD"]))
