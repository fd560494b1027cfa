"""special-tensors.py OUT KIND: tensors of two layers of test/numerics/smollm2_paged.json
over 40 tokens, with values that say little: all NaN, all infinite, all zero, all equal, or
numbers with a NaN in V's token 30 of layer 0."""

import json
import struct
import sys

to, kind = sys.argv[1:]
TOKENS, DIM = 40, 64
fill = {"nan": float("nan"), "infinite": float("inf"), "zero": 0.0, "equal": 0.5, "partial": None}[kind]


def values(name, heads):
    if fill is not None:
        return [fill] * (TOKENS * heads * DIM)
    # Any numbers that differ.
    numbers = [((i * 7919 + len(name)) % 256 - 128) / 64 for i in range(TOKENS * heads * DIM)]
    if name == "layers.0.v":
        numbers[30 * heads * DIM:30 * heads * DIM + heads * DIM] = [float("nan")] * (heads * DIM)
    return numbers


header, data = {}, b""
for layer in (0, 1):
    for stream, heads in (("q", 9), ("k", 3), ("v", 3)):
        name = f"layers.{layer}.{stream}"
        numbers = values(name, heads)
        begin = len(data)
        data += struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": [TOKENS, heads, DIM],
                        "data_offsets": [begin, len(data)]}
text = json.dumps(header).encode()
with open(to, "wb") as out:
    out.write(struct.pack("<Q", len(text)) + text + data)
