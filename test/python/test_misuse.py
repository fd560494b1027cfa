"""What callers get wrong: each case gives the documented class, with what was
expected and what was found, and leaves cache and process as they were."""

import array
import ctypes
import json
import math
import os
import pickle
import tempfile
import threading
import unittest
from pathlib import Path

import kvc
import test_cache
from plain import Plain, Rows, check_rows
from test_cache import DIM, KV_HEADS, LAYERS, PAGE, Q_HEADS, SPEC, Runner

try:
    import numpy
except ImportError:
    numpy = None

ROWS = 3


def setUpModule():
    test_cache.setUpModule()


class Misuse(unittest.TestCase):
    """Cases on a cache with a sequence `a` of some tokens. refused() sees to it
    that nothing changed, tearDown() that steps and their attention still work.
    """

    def setUp(self):
        self.program = test_cache.program
        self.cache = test_cache.new_cache(tokens=64, sequences=3)
        self.run_ = Runner(self, self.cache)
        self.a = self.run_.open()
        self.run_.step({self.a: 5})

    def tearDown(self):
        self.assertEqual(self.cache.stats()["steps"], 0)
        self.cache.check()
        self.run_.step({self.a: 2})
        b = self.run_.fork(self.a)
        self.run_.step({self.a: 1, b: 2})
        self.cache.check()

    def refused(self, cls, call, *words):
        """That the call raises this class, that its text has the words, and
        that nothing else came of it."""
        before, length = self.cache.stats(), len(self.a)
        with self.assertRaises(cls) as caught:
            call()
        self.assertIs(type(caught.exception), cls)
        for word in words:
            self.assertIn(word, str(caught.exception))
        after = self.cache.stats()
        # The one count that refusals are in.
        self.assertLessEqual(after.pop("refused") - before.pop("refused"), 1)
        self.assertEqual(after, before)
        self.assertEqual(len(self.a), length)
        return caught.exception

    def step(self, rows=ROWS):
        """An open step, abandoned at the end of the test."""
        step = self.cache.step({self.a: rows})

        def end():
            if step._is_open:
                step.abandon()
        self.addCleanup(end)
        self.open_step = step
        return step


