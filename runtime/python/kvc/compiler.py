"""compile(): a spec to an artifact. Needs libkvc-compiler (kvc[compiler])."""

from __future__ import annotations

import ctypes as c
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import _abi
from ._library import compiler
from ._scalars import c_string, integer
from .errors import Diagnostic, InvalidArgument, SpecError

_FIELDS = ("severity", "code", "message", "file", "line", "column", "pointer",
           "fix", "notes")


class Artifact:
    """A compiled cache: the bytes of a .kvca file.

    `name` is the spec's, `remarks` are Diagnostics of what was folded and of
    slower paths. It is machine code: load only what you would run.
    """

    def __init__(self, data: bytes, spec: str | None = None,
                 remarks: Iterable[Diagnostic] = ()):
        try:
            self.data = bytes(memoryview(data))
        except TypeError:
            raise TypeError("data: expected the bytes of an artifact, found "
                            f"{type(data).__name__}") from None
        self.spec = spec
        self.remarks = list(remarks)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file as a whole: readers see it complete or not at all."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(self.data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | os.PathLike) -> Artifact:
        """The artifact of a file."""
        return cls(Path(path).read_bytes())

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self):
        return f"kvc.Artifact({len(self.data)} bytes)"


def _text_of(spec):
    """The JSON text of a spec, and the name that messages give it."""
    if isinstance(spec, dict):
        return json.dumps(spec, indent=2).encode(), "<dict>"
    if isinstance(spec, str) and spec.lstrip()[:1] == "{":
        return spec.encode(), "<str>"
    if isinstance(spec, (str, os.PathLike)):
        return Path(spec).read_bytes(), os.fsdecode(spec)
    raise TypeError("spec: expected a dict, JSON text or a path, found "
                    f"{type(spec).__name__}")


def _strings(values, what):
    if isinstance(values, str):
        values = (values,)
    try:
        values = list(values)
    except TypeError:
        raise TypeError(f"{what}: expected strings, found "
                        f"{values!r}") from None
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{what}: expected strings, found {value!r}")
    values = [c_string(what, value) for value in values]
    return (c.c_char_p * max(len(values), 1))(*values), len(values)


def diagnostics(text):
    """The Diagnostics of one JSON object a line."""
    found = []
    for line in text.splitlines():
        if line.strip():
            read = json.loads(line)
            found.append(Diagnostic(**{field: read[field] for field in _FIELDS
                                       if read.get(field) is not None}))
    return found


def version() -> str:
    """"kvc 0.1.0, LLVM 22.1.8"."""
    return compiler.kvc_compiler_version().decode()


def _run(function, spec, targets, schedule, cache, *more):
    """(result, text of the spec, Diagnostics) of a function of the compiler
    that takes a spec."""
    text, name = _text_of(spec)
    options = _abi.CompileOptions(size=c.sizeof(_abi.CompileOptions))
    options.name = name.encode("utf-8", "replace")
    target_array, options.target_count = _strings(targets, "targets")
    schedule_array, options.schedule_count = _strings(schedule, "schedule")
    options.targets = c.cast(target_array, c.c_void_p)
    options.schedule = c.cast(schedule_array, c.c_void_p)
    options.use_cache = bool(cache)
    result, size = c.c_void_p(), c.c_size_t()
    messages, length = c.c_void_p(), c.c_size_t()
    code = function(
        text, len(text), c.byref(options), *more, c.byref(result),
        c.byref(size), c.byref(messages), c.byref(length))
    try:
        said = diagnostics(c.string_at(messages, length.value).decode(
            "utf-8", "replace") if messages else "")
        if code == _abi.KVC_COMPILE_OK:
            return (c.string_at(result, size.value),
                    text.decode("utf-8", "replace"), said)
    finally:
        compiler.kvc_compile_free(result)
        compiler.kvc_compile_free(messages)
    if code == _abi.KVC_COMPILE_FAILED:
        raise SpecError(said)
    raise RuntimeError("kvc is at fault: " +
                       ("; ".join(str(each) for each in said) or
                        f"the compiler returned {code}"))


def compile(spec: dict[str, Any] | str | os.PathLike,
            targets: str | Iterable[str] = ("native",),
            schedule: str | Iterable[str] = (), cache: bool = True) -> Artifact:
    """Compiles a spec and returns its Artifact.

    spec      a dict, JSON text, or the path of a file
    targets   "native", "x86-64-v3", "sm_90", "sim:sm_90", ...; one artifact
              holds all of them, and a device takes the best that it can run
    schedule  "KERNEL.FIELD=VALUE" each, KERNEL a glob (`kvc help schedule`)
    cache     whether to look into the kernel cache under $KVC_CACHE_DIR and
              store there

    Raises SpecError with the place of every fault, and ImportError where the
    compiler is not installed.
    """
    return Artifact(*_run(compiler.kvc_compile, spec, targets, schedule, cache))


def explain(spec: dict[str, Any] | str | os.PathLike,
            targets: str | Iterable[str] = ("native",),
            schedule: str | Iterable[str] = (), cache: bool = True, *,
            context: int = 8192, batch: int = 1, bandwidth: float | None = None,
            tflops: float | None = None) -> dict[str, Any]:
    """What a spec costs, as `kvc explain --json` prints it: a dict of bytes per
    token, what a decode step of `batch` sequences with `context` cached tokens
    each reads and computes, kernels with their schedules, and remarks.

    bandwidth  of memory in GB/s, for the step's time
    tflops     TFLOP/s, for which of the two bounds it

    The rest, and what is raised, is as of compile().
    """
    step = _abi.ExplainOptions(size=c.sizeof(_abi.ExplainOptions))
    step.context = integer("context", context, 1)
    step.batch = integer("batch", batch, 1)
    for name, rate in (("bandwidth", bandwidth), ("tflops", tflops)):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InvalidArgument(f"{name}: expected a finite number above 0, "
                                  f"found {rate}")
    step.bandwidth_gb_s, step.tflop_s = bandwidth or 0, tflops or 0
    return json.loads(_run(compiler.kvc_explain, spec, targets, schedule,
                           cache, c.byref(step))[0])
