"""How fast a model is over a kvc cache, beside PyTorch's own ways.

    python -m kvc.eval.speed --model smollm2

Three ratios, of which the first is what a user sees:

  decode     tokens/s at a long context: KvcCache against DynamicCache with
             scaled_dot_product_attention
  attention  of one token and one layer at that context: Step.attend against
             scaled_dot_product_attention(enable_gqa=True) on the model's dtype
  layer      append and attend of one token in one layer at a short context,
             through PyTorch, in us

The two sides take turns, and medians are compared: what else a machine does
slows both. Cached rows are random: how long a step takes does not depend on
them.
"""

import argparse
import json
import statistics
import sys
import time

from .cli import count, import_models
from .errors import Failure, Usage


def main(arguments=None):
    """Runs the command; returns its exit code, as kvc.eval has them."""
    options = _parser().parse_args(arguments)
    try:
        import_models()
        return _run(options)
    except Failure as failure:
        print(f"kvc.eval.speed: {failure}", file=sys.stderr)
        return failure.code


def _parser():
    found = argparse.ArgumentParser(
        prog="python -m kvc.eval.speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--model", required=True, metavar="MODEL",
        help='"smollm2", or a folder that transformers can load')
    add("--codec", nargs="+", default=["bf16"], metavar="CODEC",
        help="int8, or k=bf16,v=int8 (bf16)")
    add("--context", type=count(16), default=8000,
        help="cached tokens of decode and attention (%(default)s)")
    add("--short", type=count(16), default=1024,
        help="cached tokens of layer (%(default)s)")
    add("--rounds", type=count(1), default=7,
        help="turns that each side takes (%(default)s)")
    add("--steps", type=count(1), default=4,
        help="tokens of a turn (%(default)s)")
    add("--threads", type=count(1), default=1,
        help="of PyTorch and of kvc (%(default)s)")
    add("--json", metavar="OUT", help="write all figures")
    return found


def _run(options):
    import torch

    from .models import load_model
    from .specs import specs_of
    torch.set_num_threads(options.threads)
    model = load_model(options.model).model
    entries, _ = specs_of(model.config, (), options.codec,
                          f"cpu:{options.threads}")
    most = getattr(model.config, "max_position_embeddings", None)
    needed = options.context + options.rounds * options.steps + 1
    if most and needed > most:
        raise Usage(f"--context: the model has {most} positions, and {needed} "
                    "are asked for")
    found = []
    print(f"{options.context} cached tokens, {options.threads} "
          f"{'thread' if options.threads == 1 else 'threads'}; medians of "
          f"{options.rounds} turns")
    for entry in entries:
        found.append({"name": entry.name,
                      **measure(model, entry, options.context, options.short,
                                options.rounds, options.steps)})
        print(_text(found[-1], options.short), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    return 0


def _text(found, short):
    decode, attention = found["decode"], found["attention"]
    return "\n".join((
        found["name"],
        f"  decode     {1 / decode['kvc']:7.2f} tokens/s, DynamicCache with "
        f"sdpa {1 / decode['torch']:.2f}: {decode['ratio']:.2f} times",
        f"  attention  {1e6 * attention['kvc']:7.1f} us a layer, sdpa with "
        f"enable_gqa {1e6 * attention['torch']:.1f}: "
        f"{attention['ratio']:.2f} times",
        f"  layer      {1e6 * found['layer_seconds']:7.1f} us to append and "
        f"attend at {short} tokens"))


def measure(model, entry, context, short, rounds, steps):
    """{"decode", "attention": {"kvc", "torch", "ratio"}, "layer_seconds"}; in
    seconds, of a token and of a layer of one token."""
    import torch
    with torch.no_grad():
        return {"decode": _decode(model, entry, context, rounds, steps),
                "attention": _attention(entry.program, context, rounds),
                "layer_seconds": _layer(entry.program, short, rounds)}


def _compared(rounds, kvc, torch_):
    """Medians of the two, which take turns; the ratio is of each turn."""
    times = {"kvc": [], "torch": []}
    for _ in range(rounds):
        times["kvc"].append(kvc())
        times["torch"].append(torch_())
    found = {name: statistics.median(each) for name, each in times.items()}
    found["ratio"] = statistics.median(
        b / a for a, b in zip(times["kvc"], times["torch"]))
    return found


def _random(*shape):
    import torch
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _rows(program, tokens):
    model = program.model
    return (_random(tokens, model.kv_heads, model.head_dim_k),
            _random(tokens, model.kv_heads, model.head_dim_v))


def _fill(pages, sequence, tokens):
    """Random rows in every layer."""
    program = pages.program
    k, v = _rows(program, tokens)
    with pages.step({sequence: tokens}) as step:
        for layer in range(program.model.layers):
            step.append(layer, k, v)


def _decode(model, entry, context, rounds, steps):
    import torch
    from transformers import DynamicCache

    from kvc.hf import KvcCache

    from .run import Reader
    reader = Reader(model)
    ours = KvcCache(entry.program, model.config, max_sequences=1,
                    max_tokens=context + (rounds + 1) * steps)
    ours._sequences = [ours._pool.pages.open()]
    _fill(ours._pool.pages, ours._sequences[0], context)
    ours._length = context
    theirs = DynamicCache(config=model.config)
    k, v = (each.transpose(0, 1)[None] for each in
            _rows(entry.program, context))
    for layer in range(entry.program.model.layers):
        theirs.update(k, v, layer)

    def turn(cache):
        def run():
            total = 0.0
            for i in range(steps):
                total += reader.read(torch.tensor([i + 1]), cache)[1]
            return total / steps
        return run
    try:
        turn(ours)(), turn(theirs)()  # compiles, allocates, touches
        return _compared(rounds, turn(ours), turn(theirs))
    finally:
        model.set_attn_implementation(reader.own)


def _attention(program, context, rounds):
    """Of a layer after the other, for in a model none finds its rows in a
    processor's cache."""
    import torch

    import kvc
    model = program.model
    layers = range(model.layers)
    pages = kvc.Cache(program, context + 1)
    sequence = pages.open()
    _fill(pages, sequence, context)
    q = _random(1, model.q_heads, model.head_dim_k)
    k, v = _rows(program, 1)
    theirs = []
    for _ in layers:
        rows = _rows(program, context + 1)
        theirs.append([each.transpose(0, 1)[None].contiguous()
                       for each in rows])
    own_q = q[None].transpose(1, 2)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    step = pages.step({sequence: 1})
    for layer in layers:
        step.append(layer, k, v)

    def ours():
        begin = time.perf_counter()
        for layer in layers:
            step.attend(layer, q)
        return (time.perf_counter() - begin) / len(layers)

    def torch_():
        begin = time.perf_counter()
        for each in theirs:
            sdpa(own_q, *each, scale=model.softmax_scale, enable_gqa=True)
        return (time.perf_counter() - begin) / len(layers)
    try:
        ours(), torch_()
        return _compared(rounds, ours, torch_)
    finally:
        step.abandon()


def _layer(program, context, rounds):
    import kvc
    model = program.model
    pages = kvc.Cache(program, context + 20 * rounds + 1)
    sequence = pages.open()
    _fill(pages, sequence, context)
    q = _random(1, model.q_heads, model.head_dim_k)
    k, v = _rows(program, 1)
    times = []
    for _ in range(20 * rounds):
        with pages.step({sequence: 1}) as step:
            for layer in range(model.layers):
                begin = time.perf_counter()
                step.append(layer, k, v)
                step.attend(layer, q)
                times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
