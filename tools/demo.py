"""Prints the table of tools/demo from what `kvc ... --json` wrote."""
import json
import pathlib
import sys


def read(name):
    return json.loads((pathlib.Path(sys.argv[1]) / f"{name}.json").read_text())


explain, verify, bench = read("explain"), read("verify"), read("bench")
cpu, gpu = read("native"), read("sim:sm_90")
compiled = next(row for row in bench["rows"] if row["op"] == "compile")
lines = [
    ("error ratio N1",
     f"{verify['worst_error_ratio']:.3f}",
     f"worst of {verify['rows']} rows in {verify['cases']} layers, "
     f"{verify['failures']} failures"),
    ("cache", f"{explain['bytes_per_token']} B", "per token, all layers"),
]
for row in bench["rows"]:
    if row["op"] == "decode":
        plural = "s" if row["threads"] > 1 else ""
        lines.append((f"decode, {row['threads']} thread{plural}",
                      f"{100 * row['fraction_of_ceiling']:.0f} %",
                      f"of the read ceiling: {row['gb_s']:.1f} of "
                      f"{row['ceiling_gb_s']:.1f} GB/s"))
lines += [
    ("compile, cold", f"{compiled['cold_ms']['median']:.1f} ms",
     "spec to loaded kernels"),
    ("compile, cached", f"{compiled['cached_ms']['median']:.1f} ms",
     "the same from the disk cache"),
]
for what, figure, meaning in lines:
    print(f"{what:<18} {figure:>10}  {meaning}")

print(f"\n{'the same tensors':<18} {'CPU':>10} {'sm_90, emulated':>18}")
for what, key in (("rows", "rows"), ("failures", "failures"),
                  ("error ratio N1", "worst_error_ratio")):
    left, right = (f"{side[key]:.3f}" if isinstance(side[key], float)
                   else str(side[key]) for side in (cpu, gpu))
    print(f"{what:<18} {left:>10} {right:>18}")
sys.exit(any(side["failures"] for side in (verify, cpu, gpu)))
