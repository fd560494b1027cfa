"""transformers' generate over a kvc cache, against its own caches: tiny random
models, f32 in both, so that tokens are the same and logits nearly."""

import copy
import gc
import json
import inspect
import pickle
import tempfile
import unittest
from pathlib import Path

import torch
import transformers
from transformers import DynamicCache

import kvc
import kvc.hf
from kvc.hf import KvcCache

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VOCABULARY, WINDOW, PAD = 97, 5, 0
#: What transformers calls the argument that a cache is.
CACHE = "cache" if "cache" in inspect.signature(
    transformers.LlamaForCausalLM.forward).parameters else "past_key_values"
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96,
         "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 16,
         "max_position_embeddings": 256, "initializer_range": 0.25,
         "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": None,
         "attn_implementation": "eager"}
ALTERNATING = {"num_hidden_layers": 4, "sliding_window": WINDOW,
               "layer_types": ["sliding_attention", "full_attention"] * 2}
FAMILIES = {
    "Llama": {},
    "Mistral": {"sliding_window": WINDOW},
    "Qwen2": {"use_sliding_window": True, "sliding_window": WINDOW,
              "max_window_layers": 1},
    "Qwen3": {},
    "Gemma2": dict(ALTERNATING, query_pre_attn_scalar=24,
                   attn_logit_softcapping=1.5),
    "Gemma3": dict(ALTERNATING, query_pre_attn_scalar=24),
    "GptOss": dict(ALTERNATING, num_local_experts=4, num_experts_per_tok=2),
    "Phi3": {"sliding_window": 2 * WINDOW},
}
_models = {}


def model_of(family, seed=0, **changes):
    """A tiny random model, one for each family and seed."""
    key = (family, seed, *sorted(changes.items()))
    if key not in _models:
        names = {"Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM")}
        config, cls = names.get(family, (f"{family}Config",
                                         f"{family}ForCausalLM"))
        config = getattr(transformers, config)(
            **dict(SIZES, **FAMILIES[family], **changes))
        torch.manual_seed(seed)
        model = getattr(transformers, cls)(config).eval()
        with torch.no_grad():
            for name, values in model.named_parameters():
                if name.endswith("sinks"):
                    values.normal_(0, 2)
        _models[key] = model
    return _models[key]


