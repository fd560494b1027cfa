"""K and V that were cached, decoded again: Sequence.read and Program.gather."""

import array
import ctypes
import threading
import unittest

import kvc
import test_cache
from misuse import Interface, Misuse
from plain import Rows
from test_cache import DIM, KV_HEADS, LAYERS, PAGE, Q_HEADS, SPEC, Runner

try:
    import numpy
except ImportError:
    numpy = None


def setUpModule():
    test_cache.setUpModule()


def filled(tokens, gap=0):
    """Rows that nobody has written to."""
    rows = Rows(tokens, KV_HEADS, DIM, gap=gap)
    for i in range(len(rows.values)):
        rows.values[i] = 7
    return rows


class Reads(unittest.TestCase):
    def setUp(self):
        self.run_ = Runner(self, test_cache.new_cache())
        self.a = self.run_.open()

    def check_read(self, sequence, start=0, stop=None, gap=0):
        end = len(sequence) if stop is None else stop
        for layer, plain in enumerate(self.run_.plain[id(sequence)]):
            k, v = filled(end - start, gap), filled(end - start, gap)
            given = k.view(), v.view()
            found = sequence.read(layer, start, stop, *given)
            self.assertIs(found[0], given[0])
            self.assertIs(found[1], given[1])
            for rows, wanted in ((k, plain.k), (v, plain.v)):
                for i in range(end - start):
                    for head in range(KV_HEADS):
                        self.assertEqual(rows.row(i, head),
                                         wanted[start + i][head])
                    begin = i * rows.width + KV_HEADS * DIM
                    self.assertEqual(
                        list(rows.values[begin:begin + gap]), [7] * gap)

    def test_what_was_appended(self):
        self.run_.step({self.a: 7})
        b = self.run_.open()
        self.run_.step({b: 3, self.a: 2}, accept={self.a: 1})
        self.check_read(self.a)
        self.check_read(b)
        self.check_read(self.a, 3, 6)
        self.check_read(self.a, 5, gap=8)
        self.check_read(self.a, 7)

    def test_arrays_of_ctypes(self):
        self.run_.step({self.a: 5})
        rows = (ctypes.c_float * DIM * KV_HEADS * 5)()
        self.a.read(1, k=rows)
        wanted = self.run_.plain[id(self.a)][1].k
        for i in range(5):
            for head in range(KV_HEADS):
                self.assertEqual(list(rows[i][head]), list(wanted[i][head]))

    def test_other_threads_wait(self):
        """A commit is not lost to somebody who reads, which is most of the
        time."""
        many, steps, done = 4000, 50, threading.Event()
        a = test_cache.new_cache(tokens=many + steps).open()
        with a.cache.step({a: many}) as step:
            step.mark_appended()
        rows = memoryview(bytearray(4 * many * KV_HEADS * DIM)).cast(
            "B").cast("f", (many, KV_HEADS, DIM))

        def read():
            while not done.is_set():
                a.read(0, k=rows, stop=many)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(steps):
                with a.cache.step({a: 1}) as step:
                    step.mark_appended()
        finally:
            done.set()
            reader.join()
        self.assertEqual(len(a), many + steps)

    def test_no_rows(self):
        self.run_.step({self.a: 3})
        none = Interface(array.array("f", [7]), (0, KV_HEADS, DIM))
        for start, stop in ((2, 2), (3, None)):
            self.assertEqual(self.a.read(0, start, stop, none), (none, None))

    def test_forks_and_truncations(self):
        self.run_.step({self.a: 6})
        b = self.run_.fork(self.a)
        self.check_read(b)
        self.run_.step({self.a: 1, b: 2})
        self.run_.truncate(b, 4)
        self.run_.step({b: 3})
        self.check_read(self.a)
        self.check_read(b)
        self.a.release()
        self.check_read(b)

    def test_in_an_open_step(self):
        self.run_.step({self.a: 5})
        step = self.run_.cache.step({self.a: 4})
        rows = Rows(4, KV_HEADS, DIM, 9)
        for layer in range(LAYERS):
            step.append(layer, rows.view(), rows.view())
        self.check_read(self.a)
        step.abandon()

    def test_one_of_the_two(self):
        self.run_.step({self.a: 5})
        plain = self.run_.plain[id(self.a)][1]
        for name, wanted in (("k", plain.k), ("v", plain.v)):
            rows = filled(2)
            given = rows.view()
            k, v = self.a.read(1, 1, 3, **{name: given})
            self.assertIs(k if name == "k" else v, given)
            self.assertIsNone(v if name == "k" else k)
            self.assertEqual(rows.row(1, 0), wanted[2][0])

    def test_new_arrays(self):
        self.run_.step({self.a: 5})
        if numpy is None:
            with self.assertRaises(TypeError) as caught:
                self.a.read(0)
            self.assertEqual(str(caught.exception),
                             "numpy is not installed: give `k` or `v`")
            return
        k, v = self.a.read(0, 1)
        plain = self.run_.plain[id(self.a)][0]
        numpy.testing.assert_array_equal(k, numpy.array(plain.k[1:], "f4"))
        numpy.testing.assert_array_equal(v, numpy.array(plain.v[1:], "f4"))

    def test_codes_are_decoded(self):
        program = kvc.load(kvc.compile(dict(SPEC, streams={
            "k": {"codec": "int8"}, "v": {"codec": "f16"}})), device="cpu:1")
        cache = kvc.Cache(program, 64)
        a, k, v = cache.open(), Rows(9, KV_HEADS, DIM, 1), \
            Rows(9, KV_HEADS, DIM, 2)
        with cache.step({a: 9}) as step:
            for layer in range(LAYERS):
                step.append(layer, k.view(), v.view())
        for layer in range(LAYERS):
            k_read, v_read = filled(9), filled(9)
            a.read(layer, k=k_read.view(), v=v_read.view())
            for i in range(len(k.values)):
                self.assertAlmostEqual(k_read.values[i], k.values[i],
                                       delta=0.03)
                self.assertAlmostEqual(v_read.values[i], v.values[i],
                                       delta=0.002)
            self.assertNotEqual(k_read.values, k.values)

    def test_own_pages(self):
        program, store = test_cache.program, test_cache.program.stores[0]
        pages = 6
        memory = (ctypes.c_uint8 * (pages * store.page_bytes + 64))()
        skip = -ctypes.addressof(memory) % 64
        pool = memoryview(memory).cast("B")[
            skip:skip + pages * store.page_bytes].cast(
                "B", (pages, store.page_bytes))
        k, v = Rows(7, KV_HEADS, DIM, 1), Rows(7, KV_HEADS, DIM, 2)
        table = [5, 3]
        slots = [table[t // PAGE] * PAGE + t % PAGE for t in range(7)]
        program.append("main", k.view(), v.view(), array.array("q", slots),
                       pool)
        order = [6, 0, 0, 3]
        wanted = array.array("q", [slots[t] for t in order] + [-1])
        k_read, v_read = filled(5), filled(5, gap=4)
        given = k_read.view(), v_read.view()
        found = program.gather("main", wanted, pool, k=given[0], v=given[1])
        self.assertIs(found[0], given[0])
        self.assertIs(found[1], given[1])
        for head in range(KV_HEADS):
            for i, token in enumerate(order):
                self.assertEqual(k_read.row(i, head), k.row(token, head))
                self.assertEqual(v_read.row(i, head), v.row(token, head))
            self.assertEqual(list(k_read.row(4, head)), [7] * DIM)
        only = filled(5)
        self.assertEqual(
            program.gather("main", wanted, pool, v=only.view())[0], None)
        self.assertEqual(only.row(0, 1), v.row(6, 1))
        if numpy is not None:
            found, _ = program.gather("main", wanted, pool)
            self.assertEqual(found.shape, (5, KV_HEADS, DIM))
            self.assertEqual(list(found[0, 0]), list(k.row(6, 0)))


class Wrong(Misuse):
    """Of a sequence of five tokens."""

    def read(self, layer=0, start=0, stop=None, k=None, v=None):
        if k is None and v is None:
            k = filled(5).view()
        return self.a.read(layer, start, stop, k, v)

    def test_ranges(self):
        for stop in (6, -1, 1 << 32):
            self.refused(kvc.InvalidArgument, lambda: self.read(stop=stop),
                         "stop: expected 0 to 5", f"found {stop}")
        for start in (6, -1):
            self.refused(kvc.InvalidArgument, lambda: self.read(start=start),
                         "start: expected 0 to 5", f"found {start}")
        self.refused(kvc.InvalidArgument, lambda: self.read(start=3, stop=2),
                     "start: expected 0 to 2, found 3")
        for thing in (None, "1", 1.0):
            self.refused(TypeError, lambda: self.read(start=thing),
                         "start: expected an integer")

    def test_layers(self):
        for layer in (LAYERS, -1, kvc.ALL_LAYERS):
            self.refused(kvc.InvalidArgument, lambda: self.read(layer),
                         f"layer: expected 0 to {LAYERS - 1}")

    def test_arrays(self):
        self.refused(ValueError, lambda: self.read(stop=4),
                     f"k: expected [4, {KV_HEADS}, {DIM}]")
        self.refused(ValueError, lambda: self.read(
            v=Rows(5, Q_HEADS, DIM).view()), "v: expected")
        constant = memoryview(bytes(4 * 5 * KV_HEADS * DIM)).cast(
            "f", (5, KV_HEADS * DIM))
        self.refused(ValueError, lambda: self.read(k=constant),
                     "k: expected an array that can be written")
        self.refused(TypeError, lambda: self.read(v="rows"),
                     "v: expected an array")

    def test_tokens_that_a_window_gave_back(self):
        program = kvc.load(kvc.compile(dict(SPEC, reads={
            "kind": "window", "recent": 8})), device="cpu:1")
        b = kvc.Cache(program, 64).open()
        with b.cache.step({b: 40}) as step:
            step.mark_appended()
        rows = filled(8).view()
        self.refused(kvc.InvalidArgument, lambda: b.read(0, 25, 33, rows),
                     "`main` has not given back, those from 32 on, found 25 to "
                     "33")
        b.read(0, 32, 40, rows)

    def test_slots(self):
        store = self.program.stores[0]
        pool = memoryview(bytearray(4 * store.page_bytes)).cast(
            "B", (4, store.page_bytes))
        rows = filled(2).view()
        gather = lambda slots, **more: self.program.gather(
            "main", slots, pool, k=rows, **more)
        self.refused(kvc.InvalidArgument,
                     lambda: gather(array.array("q", [0, 4 * PAGE])),
                     "slot[1]", f"expected below 4 * {PAGE}")
        self.refused(ValueError, lambda: gather(array.array("i", [0, 1])),
                     "slots: expected 2 of i64", "i32")
        self.refused(ValueError, lambda: gather(array.array("q", [0])),
                     f"k: expected [1, {KV_HEADS}, {DIM}]")
        self.refused(TypeError, lambda: gather(None),
                     "slots: expected an array")
        # 0 pages would tell the kernel that the caller vouches for the slots.
        nothing = Interface(array.array("B", [0]), (0, store.page_bytes))
        self.refused(ValueError, lambda: self.program.gather(
            "main", array.array("q", [10 ** 9]), nothing, k=filled(1).view()),
                     "planes: expected a pool of at least one page")
        self.refused(KeyError, lambda: self.program.gather(
            "side", array.array("q", [0]), pool), "side")


if __name__ == "__main__":
    unittest.main()
