"""Checks what `kvc bench --json` printed for specs/examples/llama4-scout.json at
8202 tokens: one store's queries see their chunk of 8192, the other's see all."""
import json
import sys

rows = json.load(open(sys.argv[1]))["rows"]
kv_heads, group, dim, queries, context, chunk = 8, 5, 128, 20, 8202, 8192


def near(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


def first_seen(store, position):
    return position // chunk * chunk if store == "chunked" else 0


for row in rows:
    store = row["spec"].split(".")[1]
    n = row["queries"]
    assert n == (1 if row["op"] == "decode" else queries)
    positions = range(context - n, context)
    if row["op"] == "decode":
        cached = context - first_seen(store, positions[0])
        moved = 2 * 2 * dim * kv_heads * (cached + group)
        assert near(row["gb_s"] * row["us"] * 1e3, moved), row
    else:
        scores = sum(p + 1 - first_seen(store, p) for p in positions)
        flops = 2 * 2 * dim * kv_heads * group * scores
        assert near(row["tflop_s"] * row["us"] * 1e6, flops), row
assert [r["op"] for r in rows] == ["decode"] * 2 + ["prefill"] * 2
