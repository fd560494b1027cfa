"""The model as the judge of a spec: what a cache does to a model's output.

    python -m kvc.eval --model smollm2 --text novel.txt --spec a.json b.json

A model reads a text twice, through the cache of each spec and through its own
f32 cache, and is told every token that is next (teacher forcing). What differs
between the two is the spec's doing, and nothing else's.

    from kvc.eval import judge, load_model, specs_of

    subject = load_model("smollm2")
    entries, _ = specs_of(subject.model.config, ["a.json"])
    found = judge(subject.model, subject.tokens_of(text)[:1024], entries)

Needs PyTorch and transformers; a report as a page needs altair and vl-convert
(kvc[report]).
"""

from .errors import CannotJudge, Failure, Missing, SpecRefused, Usage

__all__ = ["CannotJudge", "Failure", "Missing", "SpecRefused", "Usage",
           "judge", "load_model", "specs_of"]


def __getattr__(name):
    # `python -m kvc.eval --help` is for those without PyTorch too.
    if name == "judge":
        from .run import judge as found
    elif name == "load_model":
        from .models import load_model as found
    elif name == "specs_of":
        from .specs import specs_of as found
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
