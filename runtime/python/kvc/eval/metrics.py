"""What a cache costs, from the logits with it and without."""

import math

import torch

from .errors import CannotJudge

#: Bytes of f64 at a time. Beyond 32 MiB malloc asks the system and gives back;
#: smaller blocks leave holes between what is kept, gigabytes in the end.
_BLOCK = 48 << 20


def _blocks(rows, columns):
    """Slices of so many rows, of a block each."""
    step = max(1, _BLOCK // (8 * columns))
    return [slice(begin, begin + step) for begin in range(0, rows, step)]


def log_probs(logits):
    """Log-probabilities in f64, [rows, vocabulary]. In f32 the sum that
    normalises them would be wrong by more than the error of an f16 cache."""
    found = torch.empty(logits.shape, dtype=torch.float64)
    for rows in _blocks(*logits.shape):
        torch.log_softmax(logits[rows].double(), -1, out=found[rows])
    return found


def check_finite(logits, begin):
    """Raises CannotJudge with the first token after which a logit is not
    finite."""
    bad = ~torch.isfinite(logits).all(-1)
    if bad.any():
        raise CannotJudge("not a number: the logits after token "
                          f"{begin + int(bad.int().argmax())}")


def perplexity(nll):
    """Of negative log-likelihoods in nats; infinite where no float holds it."""
    mean = float(nll.mean())
    return math.exp(mean) if mean < 709 else math.inf


class Tally:
    """Collects per token: the KL divergence of the found distribution from the
    wanted one (nats), whether the most likely token is the same, and the
    log-likelihood of the token that is next."""

    def __init__(self):
        self._kl, self._agrees, self._nll = [], [], []

    def add(self, wanted, logits, targets):
        """wanted: log_probs() of the full cache; logits: through the other, as
        many rows; targets: the next token of each row but perhaps the last."""
        for rows in _blocks(*logits.shape):
            p = wanted[rows]
            q = torch.log_softmax(logits[rows].double(), -1)
            # It is never negative; what is, is rounding.
            self._kl.append((p.exp() * (p - q)).sum(-1).clamp_(min=0))
            self._agrees.append(p.argmax(-1) == q.argmax(-1))
            self._nll.append(nll_of(q, targets[rows]))

    def result(self):
        """{"kl_mean", "kl_p99", "kl_max", "kl_max_token", "top1",
        "perplexity"}."""
        kl = torch.cat(self._kl)
        return {"kl_mean": float(kl.mean()),
                "kl_p99": float(torch.quantile(kl, 0.99)),
                "kl_max": float(kl.max()), "kl_max_token": int(kl.argmax()),
                "top1": float(torch.cat(self._agrees).double().mean()),
                "perplexity": perplexity(torch.cat(self._nll))}


def nll_of(log_p, targets):
    """Negative log-likelihood of each target under its row."""
    rows = log_p[:len(targets)]
    return -rows.gather(1, targets[:, None])[:, 0].double()
