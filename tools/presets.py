#!/usr/bin/env python3
"""presets.py SPEC TENSORS: what the codecs of specs/presets do to captured tensors.

Puts each preset's codecs on the model and the layout of SPEC, runs TENSORS
through it (`kvc verify`) and measures it (`kvc bench`), and prints a row. A
preset whose layers differ is left out. Speeds are parts of what memory readers
gave beside each kernel, over the bytes of a token: not those of one run, but
what moves between runs is divided out."""
import json
import pathlib
import subprocess
import sys
import tempfile

KVC = "build/bin/kvc"
TOKENS = "512"


def run(*arguments):
    done = subprocess.run([KVC, *arguments, "--json"], stdout=subprocess.PIPE)
    if not done.stdout:
        sys.exit(done.returncode)  # it has said why
    return json.loads(done.stdout)


def measured(spec, tensors):
    """(bytes of a token, codec loss, error ratio, failures, tokens per unit of
    memory's time) of a spec's file."""
    explain = run("explain", spec)
    verify = run("verify", spec, "--tensors", tensors, "--tokens", TOKENS)
    bench = run("bench", spec, "--op=decode", "--context=8192", "--threads=1")
    loss = max(layer["codec_loss"] for layer in verify["layers"])
    size = explain["bytes_per_token"]
    return (size, loss, verify["worst_error_ratio"], verify["failures"],
            bench["rows"][0]["fraction_of_ceiling"] / size)


def main():
    model, tensors = sys.argv[1:]
    presets = {}
    for path in sorted(pathlib.Path("specs/presets").glob("*.json")):
        preset = json.loads(path.read_text())
        if "streams" in preset:
            presets[preset["name"]] = preset["streams"]
    spec = json.loads(pathlib.Path(model).read_text()) | {"kvc": "0.2"}
    spec.pop("$schema", None)
    print(f"{'codecs':<16} {'B/token':>8} {'loss':>8} {'error ratio N1':>15} "
          f"{'decode':>8}")
    failures, base = 0, None
    with tempfile.TemporaryDirectory() as folder:
        for name, streams in {spec["name"]: spec["streams"], **presets}.items():
            file = pathlib.Path(folder) / f"{name}.json"
            file.write_text(json.dumps(spec | {"name": name,
                                               "streams": streams}))
            size, loss, ratio, failed, speed = measured(str(file), tensors)
            base = base or speed
            failures += failed
            print(f"{name:<16} {size:>8} {loss:>8.4f} {ratio:>15.3f} "
                  f"{speed / base:>7.2f}x", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
