"""The package on the CPU, with arrays of the standard library alone."""

import array
import copy
import ctypes
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import kvc
from plain import Plain, Rows, Strided, check_rows

LAYERS, Q_HEADS, KV_HEADS, DIM, PAGE = 2, 4, 2, 16, 4
SPEC = {
    "kvc": "0.1", "name": "small",
    "model": {"layers": LAYERS, "q_heads": Q_HEADS, "kv_heads": KV_HEADS,
              "head_dim": DIM, "dtype": "f32"},
    "streams": {"k": {"codec": "f32"}, "v": {"codec": "f32"}},
    "layout": {"kind": "paged", "page": PAGE}}


def setUpModule():
    global program
    program = kvc.load(kvc.compile(SPEC), device="cpu:2")


def new_cache(tokens=256, sequences=4, **limits):
    return kvc.Cache(program, tokens, sequences, **limits)


class Runner:
    """Steps of a cache, each checked against plain copies of its sequences."""

    def __init__(self, test, cache, seed=1):
        self.test, self.cache, self.seed = test, cache, seed
        self.plain = {}

    def draw(self, rows, heads, gap=0):
        self.seed += 1
        return Rows(rows, heads, DIM, self.seed, gap)

    def open(self):
        sequence = self.cache.open()
        self.plain[id(sequence)] = [Plain(program.model)
                                    for _ in range(LAYERS)]
        return sequence

    def fork(self, sequence):
        child = sequence.fork()
        self.plain[id(child)] = [each.copy()
                                 for each in self.plain[id(sequence)]]
        return child

    def truncate(self, sequence, tokens):
        sequence.truncate(tokens)
        for plain in self.plain[id(sequence)]:
            plain.truncate(tokens)

    def step(self, requests, accept=None, gap=0):
        counts = list(requests.values())
        with self.cache.step(requests) as step:
            for layer in range(LAYERS):
                k = self.draw(step.rows, KV_HEADS, gap)
                v = self.draw(step.rows, KV_HEADS, gap)
                q = self.draw(step.rows, Q_HEADS, gap)
                out = Rows(step.rows, Q_HEADS, DIM, gap=gap)
                plains = [self.plain[id(seq)][layer] for seq in requests]
                for seq, plain in zip(requests, plains):
                    rows = step.rows_of(seq)
                    plain.append(k, v, range(rows.start, rows.stop))
                step.append(layer, k.view(), v.view())
                given = out.view()
                self.test.assertIs(step.attend(layer, q.view(), out=given),
                                   given)
                check_rows(self.test, plains, counts, q, out)
            if accept is not None:
                step.accept(accept)
        for seq, count in requests.items():
            kept = count if accept is None else accept.get(seq, count)
            for plain in self.plain[id(seq)]:
                plain.truncate(len(plain.k) - (count - kept))
            self.test.assertEqual(len(seq), len(self.plain[id(seq)][0].k))


