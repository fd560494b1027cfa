"""Bytes as numbers of the types that caches hold. Standard library only."""
import array
import math
import statistics
import struct

WIDTH = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1}
PRECISION = {"f32": 24, "f16": 11, "bf16": 8}  # bits of the significand
LEAST = {"f32": -126, "f16": -14, "bf16": -126}  # exponent of the least normal


def decode(kind, data):
    """The values of `data`, as a sequence."""
    if kind == "i8":
        return array.array("b", data)
    if kind == "f16":
        return struct.unpack(f"<{len(data) // 2}e", data)
    if kind == "bf16":
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        data = bytes(wide)
    return array.array("f", data)


def bits_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def round_to(kind, x):
    """The nearest value of the type, ties to even."""
    if math.isnan(x) or math.isinf(x):
        return x
    if kind == "f16":
        try:
            return struct.unpack("<e", struct.pack("<e", x))[0]
        except OverflowError:
            return math.copysign(math.inf, x)
    try:
        bits = bits_of(x)
    except OverflowError:
        return math.copysign(math.inf, x)
    if kind == "bf16":
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def encode_one(kind, x):
    if kind == "f16":
        return struct.pack("<e", x)
    data = struct.pack("<f", round_to(kind, x))
    return data[2:] if kind == "bf16" else data


def half_ulp(kind, x):
    exponent = LEAST[kind]
    if x and math.isfinite(x):
        exponent = max(exponent, math.frexp(x)[1] - 1)
    return math.ldexp(0.5, exponent - PRECISION[kind] + 1)


def ordinal(kind, data):
    """Per value an integer that counts representable values from 0."""
    code, sign = ("I", 1 << 31) if kind == "f32" else ("H", 1 << 15)
    return [-(x - sign) if x & sign else x for x in array.array(code, data)]


_tables = {}


def random_rows(rng, kind, count):
    """`count` values of a float type, distributed about like a normal one: the
    last byte of each is drawn from it, the others are any bits."""
    if kind not in _tables:
        normal = statistics.NormalDist()
        _tables[kind] = bytes(
            encode_one(kind, normal.inv_cdf((i + 0.5) / 256))[-1]
            for i in range(256))
    width = WIDTH[kind]
    data = bytearray(rng.randbytes(width * count))
    data[width - 1::width] = data[width - 1::width].translate(_tables[kind])
    return bytes(data)


POISONS = ("nan", "inf", "random")


def poison(rng, how, size):
    """Bytes for memory whose contents must not matter."""
    if how == "nan":
        return b"\xff" * size
    if how == "inf":  # of f32; f16 and bf16 see infinities and zeros
        return (b"\x00\x00\x80\x7f" * (size // 4 + 1))[:size]
    return rng.randbytes(size)
