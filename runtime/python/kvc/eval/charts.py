"""The charts of a report, from the figures alone: a spec is in all of them by
being in the result. Needs altair."""

import altair as alt

#: Of the kept share: rounding to pages is no policy.
_KEPT_ALL = 0.99
#: What a logarithm can show; an f32 cache is below.
_LEAST_KL = 1e-12
_WIDTH, _HEIGHT = 600, 330


def charts_of(result):
    """[(id, title, caption, alt.Chart)] of what the result has."""
    judged = [each for each in result["specs"] if "error" not in each]
    if not judged:
        return []
    makers = (_codecs, _memory, _roofline, _kept)
    return [made for maker in makers
            if (made := maker(result, judged)) is not None]


def _color(judged):
    """A spec's colour, the same in all charts, and a legend: names beside dots
    would hide each other where dots are near."""
    names = [each["name"] for each in judged]
    return alt.Color("spec:N", sort=names, title="spec",
                     scale=alt.Scale(domain=names, scheme="tableau10" if
                                     len(names) <= 10 else "tableau20"),
                     legend=alt.Legend(symbolType="circle", symbolOpacity=1,
                                       labelLimit=150))


def _data(rows):
    return alt.Data(values=rows)


def _around(values, factor=1.3):
    """The domain of a logarithmic axis with room on both sides."""
    return [min(values) / factor, max(values) * factor]


# --- what a codec costs -------------------------------------------------------

def _codecs(result, judged):
    rows = []
    for each in judged:
        mode = "decode" if "decode" in each else "prefill"
        found = each[mode]
        rows.append({
            "spec": each["name"], "mode": mode,
            "bytes": each["bytes_per_token"], "kl": found["kl_mean"],
            "shown": max(found["kl_mean"], _LEAST_KL),
            "p99": found["kl_p99"], "top1": found["top1"],
            "speed": found["tokens_per_second"]})
    most = max(row["bytes"] for row in rows)
    fastest = max(row["speed"] for row in rows)
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("bytes:Q", title="bytes per token",
                scale=alt.Scale(domain=[0, most * 1.2], nice=False),
                axis=alt.Axis(format=",.0f", tickCount=6)),
        y=alt.Y("shown:Q", title="mean KL to the full cache (nats)",
                scale=alt.Scale(type="log", nice=False, domain=_around(
                    [row["shown"] for row in rows], 3)),
                axis=alt.Axis(format=".0e", tickCount=8)))
    dots = base.mark_circle(opacity=0.85).encode(
        color=_color(judged),
        size=alt.Size("speed:Q", title="tokens/s",
                      scale=alt.Scale(domain=[0, fastest], range=[0, 340]),
                      legend=alt.Legend(format=".3~g", values=_round_marks(
                          fastest), symbolFillColor="#888",
                          symbolStrokeWidth=0)),
        tooltip=["spec:N", "mode:N",
                 alt.Tooltip("bytes:Q", format=",.0f", title="bytes per token"),
                 alt.Tooltip("kl:Q", format=".2e", title="mean KL"),
                 alt.Tooltip("p99:Q", format=".2e", title="99th percentile"),
                 alt.Tooltip("top1:Q", format=".2%", title="top-1"),
                 alt.Tooltip("speed:Q", format=".1f", title="tokens/s")])
    modes = sorted({row["mode"] for row in rows})
    return ("codecs", "What a spec costs and saves",
            "Lower is nearer to the model's own output, left is smaller, and "
            f"larger is faster ({' and '.join(modes)}).",
            dots.properties(width=_WIDTH, height=_HEIGHT))


def _round_marks(most):
    """Two or three round numbers up to the largest."""
    step = 10.0 ** len(str(int(most))) / 10
    for part in (step * 5, step * 2, step, step / 2, step / 5):
        if most / part >= 2:
            break
    return [part * i for i in range(1, int(most / part) + 1)][-3:]


# --- where the bytes are ------------------------------------------------------

def _memory(result, judged):
    rows = [{"spec": each["name"], "layer": layer["layer"], "plane": plane,
             "bytes": size}
            for each in judged for layer in each["layers"]
            for plane, size in layer["planes"].items()]
    planes = list(dict.fromkeys(row["plane"] for row in rows))
    layers = max(row["layer"] for row in rows) + 1
    every = next((step for step in (1, 2, 5, 10, 20) if layers / step <= 8),
                 50)
    chart = alt.Chart(_data(rows)).mark_bar().encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(
            values=list(range(0, layers, every)), labelAngle=0)),
        y=alt.Y("bytes:Q", title="B/token",
                axis=alt.Axis(tickCount=3, format=",.0f")),
        color=alt.Color("plane:N", sort=planes, title="plane",
                        scale=alt.Scale(domain=planes, scheme="tableau20"),
                        legend=alt.Legend(orient="top")),
        order=alt.Order("place:Q"),
        tooltip=["spec:N", "layer:O", "plane:N",
                 alt.Tooltip("bytes:Q", format=",.1f",
                             title="bytes per token")],
    ).transform_calculate(
        place=f"indexof({planes!r}, datum.plane)"
    ).properties(width=_WIDTH - 40, height=64).facet(row=alt.Row(
        "spec:N", sort=[each["name"] for each in judged], title=None,
        header=alt.Header(labelAngle=0, labelAlign="left", labelLimit=130,
                          labelFontSize=11)), spacing=14)
    return ("memory", "Where the bytes are",
            "Pages of each layer that the pool had in use at the end, for each "
            "token that was read. What has left a window is given back.",
            chart)


