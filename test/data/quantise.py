#!/usr/bin/env python3
"""Writes what public quantisers make of some rows of smollm2.safetensors.

Nothing in the build or the tests runs this script; its output,
quantisers.safetensors, is kept beside it. README.md has the exact commands.

Needs the PyPI packages gguf, numpy, safetensors, torch and torchao. Codes are
unpacked, one number an element: integers with their sign, floats as the bits
that they are.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
import torch
import torchao
from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor

HERE = Path(__file__).parent
LAYER = 18
TOKENS = [0, 1, 2, 3, 500, 501, 502, 503, 1000, 1001, 1500, 1501, 2044, 2045,
          2046, 2047]


def nibbles_of_halves(packed):
    """ggml: byte j holds element j of 32 below, and j + 16 above."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def nibbles_of_pairs(packed):
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(
        *packed.shape[:-1], -1)


def ggml(name):
    kind = getattr(gguf.GGMLQuantizationType, name)

    def quantise(x):
        data = gguf.quants.quantize(x, kind)
        deq = gguf.quants.dequantize(data, kind).astype(np.float32)
        blocks = data.reshape(len(x), x.shape[-1] // 32, -1)
        header = 2 if name.endswith("_0") else 4  # d, or d and m
        if name == "Q8_0":
            return blocks[..., header:].view(np.int8), deq
        codes = nibbles_of_halves(blocks[..., -16:]).astype(np.int16)
        if name.startswith("Q5"):
            high = blocks[..., header:header + 4].copy().view(np.uint32)
            codes |= ((high >> np.arange(32, dtype=np.uint32)) & 1).astype(
                np.int16) << 4
        if name.endswith("_0"):
            codes -= 16 if name == "Q5_0" else 8
        return codes, deq

    return quantise


def mx(dtype):
    def quantise(x):
        scale, codes = to_mx(torch.from_numpy(x), dtype, 32)
        deq = to_dtype(codes, scale, dtype, 32, torch.float32).numpy()
        codes = codes.view(torch.uint8).numpy()
        if dtype == torch.float4_e2m1fn_x2:
            codes = nibbles_of_pairs(codes)
        return codes, deq

    return quantise


def nvfp4(x):
    made = NVFP4Tensor.to_nvfp4(torch.from_numpy(x))
    codes = nibbles_of_pairs(made.qdata.view(torch.uint8).numpy())
    return codes, made.dequantize(torch.float32).numpy()


def int8(x):
    """One scale a row: absmax / 127."""
    x = torch.from_numpy(x)
    scale = x.abs().amax(-1, keepdim=True) / 127
    codes = (x * (1 / scale)).round().clamp(-127, 127)
    return codes.numpy(), (codes * scale).numpy()


def fp8(x):
    """One scale a row: absmax / 448."""
    x = torch.from_numpy(x)
    scale = x.abs().amax(-1, keepdim=True) / 448
    codes = (x * (1 / scale)).to(torch.float8_e4m3fn)
    return codes.view(torch.uint8).numpy(), (codes.float() * scale).numpy()


# The presets that they are.
QUANTISERS = {
    "llamacpp-q8_0": ggml("Q8_0"),
    "llamacpp-q5_1": ggml("Q5_1"),
    "llamacpp-q5_0": ggml("Q5_0"),
    "llamacpp-q4_1": ggml("Q4_1"),
    "llamacpp-q4_0": ggml("Q4_0"),
    "mxfp8": mx(torch.float8_e4m3fn),
    "mxfp4": mx(torch.float4_e2m1fn_x2),
    "nvfp4": nvfp4,
    "kv8-token-head": int8,
    "fp8-token-head": fp8,
}


def main():
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--all-tokens", action="store_true",
                       help="not only the few that are kept")
    found.add_argument("--out", type=Path,
                       default=HERE / "quantisers.safetensors")
    options = found.parse_args()
    tensors = safetensors.numpy.load_file(HERE / "smollm2.safetensors")
    made = {}
    for stream in "kv":
        rows = tensors[f"layers.{LAYER}.{stream}"]
        if not options.all_tokens:
            rows = rows[TOKENS]
        made[f"{stream}"] = rows
        x = rows.reshape(-1, rows.shape[-1]).astype(np.float32)
        for name, quantise in QUANTISERS.items():
            codes, deq = quantise(x)
            made[f"{name}.{stream}.codes"] = codes.astype(
                np.float16).reshape(rows.shape)
            made[f"{name}.{stream}.deq"] = deq.reshape(rows.shape)
            error = np.sqrt(((deq - x) ** 2).mean() / (x ** 2).mean())
            print(f"{name:16} {stream}  relative rms error {error:.5f}")
    safetensors.numpy.save_file(made, options.out, {
        "source": f"smollm2.safetensors, layer {LAYER}",
        "gguf": "0.19.0", "torchao": torchao.__version__,
        "torch": torch.__version__.split("+")[0], "script": "quantise.py"})


if __name__ == "__main__":
    main()
