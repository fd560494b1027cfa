"""Writes a sparse file of tensors for a model of 9 q heads, 3 kv heads of 64.

large-tensors.py FILE TOKENS

Its layer 0 has so many tokens of zeros but for the first 64, so it may be far
larger than memory.
"""

import json
import random
import struct
import sys

path, tokens = sys.argv[1], int(sys.argv[2])
header, at = {}, 0
for name, heads in ("q", 9), ("k", 3), ("v", 3):
    end = at + 2 * tokens * heads * 64
    header[f"layers.0.{name}"] = {
        "dtype": "F16", "shape": [tokens, heads, 64], "data_offsets": [at, end]}
    at = end
text = json.dumps(header).encode()
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    data = file.tell()
    draw = random.Random(1)
    for entry in header.values():
        file.seek(data + entry["data_offsets"][0])
        count = 64 * entry["shape"][1] * 64
        file.write(struct.pack(f"<{count}e", *(draw.gauss(0, 1) for _ in range(count))))
    file.truncate(data + at)
