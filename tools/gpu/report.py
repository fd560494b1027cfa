"""The results of a run as Markdown."""
import json


def rows_of(out, name):
    path = out / f"{name}.json"
    if not path.exists():
        return None, False
    result = json.loads(path.read_text())
    return result["rows"], result.get("done", False)


def problems(rows):
    """(key, text) of everything that is wrong."""
    for key, row in rows.items():
        if "error" in row:
            yield key, row["error"]
        for finding in row.get("findings", []):
            yield key, finding


def report(out, names):
    """The text, and whether something is wrong."""
    lines, bad = ["# kvc on this GPU", ""], 0
    lines += environment(out)
    lines += ["| step | rows | problems | note |", "|---|--:|--:|---|"]
    details = []
    for name in names:
        rows, done = rows_of(out, name)
        if rows is None:
            lines.append(f"| {name} | - | - | not run |")
            continue
        found = list(problems(rows))
        bad += len(found)
        notes = sorted({row["note"] for row in rows.values() if "note" in row})
        lines.append(f"| {name} | {len(rows)} | {len(found)} | "
                     f"{'; '.join(notes) or ''} |" if done else
                     f"| {name} | {len(rows)} | {len(found)} | not finished |")
        details += [f"- {name}, {key}: {text}" for key, text in found]
    lines += ["", *ceilings(out), *numbers(out)]
    for name in ("60-decode", "70-prefill", "80-append"):
        lines += table(out, name)
    if details:
        lines += ["## Problems", "", *details[:60]]
        if len(details) > 60:
            lines.append(f"- and {len(details) - 60} more")
    return "\n".join(lines) + "\n", bad > 0


def environment(out):
    rows, _ = rows_of(out, "10-environment")
    if not rows:
        return []
    packages, gpus = rows.get("packages", {}), rows.get("gpu", {})
    kit = rows.get("kit", {})
    names = [g.get("name", "?") + ", driver " + g.get("driver_version", "?")
             for g in gpus.get("gpus", [])]
    return [f"{'; '.join(names) or 'no GPU'}; torch "
            f"{packages.get('torch', 'not here')}, cuDNN "
            f"{packages.get('cudnn', 'not here')}; kvc {kit.get('version')} "
            f"({kit.get('commit')})", ""]


def ceilings(out):
    rows, _ = rows_of(out, "50-ceiling")
    lines = []
    for key, row in (rows or {}).items():
        for unit in ("gb_s", "gb_s_read_and_written", "tflop_s"):
            if unit in row:
                lines.append(f"- {key}: {row[unit]:.0f} {unit} "
                             f"{row.get('reader', '')}".rstrip())
    return ["## Ceilings", "", *lines, ""] if lines else []


def numbers(out):
    lines = []
    rows, _ = rows_of(out, "20-golden")
    vectors = [row for row in (rows or {}).values() if "out" in row]
    if vectors:
        same = sum(row["out"]["differ"] == 0 for row in vectors)
        lines.append(
            f"- golden vectors: {len(vectors)}, outputs of {same} have the "
            f"emulator's bits; at most "
            f"{max(row['out']['ulps_of_largest'] for row in vectors):.3g} ulp "
            "of the largest output apart")
    rows, _ = rows_of(out, "30-correctness")
    ratios = [row["ratio"] for row in (rows or {}).values() if "ratio" in row]
    if ratios:
        lines.append(f"- random batches: {len(ratios)}, worst error "
                     f"{max(ratios):.3f} of what is allowed")
    return ["## Numbers", "", *lines, ""] if lines else []


def table(out, name):
    rows, _ = rows_of(out, name)
    rows = {key: row for key, row in (rows or {}).items() if "us" in row
            and "times" in row}
    if not rows:
        return []
    lines = [f"## {name}", "",
             "| shape | kvc us | | of ceiling | best peer | peer us | peer/kvc "
             "| best schedule |", "|---|--:|--:|--:|---|--:|--:|---|"]
    for key, row in rows.items():
        speed = f"{row['gb_s']:.0f} GB/s" if "gb_s" in row else \
            f"{row['tflop_s']:.0f} TFLOP/s"
        share = f"{100 * row['of_ceiling']:.0f} %" if "of_ceiling" in row \
            else ""
        peer = (f"{row['best_peer']} | {row['peer_us']:.1f} | "
                f"{row['speedup']:.2f}" if "speedup" in row else "none | | ")
        lines.append(f"| {key} | {row['us']:.1f} | {speed} | {share} | {peer} "
                     f"| {row['best']} |")
    return lines + [""]
