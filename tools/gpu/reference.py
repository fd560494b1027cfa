"""What attention must give: float64, and how far off a plain program is.

The yardstick N1: for 16-bit models the largest error of a sequence is at most
that of the textbook formula with every intermediate rounded to the model's
dtype, plus half a unit in the last place of the largest output. For f32, where
a plain program's error is luck, N2 bounds each element by what rounding can do.

With torch where there is one, otherwise plain loops; both say the same.
"""
import math

import floats

try:
    import torch
except ImportError:
    torch = None

UNIT = 2.0 ** -24
DOUBT = 4  # what statistical bounds are multiplied with


class Problem:
    """One kv head of one sequence.

    k: [tokens][dim_k] and v: [tokens][dim_v], decoded; q: [rows][dim_k], row r
    being query token r // group; `sees(t, p)` from the read rule; all lists of
    floats, flat.
    """

    def __init__(self, k, v, q, dims, tokens, queries, group, dtype, scale,
                 softcap=0, window=None):
        self.k, self.v, self.q = k, v, q
        self.dim_k, self.dim_v = dims
        self.tokens, self.queries, self.group = tokens, queries, group
        self.dtype, self.scale, self.softcap = dtype, scale, softcap
        self.window = window  # (sink, recent) or None

    @property
    def rows(self):
        return self.queries * self.group

    def visible(self, row):
        """Tokens that a row sees."""
        p = self.tokens - self.queries + row // self.group
        if p < 0:
            return []
        if not self.window:
            return range(p + 1)
        sink, recent = self.window
        return [t for t in range(p + 1) if t < sink or t > p - recent]


class Expected:
    """Per row: `o` and `plain` [dim_v], `weights` (the same over |v|), `lse`,
    and `logit`, the largest |q| |k| scale."""

    def __init__(self, o, plain, weights, lse, logit):
        self.o, self.plain, self.weights = o, plain, weights
        self.lse, self.logit = lse, logit


def expect(problem):
    return expect_torch(problem) if torch else expect_loops(problem)


def expect_loops(p):
    keys = [p.k[t * p.dim_k:(t + 1) * p.dim_k] for t in range(p.tokens)]
    values = [p.v[t * p.dim_v:(t + 1) * p.dim_v] for t in range(p.tokens)]
    norm = max((math.hypot(*key) for key in keys), default=0)
    near = lambda x: floats.round_to(p.dtype, x)
    narrow_keys = [[near(x) for x in key] for key in keys]
    narrow_values = [[near(x) for x in value] for value in values]
    result = Expected([], [], [], [], [])
    for row in range(p.rows):
        query = p.q[row * p.dim_k:(row + 1) * p.dim_k]
        seen = p.visible(row)
        result.logit.append(p.scale * math.hypot(*query) * norm)
        o, lse = _exact_row(p, query, keys, values, seen)
        weights, _ = _exact_row(
            p, query, keys, [[abs(x) for x in v] for v in values]
            if p.dtype == "f32" else values, seen)
        result.o.append(o)
        result.weights.append(weights)
        result.lse.append(lse)
        result.plain.append(
            _plain_row(p, near, query, narrow_keys, narrow_values, seen))
    return result


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def _exact_row(p, query, keys, values, seen):
    if not seen:
        return [0.0] * p.dim_v, -math.inf
    scores = [p.scale * _dot(query, keys[t]) for t in seen]
    if p.softcap:
        scores = [p.softcap * math.tanh(s / p.softcap) for s in scores]
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    total = math.fsum(weights)
    o = [_dot(weights, [values[t][j] for t in seen]) / total
         for j in range(p.dim_v)]
    return o, top + math.log(total)


def _plain_row(p, near, query, keys, values, seen):
    if not seen:
        return [0.0] * p.dim_v
    scores = [near(near(_dot(query, keys[t])) * p.scale) for t in seen]
    if p.softcap:
        scores = [near(p.softcap * near(math.tanh(near(s / p.softcap))))
                  for s in scores]
    top = max(scores)
    weights = [near(math.exp(near(s - top))) for s in scores]
    total = near(math.fsum(weights))
    weights = [near(w / total) for w in weights]
    return [near(_dot(weights, [values[t][j] for t in seen]))
            for j in range(p.dim_v)]


