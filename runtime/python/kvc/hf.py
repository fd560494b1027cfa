"""Hugging Face transformers 5: models whose K and V are in a kvc cache.

    from kvc.hf import KvcCache

    model.set_attn_implementation("kvc")
    cache = KvcCache.from_config(model.config, k="bf16", v="int8")
    model.generate(**inputs, past_key_values=cache)

Importing this module registers the attention function and the mask function
"kvc". Greedy search, sampling, beams, assisted decoding, chunked prefill, padded
batches and continued caches work as with a DynamicCache; torch.compile sees one
operator per layer, `kvc::hf_attend`.

Padding is never cached. The tokens of a batch that `attention_mask` hides are
left out of the step, so that a row's cached tokens are its real ones only, and
their outputs are zeros.

A forward opens a step in the first layer's attention and commits it in the
last's. A forward that fails in between leaves the cache as it was.

What attention here cannot do raises: gradients, dropout, attention weights, 4D
and other custom masks, bidirectional and cross attention, position biases, and a
model whose scale, window, softcap or sinks are not those of the spec.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import weakref

import torch
from transformers import AttentionInterface, PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer
from transformers.masking_utils import AttentionMaskInterface

from .cache import Cache as PageCache
from .compiler import Artifact, compile as compile_spec
from .errors import InvalidArgument, OutOfSequences, SequenceFull
from .program import Device, Program, load

__all__ = ["KvcCache", "KvcLayer", "attention", "mask", "spec_of"]

#: The name under which models find the attention and the mask function.
NAME = "kvc"

_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
#: Tokens of a sequence where neither the caller nor the model says how many.
_MAX_TOKENS = 8192
#: New tokens of a forward by default, if the rows can have so many.
_STEP_TOKENS = 1 << 16
#: Tokens that crop() can take back under a window by default.
_ROLLBACK = 128
#: Arguments of attention functions that change the result, and that kernels
#: here know nothing of.
_UNSUPPORTED = {
    "position_bias": "a position bias is not in the spec",
    "attn_bias": "an attention bias is not in the spec",
    "alibi": "ALiBi must be in the spec (attend.logits)",
    "head_mask": "heads cannot be masked",
    "layer_head_mask": "heads cannot be masked",
    "cu_seq_lens_q": "packed sequences have a row of the batch each",
    "cu_seq_lens_k": "packed sequences have a row of the batch each",
    "output_attentions": "kernels do not write attention weights",
}
#: Up to some 5.x, crop() took the length that remains if it was positive.
_CROP_IS_LENGTH = "max_length" in inspect.signature(
    DynamicLayer.crop).parameters


# --- specs ------------------------------------------------------------------

def _dtype_name(dtype, config):
    if dtype is None:
        dtype = getattr(config, "dtype", None) or torch.float32
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    name = dtype if dtype in _DTYPES.values() else _DTYPES.get(dtype)
    if name is None:
        raise ValueError(f"dtype: expected float32, float16 or bfloat16, found "
                         f"{dtype}")
    return name


def _text_config(config):
    return config.get_text_config(decoder=True)


def _refuse(config, reason):
    raise ValueError(f"{type(config).__name__}: {reason}; write a spec for it "
                     "and give it to KvcCache(spec, config)")


def _heads(config):
    """(layers, query heads, kv heads), the same in all layers."""
    try:
        q_heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", q_heads) or q_heads
        found = config.num_hidden_layers, q_heads, kv_heads
        getattr(config, "head_dim", None)
    except (AttributeError, ValueError) as error:  # or they differ by layer
        _refuse(config, f"it does not tell layers and heads ({error})")
    if not all(isinstance(each, int) for each in found):
        _refuse(config, f"its layers differ in their heads: {found}")
    return found


def _windows(config, layers):
    """The sliding window of each layer, or None where all tokens are seen."""
    if getattr(config, "kv_sharing_modes", None) or \
            getattr(config, "num_kv_shared_layers", 0):
        _refuse(config, "layers that share K and V have no cache of their own")
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        if getattr(config, "attention_chunk_size", None):
            _refuse(config, "chunked attention is not derived from a config")
        return [window] * layers
    found = []
    for kind in types[:layers]:
        if kind == "full_attention":
            found.append(None)
        elif kind == "sliding_attention" and window:
            found.append(window)
        else:
            _refuse(config, f"layers of the kind {kind!r} are not derived from "
                    "a config")
    if len(found) != layers:
        _refuse(config, f"layer_types has {len(found)} of {layers} layers")
    return found


def _scale(config, head_dim):
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar:
        return scalar ** -0.5
    return getattr(config, "attention_multiplier", None) or head_dim ** -0.5


def spec_of(config: PreTrainedConfig, k: str | dict | None = None,
            v: str | dict | None = None,
            dtype: torch.dtype | str | None = None, page: int = 16,
            sinks: bool | None = None, name: str = "hf") -> dict:
    """The spec of a model's cache, from its config.

    k, v   codecs, "f32", "f16", "bf16", "fp8_e4m3", "fp8_e5m2", "int2" to
           "int8", or an object as the spec language has them, {"kind": "int4",
           "zero": "min", "group": 32}; by default the model's dtype
    dtype  of the model's K, V and Q: a torch.dtype or its name, by default the
           config's
    page   tokens of a page
    sinks  whether each layer has a learned logit per query head in its
           softmax's sum, by default whether the model is gpt-oss

    Layers with a sliding window and those without are a store each. Raises
    ValueError for a model whose attention the config does not tell.
    """
    if getattr(config, "is_encoder_decoder", False):
        _refuse(config, "cross attention has no cache here")
    config = _text_config(config)
    for field, reason in (("kv_lora_rank", "latent attention"),
                          ("use_bidirectional_attention",
                           "bidirectional attention"),
                          ("alibi", "ALiBi")):
        if getattr(config, field, None):
            _refuse(config, f"{reason} is not derived from a config")
    layers, q_heads, kv_heads = _heads(config)
    head_dim = getattr(config, "head_dim", None) or \
        config.hidden_size // q_heads
    dtype = _dtype_name(dtype, config)
    model = {"layers": layers, "q_heads": q_heads, "kv_heads": kv_heads,
             "head_dim": head_dim, "dtype": dtype,
             "softmax_scale": _scale(config, head_dim)}
    softcap = getattr(config, "attn_logit_softcapping", None)
    if softcap:
        model["logit_softcap"] = softcap
    if sinks is None:
        sinks = config.model_type == "gpt_oss"
    shared = {
        "streams": {"k": {"codec": k or dtype}, "v": {"codec": v or dtype}},
        "layout": {"kind": "paged", "page": page}}
    if sinks:
        shared["attend"] = {"constants": {"sinks": {"size": q_heads}},
                            "sink": "sinks[h]"}
    windows = _windows(config, layers)
    stores = []
    for window in dict.fromkeys(windows):
        members = [i for i, each in enumerate(windows) if each == window]
        stores.append({"name": "sliding" if window else "full",
                       "scope": {"layers": {"list": members}}, **shared})
        if window:
            stores[-1]["reads"] = {"kind": "window", "recent": window}
    return {"kvc": "0.2", "name": name, "model": model, "stores": stores}


class _Facts:
    """What a spec says of one layer, where it can be compared with what a
    model asks for."""

    def __init__(self):
        self.window, self.is_full = None, True
        self.softcap, self.has_logits, self.sink = None, False, None
        self.sees_positions = False


def _layers_of(scope, layers):
    chosen = scope.get("layers")
    if chosen is None:
        return range(layers)
    if isinstance(chosen, list):
        return range(*chosen)
    if "list" in chosen:
        return chosen["list"]
    return range(chosen.get("from", 0), chosen.get("to", layers),
                 chosen.get("step", 1))


def _facts_of(spec):
    """The _Facts of each layer of a spec that compiled."""
    model = spec["model"]
    facts = [_Facts() for _ in range(model["layers"])]
    for store in spec.get("stores", [spec]):
        attend, reads = store.get("attend", {}), store.get("reads", "all")
        for layer in _layers_of(store.get("scope", {}), model["layers"]):
            fact = facts[layer]
            fact.softcap = model.get("logit_softcap")
            fact.has_logits = "logits" in attend
            fact.sink = attend.get("sink")
            if isinstance(reads, dict) and reads["kind"] == "window":
                fact.window, fact.is_full = reads["recent"], False
            if "visible" in attend or "causal" in attend:
                fact.is_full = False
            fact.sees_positions |= not fact.is_full or fact.has_logits
    return facts


# --- the pool ---------------------------------------------------------------

class _Pool:
    """The program and the pages that the forks of a KvcCache share. Pages are
    made for the first batch, unless the caller said for how many sequences."""

    def __init__(self, program, facts, is_derived, max_tokens, max_sequences,
                 limits):
        self.program, self.facts, self.is_derived = program, facts, is_derived
        self.max_tokens, self.max_sequences = max_tokens, max_sequences
        self.limits, self.pages = limits, None
        self.sinks = {}
        if max_sequences is not None:
            self._create(max_sequences, max_sequences)

    def _create(self, batch, sequences):
        self.sinks.clear()
        limits, tokens = dict(self.limits), batch * self.max_tokens
        if limits["step_tokens"] is None:
            limits["step_tokens"] = min(tokens, _STEP_TOKENS)
        self.pages = PageCache(
            self.program, tokens, sequences,
            tokens_per_sequence=self.max_tokens, **limits)
        self.batch = batch

    def reserve(self, batch):
        """Sees to pages for a batch of new sequences. Forks cost table entries
        alone, so a pool that was made for its first batch has room for
        some."""
        if self.max_sequences is not None:
            have = self.pages.stats()["sequences"]
            if have + batch > self.max_sequences:
                raise OutOfSequences(
                    f"max_sequences is {self.max_sequences}, and a batch of "
                    f"{batch} rows, beams included, needs {have + batch}")
        if self.pages is not None and (
                self.max_sequences is not None or batch <= self.batch):
            return
        if self.pages is not None and self.pages.stats()["sequences"]:
            raise InvalidArgument(
                f"the cache and its copies were made for {self.batch} rows, and "
                f"{batch} are asked for: give max_sequences")
        self._create(batch, 4 * batch + 4)

    def check_forks(self, more):
        """That so many more sequences can be."""
        have = self.pages.stats()["sequences"]
        most = self.pages._options.max_sequences
        if have + more > most:
            raise OutOfSequences(
                f"the cache and its copies have {have} of {most} rows, and "
                f"{more} more are asked for: give max_sequences")

    def bind_sinks(self, layer, sinks):
        """Gives a layer its learned logits, unless it has them."""
        version = None if sinks.is_inference() else sinks._version
        seen = (sinks.data_ptr(), version)
        if self.sinks.get(layer) == seen:
            return
        for store in self.program.stores:
            if layer in store.layers and store.constants:
                if [each.name for each in store.constants] != ["sinks"]:
                    raise ValueError(
                        f"layer {layer}: expected one constant, sinks, in the "
                        f"spec, found {[c.name for c in store.constants]}")
                values = sinks.detach().to(torch.float32, copy=True)
                self.pages.set_constants(store.index, [values.contiguous()],
                                         layer)
        self.sinks[layer] = seen


class _Forward:
    """A forward that is under way: its step, and which rows of the batch are
    its. `keep` is None if they all are."""

    __slots__ = ("step", "batch", "tokens", "keep", "mask", "next")

    def __init__(self, step, batch, tokens, keep, mask):
        self.step, self.batch, self.tokens = step, batch, tokens
        self.keep, self.mask, self.next = keep, mask, 0


class _Held:
    """What KvcLayer.update() returns in place of K and V: the new rows, which
    the attention function "kvc" appends. Whatever else is done with them would
    be attention without the cached tokens, so it raises."""

    def __init__(self, layer, rows, length):
        self.layer, self.rows = layer, rows
        batch, heads, _, dim = rows.shape
        self.shape = (batch, heads, length, dim)
        self.dtype, self.device = rows.dtype, rows.device

    def __getattr__(self, name):
        raise RuntimeError(_NOT_KVC)

    def __getitem__(self, index):
        raise RuntimeError(_NOT_KVC)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(_NOT_KVC)


_NOT_KVC = ("K and V are in a KvcCache, and the model's attention is not kvc's: "
            f'call model.set_attn_implementation("{NAME}")')


# --- the cache --------------------------------------------------------------

class KvcLayer(CacheLayerMixin):
    """One layer of a KvcCache, which does what all layers do at once."""

    is_compileable = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, owner, index, is_sliding):
        super().__init__()
        self._owner, self.index = weakref.ref(owner), index
        self._handle = owner._handle
        self.is_sliding, self.is_initialized = is_sliding, True
        self._checked = None

    @property
    def owner(self):
        """The KvcCache."""
        return self._owner()

    def lazy_initialization(self, key_states, value_states):
        """Nothing: pages are made by the cache."""

    def update(self, key_states, value_states, *args, **kwargs):
        """Returns what the attention function "kvc" takes in place of K and V,
        [batch, kv_heads, tokens, head_dim] each."""
        length = self.get_seq_length() + key_states.shape[2]
        return (_Held(self, key_states, length),
                _Held(self, value_states, length))

    def get_mask_sizes(self, query_length):
        """(tokens that a mask is for, 0)."""
        if hasattr(query_length, "shape"):  # cache_position, up to some 5.x
            query_length = query_length.shape[0]
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self):
        """Tokens of a row so far, padding included."""
        return self.owner._length

    def get_max_length(self):
        """Tokens that a row can have."""
        return self.owner._pool.max_tokens

    get_max_cache_shape = get_max_length  # its name up to some 5.x

    @property
    def batch_size(self):
        """Rows of the batch, -1 while there are none."""
        return len(self.owner._sequences) or -1

    def reset(self):
        """Of a KvcCache, all layers are reset at once."""
        self.owner.reset()

    def _of_the_cache(self, *args, **kwargs):
        raise NotImplementedError("call the KvcCache's own method: its layers "
                                  "share their sequences")

    reorder_cache = crop = offload = prefetch = _of_the_cache
    batch_repeat_interleave = batch_select_indices = _of_the_cache


_owners = weakref.WeakValueDictionary()
_ids = itertools.count(1)


class KvcCache(Cache):
    """A transformers Cache whose K and V are pages of kvc.

    what           a spec (a dict, JSON text, the path of a file), an Artifact,
                   the path of a .kvca, or a Program
    config         the model's, with whose layers and heads the spec's must agree
    max_tokens     of the longest row, prompt included; by default 8,192, or the
                   model's max_position_embeddings if they are fewer
    max_sequences  rows of a batch, beams included, and forks. By default pages
                   are made for the first batch, and anew after reset() for one
                   that is larger.
    rollback       committed tokens that crop() can take back where a layer has
                   a window, by default 128; elsewhere any number
    step_tokens    new tokens of a forward at most, over all rows; by default
                   65,536, or what the rows can have if that is fewer
    device         "cpu", "cuda:0", a torch.device or a kvc.Device
    schedule       as kvc.compile() has it

    The memory of pages is touched when they are first written. Beams and
    copy.deepcopy() share pages until they write. One cache serves one forward
    at a time.
    """

    def __init__(self, what: dict | str | os.PathLike | Artifact | Program,
                 config: PreTrainedConfig, *, max_tokens: int | None = None,
                 max_sequences: int | None = None, rollback: int | None = None,
                 step_tokens: int | None = None,
                 device: str | torch.device | Device = "cpu", schedule=(),
                 _is_derived: bool = False):
        program = _program_of(what, device, schedule)
        facts = _facts_of(program.spec) if program.spec else None
        config = _text_config(config)
        _check_config(program, config)
        if max_tokens is None:
            positions = getattr(config, "max_position_embeddings", None)
            max_tokens = min(positions or _MAX_TOKENS, _MAX_TOKENS)
        limits = {"rollback": _ROLLBACK if rollback is None else rollback,
                  "step_tokens": step_tokens}
        if facts and all(fact.is_full for fact in facts):
            limits["rollback"] = rollback or 0
        self._setup(_Pool(program, facts, _is_derived, max_tokens,
                          max_sequences, limits))

    def _setup(self, pool):
        self._pool, self._sequences = pool, []
        self._length, self._mask, self._forward = 0, None, None
        ident = next(_ids)
        _owners[ident] = self
        # An operator's argument that is a tensor is no reason to compile
        # again for another cache, as an integer would be.
        self._handle = torch.tensor([ident], dtype=torch.int64)
        layers = range(pool.program.model.layers)
        facts = pool.facts or [_Facts() for _ in layers]
        super().__init__(layers=[
            KvcLayer(self, i, facts[i].window is not None) for i in layers])

    @classmethod
    def from_config(cls, config: PreTrainedConfig,
                    k: str | dict | None = None, v: str | dict | None = None,
                    dtype: torch.dtype | str | None = None, *, page: int = 16,
                    sinks: bool | None = None, **options) -> KvcCache:
        """A cache for a model: spec_of(config, k, v, dtype, page, sinks), and
        the options of KvcCache. Raises ValueError for a model whose attention
        its config does not tell."""
        return cls(spec_of(config, k, v, dtype, page, sinks), config,
                   _is_derived=True, **options)

    # --- what transformers calls ---------------------------------------------

    def get_seq_length(self, layer_idx=0) -> int:
        """Tokens of a row so far, padding included."""
        return self._length

    def get_max_length(self, layer_idx=None) -> int:
        """Tokens that a row can have."""
        return self._pool.max_tokens

    get_max_cache_shape = get_max_length

    @property
    def batch_size(self):
        """Rows of the batch, -1 while there are none."""
        return len(self._sequences) or -1

    def reset(self):
        """Forgets all tokens, and keeps the pages for others."""
        self._abandon()
        for sequence in self._sequences:
            sequence.release()
        self._sequences, self._length, self._mask = [], 0, None

    def crop(self, tokens_to_remove: int) -> None:
        """Takes the last -tokens_to_remove tokens of every row back, of which a
        window allows `rollback`.

        With a transformers whose own caches do so, a positive number is the
        length that remains.
        """
        self._abandon()
        count = int(tokens_to_remove)
        if count > 0:
            if not _CROP_IS_LENGTH:
                raise ValueError("tokens_to_remove: expected at most 0, found "
                                 f"{count}")
            count = min(count - self._length, 0)
        kept = self._length + count
        if kept < 0:
            raise ValueError(f"tokens_to_remove: the cache has {self._length} "
                             f"tokens, found {-count}")
        if count == 0 or not self._sequences:
            return
        lengths = [kept] * len(self._sequences)
        if self._mask is not None:
            lengths = self._mask[:, :kept].sum(1).tolist()
        for sequence, length in zip(self._sequences, lengths):
            sequence.truncate(length)
        self._length = kept
        self._keep_mask(None if self._mask is None else self._mask[:, :kept])

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i becomes what row beam_idx[i] was. Rows that are taken twice
        share their pages."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the rows `indices`, which may name a row twice, or are a
        boolean per row."""
        self._abandon()
        if not self._sequences:
            return
        indices = torch.as_tensor(indices)
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()
        rows = indices.tolist()
        old = self._sequences
        if any(not -len(old) <= row < len(old) for row in rows):
            raise IndexError(f"indices: expected rows of {len(old)}, found "
                             f"{rows}")
        rows = [row % len(old) for row in rows]
        taken = set(rows)
        self._pool.check_forks(len(rows) - len(old))
        # First what nobody takes gives its place to forks.
        for row, sequence in enumerate(old):
            if row not in taken:
                sequence.release()
        self._sequences, seen = [], set()
        for row in rows:
            self._sequences.append(old[row].fork() if row in seen else old[row])
            seen.add(row)
        if self._mask is not None:
            self._keep_mask(self._mask[rows])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times, side by side; they share their pages."""
        self.batch_select_indices(
            torch.arange(len(self._sequences)).repeat_interleave(repeats))

    def activate_past_recording(self):
        """Nothing: crop() can always take `rollback` tokens back."""

    def early_initialization(self, *args, **kwargs):
        """Nothing: pages are made by the cache."""

    # --- what kvc has beside -------------------------------------------------

    @property
    def program(self) -> Program:
        """The kernels, and what the model is."""
        return self._pool.program

    @property
    def sequences(self) -> tuple:
        """The kvc.Sequence of each row, with its real tokens only."""
        return tuple(self._sequences)

    def stats(self) -> dict:
        """Counts of pages, sequences and bytes of the pool, which forks share;
        see kvc.Cache.stats()."""
        return {} if self._pool.pages is None else self._pool.pages.stats()

    def fork(self) -> KvcCache:
        """A cache with these tokens, on the same pages until one of the two
        writes; as copy.deepcopy() does."""
        self._abandon()
        other = KvcCache.__new__(KvcCache)
        other._setup(self._pool)
        other._sequences = [each.fork() for each in self._sequences]
        other._length, other._mask = self._length, self._mask
        return other

    def __copy__(self):
        return self.fork()

    def __deepcopy__(self, memo):
        return self.fork()

    def __reduce__(self):
        raise TypeError("a KvcCache cannot be pickled: its pages are memory of "
                        "this process")

    def __repr__(self):
        return (f"KvcCache({self.program.name!r}, {len(self._sequences)} rows, "
                f"{self._length} tokens)")

    # --- forwards ------------------------------------------------------------

    def _abandon(self):
        forward, self._forward = self._forward, None
        if forward is None:
            return
        if forward.step is not None:
            forward.step.abandon()
        if self._length == 0:  # the next batch may be another one
            self._sequences = []

    def _keep_mask(self, mask):
        self._mask = None if mask is None or bool(mask.all()) else mask

    def _open(self, batch, tokens, mask, device):
        """Opens the step of a forward: of each row, the tokens that `mask`
        shows."""
        self._abandon()
        sequences = self._sequences
        if sequences and len(sequences) != batch:
            raise ValueError(f"the cache has {len(sequences)} rows, and the "
                             f"batch {batch}: reset() it, or select rows")
        mask, keep = self._new_mask(batch, tokens, mask)
        if not sequences:
            self._pool.reserve(batch)
            sequences = [self._pool.pages.open() for _ in range(batch)]
        if keep is None:
            requests = [(each, tokens) for each in sequences]
        else:
            requests = [(each, count) for each, count in
                        zip(sequences, keep.sum(1).tolist()) if count]
        step = None
        if requests:
            stream = None
            if device.type == "cuda":
                stream = torch.cuda.current_stream(device).cuda_stream
            try:
                step = self._pool.pages.step(requests, stream)
            except SequenceFull as error:
                raise SequenceFull(
                    f"max_tokens is {self._pool.max_tokens}, of a row with its "
                    f"prompt: {error}", error.where) from None
        self._sequences = sequences
        if keep is not None:
            keep = keep.to(device)
        self._forward = _Forward(step, batch, tokens, keep, mask)
        return self._forward

    def _new_mask(self, batch, tokens, mask):
        """(which tokens are real, of all and of the new ones); None: all."""
        if mask is None:
            if self._mask is not None:
                raise ValueError(
                    "attention_mask: expected the mask of the padded tokens "
                    "that are cached, and of the new ones; found None")
            return None, None
        total = self._length + tokens
        if tuple(mask.shape) != (batch, total):
            raise ValueError(f"attention_mask: expected [{batch}, {total}], of "
                             f"cached and new tokens; found {list(mask.shape)}")
        mask = mask.to("cpu", torch.bool)
        past, new = mask[:, :self._length], mask[:, self._length:]
        same = past.all() if self._mask is None else torch.equal(past,
                                                                 self._mask)
        if not same:
            raise ValueError("attention_mask: what it says of cached tokens is "
                             "not what it said when they came; a kvc cache "
                             "keeps the tokens that were shown")
        is_padded = not bool(new.all())
        if self._mask is None and not is_padded:
            return None, None
        self._check_holes(mask)
        return mask, new if is_padded else None

    def _check_holes(self, mask):
        """Of windows and positions, kvc counts real tokens and transformers
        all: the same, unless there is padding between tokens."""
        facts = self._pool.facts
        if facts and not any(fact.sees_positions for fact in facts):
            return
        count = mask.sum(1)
        first = mask.int().argmax(1)
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        if bool(((count > 0) & (last - first + 1 != count)).any()):
            raise ValueError("attention_mask: padding between the tokens of a "
                             "row would count in windows and positions; pad "
                             "on the left")

    def _attend(self, index, q, k, v, mask, sinks):
        """Appends and attends the rows of a layer; [batch, tokens, q_heads,
        head_dim]."""
        try:
            return self._attend_layer(index, q, k, v, mask, sinks)
        except BaseException:
            self._abandon()
            raise

    def _attend_layer(self, index, q, k, v, mask, sinks):
        batch, _, tokens, _ = q.shape
        if k.shape[0] != batch or k.shape[2] != tokens or \
                v.shape[:3] != k.shape[:3]:
            raise ValueError(
                "expected q, k and v of the same rows and tokens, found "
                f"{list(q.shape)}, {list(k.shape)} and {list(v.shape)}")
        if index == 0:
            forward = self._open(batch, tokens, mask, q.device)
        else:
            forward = self._forward
            if forward is None or forward.next != index:
                found = "none" if forward is None else forward.next
                raise RuntimeError(
                    f"layer {index} attends, and the layer that is expected "
                    f"is {found}: a model's layers attend in their order, and "
                    "each once a forward")
            if (batch, tokens) != (forward.batch, forward.tokens):
                raise ValueError(
                    f"layer {index}: expected {forward.batch} rows of "
                    f"{forward.tokens} tokens, as layer 0 has, found {batch} "
                    f"of {tokens}")
        if sinks is not None:
            self._pool.bind_sinks(index, sinks)
        keep, step = forward.keep, forward.step
        shape = (batch, tokens, q.shape[1], v.shape[3])
        if keep is None:
            step.append(index, _rows(k), _rows(v))
            out = step.attend(index, _rows(q)).view(shape)
        else:
            out = q.new_zeros(shape)
            if step is not None:
                step.append(index, k.transpose(1, 2)[keep],
                            v.transpose(1, 2)[keep])
                out[keep] = step.attend(index, q.transpose(1, 2)[keep])
        forward.next = index + 1
        if forward.next == len(self.layers):
            if step is not None:
                step.commit()
            self._length += tokens
            self._mask, self._forward = forward.mask, None
        return out


def _rows(x):
    """[batch, heads, tokens, dim] as [batch * tokens, heads, dim], without a
    copy if strides allow it."""
    if x.shape[2] == 1:
        return x.squeeze(2)
    if x.shape[0] == 1:
        return x.squeeze(0).transpose(0, 1)
    return x.transpose(1, 2).flatten(0, 1)


def _program_of(what, device, schedule):
    """The Program of whatever a KvcCache is made from."""
    if isinstance(what, Program):
        return what
    device = device if isinstance(device, Device) else str(device)
    is_file = isinstance(what, (str, os.PathLike)) and \
        os.fspath(what).endswith(".kvca")
    if not is_file and not isinstance(what, Artifact):
        what = compile_spec(what, targets=[_target_of(device)],
                            schedule=schedule)
    return load(what, device)


def _target_of(device):
    name = device.name if isinstance(device, Device) else device
    if name.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(name)
        return f"sm_{major}{minor}"
    return name if name.startswith("sim:") else "native"


def _check_config(program, config):
    model = program.model
    for what, found, wanted in zip(
            ("layers", "q_heads", "kv_heads"),
            (model.layers, model.q_heads, model.kv_heads), _heads(config)):
        if found != wanted:
            raise ValueError(f"{program.name}: the model has {wanted} {what}, "
                             f"the spec {found}")
    for store in program.stores:
        if not any(plane.stream == "v" for plane in store.planes):
            raise ValueError(f"{program.name}: V of the store `{store.name}` is "
                             "of its K, and a model of transformers gives both")
    head_dim = getattr(config, "head_dim", None)
    if head_dim and head_dim != model.head_dim_k:
        raise ValueError(f"{program.name}: the model's head_dim is {head_dim}, "
                         f"the spec's {model.head_dim_k}")


# --- the operator -----------------------------------------------------------

# The handle is declared to be written: so every call that concerns a cache is
# in the order of the program, and none is dropped, moved or merged, for each
# reads what the one before it wrote.
_library = torch.library.Library("kvc", "FRAGMENT")
_library.define("hf_attend(Tensor(a!) handle, int layer, Tensor q, Tensor k, "
                "Tensor v, Tensor? mask, Tensor? sinks) -> Tensor")


@torch.compiler.disable
def _hf_attend(handle, layer, q, k, v, mask, sinks):
    owner = _owners.get(handle.item())
    if owner is None:
        raise RuntimeError("the KvcCache of this call is gone")
    return owner._attend(layer, q, k, v, mask, sinks)


_library.impl("hf_attend", _hf_attend, "CompositeExplicitAutograd")


@torch.library.register_fake("kvc::hf_attend", lib=_library)
def _(handle, layer, q, k, v, mask, sinks):
    batch, heads, tokens, _ = q.shape
    return q.new_empty((batch, tokens, heads, v.shape[3]))


# --- what models call -------------------------------------------------------

def _same(found, wanted):
    return found == wanted or (found is not None and wanted is not None and
                               math.isclose(found, wanted, rel_tol=1e-6))


def _check_layer(layer, module, scaling, softcap, window, has_sinks):
    """That the spec is what the model asks for. What a spec has beyond a
    config's is the spec's business; what it lacks is an error."""
    pool = layer.owner._pool
    model = pool.program.model
    where = f"layer {layer.index} of {type(module).__name__}"
    config = getattr(module, "config", None)
    layers = getattr(config, "num_hidden_layers", model.layers)
    if layers != model.layers:
        # The step of a shorter model would never be committed.
        raise ValueError(f"{where}: the model has {layers} layers, the spec "
                         f"{model.layers}")
    if scaling is None:
        scaling = model.head_dim_k ** -0.5
    if not _same(scaling, model.softmax_scale):
        raise ValueError(f"{where}: the model's scale is {scaling}, the spec's "
                         f"softmax_scale {model.softmax_scale}")
    if pool.facts is None:
        return
    facts, strict = pool.facts[layer.index], pool.is_derived
    if not facts.has_logits and not _same(softcap or None, facts.softcap) and \
            (softcap or strict):
        raise ValueError(f"{where}: the model's softcap is {softcap}, the "
                         f"spec's logit_softcap {facts.softcap}")
    if (window or strict) and (facts.is_full or strict) and \
            window != facts.window:
        raise ValueError(f"{where}: the model's window is {window}, the spec's "
                         f"{facts.window}")
    if has_sinks != (facts.sink is not None) and (has_sinks or strict):
        raise ValueError(
            f"{where}: the model has {'' if has_sinks else 'no '}sinks, and the "
            f"spec {'none' if has_sinks else 'has'}: give sinks={has_sinks}")


def attention(module: torch.nn.Module, query: torch.Tensor, key: _Held,
              value: _Held, attention_mask: torch.Tensor | None,
              scaling: float | None = None, dropout: float = 0.0,
              sliding_window: int | None = None, softcap: float | None = None,
              s_aux: torch.Tensor | None = None, is_causal: bool | None = None,
              **kwargs) -> tuple[torch.Tensor, None]:
    """The attention function "kvc": appends K and V of the new tokens to a
    KvcCache and attends over it.

    query           [batch, q_heads, tokens, head_dim]
    key, value      what KvcCache.update() returned
    attention_mask  [batch, cached and new tokens], or None

    Returns ([batch, tokens, q_heads, head_dim], None).
    """
    if not isinstance(key, _Held) or not isinstance(value, _Held):
        raise RuntimeError(
            f'the attention "{NAME}" is over a KvcCache: give the model '
            "past_key_values=KvcCache.from_config(model.config), and "
            "use_cache=True")
    for name, reason in _UNSUPPORTED.items():
        if kwargs.get(name) is not None and kwargs[name] is not False:
            raise NotImplementedError(f"{name}: {reason}")
    if dropout:
        raise NotImplementedError("dropout: kernels have none; call "
                                  "model.eval()")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if not is_causal:
        raise NotImplementedError("is_causal=False: a cache's tokens see "
                                  "earlier ones only")
    if attention_mask is not None and attention_mask.ndim != 2:
        raise NotImplementedError(
            f"attention_mask: expected [batch, tokens], found "
            f"{list(attention_mask.shape)}; what a query sees is in the spec "
            "(attend.visible)")
    if torch.is_grad_enabled() and (
            query.requires_grad or key.rows.requires_grad or
            value.rows.requires_grad):
        raise NotImplementedError("kernels have no gradient: use "
                                  "torch.no_grad()")
    layer = key.layer
    asked = (scaling, softcap, sliding_window, s_aux is not None)
    if layer._checked != asked:
        _check_layer(layer, module, *asked)
        layer._checked = asked
    if torch.compiler.is_compiling():
        out = torch.ops.kvc.hf_attend(layer._handle, layer.index, query,
                                      key.rows, value.rows, attention_mask,
                                      s_aux)
    else:
        out = layer.owner._attend(layer.index, query, key.rows, value.rows,
                                  attention_mask, s_aux)
    return out, None


def mask(*args, attention_mask: torch.Tensor | None = None,
         allow_is_causal_skip: bool = True, **kwargs) -> torch.Tensor | None:
    """The mask function "kvc": which tokens are real, [batch, cached and new
    tokens], or None. What a query sees beyond that is in the spec."""
    if not allow_is_causal_skip:
        raise NotImplementedError(
            "the model's mask is not causal, or is one of packed sequences, "
            "blocks or its own making: what a query sees is in the spec "
            "(attend.visible)")
    return attention_mask


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
