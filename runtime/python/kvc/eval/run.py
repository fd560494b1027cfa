"""judge(): a model reads a text through its own f32 cache and through those of
specs, side by side, chunk by chunk, so that no logits are kept."""

import inspect
import statistics
import time

import torch
from transformers import DynamicCache

import kvc
from kvc.hf import NAME, KvcCache

from .errors import CannotJudge, SpecRefused, Usage
from .metrics import Tally, check_finite, log_probs, nll_of, perplexity

MODES = ("prefill", "decode")
#: Of the recall context, the share that its repetition repeats.
_REPEATED = 3


class _TimedCache(KvcCache):
    """A KvcCache that knows for how long its layers appended and attended."""

    seconds = 0.0

    def _attend(self, *arguments):
        begin = time.perf_counter()
        out = super()._attend(*arguments)
        self.seconds += time.perf_counter() - begin
        return out


class Reader:
    """A model that is given tokens through one cache or another."""

    def __init__(self, model):
        self.model = model
        self.own = model.config._attn_implementation
        if self.own == NAME:
            raise Usage("the model attends over kvc's caches only, and is to "
                        "be compared with its own: call "
                        'model.set_attn_implementation("sdpa")')
        parameters = inspect.signature(type(model).forward).parameters
        self.cache_name = "cache" if "cache" in parameters else \
            "past_key_values"

    def read(self, ids, cache):
        """(logits [tokens, vocabulary], seconds) of one forward."""
        self.model.set_attn_implementation(
            NAME if isinstance(cache, KvcCache) else self.own)
        begin = time.perf_counter()
        out = self.model(ids[None], use_cache=True, **{self.cache_name: cache})
        seconds = time.perf_counter() - begin
        return out.logits[0].float(), seconds


class _Run:
    """One spec in one mode, and what was measured of it so far."""

    def __init__(self, reader, entry, mode, tokens, chunk):
        self.reader, self.entry, self.mode = reader, entry, mode
        self.cache = _cache_of(reader.model, entry, tokens, chunk)
        self.tally, self.error = Tally(), None
        self.seconds, self.rows, self.points = [], [], []

    def read(self, ids, begin, wanted, targets):
        """Reads a chunk as its mode does, and compares."""
        if self.error:
            return
        held = self.held()
        forwards = [ids] if self.mode == "prefill" else ids.split(1)
        logits, attention = None, []
        for i, part in enumerate(forwards):
            self.cache.seconds = 0.0
            found, seconds = self.reader.read(part, self.cache)
            if logits is None:
                logits = found if self.mode == "prefill" else \
                    found.new_empty(len(ids), found.shape[1])
            if self.mode == "decode":
                logits[i] = found[0]
            self.seconds.append(seconds)
            self.rows.append(len(part))
            attention.append(self.cache.seconds)
        try:
            check_finite(logits, begin)
        except CannotJudge as error:
            self.error = str(error)
            return
        self.tally.add(wanted, logits, targets)
        if self.mode == "decode":
            self.points.append({
                "context": begin + len(ids),
                # A step reads what is held in the middle of the chunk.
                "bytes_read": (held + self.held()) / 2,
                "attention_seconds": statistics.median(attention)})

    def held(self):
        """Bytes of the pool in use."""
        return self.cache.stats().get("bytes", 0)

    def result(self):
        if self.error:
            return {"error": self.error}
        found = self.tally.result()
        found["tokens_per_second"] = _speed(self.rows, self.seconds)
        if self.points:
            found["steps"] = self.points
        return found


def _cache_of(model, entry, tokens, chunk):
    # Nothing is taken back, so no token outlives its window for that.
    return _TimedCache(entry.program, model.config, max_tokens=tokens,
                       max_sequences=1, step_tokens=chunk, rollback=0)


def _speed(rows, seconds):
    """Tokens/s of the median forward: other processes are no part of it."""
    per_token = [each / count for each, count in zip(seconds, rows)]
    return 1 / statistics.median(per_token)