class InSteps(Misuse):
    """Arrays and layers of append and attend."""

    def setUp(self):
        super().setUp()
        self.opened = self.cache.step({self.a: ROWS})
        self.k, self.v = Rows(ROWS, KV_HEADS, DIM, 1), \
            Rows(ROWS, KV_HEADS, DIM, 2)
        self.q, self.out = Rows(ROWS, Q_HEADS, DIM, 3), \
            Rows(ROWS, Q_HEADS, DIM)

    def tearDown(self):
        self.opened.abandon()
        super().tearDown()

    def append(self, k=None, v=None, layer=0):
        self.opened.append(layer, self.k.view() if k is None else k,
                           self.v.view() if v is None else v)

    def attend(self, q=None, out=None, lse=None, layer=0):
        return self.opened.attend(
            layer, self.q.view() if q is None else q,
            out=self.out.view() if out is None else out, lse=lse)

    def test_what_is_no_array(self):
        for thing, name in ((object(), "object"), ("rows", "str"), (7, "int"),
                            ([1.0], "list")):
            self.refused(TypeError, lambda: self.append(k=thing),
                         "k: expected an array", name)
            self.refused(TypeError, lambda: self.attend(q=thing),
                         "q: expected an array", name)
        self.refused(TypeError, lambda: self.opened.append(0, None, None),
                     "k: expected an array", "NoneType")

    def test_too_few_and_too_many_rows(self):
        for rows in (0, 1, ROWS + 1):
            wrong = Rows(rows, KV_HEADS, DIM)
            self.refused(
                ValueError, lambda: self.append(
                    v=Interface(wrong.values, (rows, KV_HEADS, DIM))),
                f"v: expected [{ROWS}, {KV_HEADS}, {DIM}]",
                f"found [{rows}, {KV_HEADS}, {DIM}]")

    def test_heads_and_dims_of_another_model(self):
        self.refused(ValueError, lambda: self.append(k=self.q.view()),
                     f"k: expected [{ROWS}, {KV_HEADS}, {DIM}]",
                     f"found [{ROWS}, {Q_HEADS * DIM}]")
        self.refused(
            ValueError, lambda: self.append(k=Interface(
                self.k.values, (KV_HEADS, ROWS, DIM))),
            f"found [{KV_HEADS}, {ROWS}, {DIM}]")
        self.refused(ValueError, lambda: self.attend(
            out=Rows(ROWS, KV_HEADS, DIM).view()), "out: expected")

    def test_flat_arrays(self):
        self.refused(ValueError, lambda: self.append(k=self.k.values),
                     f"found [{ROWS * KV_HEADS * DIM}]")

    def test_another_dtype(self):
        doubles = array.array("d", bytes(8 * ROWS * KV_HEADS * DIM))
        self.refused(
            TypeError, lambda: self.append(
                k=Interface(doubles, (ROWS, KV_HEADS, DIM), "<f8")),
            "k: expected f32", "found f64")
        self.refused(
            TypeError, lambda: self.attend(
                q=Interface(doubles, (ROWS, Q_HEADS, DIM), "<i4")),
            "q: expected f32", "found i32")

    def test_the_other_byte_order(self):
        self.refused(
            TypeError, lambda: self.append(k=Interface(
                self.k.values, (ROWS, KV_HEADS, DIM), ">f4")),
            "k: expected f32", ">f4")

    def test_elements_that_are_apart(self):
        wide = array.array("f", bytes(8 * ROWS * KV_HEADS * DIM))
        strides = (8 * KV_HEADS * DIM, 8 * DIM, 8)
        self.refused(
            ValueError, lambda: self.append(k=Interface(
                wide, (ROWS, KV_HEADS, DIM), strides=strides)),
            "k: expected the elements of a head side by side", "8 bytes")

    def test_rows_that_are_one_row_again(self):
        """A stride of 0, as broadcasts have, means dense in the C ABI."""
        for strides in ((0, 4 * DIM, 4), (4 * DIM, 0, 4), (0, 0, 4)):
            self.refused(
                ValueError, lambda: self.append(k=Interface(
                    self.k.values, (ROWS, KV_HEADS, DIM), strides=strides)),
                "k: expected rows and heads that are memory of their own",
                str(list(strides)))

    def test_rows_that_overlap(self):
        for strides in ((4, 4 * DIM, 4), (4 * KV_HEADS * DIM, 8, 4)):
            self.refused(
                kvc.InvalidArgument, lambda: self.append(k=Interface(
                    self.k.values, (ROWS, KV_HEADS, DIM), strides=strides)),
                "k_", "_stride`: expected", "found")

    def test_rows_from_last_to_first(self):
        row = 4 * KV_HEADS * DIM
        self.refused(
            kvc.InvalidArgument, lambda: self.append(k=Interface(
                self.k.values, (ROWS, KV_HEADS, DIM),
                strides=(-row, 4 * DIM, 4), offset=(ROWS - 1) * row)),
            "k_row_stride", "expected at least", f"found -{row}")

    def test_addresses_between_elements(self):
        values = array.array("f", bytes(4 * (ROWS * KV_HEADS * DIM + 1)))
        self.refused(
            kvc.InvalidArgument, lambda: self.append(k=Interface(
                values, (ROWS, KV_HEADS, DIM), offset=2)),
            "multiples of 4")

    def test_outputs_that_cannot_be_written(self):
        constant = memoryview(bytes(4 * ROWS * Q_HEADS * DIM)).cast(
            "f", (ROWS, Q_HEADS * DIM))
        self.refused(ValueError, lambda: self.attend(out=constant),
                     "out: expected an array that can be written")
        self.refused(
            ValueError, lambda: self.attend(
                lse=memoryview(bytes(4 * ROWS * Q_HEADS)).cast("f")),
            "lse: expected an array that can be written")

    def test_lse_of_another_size_or_type(self):
        self.refused(ValueError, lambda: self.attend(
            lse=array.array("f", [0.0])),
            f"lse: expected {ROWS * Q_HEADS} of f32", "found [1] of f32")
        self.refused(ValueError, lambda: self.attend(
            lse=array.array("d", bytes(8 * ROWS * Q_HEADS))), "f64")
        wide = array.array("f", bytes(8 * ROWS * Q_HEADS))
        self.refused(
            ValueError, lambda: self.attend(lse=Interface(
                wide, (ROWS, Q_HEADS), strides=(8 * Q_HEADS, 4))),
            "lse: expected a dense array", str([8 * Q_HEADS, 4]))

    def test_arrays_of_a_gpu(self):
        class OnGpu:
            """What PyTorch shows of a tensor."""

            shape, dtype = (ROWS, KV_HEADS, DIM), "torch.float32"
            device = type("device", (), {
                "type": "cuda", "__str__": lambda self: "cuda:0"})()

            def data_ptr(self):
                return 1 << 40

            def element_size(self):
                return 4

            def stride(self):
                return (KV_HEADS * DIM, DIM, 1)
        self.refused(ValueError, lambda: self.append(k=OnGpu()),
                     "k: expected an array on cpu", "cuda:0")

    def test_layers_that_there_are_not(self):
        for layer in (LAYERS, -1, 1 << 32, kvc.ALL_LAYERS):
            for call in (lambda: self.append(layer=layer),
                         lambda: self.attend(layer=layer),
                         lambda: self.opened.view("main", layer)):
                self.refused(kvc.InvalidArgument, call,
                             f"layer: expected 0 to {LAYERS - 1}",
                             f"found {layer}")
        for layer in (-1, LAYERS):
            self.refused(kvc.InvalidArgument,
                         lambda: self.opened.mark_appended(layer), "layer")
        self.refused(kvc.InvalidArgument,
                     lambda: self.cache.layer_bytes(LAYERS), "layer")

    def test_layers_that_are_no_integers(self):
        for layer in (None, "0", 0.0, math.nan):
            self.refused(TypeError, lambda: self.append(layer=layer),
                         "layer: expected an integer", repr(layer))

    def test_attend_before_append(self):
        self.refused(kvc.NotAppended, self.attend, "layer 0")
        self.append(layer=1)
        self.refused(kvc.NotAppended, self.attend, "layer 0")

    def test_commit_before_append(self):
        self.append()
        self.refused(kvc.NotAppended, self.opened.commit, "layer")

    def test_sequences_of_an_open_step(self):
        self.refused(kvc.Busy, self.a.fork, "open step")
        self.refused(kvc.Busy, lambda: self.a.truncate(1), "open step")
        self.refused(kvc.Busy, self.a.release, "open step")
        self.refused(kvc.Busy, lambda: self.cache.step({self.a: 1}), "step")

    def test_accepted_counts(self):
        accept = self.opened.accept
        self.refused(ValueError, lambda: accept([1, 2]),
                     "counts: expected 1, found 2")
        for count in (ROWS + 1, -1, 1 << 32):
            self.refused(kvc.InvalidArgument, lambda: accept([count]),
                         f"expected 0 to {ROWS}", f"found {count}")
        self.refused(TypeError, lambda: accept([1.5]), "1.5")
        self.refused(TypeError, lambda: accept(3), "found 3")
        self.refused(KeyError, lambda: accept({self.cache.open(): 1}),
                     "is not in this step")

    def test_stores_that_there_are_not(self):
        self.refused(KeyError, lambda: self.opened.view("side", 0),
                     "no store 'side'", "main")
        self.refused(KeyError, lambda: self.cache.set_constants(7, ()),
                     "no store 7")

    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_arrays_of_numpy(self):
        k = numpy.zeros((ROWS, KV_HEADS, DIM), "f4")
        self.refused(ValueError, lambda: self.append(k=numpy.broadcast_to(
            k[:1], k.shape)), "k: expected rows and heads that are memory of")
        self.refused(kvc.InvalidArgument, lambda: self.append(k=k[::-1]),
                     "k_row_stride")
        for wrong in (k[:, :, ::-1], numpy.asfortranarray(k)):
            self.refused(ValueError, lambda: self.append(k=wrong),
                         "k: expected the elements of a head side by side")
        for dtype in ("f8", "f2", "i4", ">f4", "c8", "O", "S4", "f4,f4",
                      "M8[s]"):
            self.refused(TypeError, lambda: self.append(k=k.astype(dtype)),
                         "k: expected f32")
        out = numpy.zeros((ROWS, Q_HEADS, DIM), "f4")
        out.flags.writeable = False
        self.refused(ValueError, lambda: self.attend(out=out),
                     "out: expected an array that can be written")

    def test_rows_of_a_sequence_that_is_not_in_it(self):
        self.refused(KeyError, lambda: self.opened.rows_of(None),
                     "is not in this step")


