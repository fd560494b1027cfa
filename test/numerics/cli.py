"""cli.py KVC SPEC TENSORS: what scripts may rely on in `kvc verify`."""

import json
import os
import subprocess
import sys
import tempfile

kvc, spec, tensors = sys.argv[1:]


def run(*arguments, code=0):
    result = subprocess.run([kvc, "verify", *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.returncode == code, (arguments, result)
    return result


def load(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


# The contract, and that a seed names its cases.
several = load("--random", "5", "--seed", "3")
assert (several["cases"], several["failures"], several["seed"]) == (5, 0, 3)
assert 0 < several["worst_error_ratio"] <= 1 and several["failed"] == []
assert 0 < several["worst_lse_ratio"] <= 1
alone = [load("--random", "1", "--seed", "3", "--case", str(i)) for i in range(5)]
assert sum(one["rows"] for one in alone) == several["rows"]
assert max(one["worst_error_ratio"] for one in alone) == several["worst_error_ratio"]
assert load("--random", "5", "--seed", "4")["rows"] != several["rows"]

# Captured tensors, and an artifact instead of its spec.
with tempfile.TemporaryDirectory() as folder:
    artifact = os.path.join(folder, "x.kvca")
    subprocess.run([kvc, "compile", spec, "-o", artifact], check=True)
    for what in (spec, artifact):
        layers = load(what, "--tensors", tensors, "--tokens", "100")["layers"]
        assert [(x["layer"], x["store"], x["tokens"]) for x in layers] == [
            (0, "full", 100), (18, "window", 100)]
        assert all(x["codec_loss"] > 0 for x in layers)

    broken = os.path.join(folder, "broken.safetensors")
    with open(tensors, "rb") as file, open(broken, "wb") as to:
        to.write(file.read()[:-1])
    assert "E-TENSORS" in run(spec, "--tensors", broken, code=1).stderr

run(code=2)
run(spec, "--random", "1", code=2)
run(os.path.join(folder, "none.json"), code=1)