@torch.no_grad()
def judge(model, ids, entries, *, tokens=None, chunk=256, modes=MODES,
          recall=768, say=lambda text: None):
    """What each Entry's cache does to the model's output over a text.

    ids     the tokens of the text, i64
    tokens  of them that are read, by default all
    chunk   tokens of a forward of prefill, and those that are compared at once
    modes   "prefill": a chunk a forward; "decode": a token a forward
    recall  tokens of the context whose first third is repeated, 0 for none
    say     is told of progress

    Returns {"reference": {...}, "specs": [{...}]}, see the README. Raises
    CannotJudge if the model's own output is not finite or `ids` are too few,
    SpecRefused if an Entry is not what the model asks for.
    """
    text = ids[:tokens]
    needed = max(tokens or 2, recall, 2)
    if len(ids) < needed:
        raise CannotJudge(f"the text is too short: {len(ids)} tokens, expected "
                          f"{needed}")
    if 0 < recall < _REPEATED:
        raise Usage(f"recall: expected 0 or at least {_REPEATED}, found "
                    f"{recall}")
    reader = Reader(model)
    try:
        _probe(reader, ids, entries)
        reference, runs = _read_text(reader, text, entries, modes, chunk, say)
        results = [_described(entry, runs[entry.name], len(text))
                   for entry in entries]
        if recall:
            retold = recall_tokens(ids, recall, recall // _REPEATED)
            say("recall: the full cache")
            reference["recall"], _ = _recall(
                reader, retold, DynamicCache(config=model.config), recall,
                chunk)
            for entry, result in zip(entries, results):
                if "error" not in result:
                    say(f"recall: {entry.name}")
                    _add_recall(reader, entry, result, retold, recall, chunk)
    finally:
        model.set_attn_implementation(reader.own)
    return {"reference": reference, "specs": results}


def _probe(reader, ids, entries):
    """That the model takes every spec: before minutes are spent on the
    first."""
    faults = []
    for entry in entries:
        try:
            reader.read(ids[:2], _cache_of(reader.model, entry, 4, 4))
        except (ValueError, NotImplementedError, RuntimeError,
                kvc.Error) as error:
            faults.append(f"{entry.source}: {error}")
    if faults:
        raise SpecRefused("\n".join(faults))


def _read_text(reader, ids, entries, modes, chunk, say):
    """({reference}, {name: [_Run]})."""
    runs = {entry.name: [_Run(reader, entry, mode, len(ids), chunk)
                         for mode in modes] for entry in entries}
    own = DynamicCache(config=reader.model.config)
    nll, rows, times = [], [], []
    for begin in range(0, len(ids), chunk):
        part = ids[begin:begin + chunk]
        targets = ids[begin + 1:begin + 1 + len(part)]
        say(f"{begin} of {len(ids)} tokens: the full cache")
        logits, seconds = reader.read(part, own)
        check_finite(logits, begin)
        wanted = log_probs(logits)
        nll.append(nll_of(wanted, targets))
        rows.append(len(part))
        times.append(seconds)
        for run in (run for each in runs.values() for run in each):
            say(f"{begin} of {len(ids)} tokens: {run.entry.name}, {run.mode}")
            run.read(part, begin, wanted, targets)
    reference = {
        "perplexity": perplexity(torch.cat(nll)),
        "attention": reader.own,
        "prefill_tokens_per_second": _speed(rows, times),
        "bytes_per_token": sum(_held_by(layer) for layer in own.layers) /
        len(ids)}
    return reference, runs


def _held_by(layer):
    return sum(each.numel() * each.element_size()
               for each in (layer.keys, layer.values))


def _described(entry, runs, tokens):
    """What a spec is and what was measured of it."""
    program = entry.program
    found = {"name": entry.name, "source": entry.source,
             "dtype": entry.dtype, "target": program.target,
             "spec": program.spec}
    for run in runs:
        found[run.mode] = run.result()
        if "error" in found[run.mode]:
            found.setdefault("error", found[run.mode]["error"])
    cache = runs[0].cache
    if "error" in found:
        return found
    found["bytes_per_token"] = runs[0].held() / tokens
    planes = planes_of(program)
    found["layers"] = [
        {"layer": layer, "bytes_per_token": size,
         "planes": _shared_out(size, planes[layer])}
        for layer, size in
        ((each, cache._pool.pages.layer_bytes(each) / tokens)
         for each in range(program.model.layers))]
    return found


def planes_of(program):
    """[{plane: bytes per token while all tokens are kept}] of each layer."""
    found = [{} for _ in range(program.model.layers)]
    for store in program.stores:
        heads = store.head_end - store.head_begin
        sizes = [(f"{p.stream} {p.role}", heads * p.row_stride / p.row_tokens)
                 for p in store.planes]
        if store.page_tokens:
            rest = store.page_bytes / store.page_tokens - sum(
                size for _, size in sizes)
            if rest > 0:
                sizes.append(("padding", rest))
        for layer in store.layers:
            for name, size in sizes:
                found[layer][name] = found[layer].get(name, 0) + size
    return found


def _shared_out(size, planes):
    """Measured bytes over the planes, in proportion to their rows."""
    total = sum(planes.values())
    return {name: size * each / total for name, each in planes.items()}


# --- recall -------------------------------------------------------------------

def recall_tokens(ids, context, repeated):
    """A context of a text, and then its beginning again. What a cache has
    forgotten of it, the model must guess."""
    return torch.cat([ids[:context], ids[:repeated]])


def _recall(reader, tokens, cache, context, chunk):
    """(perplexity of what follows the context, bytes that the cache held at its
    end)."""
    held, nll = None, []
    for begin, end in _chunks(len(tokens), context, chunk):
        logits, _ = reader.read(tokens[begin:end], cache)
        check_finite(logits, begin)
        # The context's last logits are for the repetition's first token.
        first = max(begin, context - 1)
        if end > first:
            targets = tokens[first + 1:end + 1]
            nll.append(nll_of(log_probs(logits[first - begin:]), targets))
        if end == context and isinstance(cache, KvcCache):
            held = cache.stats()["bytes"]
    return perplexity(torch.cat(nll)), held


def _chunks(tokens, context, chunk):
    """(begin, end) of each forward; one ends with the context."""
    ends = [*range(chunk, context, chunk), context,
            *range(context + chunk, tokens, chunk), tokens]
    return zip([0, *ends], ends)


def _add_recall(reader, entry, result, tokens, context, chunk):
    cache = _cache_of(reader.model, entry, len(tokens), chunk)
    try:
        result["recall"], held = _recall(reader, tokens, cache, context, chunk)
    except CannotJudge as error:
        result["error"] = f"recall: {error}"
        return
    full = sum(sum(each.values()) for each in planes_of(entry.program))
    # Whole pages are held: of a context that ends in one, more than its rows.
    result["recall_kept"] = min(1.0, held / (full * context))