class Interface:
    """Any array interface over the memory of an array."""

    def __init__(self, memory, shape, typestr="<f4", strides=None, offset=0):
        self.memory = memory
        self.__array_interface__ = {
            "version": 3, "typestr": typestr, "shape": shape,
            "data": (memory.buffer_info()[0] + offset, False),
            "strides": strides}


class Handles(Misuse):
    """Sequences, steps and caches that are over, or another's."""

    def test_released_sequences(self):
        b = self.cache.open()
        b.release()
        for call in (b.release, b.fork, b.stats, lambda: len(b),
                     lambda: b.truncate(0), lambda: self.cache.step({b: 1})):
            self.refused(kvc.Stale, call, "sequence")

    def test_a_released_sequence_whose_place_is_taken(self):
        b = self.cache.open()
        b.release()
        c = self.cache.open()
        self.assertEqual(b._handle.slot, c._handle.slot)
        self.refused(kvc.Stale, b.release, "sequence")
        self.assertEqual(len(c), 0)

    def test_steps_that_ended(self):
        step = self.cache.step({self.a: 1})
        step.abandon()
        k, q = Rows(1, KV_HEADS, DIM), Rows(1, Q_HEADS, DIM)
        for call in (step.commit, step.abandon, step.mark_appended,
                     lambda: step.append(0, k.view(), k.view()),
                     lambda: step.attend(0, q.view(), out=q.view()),
                     lambda: step.view("main", 0)):
            self.refused(kvc.Stale, call, "step")

    def test_two_commits(self):
        with self.cache.step({self.a: 1}) as step:
            step.mark_appended()
        self.refused(kvc.Stale, step.commit, "step")
        self.a.truncate(5)

    def test_a_commit_inside_with(self):
        with self.cache.step({self.a: 1}) as step:
            step.mark_appended()
            step.commit()
        self.assertEqual(len(self.a), 6)
        self.a.truncate(5)

    def test_sequences_of_another_cache(self):
        other = test_cache.new_cache(tokens=64, sequences=3)
        b = other.open()
        # The very handle that `a` has here.
        self.assertEqual((b._handle.slot, b._handle.generation),
                         (self.a._handle.slot, self.a._handle.generation))
        self.refused(kvc.InvalidArgument, lambda: self.cache.step({b: 1}),
                     "expected sequences of this cache")
        self.assertEqual(len(b), 0)

    def test_closed_caches(self):
        other = test_cache.new_cache(tokens=64, sequences=3)
        b = other.open()
        step = other.step({b: 1})
        other.close()
        for call in (other.open, other.stats, other.check, b.fork, b.release,
                     b.stats, lambda: len(b), lambda: other.step({b: 1}),
                     step.mark_appended, step.commit, step.abandon,
                     lambda: other.layer_bytes(0)):
            self.refused(kvc.Stale, call, "cache: expected an open one")
        other.close()
        self.assertIn("closed", repr(other))
        del b, step, other

    def test_a_cache_closed_inside_with(self):
        with self.assertRaises(kvc.Stale):
            with test_cache.new_cache() as other:
                with other.step({other.open(): 1}):
                    other.close()

    def test_a_sequence_released_inside_with(self):
        with self.cache.open() as b:
            b.release()
        self.assertEqual(self.cache.stats()["sequences"], 1)

    def test_exceptions_are_not_hidden(self):
        with self.assertRaises(ZeroDivisionError):
            with self.cache.open() as b:
                step = self.cache.step({b: 1})
                1 / 0
        del step, b
        self.assertEqual(self.cache.stats()["sequences"], 1)

    def test_a_step_within_a_step(self):
        with self.cache.step({self.a: 1}) as step:
            self.refused(kvc.Busy, lambda: self.cache.step({self.a: 1}))
            b = self.cache.open()
            with self.cache.step({b: 1}) as inner:
                inner.mark_appended()
            step.mark_appended()
        self.assertEqual((len(self.a), len(b)), (6, 1))
        self.a.truncate(5)

    def test_five_steps(self):
        cache = test_cache.new_cache(tokens=64, sequences=8)
        steps = [cache.step({cache.open(): 1}) for _ in range(4)]
        self.refused(kvc.OutOfSequences,
                     lambda: cache.step({cache.open(): 1}), "steps")
        del steps

    def test_requests(self):
        step = self.cache.step
        self.refused(kvc.InvalidArgument, lambda: step({}), "found 0")
        self.refused(kvc.InvalidArgument, lambda: step({self.a: 0}), "found 0")
        for tokens in (-1, 1 << 32, (1 << 32) + 1):
            self.refused(kvc.InvalidArgument, lambda: step({self.a: tokens}),
                         "new tokens: expected", f"found {tokens}")
        for tokens in (None, "1", 1.0, math.nan, [1]):
            self.refused(TypeError, lambda: step({self.a: tokens}),
                         "new tokens: expected an integer", repr(tokens))
        for requests in (None, 1, self.a, [self.a], "ab", [(self.a, 1, 2)]):
            self.refused(TypeError, lambda: step(requests),
                         "requests: expected", "found")
        for sequence in (None, "a", 3):
            self.refused(TypeError, lambda: step([(sequence, 1)]),
                         "requests: expected a Sequence", repr(sequence))

    def test_a_sequence_twice(self):
        self.refused(kvc.Busy,
                     lambda: self.cache.step([(self.a, 1), (self.a, 1)]),
                     "sequence")

    def test_more_than_there_is(self):
        self.refused(kvc.SequenceFull, lambda: self.cache.step({self.a: 60}),
                     "64")
        b, c = self.cache.open(), self.cache.open()
        error = self.refused(kvc.OutOfPages, lambda: self.cache.step(
            {b: 60, c: 60}), "pages")
        self.assertGreater(error.need, error.have)

    def test_truncations(self):
        for tokens in (6, -1, 1 << 32):
            self.refused(kvc.InvalidArgument, lambda: self.a.truncate(tokens),
                         "expected", f"found {tokens}")
        for tokens in (None, "2", 2.0, math.nan):
            self.refused(TypeError, lambda: self.a.truncate(tokens),
                         "tokens: expected an integer", repr(tokens))

    def test_truncations_beyond_the_rollback(self):
        program = kvc.load(kvc.compile(dict(SPEC, reads={
            "kind": "window", "recent": 8})), device="cpu:1")
        cache = kvc.Cache(program, 64, rollback=2)
        b = cache.open()
        with cache.step({b: 40}) as step:
            step.mark_appended()
        self.refused(kvc.InvalidArgument, lambda: b.truncate(10),
                     "max_rollback", "found 10")
        self.assertEqual(len(b), 40)
        b.truncate(38)
        cache.check()


