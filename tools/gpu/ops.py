"""One kernel per instruction: what a GPU gives against what the emulator gave
when the kit was built."""
import base64
import json
import math
import struct

SHOWN = 4  # differing words in a row's findings


def read(folder):
    return json.loads((folder / "ops.json").read_text())["kernels"]


def expected(kernel):
    return base64.b64decode(kernel["out"])


def run(module, device, kernel):
    """The words that a kernel of a loaded module writes, as bytes."""
    given = base64.b64decode(kernel["in"])
    with device.memory() as memory:
        source = memory.upload(given, writable=False)
        result = memory.upload(bytes(len(expected(kernel))))
        module.launch(kernel["symbol"], kernel["grid"], kernel["threads"],
                      kernel["shared"],
                      struct.pack("<QQ", source.address, result.address))
        return memory.download(result)


def steps(a, b):
    """How many f32 apart two bit patterns are; NaN is NaN."""
    x, y = (struct.unpack("<f", struct.pack("<I", word))[0] for word in (a, b))
    if math.isnan(x) or math.isnan(y):
        return 0 if math.isnan(x) and math.isnan(y) else math.inf
    x, y = (word if word < 1 << 31 else (1 << 31) - word for word in (a, b))
    return abs(x - y)


def distance(a, b):
    x, y = (struct.unpack("<f", struct.pack("<I", word))[0] for word in (a, b))
    return 0 if x == y else abs(x - y)


def differ(kernel, a, b):
    """How far apart two words are, in what the kernel is held to; 0: equal."""
    if a == b:
        return 0
    if kernel["check"] == "bits":
        return math.inf
    if kernel["check"] == "sums":
        return distance(a, b)
    # Near 0 a logarithm is exact to so much, not to so many steps.
    return min(steps(a, b), distance(a, b) * 2**23) if steps(a, b) < math.inf \
        else math.inf


def compare(kernel, found):
    """A row: how many words differ, by how much, and which go too far."""
    words = f"<{len(found) // 4}I"
    a, b = struct.unpack(words, expected(kernel)), struct.unpack(words, found)
    apart = [differ(kernel, x, y) for x, y in zip(a, b)]
    bad = [i for i, d in enumerate(apart) if not d <= kernel["limit"]]
    findings = [f"word {i}: expected {a[i]:#010x}, found {b[i]:#010x}"
                for i in bad[:SHOWN]]
    if len(bad) > SHOWN:
        findings.append(f"and {len(bad) - SHOWN} more words")
    return {"words": len(a), "differ": sum(x != y for x, y in zip(a, b)),
            "worst": max(apart, default=0), "findings": findings}
