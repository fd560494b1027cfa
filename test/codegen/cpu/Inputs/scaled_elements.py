"""Reads MLIR of the cpu level; fails if a decoded code is an operand of a plain
multiplication (a scale's), rather than of an fma with a query or probability.
Gather kernels have nothing else to multiply with."""
import re
import sys

decoded = set()  # names of the region at hand: siblings reuse them
total = bad = 0
gathers = False
for line in sys.stdin:
    if "func.func" in line:
        gathers = "_gather_" in line
        decoded.clear()
    if gathers:
        continue
    match = re.match(r"\s*(%\w+)(?::\d+)? = (\S+) (.*)", line)
    if not match:
        continue
    name, op, rest = match.groups()
    if op == "arith.mulf" and decoded & set(re.findall(r"%\w+", rest)):
        print("scaled per element:", line.strip())
        bad += 1
    decoded.discard(name)
    if op == "arith.sitofp":
        decoded.add(name)
        total += 1
print(f"{total} decoded vectors, {bad} scaled per element")
sys.exit(bad > 0 or total == 0)
