"""per_token.py BOUND < inspect.json: do decode kernels stay within a budget?

BOUND is the most instructions of PTX that a warp may issue per cached token in
the main loop, copies apart. Prints each kernel; exits 1 if one takes more."""
import json
import sys

bound = float(sys.argv[1])
loops = [
    (kernel["target"], kernel["ptx_main_loop"])
    for kernel in json.load(sys.stdin)["gpu_kernels"]
    if kernel["name"].endswith(".attend.decode")
]
for target, loop in loops:
    assert loop["mma"] > 0, f"{target}: the main loop multiplies nothing"
    print(f"{target}: {loop['per_token']:.2f} per token, {bound} at most")
sys.exit(not loops or max(loop["per_token"] for _, loop in loops) > bound)
