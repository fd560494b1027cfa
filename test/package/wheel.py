#!/usr/bin/env python3
"""The wheels as users get them: built, installed in environments of their own,
and used with the standard library alone.

  wheel.py runtime SOURCE WORK KVC     what a machine that runs artifacts has
  wheel.py compiler SOURCE WORK KVC    kvc[compiler]

Exits 77 where what builds wheels cannot be had from PyPI.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

SKIPPED = 77
#: What an engine without LLVM does with an artifact; then what is loaded.
USE = """
import pathlib, sys
import kvc
sys.path.insert(0, sys.argv[2])
from plain import Plain, Rows, check_rows
import unittest

program = kvc.load(sys.argv[1])
model = program.model
assert (model.layers, model.dtype) == (2, "f32"), model
with kvc.Cache(program, 64) as cache:
    a, plain = cache.open(), [Plain(model) for _ in range(model.layers)]
    for rows in (5, 1):
        with cache.step({a: rows}) as step:
            for layer in range(model.layers):
                k, v, q, out = (
                    Rows(rows, heads, model.head_dim_k, seed)
                    for seed, heads in enumerate((
                        model.kv_heads, model.kv_heads, model.q_heads,
                        model.q_heads)))
                step.append(layer, k.view(), v.view())
                step.attend(layer, q.view(), out=out.view())
                plain[layer].append(k, v, range(rows))
                check_rows(unittest.TestCase(), [plain[layer]], [rows], q, out)
maps = pathlib.Path("/proc/self/maps").read_text()
assert "LLVM" not in maps, "LLVM is loaded"
assert str(pathlib.Path(kvc.__file__).parent / "lib") in maps
assert "numpy" not in sys.modules
try:
    kvc.compile({})
except ImportError as error:
    assert "pip install 'kvc[compiler]'" in str(error), error
else:
    sys.exit("there is a compiler")
"""
COMPILE = """
import pathlib, re, sys
import kvc, kvc_compiler
artifact = kvc.compile(sys.argv[1], cache=False)
program = kvc.load(artifact)
assert program.model.layers == 2
assert kvc.compiler.version().startswith(f"kvc {kvc.__version__}, LLVM ")
# LLVM is inside, and nothing but the C and C++ runtimes is the system's.
root = pathlib.Path(kvc_compiler.__file__).parent.parent
loaded = {line.split()[-1] for line in open("/proc/self/maps")
          if ".so" in line}
assert f"{root}/kvc_compiler/lib/libkvc-compiler.so" in loaded, loaded
for path in loaded:
    assert path.startswith(str(root)) or not re.search(
        r"LLVM|MLIR|kvc|zstd", path), path
"""
SPEC = {
    "kvc": "0.1", "name": "wheel",
    "model": {"layers": 2, "q_heads": 4, "kv_heads": 2, "head_dim": 16,
              "dtype": "f32"},
    "streams": {"k": {"codec": "f32"}, "v": {"codec": "f32"}},
    "layout": {"kind": "paged", "page": 4}}


def run(*command, **options):
    """Runs a command in an environment without hints of ours."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("KVC_LIBRARY_DIR", "PYTHONPATH",
                                   "LD_LIBRARY_PATH")}
    return subprocess.run([str(part) for part in command], check=True,
                          env=environment, **options)


def build(source, *arguments):
    done = subprocess.run([source / "tools/wheel", *arguments], cwd=source,
                          check=False)
    if done.returncode == SKIPPED:
        sys.exit(SKIPPED)
    done.check_returncode()


def the_wheel(folder, name):
    found = list(folder.glob(f"{name}-*.whl"))
    assert len(found) == 1, found
    # py3: of any Python; none: no ABI of one; manylinux: auditwheel looked.
    tags = found[0].stem.split("-")[2:]
    assert tags[:2] == ["py3", "none"], tags
    assert re.fullmatch(r"manylinux_2_\d+_x86_64", tags[2]), tags
    return found[0]


def environment(work):
    """A Python without packages, and its folder of programs."""
    shutil.rmtree(work, ignore_errors=True)
    # Without pip, which takes seconds: another's installs.
    venv.create(work, with_pip=False)
    return work / "bin"


def install(pip, python, *what):
    run(pip, "--python", python, "install", "--quiet", "--no-index", *what)


def runtime(source, work, kvc):
    build(source, f"--out={work}", "runtime")
    wheel = the_wheel(work, "kvc")
    size = wheel.stat().st_size
    assert size < 1 << 20, f"{size} bytes"
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    for name in ("kvc/py.typed", "kvc/lib/libkvc-runtime.so"):
        assert name in names, names
    assert not [name for name in names if ".libs/" in name], names
    assert [name for name in names if name.endswith("LICENSE")], names
    spec, artifact = work / "spec.json", work / "shipped.kvca"
    spec.write_text(json.dumps(SPEC))
    run(kvc, "compile", spec, "-o", artifact)
    bin_ = environment(work / "runtime")
    install(source / "build/wheels/env/bin/pip", bin_ / "python", wheel)
    run(bin_ / "python", "-I", "-c", USE, artifact, source / "test/python")
    print(f"{wheel.name}: {size} bytes")


def compiler(source, work, _):
    # Compressing takes ten times as long as storing.
    build(source, "--level=0", f"--out={work}", "compiler")
    wheel = the_wheel(work, "kvc_compiler")
    bin_ = environment(work / "compiler")
    # By its name: versions must be the same.
    install(source / "build/wheels/env/bin/pip", bin_ / "python",
            "--find-links", work, "kvc[compiler]")
    spec = work / "spec.json"
    run(bin_ / "python", "-I", "-c", COMPILE, spec)
    run(bin_ / "kvc", "compile", spec, "-o", work / "by-cli.kvca")
    run(bin_ / "python", "-I", "-c",
        "import kvc, sys; kvc.load(sys.argv[1])", work / "by-cli.kvca")
    said = run(bin_ / "kvc", "--version", stdout=subprocess.PIPE, text=True)
    assert "0.1.0" in said.stdout, said.stdout
    failed = subprocess.run([bin_ / "kvc", "check", work / "none.json"],
                            stderr=subprocess.PIPE, check=False)
    assert failed.returncode not in (0, SKIPPED), failed.returncode
    size = wheel.stat().st_size
    assert size < 160 << 20, f"{size} bytes, stored"
    print(f"{wheel.name}: {size} bytes, stored")
    shutil.rmtree(work / "compiler")
    wheel.unlink()


if __name__ == "__main__":
    which, source_, work_, kvc_ = sys.argv[1:]
    Path(work_).mkdir(parents=True, exist_ok=True)
    {"runtime": runtime, "compiler": compiler}[which](
        Path(source_), Path(work_), kvc_)
