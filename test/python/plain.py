"""Rows, and attention over them, in plain Python: what the package's tests
compare with. Needs nothing but the standard library."""

import array
import math
import random


class Rows:
    """f32 [rows, heads, dim] by the buffer protocol, dense or with gaps."""

    def __init__(self, rows, heads, dim, seed=None, gap=0):
        self.shape = (rows, heads, dim)
        self.width = heads * dim + gap
        self.values = array.array("f", bytes(4 * rows * self.width))
        if seed is not None:
            draw = random.Random(seed)
            for i in range(len(self.values)):
                self.values[i] = draw.gauss(0, 1)

    def row(self, i, head):
        dim = self.shape[2]
        begin = i * self.width + head * dim
        return self.values[begin:begin + dim]

    def view(self):
        """[rows, heads * dim], which the package takes as [rows, heads, dim]."""
        rows, heads, dim = self.shape
        whole = memoryview(self.values).cast("B").cast(
            "f", (rows, self.width))
        return whole if self.width == heads * dim else Strided(self)


class Strided:
    """An array interface, for rows that are apart."""

    def __init__(self, rows):
        self.rows = rows  # which keeps the memory
        address, _ = rows.values.buffer_info()
        count, heads, dim = rows.shape
        self.__array_interface__ = {
            "version": 3, "typestr": "<f4", "shape": rows.shape,
            "data": (address, False),
            "strides": (4 * rows.width, 4 * dim, 4)}


class Plain:
    """One sequence of one layer, and what attention over it must give."""

    def __init__(self, model):
        self.model, self.k, self.v = model, [], []

    def copy(self):
        other = Plain(self.model)
        other.k, other.v = list(self.k), list(self.v)
        return other

    def append(self, k, v, rows):
        heads = range(self.model.kv_heads)
        for i in rows:
            self.k.append([k.row(i, head) for head in heads])
            self.v.append([v.row(i, head) for head in heads])

    def truncate(self, tokens):
        del self.k[tokens:], self.v[tokens:]

    def attend(self, q, position):
        """Of one head's query at `position`: a function of the head."""
        group = self.model.q_heads // self.model.kv_heads

        def of(head):
            kv = head // group
            scores = [self.model.softmax_scale *
                      sum(x * y for x, y in zip(q[head], self.k[t][kv]))
                      for t in range(position + 1)]
            most = max(scores)
            weights = [math.exp(score - most) for score in scores]
            total = sum(weights)
            return [sum(w * self.v[t][kv][c] for t, w in enumerate(weights)) /
                    total for c in range(self.model.head_dim_v)]
        return of


def check_rows(test, plains, lengths, q, out):
    """That `out` is what the sequences' plain copies say: sequence i has
    lengths[i] new rows, the last of its tokens."""
    row = 0
    for plain, count in zip(plains, lengths):
        for i in range(count):
            position = len(plain.k) - count + i
            heads = range(plain.model.q_heads)
            of = plain.attend([q.row(row, head) for head in heads], position)
            for head in heads:
                for found, wanted in zip(out.row(row, head), of(head)):
                    test.assertAlmostEqual(found, wanted, delta=2e-5)
            row += 1
