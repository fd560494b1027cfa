"""kvc's kernels in an engine that has pages and block tables of its own: a toy of
continuous batching, in numpy. Requests come and go while others run; each step
takes prompts in chunks and one token of each request that decodes.

The "model" is one layer whose q, k and v are functions of token and position, so
that every output can be checked: at the end against each request alone.
"""

import numpy as np

import kvc

Q_HEADS, KV_HEADS, DIM, PAGE, PAGES, CHUNK = 8, 2, 64, 16, 24, 32
SPEC = {
    "kvc": "0.1", "name": "engine",
    "model": {"layers": 1, "q_heads": Q_HEADS, "kv_heads": KV_HEADS,
              "head_dim": DIM, "dtype": "f32"},
    "streams": {"k": {"codec": "f32"}, "v": {"codec": "int8"}},
    "layout": {"kind": "paged", "page": PAGE}}


def rows_of(tokens, begin):
    """q, k and v of tokens at the positions from `begin`."""
    out = []
    for token, position in zip(tokens, range(begin, begin + len(tokens))):
        draw = np.random.default_rng((token, position))
        out.append(draw.standard_normal((Q_HEADS + 2 * KV_HEADS, DIM)))
    whole = np.array(out, np.float32)
    return np.split(whole, [Q_HEADS, Q_HEADS + KV_HEADS], axis=1)


def next_token(out):
    """What the model says after a row of attention."""
    return int(np.abs(out).sum() * 1000) % 1000


class Request:
    """Tokens so far, of which `cached` are in pages."""

    def __init__(self, prompt, count):
        self.tokens, self.left = list(prompt), count
        self.cached, self.pages = 0, []


class Engine:
    """Pages of one layer, and who has them."""

    def __init__(self):
        self.program = kvc.load(kvc.compile(SPEC))
        self.store = self.program.stores[0]
        self.pool = np.zeros((PAGES, self.store.page_bytes), np.uint8)
        self.free = list(range(PAGES))
        self.waiting, self.running, self.finished = [], [], []

    def admit(self):
        """Lets requests in as long as all of theirs will find pages."""
        while self.waiting:
            request = self.waiting[0]
            need = -(-(len(request.tokens) + request.left) // PAGE)
            if need > len(self.free):
                break
            request.pages = [self.free.pop() for _ in range(need)]
            self.running.append(self.waiting.pop(0))

    def step(self):
        """One call of each kernel for all that run."""
        self.admit()
        batch = self.running
        counts = [min(CHUNK, len(each.tokens) - each.cached) for each in batch]
        parts = [rows_of(each.tokens[each.cached:each.cached + count],
                         each.cached) for each, count in zip(batch, counts)]
        q, k, v = (np.concatenate(each) for each in zip(*parts))
        slots = np.array([
            each.pages[position // PAGE] * PAGE + position % PAGE
            for each, count in zip(batch, counts)
            for position in range(each.cached, each.cached + count)], np.int64)
        self.program.append(self.store, k, v, slots, self.pool,
                            page_count=PAGES)

        ends = np.cumsum([0, *counts]).astype(np.int32)
        lengths = np.array([each.cached + count for each, count in
                            zip(batch, counts)], np.int32)
        table = np.zeros((len(batch), max(len(each.pages) for each in batch)),
                         np.int32)
        for row, each in zip(table, batch):
            row[:len(each.pages)] = each.pages
        out = self.program.attend(self.store, q, ends, lengths, table,
                                  self.pool, page_count=PAGES)

        for each, count, end in zip(batch, counts, ends[1:]):
            each.cached += count
            if each.cached < len(each.tokens):
                continue  # a prompt of which there is more
            each.tokens.append(next_token(out[end - 1]))
            each.left -= 1
            if each.left == 0:
                self.free += each.pages
                self.finished.append(each)
        self.running = [each for each in batch if each.left]
        return len(q)


def main():
    draw = np.random.default_rng(0)
    prompts = [draw.integers(1000, size=n).tolist() for n in
               (5, 70, 33, 12, 100, 40, 9)]

    def run(prompts, arrivals):
        engine, steps, rows = Engine(), 0, 0
        requests = [Request(prompt, 12) for prompt in prompts]
        while len(engine.finished) < len(requests):
            engine.waiting += [each for each, when in zip(requests, arrivals)
                               if when == steps]
            rows += engine.step()
            steps += 1
        assert sorted(engine.free) == list(range(PAGES))
        return [each.tokens for each in requests], steps, rows

    found, steps, rows = run(prompts, [0, 0, 1, 4, 4, 9, 9])
    alone = [run([prompt], [0])[0][0] for prompt in prompts]
    assert found == alone, "what runs together changes no result"
    print(f"{len(prompts)} requests, {rows} rows in {steps} steps, {PAGES} "
          "pages: each as if alone")


if __name__ == "__main__":
    main()
