"""PyTorch's attention beside ours: SDPA by backend, and FlexAttention."""
import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"sdpa flash": SDPBackend.FLASH_ATTENTION,
            "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
            "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION}


def sdpa(backend, q, k, v, **options):
    """q [B][n][Hq][D]; k, v [B][tokens][Hkv][D] -> [B][n][Hq][D]. Layouts stay
    as they are: that is how these kernels like them."""
    if q.shape[2] != k.shape[2]:
        options["enable_gqa"] = True
    with sdpa_kernel([backend]):
        return functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            **options).transpose(1, 2)


def causal_options(queries, tokens):
    if queries == 1:
        return {}
    if queries == tokens:
        return {"is_causal": True}
    from torch.nn.attention.bias import causal_lower_right
    return {"attn_mask": causal_lower_right(queries, tokens)}


def sdpa_subjects(q, copies, queries):
    """{name: (functions, run)}: `copies` are pairs of K and V as above, of one
    length."""
    options = causal_options(queries, copies[0][0].shape[1])
    found = {}
    for name, backend in BACKENDS.items():
        run = lambda k, v, backend=backend: sdpa(backend, q, k, v, **options)
        found[name] = ([lambda k=k, v=v, run=run: run(k, v)
                        for k, v in copies], lambda run=run: run(*copies[0]))
    return found


def ragged_subjects(q, copies, lengths, queries):
    """The same for sequences of different lengths: one call each. q is
    [B][n][Hq][D]; K and V are padded."""
    found = {}
    for name, backend in BACKENDS.items():
        def run(k, v, backend=backend):
            return torch.cat([
                sdpa(backend, q[b:b + 1], k[b:b + 1, :n], v[b:b + 1, :n],
                     **causal_options(queries, n))
                for b, n in enumerate(lengths)])
        found[name + ", one by one"] = (
            [lambda k=k, v=v, run=run: run(k, v) for k, v in copies],
            lambda run=run: run(*copies[0]))
    return found


def flex_subject(q, copies):
    """FlexAttention over whole sequences, compiled for this shape."""
    from torch.nn.attention.flex_attention import flex_attention
    compiled = torch.compile(flex_attention, dynamic=False)
    gqa = q.shape[2] != copies[0][0].shape[2]
    # FlexDecoding wants [B][H][n][D]; views do.
    run = lambda k, v: compiled(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
        enable_gqa=gqa).transpose(1, 2)
    return ([lambda k=k, v=v: run(k, v) for k, v in copies],
            lambda: run(*copies[0]))
