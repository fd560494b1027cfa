"""The package on an emulated GPU."""

import unittest

import kvc
from plain import Plain, Rows, check_rows
from test_cache import DIM, KV_HEADS, LAYERS, Q_HEADS, SPEC

try:
    import numpy
except ImportError:
    numpy = None

TARGET = "sim:sm_80"


def setUpModule():
    global device, program
    device = kvc.Device(TARGET)
    program = kvc.load(kvc.compile(SPEC, targets=[TARGET]), device)


class Emulator(unittest.TestCase):
    ROWS = 3

    def setUp(self):
        self.k, self.v = Rows(self.ROWS, KV_HEADS, DIM, 1), \
            Rows(self.ROWS, KV_HEADS, DIM, 2)
        self.q, self.out = Rows(self.ROWS, Q_HEADS, DIM, 3), \
            Rows(self.ROWS, Q_HEADS, DIM)

    def test_a_cache_with_arrays_that_are_lent(self):
        before = device.counters()
        cache = kvc.Cache(program, 64)
        read, written = (self.k, self.v, self.q), self.out
        with cache.step({cache.open(): self.ROWS}) as step:
            for each in read:
                device.allow(each.view(), writable=False)
            device.allow(written.view())
            for layer in range(LAYERS):
                step.append(layer, self.k.view(), self.v.view())
                step.attend(layer, self.q.view(), out=self.out.view())
        for each in (*read, written):
            device.forget(each.view())
        plain = Plain(program.model)
        plain.append(self.k, self.v, range(self.ROWS))
        check_rows(self, [plain], [self.ROWS], self.q, self.out)
        after = device.counters()
        self.assertGreaterEqual(after["launches"] - before["launches"], 4)
        self.assertGreater(after["instructions"], before["instructions"])

    def test_rows_read_back(self):
        cache = kvc.Cache(program, 64)
        a, layer = cache.open(), LAYERS - 1
        read = Rows(self.ROWS, KV_HEADS, DIM), Rows(self.ROWS, KV_HEADS, DIM)
        lent = self.k, self.v, *read
        for each in lent:
            device.allow(each.view())
        with cache.step({a: self.ROWS}) as step:
            step.append(layer, self.k.view(), self.v.view())
            step.mark_appended()
        a.read(layer, k=read[0].view(), v=read[1].view())
        for each in lent:
            device.forget(each.view())
        self.assertEqual(read[0].values, self.k.values)
        self.assertEqual(read[1].values, self.v.values)
        if numpy:  # arrays of kvc's own are lent by themselves
            k, v = a.read(layer)
            self.assertEqual(k.ravel().tolist(), list(self.k.values))
            self.assertEqual(v.ravel().tolist(), list(self.v.values))

    def test_arrays_that_are_not_lent(self):
        cache = kvc.Cache(program, 64)
        a = cache.open()
        step = cache.step({a: self.ROWS})
        with self.assertRaises(kvc.DeviceError) as caught:
            step.append(0, self.k.view(), self.v.view())
        self.assertIn("out of bounds", str(caught.exception))
        # Who knows what the kernel left.
        for call in (step.commit, cache.open, lambda: len(a), cache.check):
            self.assertRaises(kvc.Poisoned, call)
        self.assertEqual(cache.stats()["steps"], 1)
        cache.close()

    def test_bounds_make_a_workspace_smaller(self):
        sizes = [program.attend_workspace("main", 64, 64, 4096, **bounds)
                 for bounds in ({}, {"max_kv_tokens": 8192},
                                {"max_queries": 1, "max_kv_tokens": 8192})]
        self.assertLess(sizes[1], sizes[0])
        self.assertLessEqual(sizes[2], sizes[1])

    def test_only_emulators_are_lent_to(self):
        cpu = kvc.Device("cpu")
        for call in (lambda: cpu.allow(self.k.view()), cpu.counters,
                     lambda: cpu.forget(self.k.view())):
            with self.assertRaises(kvc.Error):
                call()
        with self.assertRaises(ValueError):
            device.allow(bytes(8))


if __name__ == "__main__":
    unittest.main()