class Numbers(Misuse):
    """Sizes of caches, arenas and devices."""

    def test_sizes_of_caches(self):
        for tokens in (0, -1, 1 << 64):
            self.refused(kvc.InvalidArgument,
                         lambda: kvc.Cache(self.program, tokens), "tokens",
                         f"found {tokens}")
        for tokens in (None, "64", math.nan, 64.0):
            self.refused(TypeError, lambda: kvc.Cache(self.program, tokens),
                         "tokens: expected an integer", repr(tokens))
        for name in ("sequences", "tokens_per_sequence", "batch",
                     "step_tokens", "rollback"):
            for value in (-1, 1 << 32):
                self.refused(
                    kvc.InvalidArgument,
                    lambda: kvc.Cache(self.program, 64, **{name: value}),
                    f"{name}: expected", f"found {value}")
            self.refused(TypeError, lambda: kvc.Cache(
                self.program, 64, **{name: "4"}), name, "'4'")
        for name in ("sequences", "tokens_per_sequence", "batch",
                     "step_tokens"):
            self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
                self.program, 64, **{name: 0}), "found 0")
        self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
            self.program, 64, sequences=2, tokens_per_sequence=8), "tokens")

    def test_tokens_beyond_32_bits(self):
        # Not the 5 tokens that the low bits say.
        self.refused(kvc.InvalidArgument,
                     lambda: kvc.Cache(self.program, (1 << 32) + 5), "tokens")

    def test_more_memory_than_there_is(self):
        self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
            self.program, 1 << 40, sequences=1 << 20,
            tokens_per_sequence=1 << 20), "no arena can hold")
        with open("/proc/sys/vm/overcommit_memory", encoding="ascii") as file:
            if file.read().strip() == "1":
                self.skipTest("this machine promises any memory")
        error = self.refused(kvc.OutOfMemory, lambda: kvc.Cache(
            self.program, 1 << 31, sequences=1 << 11,
            tokens_per_sequence=1 << 20))
        self.assertIsInstance(error, MemoryError)

    def test_what_bytes_hold(self):
        for size in (-1, 1 << 64):
            self.refused(kvc.InvalidArgument,
                         lambda: self.program.tokens_in(size), "size")
        self.refused(TypeError, lambda: self.program.tokens_in("1 GB"),
                     "'1 GB'")
        self.refused(kvc.InvalidArgument, lambda: self.program.bytes_for(-5),
                     "found -5")

    def test_arenas(self):
        make = lambda arena: kvc.Cache(self.program, 64, arena=arena)
        self.refused(TypeError, lambda: make(4096),
                     "arena: expected an array", "int")
        size = self.program.bytes_for(64)
        memory = (ctypes.c_uint8 * (2 * size + 128))()
        flat = memoryview(memory).cast("B")[-ctypes.addressof(memory) % 64:]
        self.refused(ValueError, lambda: make(flat[:size].toreadonly()),
                     "arena: expected memory that can be written")
        self.refused(ValueError, lambda: make(flat[:2 * size:2]),
                     "arena: expected a dense array")
        self.refused(kvc.InvalidArgument, lambda: make(flat[1:size + 1]), "64")
        self.refused(kvc.InvalidArgument, lambda: make(flat[:100]), "arena")

    def test_an_arena_stays_where_it_is(self):
        size = self.program.bytes_for(64)
        arena = bytearray(size + 64)
        skip = -(ctypes.addressof((ctypes.c_char * 1).from_buffer(arena))) % 64
        cache = kvc.Cache(self.program, 64,
                          arena=memoryview(arena)[skip:skip + size])
        self.refused(BufferError, lambda: arena.extend(bytes(1 << 20)))
        run = Runner(self, cache)
        run.step({run.open(): 9})
        cache.close()

    def test_devices(self):
        for name in ("", "gpu", "cpu:-1", "cpu:two", "cuda:x", "sim:",
                     "cpu:1:2", " cpu"):
            self.refused(ValueError, lambda: kvc.Device(name),
                         "device: expected", repr(name))
        for name in (None, 0, b"cpu", ["cpu"]):
            self.refused(TypeError, lambda: kvc.Device(name),
                         "device: expected its name", repr(name))
        for name in ("cpu:4294967297", "cpu:8193"):
            self.refused(kvc.InvalidArgument, lambda: kvc.Device(name),
                         "threads")
        self.refused(kvc.InvalidArgument, lambda: kvc.Device("cuda:4294967296"))
        self.refused(ValueError, lambda: kvc.Device("sim:sm_90\0"), "null")

    def test_a_gpu_that_is_not_there(self):
        self.refused(kvc.DeviceError, lambda: kvc.Device("cuda:4096"))


