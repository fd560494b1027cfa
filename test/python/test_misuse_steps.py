"""What callers get wrong with steps and handles: each case gives the documented
class, with what was expected and what was found, and leaves cache and process
as they were."""

import array
import math
import unittest

import kvc
import test_cache
from misuse import Interface, Misuse
from plain import Rows
from test_cache import DIM, KV_HEADS, LAYERS, Q_HEADS, SPEC

try:
    import numpy
except ImportError:
    numpy = None

ROWS = 3


def setUpModule():
    test_cache.setUpModule()


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


class Handles(Misuse):
    """Sequences, steps and caches that are over, or another's."""

    def test_released_sequences(self):
        b = self.cache.open()
        b.release()
        for call in (b.release, b.fork, b.stats, lambda: len(b),
                     lambda: b.read(0), lambda: b.truncate(0),
                     lambda: self.cache.step({b: 1})):
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
                     lambda: b.read(0), lambda: other.layer_bytes(0)):
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


if __name__ == "__main__":
    unittest.main()