class Caches(unittest.TestCase):
    def test_steps_are_attention(self):
        run = Runner(self, new_cache())
        a, b = run.open(), run.open()
        run.step({a: 7})
        run.step({b: 3, a: 1})
        run.step({a: 2, b: 5}, accept={a: 1})
        run.step({a: 1, b: 1}, gap=8)
        run.cache.check()

    def test_forks_share_until_they_write(self):
        run = Runner(self, new_cache())
        a = run.open()
        run.step({a: 10})
        live = run.cache.stats()["pages_live"]
        b = run.fork(a)
        self.assertEqual(len(b), 10)
        self.assertEqual(run.cache.stats()["pages_live"], live)
        self.assertEqual(b.stats()["pages_shared"], live)
        run.step({a: 1, b: 2})
        self.assertEqual(run.cache.stats()["pages_copied"], 1)
        run.truncate(b, 5)
        run.step({b: 1, a: 3})
        a.release()
        run.step({b: 4})
        run.cache.check()

    def test_v_may_be_of_k(self):
        latent = kvc.load(kvc.compile(dict(
            SPEC, kvc="0.2", streams={"k": {"codec": "f32"}, "v": {"of": "k"}},
            model=dict(SPEC["model"], head_dim={"k": DIM, "v": 8}))))
        planes = [plane.stream for plane in latent.stores[0].planes]
        self.assertEqual(planes, ["k"])
        cache, plain = kvc.Cache(latent, 64), Plain(latent.model)
        k, q = Rows(5, KV_HEADS, DIM, 1), Rows(5, Q_HEADS, DIM, 2)
        out = Rows(5, Q_HEADS, 8)
        plain.append(k, k, range(5))
        with cache.step({cache.open(): 5}) as step:
            with self.assertRaisesRegex(kvc.InvalidArgument,
                                        "`v`: expected null, for V of `main`"):
                step.append(0, k.view(), Rows(5, KV_HEADS, 8).view())
            for layer in range(LAYERS):
                step.append(layer, k.view())
            step.attend(0, q.view(), out=out.view())
        check_rows(self, [plain], [5], q, out)
        with new_cache() as whole, whole.step({whole.open(): 5}) as step:
            with self.assertRaisesRegex(kvc.InvalidArgument, "found null"):
                step.append(0, k.view())
            step.abandon()

    def test_a_step_that_has_ended_keeps_no_sequence(self):
        cache = new_cache()
        a, b = cache.open(), cache.open()
        with cache.step({a: 2, b: 3}) as step:
            step.mark_appended()
        self.assertEqual(step.rows_of(b), slice(2, 5))
        del a
        gc.collect()
        self.assertEqual(cache.stats()["sequences"], 1)
        self.assertEqual(step.rows_of(b), slice(2, 5))
        self.assertIn("2 sequences, 5 rows, ended", repr(step))

    def test_exceptions_abandon(self):
        cache = new_cache()
        a = cache.open()
        with self.assertRaises(ZeroDivisionError):
            with cache.step({a: 3}):
                1 / 0
        self.assertEqual(len(a), 0)
        self.assertEqual(cache.stats()["steps"], 0)
        with self.assertRaises(kvc.NotAppended):
            with cache.step({a: 3}):
                pass
        self.assertEqual(cache.stats()["steps"], 0)
        step = cache.step({a: 1})
        del step
        gc.collect()
        self.assertEqual(cache.stats()["steps"], 0)

    def test_pages_are_given_back(self):
        cache = new_cache()
        with cache.open() as a:
            with cache.step({a: 9}) as step:
                step.mark_appended()
            self.assertEqual(cache.stats()["pages_live"], 3)
        self.assertEqual(cache.stats()["pages_live"], 0)
        b = cache.open()
        with cache.step({b: 1}) as step:
            step.mark_appended()
        self.assertEqual(cache.stats()["sequences"], 1)
        del b, step
        gc.collect()
        self.assertEqual(cache.stats()["sequences"], 0)
        self.assertEqual(cache.stats()["pages_live"], 0)

    def test_errors_are_classes(self):
        cache = new_cache(tokens=16, sequences=2, tokens_per_sequence=16)
        a, b = cache.open(), cache.open()
        with self.assertRaises(kvc.OutOfSequences):
            cache.open()
        with self.assertRaises(kvc.SequenceFull):
            cache.step({a: 17})
        with cache.step({a: 16}) as step:
            step.mark_appended()
        with self.assertRaises(kvc.OutOfPages) as caught:
            cache.step({b: 16})
        self.assertEqual(caught.exception.need, 4)
        self.assertLess(caught.exception.have, 4)
        self.assertGreater(caught.exception.where, 0)
        a.truncate(4)
        step = cache.step({b: 1})
        for call in (b.release, b.fork, lambda: b.truncate(0),
                     lambda: cache.step({b: 1})):
            self.assertRaises(kvc.Busy, call)
        step.abandon()
        self.assertRaises(kvc.Stale, step.commit)
        a.release()
        with self.assertRaises(kvc.Stale):
            len(a)

    def test_temporaries_live_as_long_as_the_call(self):
        class Temporary:
            """Rows that are gone, and not only free, once nobody has them."""

            def __init__(self, rows):
                self.rows = rows
                self.__array_interface__ = Strided(rows).__array_interface__

            def __del__(self):
                for i in range(len(self.rows.values)):
                    self.rows.values[i] = math.nan

        cache, plain = new_cache(), Plain(program.model)
        k, v, q = Rows(3, KV_HEADS, DIM, 1), Rows(3, KV_HEADS, DIM, 2), \
            Rows(3, Q_HEADS, DIM, 3)
        plain.append(k, v, range(3))
        out = Rows(3, Q_HEADS, DIM)
        with cache.step({cache.open(): 3}) as step:
            step.append(0, Temporary(copy.deepcopy(k)),
                        Temporary(copy.deepcopy(v)))
            step.attend(0, Temporary(copy.deepcopy(q)), out=out.view())
            check_rows(self, [plain], [3], q, out)
            step.mark_appended()

    def test_layers_stats_and_sizes(self):
        size = program.bytes_for(100, sequences=2)
        self.assertGreaterEqual(program.tokens_in(size, sequences=2,
                                                  tokens_per_sequence=100), 100)
        self.assertEqual(program.tokens_in(10, sequences=1), 0)
        cache = new_cache()
        a = cache.open()
        with cache.step({a: 5}) as step:
            step.mark_appended()
        store = program.store("main")
        self.assertEqual(cache.layer_bytes(1), 2 * store.page_bytes)
        self.assertEqual(a.stats(), {
            "tokens": 5, "new_tokens": 0, "pages": 2, "pages_shared": 0,
            "bytes": 2 * LAYERS * store.page_bytes})

    def test_a_lent_arena(self):
        size = program.bytes_for(64)
        memory = (ctypes.c_uint8 * (size + 64))()
        skip = -ctypes.addressof(memory) % 64
        arena = memoryview(memory)[skip:skip + size]
        run = Runner(self, kvc.Cache(program, 64, arena=arena))
        a = run.open()
        run.step({a: 9})
        run.cache.close()
        with self.assertRaises(kvc.Stale):
            run.cache.stats()
        with self.assertRaises(kvc.InvalidArgument):
            kvc.Cache(program, 64, arena=memoryview(memory)[skip + 1:])

    def test_threads_share_a_cache(self):
        cache, failures = new_cache(tokens=2048, sequences=8), []

        def work(seed):
            try:
                run = Runner(self, cache, seed * 1000)
                a = run.open()
                for _ in range(10):
                    run.step({a: 2})
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        cache.check()