class Artifacts(Misuse):
    """Bytes and files that are no artifacts, or those of another machine."""

    def setUp(self):
        super().setUp()
        self.data = kvc.compile(SPEC).data

    def test_what_holds_no_bytes(self):
        for thing, name in ((None, "NoneType"), (5, "int"), ({}, "dict"),
                            ([1, 2], "list")):
            self.refused(TypeError, lambda: kvc.load(thing),
                         "artifact: expected", name)
            self.refused(TypeError, lambda: kvc.Artifact(thing),
                         "data: expected the bytes", name)

    def test_what_was_cut(self):
        for size in (0, 1, 100, len(self.data) // 2, len(self.data) - 1):
            self.refused(kvc.Corrupt, lambda: kvc.load(self.data[:size]))

    def test_what_was_changed(self):
        for at in range(0, len(self.data), len(self.data) // 23):
            wrong = bytearray(self.data)
            wrong[at] ^= 0x55
            if bytes(wrong) == self.data:
                continue
            try:
                kvc.load(wrong)
            except kvc.Error as error:
                self.assertIsInstance(error, kvc.Corrupt)
                self.assertTrue(str(error))

    def test_what_is_something_else(self):
        for data in (b"PK\3\4" + bytes(1000), bytes(4096),
                     json.dumps(SPEC).encode()):
            self.refused(kvc.Corrupt, lambda: kvc.load(data))

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            missing = os.path.join(folder, "missing.kvca")
            error = self.refused(kvc.IoError, lambda: kvc.load(missing),
                                 missing)
            self.assertIsInstance(error, OSError)
            self.refused(kvc.IoError, lambda: kvc.load(folder), folder)
            path = Path(folder) / "a.kvca"
            path.write_bytes(self.data)
            self.refused(ValueError, lambda: kvc.load(f"{path}\0.txt"), "null")
            path.write_bytes(b"")
            self.refused(kvc.IoError, lambda: kvc.load(path), "a.kvca")
            path.write_bytes(b"{}")
            self.refused(kvc.Corrupt, lambda: kvc.load(path))
            with self.assertRaises(FileNotFoundError):
                kvc.compile(Path(folder) / "missing.json")
            with self.assertRaises(FileNotFoundError):
                kvc.Artifact(self.data).save(Path(folder) / "no" / "a.kvca")
            self.assertEqual(os.listdir(folder), ["a.kvca"])

    def test_another_machine(self):
        artifact = kvc.compile(SPEC, targets=["sm_90", "sim:sm_90"])
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact), "CPU")
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact, "sim:sm_1"),
                     "sm_1", "sm_90")
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact, "sim:sm_80"),
                     "sm_90")


