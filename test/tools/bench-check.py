"""Checks what `kvc bench --json` printed for specs/examples/window_layers.json:
the bytes that a rate counts are the visible ones, and fractions are medians of
the ratios of windows that stand side by side."""
import json
import statistics
import sys

out = json.load(open(sys.argv[1]))
rows = out["rows"]
assert out["ceiling_gb_s"] > 0 and out["ceilings"][0]["threads"] == 1
assert [r["op"] for r in rows] == (["decode"] * 2 + ["prefill"] * 2 +
                                   ["append"] * 2 + ["compile", "runtime"])


def near(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


spec = json.load(open(sys.argv[2]))
heads = spec["model"]["kv_heads"]
group = spec["model"]["q_heads"] // heads
dim, batch, context, queries = spec["model"]["head_dim"], 2, 2000, 20
cached = 2 * 2 * dim * heads  # K and V as bf16, one token
rows_of_q = 2 * 2 * dim * heads * group  # q and o


def visible(store, position):
    read = store["reads"]
    if read == "all" or read["kind"] == "all":
        return position + 1
    return min(position + 1, read.get("sink", 0) + read["recent"])


for store, decode, prefill, append in zip(spec["stores"], rows[0:2], rows[2:4],
                                          rows[4:6]):
    for row in (decode, prefill, append):
        assert row["spec"] == spec["name"] + "." + store["name"]
        assert row["context"] == context and row["threads"] == 1
        assert row["page_size"] == store["layout"]["page"]
    bytes_read = batch * (visible(store, context - 1) * cached + rows_of_q)
    assert near(decode["gb_s"] * decode["us"] * 1e3, bytes_read)
    flops = 4 * dim * heads * group * batch * sum(
        visible(store, context - queries + i) for i in range(queries))
    assert near(prefill["tflop_s"] * prefill["us"] * 1e6, flops)
    assert near(append["gb_s"] * append["us"] * 1e3,
                2 * batch * queries * cached)
    for row, rate, ceiling in ((decode, "gb_s", "ceiling_gb_s"),
                               (append, "gb_s", "ceiling_gb_s"),
                               (prefill, "tflop_s", "peak_tflop_s")):
        windows = row["windows"]
        assert len(windows) == row["samples"] >= 1
        # Kernel and ceiling of the windows that count.
        pairs = [(w["quiet_" + rate], w["quiet_" + ceiling]) for w in windows]
        pairs = [(k, c) for k, c in pairs if k is not None and c is not None]
        if len(pairs) < 5:
            pairs = [(w[rate], w[ceiling]) for w in windows]
        assert len(pairs) == row["windows_used"]
        ratios = [k / c for k, c in pairs]
        fraction = row["fraction"]
        name = "fraction_of_peak" if row is prefill else "fraction_of_ceiling"
        assert row[name] == fraction["median"]
        assert near(fraction["median"], statistics.median(ratios))
        assert near(fraction["min"], min(ratios))
        assert near(fraction["max"], max(ratios))
        assert fraction["low"] <= fraction["median"] <= fraction["high"]
        assert near(row[rate], statistics.median(k for k, c in pairs))
        assert near(row[ceiling], statistics.median(c for k, c in pairs))
        assert row["above_ceiling"] == (fraction["median"] > 1)
        spread = (fraction["high"] - fraction["low"]) / fraction["median"]
        assert row["windows_disagree"] == (spread > 0.1), (spread, row)
    # A window is at least 16 MiB, and calls of less are repeated in it.
    assert append["samples"] == 8 and decode["samples"] >= 4

compiled, runtime = rows[6:]
assert compiled["cold_ms"]["median"] > 0 < compiled["cached_ms"]["median"]
assert runtime["us_per_sequence"]["median"] > 0 and runtime["sequences"] == 2
