"""inspected.py FILE: does what `kvc inspect --json` says of GPU kernels add up?"""
import json
import sys

with open(sys.argv[1]) as file:
    kernels = json.load(file)["gpu_kernels"]
rows = {(kernel["name"], kernel["device"]): kernel for kernel in kernels}
assert len(rows) == 12, sorted(rows)

KINDS = "mma smem gmem shfl ex2 cvt fp int control".split()
for part in ("decode", "prefill"):
    kernel = rows["main.attend." + part, "cuda"]
    loop = kernel["ptx_main_loop"]
    assert loop["instructions"] == sum(loop[kind] for kind in KINDS), loop
    assert loop["per_token"] == loop["instructions"] / kernel["tokens"], loop
    assert min(loop[kind] for kind in ("mma", "smem", "gmem", "ex2")) > 0, loop
    if "registers" in kernel:
        held = kernel["ctas_per_sm"] * kernel["threads"] * kernel["registers"]
        assert 0 < held <= 65536, kernel
        assert kernel["spill_store_bytes"] == kernel["stack_bytes"] == 0, kernel
    assert "ptx_main_loop" not in rows["main.attend." + part, "sim"]