# --- reading against time -----------------------------------------------------

def _roofline(result, judged):
    rows = [{"spec": each["name"], "context": step["context"],
             "megabytes": step["bytes_read"] / 1e6,
             "milliseconds": step["attention_seconds"] * 1e3}
            for each in judged for step in each.get("decode", {}).get(
                "steps", ()) if step["bytes_read"]]
    if not rows:
        return None
    bandwidth = result["machine"]["read_bytes_per_second"]
    for row in rows:
        row["rate"] = row["megabytes"] / row["milliseconds"]
    sizes = _around([row["megabytes"] for row in rows])
    roof = [{"megabytes": size, "milliseconds": size * 1e9 / bandwidth}
            for size in sizes]
    times = _around([row["milliseconds"] for row in rows + roof])
    x = alt.X("megabytes:Q", title="MB read per token",
              scale=alt.Scale(type="log", nice=False, domain=sizes),
              axis=alt.Axis(format=".3~g", tickCount=8))
    y = alt.Y("milliseconds:Q", title="ms of attention per token",
              scale=alt.Scale(type="log", nice=False, domain=times),
              axis=alt.Axis(format=".3~g", tickCount=8))
    base = alt.Chart(_data(rows)).encode(x=x, y=y, color=_color(judged))
    dots = base.mark_circle(size=55, opacity=0.85).encode(tooltip=[
        "spec:N", alt.Tooltip("context:Q", title="tokens before the step"),
        alt.Tooltip("megabytes:Q", format=",.2f", title="MB read"),
        alt.Tooltip("milliseconds:Q", format=",.3f", title="ms"),
        alt.Tooltip("rate:Q", format=",.1f", title="GB/s")])
    paths = base.mark_line(strokeWidth=1, opacity=0.35).encode(
        order="context:Q")
    line = alt.Chart(_data(roof)).mark_line(
        color="#444", strokeDash=[6, 4]).encode(x=x, y=y)
    name = alt.Chart(_data(roof[1:])).mark_text(
        color="#444", align="right", dx=-22, dy=-8, fontSize=11,
        text=f"memory read at {bandwidth / 1e9:.1f} GB/s").encode(x=x, y=y)
    return ("roofline", "Reading the cache against time",
            "Append and attend of all layers, median of a chunk's steps. On "
            "the dashed line a step takes as long as reading its bytes once; "
            "below it, they were in a cache of the processor.",
            (paths + dots + line + name).properties(
                width=_WIDTH, height=_HEIGHT))


# --- what is forgotten --------------------------------------------------------

def _kept(result, judged):
    """For specs that forget tokens; none does, no chart."""
    rows = [{"spec": each["name"], "kept": each["recall_kept"],
             "recall": each["recall"], "bytes": each["bytes_per_token"]}
            for each in judged if each.get("recall") is not None]
    full = result["reference"].get("recall")
    if full is None or all(row["kept"] >= _KEPT_ALL for row in rows):
        return None
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("kept:Q", title="share of the context's bytes that is kept",
                scale=alt.Scale(domain=[0, 1.02], nice=False),
                axis=alt.Axis(format=".0%", values=[i / 5 for i in range(6)])),
        y=alt.Y("recall:Q", title="perplexity of what was read before",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format=".3~g", tickCount=8)))
    dots = base.mark_circle(size=150, opacity=0.85).encode(
        color=_color(judged),
        tooltip=["spec:N", alt.Tooltip("kept:Q", format=".1%", title="kept"),
                 alt.Tooltip("recall:Q", format=".3f"),
                 alt.Tooltip("bytes:Q", format=",.0f",
                             title="bytes per token")])
    rule = alt.Chart(_data([{"recall": full}])).mark_rule(
        color="#444", strokeDash=[6, 4]).encode(y="recall:Q")
    name = alt.Chart(_data([{"recall": full, "kept": 0}])).mark_text(
        color="#444", align="left", dx=6, dy=-9, fontSize=11,
        text=f"the full cache: {full:.3f}").encode(x="kept:Q", y="recall:Q")
    return ("kept", "What a policy forgets",
            f"A context of {result['parameters']['recall']} tokens ends by "
            "repeating its beginning: the perplexity of the repetition tells "
            "whether it is still known.",
            (rule + name + dots).properties(
                width=_WIDTH, height=_HEIGHT))