class Specs(Misuse):
    """Specs that do not compile, with the place and the remedy."""

    def spec_error(self, spec, pointer, line, *words):
        error = self.refused(kvc.SpecError, lambda: kvc.compile(spec), *words)
        self.assertTrue(error.diagnostics)
        found = error.diagnostics[0]
        self.assertEqual((found.severity, found.pointer), ("error", pointer))
        self.assertEqual(found.line, line)
        self.assertTrue(found.message and found.code and found.file)
        return found

    def test_a_codec_that_there_is_not(self):
        spec = dict(SPEC, streams={"k": {"codec": "f8"}, "v": {"codec": "f32"}})
        found = self.spec_error(spec, "/streams/k/codec", 13, "f8")
        self.assertTrue(found.fix)

    def test_numbers_out_of_range(self):
        model = dict(SPEC["model"], kv_heads=3)
        self.spec_error(dict(SPEC, model=model), "/model/q_heads", 6, "3")
        self.spec_error(dict(SPEC, model=dict(SPEC["model"], layers=-1)),
                        "/model/layers", 5, "-1")
        self.spec_error(dict(SPEC, layout={"kind": "paged", "page": 1 << 70}),
                        "/layout/page", 21)

    def test_nan(self):
        error = self.refused(kvc.SpecError, lambda: kvc.compile(
            dict(SPEC, layout={"kind": "paged", "page": math.nan})))
        self.assertEqual(error.diagnostics[0].line, 21)

    def test_names_that_there_are_not(self):
        found = self.spec_error(dict(SPEC, layuot={}), "/layuot", 23, "layuot")
        self.assertIn("layout", found.fix)

    def test_text_that_is_no_json(self):
        self.refused(kvc.SpecError, lambda: kvc.compile("{"), "1:")
        self.refused(kvc.SpecError, lambda: kvc.compile("{}"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.json"
            for text in (b"", b"\xff\xfe{}", b'{"name": "\xff"}', b"[1]",
                         b"[" * 100000):
                path.write_bytes(text)
                error = self.refused(kvc.SpecError, lambda: kvc.compile(path))
                self.assertEqual(error.diagnostics[0].file, str(path))

    def test_what_is_no_spec(self):
        for thing in (None, 3, b"{}", [SPEC]):
            self.refused(TypeError, lambda: kvc.compile(thing),
                         "spec: expected", type(thing).__name__)
        self.refused(TypeError, lambda: kvc.compile({"kvc": {1, 2}}))

    def test_targets_and_schedules(self):
        for target in ("sm_12", "", "arm64", "native,native"):
            error = self.refused(kvc.SpecError,
                                 lambda: kvc.compile(SPEC, targets=[target]))
            self.assertIn("x86-64-v3", error.diagnostics[0].fix)
        self.refused(kvc.SpecError, lambda: kvc.compile(
            SPEC, schedule=["decode.nothing=1"], cache=False), "nothing")
        for name in ("targets", "schedule"):
            for thing in (None, 5, [5], [None]):
                self.refused(TypeError,
                             lambda: kvc.compile(SPEC, **{name: thing}),
                             f"{name}: expected strings")
        self.refused(ValueError, lambda: kvc.compile(
            SPEC, targets=["native\0sm_90"]), "null")


class OwnPages(Misuse):
    """Kernels on pages and tables of the caller's."""

    PAGES = 6

    def setUp(self):
        super().setUp()
        self.store = self.program.stores[0]
        size = self.PAGES * self.store.page_bytes
        self.memory = (ctypes.c_uint8 * (size + 64))()
        skip = -ctypes.addressof(self.memory) % 64
        self.flat = memoryview(self.memory).cast("B")[skip:skip + size]
        self.pool = self.flat.cast("B", (self.PAGES, self.store.page_bytes))
        self.k, self.v = Rows(7, KV_HEADS, DIM, 1), Rows(7, KV_HEADS, DIM, 2)
        self.q, self.out = Rows(2, Q_HEADS, DIM, 3), Rows(2, Q_HEADS, DIM)
        self.append()

    def tearDown(self):
        self.attend()
        super().tearDown()

    def append(self, store="main", slots=None, pool=None, **more):
        if slots is None:
            slots = array.array("q", [5 * PAGE + t for t in range(4)] +
                                [3 * PAGE + t for t in range(3)])
        self.program.append(store, self.k.view(), self.v.view(), slots,
                            self.pool if pool is None else pool, **more)

    def attend(self, cu_q=(0, 2), kv_len=(7,), table=(5, 3), pool=None,
               **more):
        def as_array(given):
            return array.array("i", given) if isinstance(given, tuple) \
                else given
        if isinstance(table, tuple):
            table = memoryview(array.array("i", table)).cast("B").cast(
                "i", (1, len(table)))
        more.setdefault("out", self.out.view())
        self.program.attend("main", self.q.view(), as_array(cu_q),
                            as_array(kv_len), table,
                            self.pool if pool is None else pool, **more)

    def test_slots_behind_the_pool(self):
        self.refused(kvc.InvalidArgument, lambda: self.append(
            slots=array.array("q", [self.PAGES * PAGE] * 7)),
            f"expected below {self.PAGES} * {PAGE}", "slot[0]")
        self.refused(ValueError, lambda: self.append(page_count=99),
                     f"page_count: expected at most the pool's {self.PAGES}")
        self.refused(kvc.InvalidArgument, lambda: self.append(page_count=-1),
                     "page_count")

    def test_slots_that_are_too_few_or_narrow(self):
        self.refused(ValueError, lambda: self.append(
            slots=array.array("q", [0])), "slots: expected 7 of i64",
            "found [1]")
        self.refused(ValueError, lambda: self.append(
            slots=array.array("i", [0] * 7)), "i32")

    def test_pages_behind_the_pool(self):
        for page in (self.PAGES, -1):
            self.refused(kvc.InvalidArgument,
                         lambda: self.attend(table=(5, page)), "table",
                         f"expected 0 to {self.PAGES - 1}", f"found {page}")

    def test_tables_that_are_too_short(self):
        self.refused(kvc.InvalidArgument, lambda: self.attend(table=(5,)),
                     "expected at least 2 entries", "found 1")
        self.refused(ValueError, lambda: self.attend(
            table=array.array("q", [5, 3])), "table: expected i32", "i64")

    def test_offsets(self):
        for offsets, words in (((0, 3), "2 rows of q"), ((1, 2), "cu_q[0]"),
                               ((0, -1), "ascending")):
            with self.assertRaises(ValueError) as caught:
                self.attend(cu_q=offsets)
            self.assertIn(words, str(caught.exception))
        self.refused(ValueError, lambda: self.attend(cu_q=(0,)),
                     "cu_q: expected 2 of i32")

    def test_lengths(self):
        for length in (-1, 1):
            self.refused(kvc.InvalidArgument,
                         lambda: self.attend(kv_len=(length,)), "kv_len[0]",
                         f"found {length}")
        self.refused(TypeError, lambda: self.attend(kv_len=7),
                     "kv_len: expected an array")
        self.refused(ValueError, lambda: self.attend(
            kv_len=ctypes.c_int32(7)), "kv_len: expected [batch]")

    def test_workspaces(self):
        self.refused(ValueError,
                     lambda: self.attend(workspace=bytes(1 << 20)),
                     "workspace: expected memory that can be written")
        # Smaller than what aligning it takes: less than nothing is left.
        for size in (0, 1, 8):
            self.refused(kvc.InvalidArgument, lambda: self.attend(
                workspace=bytearray(size + 64)[:size]), "workspace")
        self.refused(TypeError, lambda: self.attend(workspace=4096),
                     "workspace: expected an array")

    def test_pools(self):
        self.refused(ValueError, lambda: self.append(pool=self.flat),
                     f"pool: expected [pages, {self.store.page_bytes}] bytes")
        self.refused(ValueError, lambda: self.append(
            pool=self.pool.toreadonly()), "pool: expected an array that can be")
        narrow = self.flat.cast("B", (2 * self.PAGES,
                                      self.store.page_bytes // 2))
        self.refused(ValueError, lambda: self.append(pool=narrow), "pool")
        self.refused(TypeError, lambda: self.append(pool="pages"),
                     "pool: expected an array")
        self.refused(ValueError, lambda: self.append(pool=()),
                     "planes: expected 2")
        self.refused(kvc.InvalidArgument, lambda: self.append(
            pool=[kvc.Plane(0, 0, 0)] * 2), "null")

    def test_stores_and_numbers(self):
        self.refused(KeyError, lambda: self.append(store="side"), "side")
        self.refused(KeyError, lambda: self.append(store=None), "None")
        self.refused(kvc.InvalidArgument, lambda: self.attend(max_queries=-1),
                     "max_queries")
        self.refused(kvc.InvalidArgument,
                     lambda: self.program.attend_workspace("main", -1, 1, 1),
                     "batch")
        self.refused(ValueError, lambda: self.attend(constants=[1]),
                     "constants")


class Constants(Misuse):
    """What a spec's expressions are given by calls."""

    def setUp(self):
        super().setUp()
        self.sinks = kvc.Cache(kvc.load(kvc.compile(dict(
            SPEC, kvc="0.2", attend={"constants": {"sinks": {"size": Q_HEADS}},
                                     "sink": "sinks[h]"}))), 64)

    def out(self):
        """What a step of one row gives, and the plain copy of it."""
        k, v, q = (Rows(1, heads, DIM, heads) for heads in
                   (KV_HEADS, KV_HEADS, Q_HEADS))
        out, plain = Rows(1, Q_HEADS, DIM), Plain(self.program.model)
        plain.append(k, v, range(1))
        with self.sinks.open() as b, self.sinks.step({b: 1}) as step:
            try:
                step.append(0, k.view(), v.view())
                step.attend(0, q.view(), out=out.view())
            finally:
                step.abandon()
        return plain, q, out

    def test_constants(self):
        give = self.sinks.set_constants
        self.refused(kvc.InvalidArgument, self.out, "constants", "not set")
        for constants in ((), [array.array("f", [0])] * 2, {}):
            self.refused(ValueError, lambda: give("main", constants),
                         "constants: expected ['sinks']")
        self.refused(KeyError, lambda: give("main", {"snks": 1}), "snks")
        self.refused(ValueError, lambda: give("main", [array.array("f", [0])]),
                     f"sinks: expected {Q_HEADS} of f32", "found [1]")
        self.refused(TypeError, lambda: give("main", [None]),
                     "sinks: expected an array")
        self.refused(TypeError, lambda: give("main", None),
                     "constants: expected")
        values = array.array("f", [-1e30] * Q_HEADS)
        self.refused(kvc.InvalidArgument,
                     lambda: give("main", [values], layer=LAYERS), "layer")
        give("main", {"sinks": values})
        plain, q, out = self.out()
        check_rows(self, [plain], [1], q, out)
        # The address is what the cache keeps.
        self.refused(BufferError, lambda: values.extend([0] * 1000))
        values[:] = array.array("f", [1e30] * Q_HEADS)
        self.assertEqual(max(map(abs, self.out()[2].values)), 0)


class Errors(unittest.TestCase):
    def test_classes_have_the_names_of_their_codes(self):
        from kvc import _abi, errors
        from kvc._library import runtime
        def name_of(code):
            name = runtime.kvc_code_name(code).decode()
            return "".join(c for c in name if c.isalpha())
        for code, cls in errors.BY_CODE.items():
            self.assertTrue(name_of(code).startswith(cls.__name__.lower()),
                            (name_of(code), cls))
            self.assertIs(getattr(kvc, cls.__name__), cls)
        unknown = name_of(max(errors.BY_CODE) + 1)
        self.assertEqual(unknown, name_of(_abi.KVC_ALL_LAYERS))
        self.assertNotIn(unknown, map(name_of, errors.BY_CODE))

    def test_versions(self):
        from kvc import _abi
        from kvc._library import compiler, runtime
        self.assertEqual(runtime.kvc_runtime_abi(), _abi.KVC_RUNTIME_ABI)
        self.assertEqual(compiler.kvc_compiler_abi(), _abi.KVC_COMPILER_ABI)
        self.assertTrue(kvc.compiler.version().startswith(
            f"kvc {kvc.__version__}, LLVM "))

    def test_errors_go_between_processes(self):
        error = kvc.OutOfPages("text", 1, 2, 3, 4)
        read = pickle.loads(pickle.dumps(error))
        self.assertEqual((str(read), read.where, read.need, read.have,
                          read.have_later), ("text", 1, 2, 3, 4))
        for cls in (kvc.IoError, kvc.OutOfMemory, kvc.InvalidArgument):
            self.assertEqual(str(pickle.loads(pickle.dumps(cls("a", 7)))), "a")
        error = kvc.SpecError([kvc.Diagnostic("error", "E-X", "text")])
        read = pickle.loads(pickle.dumps(error))
        self.assertEqual(read.diagnostics, error.diagnostics)
        self.assertEqual(str(read), str(error))


if __name__ == "__main__":
    unittest.main()
