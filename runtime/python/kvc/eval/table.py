"""The figures as an aligned table."""

HEADERS = ("spec", "mode", "B/token", "KL", "KL p99", "top-1", "perplexity",
           "recall", "tokens/s")


def table(result):
    """Lines of text: the full cache, then each spec in each mode."""
    rows = [HEADERS, *rows_of(result)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [title(result)]
    for row in rows:
        # Names to the left, numbers to the right.
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    for each in result["specs"]:
        if each["dtype"] != "f32":
            lines.append(f"{each['name']}: written for {each['dtype']}, judged "
                         "with K, V and Q of f32 and the codecs that it has")
    return "\n".join(lines)


def title(result):
    """One line: the model, the text, the machine's threads."""
    model, asked = result["model"], result["parameters"]
    threads = "1 thread" if asked["threads"] == 1 else \
        f"{asked['threads']} threads"
    return (f"{model['name']}: {asked['tokens']} tokens of "
            f"{result['text']['file']}, {threads}, memory read at "
            f"{result['machine']['read_bytes_per_second'] / 1e9:.1f} GB/s")


def rows_of(result):
    """Each row of the table, as text."""
    own = result["reference"]
    rows = [("(full cache, f32)", "prefill", f"{own['bytes_per_token']:,.0f}",
             "", "", "", _number(own["perplexity"]),
             _number(own.get("recall")),
             _number(own["prefill_tokens_per_second"], 1))]
    for each in result["specs"]:
        for mode in ("prefill", "decode"):
            found = each.get(mode)
            if found is None:
                continue
            if "error" in found:
                rows.append((each["name"], mode, found["error"],
                             *("",) * (len(HEADERS) - 3)))
                continue
            rows.append((
                each["name"], mode,
                f"{each['bytes_per_token']:,.0f}"
                if "bytes_per_token" in each else "",
                f"{found['kl_mean']:.1e}", f"{found['kl_p99']:.1e}",
                f"{100 * found['top1']:.2f} %", _number(found["perplexity"]),
                _number(each.get("recall")),
                _number(found["tokens_per_second"], 1)))
    return rows


def _number(value, digits=3):
    if value is None:
        return ""
    return f"{value:,.{digits}f}" if value < 1e6 else f"{value:.1e}"
