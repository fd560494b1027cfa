"""What the tests of misuse have in common."""

import unittest

import test_cache
from test_cache import Runner


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


class Interface:
    """Any array interface over the memory of an array."""

    def __init__(self, memory, shape, typestr="<f4", strides=None, offset=0):
        self.memory = memory
        self.__array_interface__ = {
            "version": 3, "typestr": typestr, "shape": shape,
            "data": (memory.buffer_info()[0] + offset, False),
            "strides": strides}