class Pages(unittest.TestCase):
    """Engines with pages of their own."""

    def test_append_and_attend(self):
        store = program.stores[0]
        pages = 12
        pool = (ctypes.c_uint8 * (pages * store.page_bytes + 64))()
        skip = -ctypes.addressof(pool) % 64
        flat = memoryview(pool).cast("B")[skip:skip + pages * store.page_bytes]
        pool = flat.cast("B", (pages, store.page_bytes))
        k, v = Rows(7, KV_HEADS, DIM, 1), Rows(7, KV_HEADS, DIM, 2)
        table = array.array("i", [5, 3])
        slots = array.array("q", [table[t // PAGE] * PAGE + t % PAGE
                                  for t in range(7)])
        program.append("main", k.view(), v.view(), slots, pool,
                       page_count=pages)
        plain = Plain(program.model)
        plain.append(k, v, range(7))
        q, out = Rows(2, Q_HEADS, DIM, 3), Rows(2, Q_HEADS, DIM)
        lse = array.array("f", bytes(4 * 2 * Q_HEADS))
        program.attend("main", q.view(), array.array("i", [0, 2]),
                       array.array("i", [7]),
                       memoryview(table).cast("B").cast("i", (1, 2)), pool,
                       out=out.view(), lse=lse, page_count=pages)
        check_rows(self, [plain], [2], q, out)
        self.assertGreater(max(lse), -100)
        with self.assertRaises(kvc.InvalidArgument):
            program.append("main", k.view(), v.view(),
                           array.array("q", [99 * PAGE] * 7), pool,
                           page_count=pages)


class Compiling(unittest.TestCase):
    def test_dicts_texts_and_files(self):
        artifact = kvc.compile(SPEC)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.kvca"
            artifact.save(path)
            self.assertEqual(path.read_bytes(), artifact.data)
            self.assertEqual(os.listdir(folder), ["small.kvca"])
            self.assertEqual(kvc.load(path).name, "small")
            spec = Path(path).with_suffix(".json")
            spec.write_text(" " + json.dumps(SPEC))
            with self.assertRaisesRegex(kvc.Corrupt, "is a spec, not an art"):
                kvc.load(spec)
            self.assertEqual(kvc.load(path).spec["name"], "small")
            self.assertEqual(kvc.load(artifact).spec["model"]["layers"],
                             LAYERS)
            self.assertEqual(kvc.load(path.read_bytes()).name, "small")
            spec = Path(folder) / "small.json"
            spec.write_text(artifact.spec)
            self.assertEqual(kvc.compile(spec).data, artifact.data)
            self.assertEqual(kvc.compile(artifact.spec).data, artifact.data)
        loaded = kvc.load(artifact)
        self.assertEqual(loaded.model.dtype, "f32")
        self.assertEqual(loaded.stores[0].page_tokens, PAGE)
        self.assertEqual([p.role for p in loaded.stores[0].planes],
                         ["codes", "codes"])

    def test_explains_what_a_spec_costs(self):
        found = kvc.explain(SPEC, context=100, batch=3, bandwidth=0.001,
                            tflops=1)
        per_token = found["bytes_per_token"]
        self.assertEqual(per_token, sum(
            store["bytes_per_token"] for store in found["stores"]))
        self.assertEqual(found["step_bytes"], 300 * per_token)
        self.assertAlmostEqual(found["memory_ms"], 0.3 * per_token)
        self.assertEqual(found["bound"], "memory")
        self.assertTrue(found["kernels"])
        self.assertEqual(kvc.explain(SPEC)["context"], 8192)
        for wrong in ({"context": 0}, {"batch": -1}, {"bandwidth": 0},
                      {"tflops": float("nan")}):
            with self.assertRaises(kvc.InvalidArgument):
                kvc.explain(SPEC, **wrong)
        with self.assertRaises(kvc.SpecError):
            kvc.explain({"kvc": "0.1"})

    def test_faults_have_places(self):
        spec = dict(SPEC, streams={"k": {"codec": "int3"},
                                   "v": {"codec": "f32"}})
        with self.assertRaises(kvc.SpecError) as caught:
            kvc.compile(spec)
        found = caught.exception.diagnostics[0]
        self.assertEqual(found.pointer, "/streams/k/codec")
        self.assertEqual(found.severity, "error")
        self.assertGreater(found.line, 1)
        self.assertIn(found.code, str(caught.exception))

    def test_what_does_not_run_here_says_so(self):
        artifact = kvc.compile(SPEC, targets=["sim:sm_80"])
        with self.assertRaises(kvc.Unsupported):
            kvc.load(artifact)
        self.assertEqual(kvc.load(artifact, "sim:sm_80").target, "sm_80")


class Processes(unittest.TestCase):
    def test_a_forked_child_makes_its_own(self):
        # In a process without other threads, as a DataLoader's workers are.
        code = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import test_cache as t, kvc, unittest
t.setUpModule()
run = t.Runner(unittest.TestCase(), t.new_cache())
a = run.open(); run.step({a: 3})
child = os.fork()
if child == 0:
    try:
        len(a)
        os._exit(1)
    except kvc.Stale:
        pass
    del a, run
    t.setUpModule()
    run = t.Runner(unittest.TestCase(), t.new_cache())
    a = run.open(); run.step({a: 3})
    os._exit(0)
status = os.waitpid(child, 0)[1]
run.step({a: 2})
sys.exit(os.waitstatus_to_exitcode(status))
"""
        done = subprocess.run([sys.executable, "-c", code, __file__],
                              timeout=60, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_end_of_a_process_is_quiet(self):
        code = ("import os, sys; sys.path.insert(0, os.path.dirname("
                "sys.argv[1])); import test_cache as t; t.setUpModule(); "
                "c = t.new_cache(); a = c.open(); s = c.step({a: 1})")
        done = subprocess.run([sys.executable, "-c", code, __file__],
                              timeout=60, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