def prompt(rows=2, tokens=11, seed=1, pads=()):
    """(tokens, mask): row i begins with pads[i] of padding."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (rows, tokens), generator=draw)
    seen = torch.ones_like(ids)
    for row, count in enumerate(pads):
        ids[row, :count], seen[row, :count] = PAD, 0
    return ids, seen


def positions_of(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


def cache_of(model, implementation, **options):
    if implementation == "kvc":
        return KvcCache.from_config(model.config, max_tokens=128, **options)
    return DynamicCache(config=model.config)


def generate(model, implementation, ids, mask, cache=None, options=None,
             count=8, **arguments):
    """(tokens, cache) of generate with one of the two caches."""
    model.set_attn_implementation(implementation)
    if cache is None:
        cache = cache_of(model, implementation, **(options or {}))
    torch.manual_seed(7)
    arguments.setdefault("do_sample", False)
    tokens = model.generate(ids, attention_mask=mask, max_new_tokens=count,
                            **{CACHE: cache}, **arguments)
    return tokens, cache


@torch.no_grad()
def logits(model, implementation, ids, mask, steps, cache=None):
    """Logits of forwards over so many tokens each, of which the first has
    `mask`; those of padding are zeros."""
    model.set_attn_implementation(implementation)
    cache = cache_of(model, implementation) if cache is None else cache
    found, begin = [], cache.get_seq_length()
    for count in steps:
        end = begin + count
        seen = mask[:, :end]
        out = model(ids[:, begin:end], attention_mask=seen,
                    position_ids=positions_of(seen)[:, begin:],
                    **{CACHE: cache}).logits
        found.append(out * seen[:, begin:, None])
        begin = end
    return torch.cat(found, 1), cache


class Test(unittest.TestCase):
    def assert_near(self, found, wanted, bound=1e-4):
        error = ((found - wanted).abs().max() / wanted.abs().max()).item()
        self.assertLess(error, bound)

    def assert_same(self, model, *arguments, **keywords):
        """That generate gives the same tokens with both caches."""
        wanted, _ = generate(model, "eager", *arguments, **keywords)
        found, cache = generate(model, "kvc", *arguments, **keywords)
        self.assertEqual(found.tolist(), wanted.tolist())
        cache._pool.pages.check()
        return found, cache


class Families(Test):
    """Every model, over prompts, decoding and padding, longer than windows."""


def _family_tests(family):
    def test_logits(self):
        model = model_of(family)
        ids, mask = prompt(2, 20, pads=(4,))
        wanted, _ = logits(model, "eager", ids, mask, (13, 1, 1, 3, 1, 1))
        found, cache = logits(model, "kvc", ids, mask, (13, 1, 1, 3, 1, 1))
        self.assert_near(found, wanted)
        self.assertEqual([len(each) for each in cache.sequences], [16, 20])

    def test_tokens(self):
        model = model_of(family)
        self.assert_same(model, *prompt(3, 9, pads=(0, 6, 2)), count=10)
    return test_logits, test_tokens


for _family in FAMILIES:
    _logits, _tokens = _family_tests(_family)
    setattr(Families, f"test_logits_of_{_family}", _logits)
    setattr(Families, f"test_tokens_of_{_family}", _tokens)


class Generation(Test):
    def test_sampling(self):
        ids, mask = prompt(3, 8, pads=(3,))
        self.assert_same(model_of("Llama"), ids, mask, do_sample=True,
                         temperature=1.3, top_k=20, num_return_sequences=2)

    def test_beams(self):
        for family in ("Llama", "Gemma2"):
            ids, mask = prompt(2, 9, pads=(0, 4))
            self.assert_same(model_of(family), ids, mask, num_beams=4,
                             num_return_sequences=2, count=12)

    def test_beams_share_their_pages(self):
        ids, mask = prompt(1, 100)
        model = model_of("Llama")
        _, cache = self.assert_same(model, ids, mask, num_beams=8, count=4)
        _, alone = generate(model, "kvc", ids, mask, count=4)
        stats = cache.stats()
        self.assertEqual(stats["sequences"], 8)
        # Of 7 pages of 16 tokens, beams have the last for themselves.
        self.assertLessEqual(stats["pages_live"],
                             alone.stats()["pages_live"] + 7)
        self.assertGreaterEqual(stats["pages_shared"], 6)

    def test_assisted_decoding(self):
        """Which gives what greedy search gives, whatever the drafts are."""
        def check(family, ids, **assistance):
            model, mask = model_of(family), torch.ones_like(ids)
            wanted, _ = generate(model, "eager", ids, mask, count=16)
            found, cache = generate(model, "kvc", ids, mask, count=16,
                                    **assistance)
            self.assertEqual(found.tolist(), wanted.tolist())
            # The last token was drawn and not cached.
            self.assertEqual(len(cache.sequences[0]), found.shape[1] - 1)
        for family, seed in ("Llama", 0), ("Llama", 3), ("Mistral", 3):
            # It has a cache of its own, which is not kvc's.
            assistant = copy.deepcopy(model_of(family, seed))
            assistant.set_attn_implementation("eager")
            assistant.generation_config.num_assistant_tokens = 4
            check(family, prompt(1, 12)[0], assistant_model=assistant)
        check("Gemma2", torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]]),
              prompt_lookup_num_tokens=3, eos_token_id=VOCABULARY)

    def test_chunked_prefill(self):
        for family in ("Llama", "Gemma3"):
            # The first chunk of a row is padding alone.
            ids, mask = prompt(2, 17, pads=(7,))
            self.assert_same(model_of(family), ids, mask, prefill_chunk_size=4)

    def test_a_cache_is_continued(self):
        for family in ("Llama", "Mistral"):
            model, found = model_of(family), []
            ids, mask = prompt(2, 9, pads=(3,))
            more, _ = prompt(2, 5, seed=2)
            for implementation in ("eager", "kvc"):
                tokens, cache = generate(model, implementation, ids, mask)
                tokens = torch.cat([tokens, more], 1)
                seen = torch.ones_like(tokens)
                seen[:, :9] = mask
                tokens, cache = generate(model, implementation, tokens, seen,
                                         cache)
                found.append((tokens.tolist(), cache.get_seq_length()))
            self.assertEqual(found[1], found[0])

    def test_crop(self):
        for family in ("Llama", "Mistral", "GptOss"):
            model = model_of(family)
            ids, mask = prompt(2, 24, pads=(2,))
            wanted, _ = logits(model, "eager", ids, mask, (24,))
            _, cache = logits(model, "kvc", ids, mask, (16, 1, 1))
            cache.crop(-7)
            self.assertEqual(cache.get_seq_length(), 11)
            self.assertEqual([len(each) for each in cache.sequences], [9, 11])
            found, _ = logits(model, "kvc", ids, mask, (5, 1, 7), cache)
            self.assert_near(found, wanted[:, 11:])

    def test_crop_into_the_padding(self):
        model = model_of("Llama")
        ids, mask = prompt(2, 16, pads=(9,))
        _, cache = logits(model, "kvc", ids, mask, (12,))
        cache.crop(-5)
        self.assertEqual([len(each) for each in cache.sequences], [0, 7])
        wanted, _ = logits(model, "eager", ids, mask, (16,))
        found, _ = logits(model, "kvc", ids, mask, (9,), cache)
        self.assert_near(found, wanted[:, 7:])

    def test_rows_are_selected_and_repeated(self):
        model = model_of("Mistral")
        ids, mask = prompt(3, 14, pads=(0, 4, 2))
        rows = [2, 0, 2, 1, 1]
        wanted, _ = logits(model, "eager", ids[rows], mask[rows], (14,))
        _, cache = logits(model, "kvc", ids, mask, (10,))
        cache.reorder_cache(torch.tensor(rows))
        found, _ = logits(model, "kvc", ids[rows], mask[rows], (3, 1), cache)
        self.assert_near(found, wanted[:, 10:])
        cache.batch_select_indices(torch.tensor([False, True, True, False,
                                                 False]))
        self.assertEqual(len(cache.sequences), 2)
        cache.batch_repeat_interleave(2)
        self.assertEqual(cache.batch_size, 4)
        self.assertEqual(cache.stats()["sequences"], 4)

    def test_copies_share_and_part(self):
        model = model_of("Llama")
        ids, mask = prompt(2, 20, pads=(5,))
        other, _ = prompt(2, 20, seed=9)
        other[:, :12] = ids[:, :12]
        _, cache = logits(model, "kvc", ids, mask, (12,))
        pages = cache.stats()["pages_live"]
        twin = copy.deepcopy(cache)
        self.assertEqual(cache.stats()["pages_live"], pages)
        for each, tokens in ((cache, ids), (twin, other)):
            wanted, _ = logits(model, "eager", tokens, mask, (20,))
            found, each = logits(model, "kvc", tokens, mask, (4, 4), each)
            self.assert_near(found, wanted[:, 12:])
        del twin, each
        gc.collect()
        self.assertEqual(cache.stats()["sequences"], 2)

    def test_reset_begins_anew(self):
        model = model_of("GptOss")
        ids, mask = prompt(2, 9)
        _, cache = generate(model, "kvc", ids, mask)
        cache.reset()
        self.assertEqual(cache.stats()["pages_live"], 0)
        more = prompt(5, 7, pads=(3, 1), seed=4)
        found, _ = generate(model, "kvc", *more, cache=cache)
        wanted, _ = generate(model, "eager", *more)
        self.assertEqual(found.tolist(), wanted.tolist())

    def test_sinks_may_change(self):
        model = copy.deepcopy(model_of("GptOss"))
        ids, mask = prompt(1, 8)
        _, cache = logits(model, "kvc", ids, mask, (8,))
        for change in (lambda x: x.add_(3), lambda x: x.set_(x - 5)):
            with torch.no_grad():
                for layer in model.model.layers:
                    change(layer.self_attn.sinks)
            wanted, _ = logits(model, "eager", ids, mask, (8,))
            cache.reset()
            found, _ = logits(model, "kvc", ids, mask, (8,), cache)
            self.assert_near(found, wanted)

    def test_padding_on_the_right(self):
        model = model_of("Llama")
        ids, mask = prompt(2, 12)
        mask[0, 7:10] = 0
        wanted, _ = logits(model, "eager", ids, mask, (10, 1, 1))
        found, _ = logits(model, "kvc", ids, mask, (10, 1, 1))
        self.assert_near(found, wanted)

    def test_codecs(self):
        model = model_of("Llama")
        ids, mask = prompt(2, 20)
        wanted, _ = logits(model, "eager", ids, mask, (20,))
        model.set_attn_implementation("kvc")
        for k, v, bound in (("bf16", "bf16", 0.05), ("bf16", "int8", 0.05)):
            cache = KvcCache.from_config(model.config, k=k, v=v)
            found, _ = logits(model, "kvc", ids, mask, (20,), cache)
            self.assert_near(found, wanted, bound)
            self.assertGreater((found - wanted).abs().max(), 1e-4)

    def test_models_of_bf16(self):
        model = copy.deepcopy(model_of("Gemma2")).to(torch.bfloat16)
        ids, mask = prompt(2, 14, pads=(3,))
        exact, _ = logits(model_of("Gemma2"), "eager", ids, mask, (14,))
        eager, _ = logits(model, "eager", ids, mask, (14,))
        model.set_attn_implementation("kvc")
        cache = KvcCache.from_config(model.config, dtype=torch.bfloat16)
        found, _ = logits(model, "kvc", ids, mask, (10, 4), cache)
        self.assertEqual(found.dtype, torch.bfloat16)
        error = (eager - exact).abs().max() / exact.abs().max()
        self.assert_near(found.float(), exact, 2 * error.item())


class Compiled(Test):
    def test_the_operator_is_what_it_declares(self):
        # Else a compiler may merge two forwards, or drop one.
        schema = torch.ops.kvc.hf_attend.default._schema
        self.assertTrue(schema.arguments[0].alias_info.is_write)
        model = model_of("Llama")
        cache = cache_of(model, "kvc", max_sequences=2)
        q, k = torch.randn(2, 4, 3, 16), torch.randn(2, 2, 3, 16)
        found = torch.library.opcheck(
            torch.ops.kvc.hf_attend.default,
            (cache._handle, 0, q, k, k, None, None))
        self.assertEqual(set(found.values()), {"SUCCESS"})

    def test_a_model_as_a_whole(self):
        """One graph of prompts, one of decoding, and none for a second
        cache."""
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward
        for family in ("Llama", "GptOss"):
            torch._dynamo.reset()
            model = model_of(family)
            ids, mask = prompt(2, 16, pads=(3,))
            wanted, _ = logits(model, "eager", ids, mask, (11, 1, 1, 1, 1, 1))
            model.set_attn_implementation("kvc")
            compiled = torch.compile(model, backend=backend, fullgraph=True)
            compiled.config = model.config
            compiled.set_attn_implementation = model.set_attn_implementation
            counts = []
            for _ in range(2):
                found, _ = logits(compiled, "kvc", ids, mask,
                                  (11, 1, 1, 1, 1, 1))
                self.assert_near(found, wanted)
                counts.append(len(graphs))
            self.assertEqual(counts[0], counts[1])

    def test_aot(self):
        torch._dynamo.reset()
        model = model_of("Llama")
        ids, mask = prompt(1, 8)
        wanted, _ = logits(model, "eager", ids, mask, (6, 1, 1))
        model.set_attn_implementation("kvc")
        cache = cache_of(model, "kvc")
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        with torch.no_grad():
            found = [compiled(part, **{CACHE: cache}).logits
                     for part in ids.split((6, 1, 1), 1)]
        self.assert_near(torch.cat(found, 1), wanted)


class Specs(Test):
    def test_stores_of_a_config(self):
        spec = kvc.hf.spec_of(model_of("GptOss").config, k="bf16", v="int8")
        self.assertEqual(
            [(each["name"], each["scope"]["layers"]["list"],
              each.get("reads")) for each in spec["stores"]],
            [("sliding", [0, 2], {"kind": "window", "recent": WINDOW}),
             ("full", [1, 3], None)])
        self.assertEqual(spec["stores"][0]["streams"]["v"], {"codec": "int8"})
        self.assertEqual(spec["stores"][1]["attend"]["sink"], "sinks[h]")
        gemma = kvc.hf.spec_of(model_of("Gemma2").config)["model"]
        self.assertEqual(gemma["logit_softcap"], 1.5)
        self.assertAlmostEqual(gemma["softmax_scale"], 24 ** -0.5)
        cache = cache_of(model_of("Gemma2"), "kvc")
        self.assertEqual(cache.is_sliding, [True, False] * 2)

    def test_whatever_a_cache_is_made_of(self):
        model = model_of("Llama")
        ids, mask = prompt(2, 9)
        wanted, _ = logits(model, "eager", ids, mask, (7, 2))
        spec = kvc.hf.spec_of(model.config, page=8)
        artifact = kvc.compile(spec)
        with tempfile.TemporaryDirectory() as folder:
            path, text = Path(folder) / "a.kvca", Path(folder) / "a.json"
            artifact.save(path)
            text.write_text(json.dumps(spec))
            for what in (spec, json.dumps(spec), text, artifact, path,
                         str(path), kvc.load(artifact)):
                cache = KvcCache(what, model.config, max_tokens=64)
                found, _ = logits(model, "kvc", ids, mask, (7, 2), cache)
                self.assert_near(found, wanted)

    def test_what_a_spec_adds_is_its_own(self):
        """A window on a model without one, with tokens at the beginning."""
        model = model_of("Llama")
        spec = kvc.hf.spec_of(model.config)
        spec["stores"][0]["reads"] = {"kind": "window", "sink": 2, "recent": 4}
        ids, mask = prompt(1, 12)
        full, _ = logits(model, "eager", ids, mask, (12,))
        cache = KvcCache(spec, model.config, max_tokens=64)
        found, _ = logits(model, "kvc", ids, mask, (12,), cache)
        self.assert_near(found[:, :6], full[:, :6])
        self.assertGreater((found - full).abs().max(), 1e-2)

    def test_models_that_configs_do_not_tell(self):
        for name, options, reason in (
                ("T5Config", {}, "cross attention"),
                ("DeepseekV3Config", {}, "latent"),
                ("Llama4TextConfig", {}, "chunked_attention"),
                ("Qwen3NextConfig", {}, "linear_attention"),
                ("Gemma3nTextConfig", {}, "share K and V"),
                ("MambaConfig", {}, "heads"),
                ("Gemma3TextConfig", {"use_bidirectional_attention": True},
                 "bidirectional")):
            config = getattr(transformers, name)(**options)
            with self.assertRaisesRegex(ValueError, reason):
                KvcCache.from_config(config)

    def test_specs_that_are_not_the_models(self):
        ids, mask = prompt(1, 6)

        def run(family, change):
            model = model_of(family)
            spec = kvc.hf.spec_of(model.config)
            change(spec)
            cache = KvcCache(spec, model.config, max_tokens=64)
            return logits(model, "kvc", ids, mask, (6,), cache)
        for family, change, reason in (
                ("Llama", lambda s: s["model"].update(softmax_scale=1.0),
                 "scale"),
                ("Gemma2", lambda s: s["model"].pop("logit_softcap"),
                 "softcap"),
                ("Mistral", lambda s: s["stores"][0].pop("reads"), "window"),
                ("GptOss", lambda s: s["stores"][1].pop("attend"), "sinks"),
                ("Llama", lambda s: s["model"].update(kv_heads=4),
                 "2 kv_heads"),
                ("Llama", lambda s: s["model"].update(head_dim=64),
                 "head_dim"),
                ("Llama", lambda s: s["model"].update(
                    layers=2) or s["stores"][0].pop("scope"), "3 layers")):
            with self.assertRaisesRegex(ValueError, reason):
                run(family, change)
        # A config that is not the model's: a cache of four layers under three
        # would never be committed.
        model = model_of("Llama")
        for change, reason in ({"num_hidden_layers": 4}, "layers"), (
                {"num_key_value_heads": 1}, "k: "):
            config = copy.deepcopy(model.config)
            config.update(change)
            with self.assertRaisesRegex(ValueError, reason):
                logits(model, "kvc", ids, mask, (6,),
                       KvcCache.from_config(config, max_tokens=64))
        with self.assertRaises(kvc.SpecError):
            KvcCache.from_config(model_of("Llama").config, k="int9")
        with self.assertRaisesRegex(ValueError, "dtype"):
            KvcCache.from_config(model_of("Llama").config, dtype=torch.int8)
        # Of a config whose model has no such thing, what is derived is wrong.
        model = model_of("Gemma3", attn_logit_softcapping=3.0)
        with self.assertRaisesRegex(ValueError, "softcap"):
            logits(model, "kvc", ids, mask, (6,))


class Misuse(Test):
    def setUp(self):
        self.model = model_of("Llama")
        self.ids, self.mask = prompt(2, 10, pads=(3,))

    def run_kvc(self, steps=(10,), mask=None, cache=None, ids=None,
                family="Llama"):
        return logits(model_of(family), "kvc", self.ids if ids is None else ids,
                      self.mask if mask is None else mask, steps, cache)

    def raw(self, cache, **arguments):
        self.model.set_attn_implementation("kvc")
        with torch.no_grad():
            return self.model(self.ids, **{CACHE: cache}, **arguments)

    def test_other_attention_over_a_kvc_cache(self):
        for implementation in ("eager", "sdpa"):
            cache = cache_of(self.model, "kvc")
            with self.assertRaisesRegex(RuntimeError,
                                        "set_attn_implementation"):
                logits(self.model, implementation, self.ids, self.mask, (10,),
                       cache)
            self.run_kvc(cache=cache)

    def test_kvc_over_other_caches(self):
        self.model.set_attn_implementation("kvc")
        for arguments in ({}, {"use_cache": False},
                          {CACHE: DynamicCache(config=self.model.config)}):
            with self.assertRaisesRegex(RuntimeError, "KvcCache"):
                with torch.no_grad():
                    self.model(self.ids, **arguments)

    def test_what_kernels_do_not_do(self):
        cache = cache_of(self.model, "kvc")
        four = torch.ones(2, 1, 10, 10, dtype=torch.bool)
        for reason, arguments in (
                ("output_attentions", {"output_attentions": True}),
                ("attend.visible", {"attention_mask": four}),
                ("alibi|ALiBi", {"alibi": torch.ones(1)}),
                ("position_bias", {"position_bias": torch.ones(1)}),
                ("causal", {"is_causal": False})):
            with self.assertRaisesRegex(NotImplementedError, reason):
                self.raw(cache, **arguments)
        self.model.set_attn_implementation("kvc")
        with self.assertRaisesRegex(NotImplementedError, "gradient"):
            self.model(self.ids, **{CACHE: cache})
        model = model_of("Llama", attention_dropout=0.5)
        model.set_attn_implementation("kvc")
        model.train()
        with torch.no_grad(), \
                self.assertRaisesRegex(NotImplementedError, "dropout"):
            model(self.ids, **{CACHE: cache})
        with self.assertRaisesRegex(NotImplementedError, "causal"):
            kvc.hf.mask(attention_mask=None, allow_is_causal_skip=False)
        self.run_kvc(cache=cache)

    def test_masks_that_do_not_fit(self):
        wide = torch.ones(2, 11)
        _, cache = self.run_kvc((8,))
        for mask, reason in ((wide, "expected"), (self.mask[:1], "expected"),
                             (torch.ones(2, 18), "when they came"),
                             (None, "found None")):
            with self.assertRaisesRegex(ValueError, reason):
                self.raw(cache, attention_mask=mask)
        # Nothing of it is left in the cache.
        found, _ = self.run_kvc((1, 1), cache=cache)
        wanted, _ = logits(self.model, "eager", self.ids, self.mask, (10,))
        self.assert_near(found, wanted[:, 8:])

    def test_padding_between_tokens_under_a_window(self):
        mask = torch.ones_like(self.ids)
        mask[0, 4:6] = 0
        for family in ("Mistral", "Gemma2"):
            with self.assertRaisesRegex(ValueError, "left"):
                self.run_kvc(mask=mask, family=family)
        mask[0, 6:] = 0  # behind all of them it is no matter
        wanted, _ = logits(model_of("Mistral"), "eager", self.ids, mask, (10,))
        found, _ = self.run_kvc(mask=mask, family="Mistral")
        self.assert_near(found, wanted)

    def test_another_batch(self):
        _, cache = self.run_kvc((8,))
        with self.assertRaisesRegex(ValueError, "rows"):
            self.run_kvc((1,), ids=self.ids[:1], mask=self.mask[:1],
                         cache=cache)
        with self.assertRaises(IndexError):
            cache.reorder_cache(torch.tensor([0, 2]))

    def test_a_forward_that_fails(self):
        """In each layer, of a prompt and of a decoding step."""
        wanted, _ = logits(self.model, "eager", self.ids, self.mask, (8, 1, 1))
        cache = cache_of(self.model, "kvc")

        def fail(*arguments):
            raise ZeroDivisionError
        found, begin = [], 0
        for count in (8, 1, 1):
            layers = self.model.model.layers
            for module in [each.self_attn.k_proj for each in layers] + [
                    each.mlp for each in layers[:-1]]:
                hook = module.register_forward_hook(fail)
                try:
                    with self.assertRaises(ZeroDivisionError):
                        self.run_kvc((count,), cache=cache)
                finally:
                    hook.remove()
                self.assertEqual(cache.get_seq_length(), begin)
            # Of a failed first forward, the batch may have been another one.
            if begin == 0:
                self.raw(cache, attention_mask=None)
                cache.reset()
            part, _ = self.run_kvc((count,), cache=cache)
            found.append(part)
            begin += count
        self.assert_near(torch.cat(found, 1), wanted)
        cache._pool.pages.check()

    def test_layers_out_of_order(self):
        cache = cache_of(self.model, "kvc")
        layers = self.model.model.layers
        for one, other in (0, 1), (1, 2):
            layers[one], layers[other] = layers[other], layers[one]
            try:
                with self.assertRaisesRegex(RuntimeError,
                                            f"layer {other} attends"):
                    self.run_kvc(cache=cache)
            finally:
                layers[one], layers[other] = layers[other], layers[one]
        self.run_kvc(cache=cache)

    def test_room(self):
        cache = KvcCache.from_config(self.model.config, max_tokens=9,
                                     max_sequences=2)
        with self.assertRaisesRegex(kvc.SequenceFull, "max_tokens is 9"):
            self.run_kvc(mask=torch.ones_like(self.mask), cache=cache)
        self.assertEqual(cache.stats()["sequences"], 0)
        self.run_kvc(cache=cache, ids=self.ids[:, :9],
                     mask=self.mask[:, :9], steps=(8, 1))
        before = cache.stats()
        with self.assertRaises(kvc.OutOfSequences):
            cache.batch_repeat_interleave(2)
        with self.assertRaises(kvc.OutOfSequences):
            copy.copy(cache)
        self.assertEqual(cache.stats(), before)
        self.assertEqual(cache.batch_size, 2)
        with self.assertRaisesRegex(kvc.OutOfSequences,
                                    "max_sequences is 1, .* 2 rows"):
            self.run_kvc(cache=KvcCache.from_config(self.model.config,
                                                    max_sequences=1))

    def test_crops(self):
        _, cache = self.run_kvc((8,))
        with self.assertRaisesRegex(ValueError, "tokens"):
            cache.crop(-9)
        if "max_length" not in inspect.signature(
                transformers.cache_utils.DynamicLayer.crop).parameters:
            with self.assertRaisesRegex(ValueError, "at most 0"):
                cache.crop(3)
        model = model_of("Mistral")
        cache = KvcCache.from_config(model.config, max_tokens=128, rollback=8)
        ids, mask = prompt(1, 90)
        _, cache = logits(model, "kvc", ids, mask, (90,), cache)
        with self.assertRaises(kvc.InvalidArgument):
            cache.crop(-60)
        self.assertEqual(cache.get_seq_length(), 90)
        cache.crop(-8)

    def test_dtypes_and_pickles(self):
        cache = KvcCache.from_config(self.model.config, dtype="bfloat16")
        with self.assertRaisesRegex(TypeError, "bf16"):
            self.run_kvc(cache=cache)
        with self.assertRaisesRegex(TypeError, "pickled"):
            pickle.dumps(cache)
        with self.assertRaises(NotImplementedError):
            cache.layers[0].crop(-1)

    def test_caches_are_given_back(self):
        model = self.model
        cache = cache_of(model, "kvc")
        self.run_kvc(cache=cache)
        pool = cache._pool
        del cache
        gc.collect()
        self.assertEqual(pool.pages.stats()["sequences"], 0)


if __name__ == "__main__":
    unittest.main()