def expect_torch(p):
    kind = {"f32": torch.float32, "f16": torch.float16,
            "bf16": torch.bfloat16}[p.dtype]
    matrix = lambda data, rows, dim: torch.tensor(
        list(data), dtype=torch.float64).reshape(rows, dim)
    k, v = matrix(p.k, p.tokens, p.dim_k), matrix(p.v, p.tokens, p.dim_v)
    q = matrix(p.q, p.rows, p.dim_k)
    near = lambda x: x.to(kind).double()
    token = torch.arange(p.tokens)
    position = (p.tokens - p.queries +
                torch.arange(p.rows) // p.group).unsqueeze(1)
    mask = token <= position
    if p.window:
        sink, recent = p.window
        mask &= (token < sink) | (token > position - recent)
    empty = ~mask.any(1)
    scores = p.scale * (q @ k.T)
    plain = near(near(q @ near(k).T) * p.scale)
    if p.softcap:
        scores = p.softcap * torch.tanh(scores / p.softcap)
        plain = near(p.softcap * near(torch.tanh(near(plain / p.softcap))))
    scores = scores.masked_fill(~mask, -math.inf)
    plain = plain.masked_fill(~mask, -math.inf)
    if p.tokens == 0:
        zeros = [[0.0] * p.dim_v for _ in range(p.rows)]
        return Expected(zeros, zeros, zeros, [-math.inf] * p.rows,
                        [0.0] * p.rows)
    lse = torch.logsumexp(scores, 1)
    weights = torch.softmax(scores, 1).masked_fill(empty.unsqueeze(1), 0)
    top = plain.max(1, keepdim=True).values.masked_fill(empty.unsqueeze(1), 0)
    narrow = near(torch.exp(near(plain - top)))
    total = near(narrow.sum(1, keepdim=True))
    narrow = near(narrow / total).masked_fill(empty.unsqueeze(1), 0)
    logit = p.scale * q.norm(dim=1) * k.norm(dim=1).max()
    return Expected((weights @ v).tolist(), near(narrow @ near(v)).tolist(),
                    (weights @ v.abs()).tolist(), lse.tolist(), logit.tolist())


def judge(problem, expected, out, lse):
    """Findings (texts) and the worst error over its bound.

    out: [rows][dim_v], lse: [rows], as decoded floats.
    """
    p, findings = problem, []
    unit = 0 if p.dtype == "f32" else 2.0 ** -floats.PRECISION[p.dtype]
    worst = largest = plain_error = 0.0
    place = None
    least = 2.0 ** -126 * (p.tokens * max((abs(x) for x in p.v), default=0) + 2)
    for row in range(p.rows):
        seen = len(p.visible(row))
        logit = 2 * UNIT * math.sqrt(p.dim_k) * expected.logit[row]
        logit += 2 * unit * expected.logit[row] / math.sqrt(p.dim_k)
        logit += 8 * UNIT * p.softcap
        total = UNIT * (2 * math.sqrt(seen) + 17)
        if not seen:
            if any(x != 0 for x in out[row]) or lse[row] != -math.inf:
                findings.append(f"row {row} sees nothing: expected 0 and lse "
                                f"-inf, found {out[row][0]} and {lse[row]}")
            continue
        bound = DOUBT * (logit + total + 2 * UNIT * abs(expected.lse[row]))
        if not abs(lse[row] - expected.lse[row]) <= bound:
            findings.append(f"row {row}: lse {lse[row]}, expected "
                            f"{expected.lse[row]} +- {bound:.3g}")
        for j, found in enumerate(out[row]):
            want = expected.o[row][j]
            error = abs(found - want) if math.isfinite(found) else math.inf
            largest = max(largest, abs(want))
            plain_error = max(plain_error, abs(expected.plain[row][j] - want))
            if p.dtype == "f32":
                error /= (DOUBT * (logit + total) * expected.weights[row][j] +
                          2 * floats.half_ulp(p.dtype, want) + least)
            if error > worst or place is None:
                worst, place = error, (row, j, found, want)
    if p.dtype != "f32":
        worst /= plain_error + floats.half_ulp(p.dtype, largest) + least
    if worst > 1:
        row, j, found, want = place
        findings.append(f"row {row}, channel {j}: found {found}, expected "
                        f"{want}: {worst:.3g} times the error allowed")
    return findings, worst
