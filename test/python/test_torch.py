"""Tensors of PyTorch, on the CPU."""

import contextlib
import time
import unittest

import torch

import kvc
import kvc.cache
import kvc.program
from kvc import _abi, _arrays
from kvc._library import runtime

LAYERS, Q_HEADS, KV_HEADS, DIM, PAGE = 2, 4, 2, 16, 4
SPEC = {
    "kvc": "0.1", "name": "small",
    "model": {"layers": LAYERS, "q_heads": Q_HEADS, "kv_heads": KV_HEADS,
              "head_dim": DIM, "dtype": "f32"},
    "streams": {"k": {"codec": "f32"}, "v": {"codec": "f32"}},
    "layout": {"kind": "paged", "page": PAGE}}
torch.set_num_threads(1)


def setUpModule():
    global program
    program = kvc.load(kvc.compile(SPEC), device="cpu:1")


def rows(count, heads=KV_HEADS, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed + 100 * count + heads)
    return torch.randn(count, heads, DIM, generator=draw).to(dtype)


def attention(q, k, v):
    """Of one sequence, whose last tokens are q's."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1).transpose(0, 1) for x in (k, v))
    scores = q.transpose(0, 1) @ k.transpose(1, 2) / DIM ** 0.5
    hidden = torch.ones(q.shape[0], k.shape[1]).triu(
        k.shape[1] - q.shape[0] + 1).bool()
    scores = scores.masked_fill(hidden, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1), scores.logsumexp(-1).T


@contextlib.contextmanager
def counting_views():
    """The number of arrays that were looked at in full."""
    seen, real = [], _arrays.view

    def view(array):
        seen.append(array)
        return real(array)
    kvc.cache.view = kvc.program.view = view
    try:
        yield seen
    finally:
        kvc.cache.view = kvc.program.view = real


class Tensors(unittest.TestCase):
    """Step.append and Step.attend of tensors."""

    def setUp(self):
        self.cache = kvc.Cache(program, 256, 4)
        self.sequence = self.cache.open()

    def close(self, found, wanted):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    def test_tensors_of_any_strides(self):
        k, v, q = rows(9), rows(9, seed=1), rows(9, Q_HEADS)
        wanted, lse = attention(q, k, v)
        heads_first = [x.transpose(0, 1).contiguous().transpose(0, 1)
                       for x in (q, k, v)]
        spread = [torch.cat([x, x], 1)[:, :x.shape[1]] for x in (q, k, v)]
        flat = [x.flatten(1) for x in (q, k, v)]
        with self.cache.step({self.sequence: 9}) as step:
            # Twice each, with and without knowledge of the tensor.
            for layouts in 2 * [(q, k, v), heads_first, spread, flat]:
                step.append(0, *layouts[1:])
                self.close(step.attend(0, layouts[0]), wanted)
                out = torch.empty_like(layouts[0])
                self.assertIs(step.attend(0, layouts[0], out=out), out)
                self.close(out.reshape(9, Q_HEADS, DIM), wanted)
            found = torch.empty(9, Q_HEADS)
            step.attend(0, q, lse=found)
            self.close(found, lse)
            step.mark_appended()

    def test_what_is_known_is_not_looked_at_again(self):
        with self.cache.step({self.sequence: 3}) as step:
            step.append(0, rows(3), rows(3))
            step.attend(0, rows(3, Q_HEADS))
            with counting_views() as seen:
                for seed in range(5):
                    step.append(0, rows(3, seed=seed), rows(3))
                    step.attend(0, rows(3, Q_HEADS))
            self.assertEqual(seen, [])
            step.mark_appended()

    def test_every_check_holds_for_known_tensors(self):
        k, q = rows(3), rows(3, Q_HEADS)
        with self.cache.step({self.sequence: 3}) as step:
            for _ in range(2):
                step.append(0, k, k)
                step.attend(0, q)
                for wrong, error in (
                        (k.double(), TypeError), (k.half(), TypeError),
                        (rows(2), ValueError), (rows(4)[:, :1], ValueError),
                        (q, ValueError), (k[..., :8], ValueError),
                        (k.transpose(1, 2), ValueError),
                        (torch.cat([k, k], 2)[..., ::2], ValueError),
                        (k.to("meta"), ValueError), (k[0], ValueError)):
                    with self.assertRaises(error):
                        step.append(0, wrong, k)
                    with self.assertRaises(error):
                        step.append(0, k, wrong)
                with self.assertRaises(ValueError):
                    step.attend(0, k)
                with self.assertRaises(ValueError):
                    step.attend(0, q, out=rows(3))
                with self.assertRaises(ValueError):
                    step.attend(0, q, lse=torch.empty(3, Q_HEADS - 1))
            step.mark_appended()
        # The same tensors, in a step of another size.
        with self.cache.step({self.sequence: 2}) as step:
            with self.assertRaises(ValueError):
                step.append(0, k, k)
            step.mark_appended()

    def test_temporaries_live_as_long_as_the_call(self):
        wanted, _ = attention(rows(5, Q_HEADS), rows(5), rows(5, seed=1))
        with self.cache.step({self.sequence: 5}) as step:
            for _ in range(2):
                step.append(0, rows(5).clone(), rows(5, seed=1).clone())
                self.close(step.attend(0, rows(5, Q_HEADS).clone()), wanted)
            step.mark_appended()

    def test_bits_of_another_dtype(self):
        spec = dict(SPEC, model=dict(SPEC["model"], dtype="bf16"))
        cache = kvc.Cache(kvc.load(kvc.compile(spec)), 64)
        k, q = rows(3, dtype=torch.bfloat16), rows(3, Q_HEADS,
                                                   dtype=torch.bfloat16)
        found = []
        with cache.step({cache.open(): 3}) as step:
            for change in (lambda x: x, lambda x: x.view(torch.int16)) * 2:
                step.append(0, change(k), change(k))
                found.append(step.attend(0, change(q)))
                self.assertEqual(found[-1].dtype, torch.bfloat16)
                self.assertTrue(torch.equal(found[0], found[-1]))
            step.mark_appended()

    def test_many_shapes_are_forgotten(self):
        cache = kvc.Cache(program, 4096, 1)
        sequence = cache.open()
        for count in list(range(1, 80)) * 4:
            # A row's stride differs each time.
            wide = torch.randn(count, KV_HEADS, DIM + 8 * (count % 7))
            with cache.step({sequence: count}) as step:
                step.append(0, wide[..., :DIM], wide[..., :DIM])
                step.mark_appended()
            sequence.truncate(0)
        self.assertLessEqual(len(cache._k.known), cache._k._MOST)


class Overhead(unittest.TestCase):
    def test_microseconds_of_a_call(self):
        """Far from what an idle machine needs, for tests run beside others;
        what a full look at each tensor costs is beyond it."""
        cache = kvc.Cache(program, 64)
        step = cache.step({cache.open(): 1})
        k, q = rows(1), rows(1, Q_HEADS)
        out, dense = torch.empty_like(q), _abi.Stride(0, 0)
        at = k.data_ptr()
        handle, number = cache._owner.handle, step._handle

        def best(call):
            times = []
            for _ in range(200):
                begin = time.perf_counter()
                for _ in range(20):
                    call()
                times.append((time.perf_counter() - begin) / 20)
            return min(times) * 1e6
        step.append(0, k, k)
        bare = best(lambda: runtime.kvc_cache_append_strided(
            handle, number, 0, at, dense, at, dense))
        self.assertLess(best(lambda: step.append(0, k, k)) - bare, 5)
        bare = best(lambda: runtime.kvc_cache_attend_strided(
            handle, number, 0, q.data_ptr(), dense, out.data_ptr(), dense,
            None, dense))
        self.assertLess(best(lambda: step.attend(0, q)) - bare, 5)


if __name__ == "__main__":
    unittest.main()
