"""The shared libraries, loaded when they are first asked for."""

import ctypes
import os
from pathlib import Path

from . import _abi, errors

#: Where else to look for the libraries: of a build tree, say.
VARIABLE = "KVC_LIBRARY_DIR"
_HERE = Path(__file__).resolve().parent / "lib"


class LibraryNotFound(ImportError):
    """A library of kvc is not where it is looked for."""


def _places(name):
    folder = os.environ.get(VARIABLE)
    folders = [Path(folder), _HERE] if folder else [_HERE]
    try:
        from kvc_compiler import LIBRARY_DIR  # of the distribution kvc-compiler
        folders.append(Path(LIBRARY_DIR))
    except ImportError:
        pass
    return [folder / name for folder in folders]


def _open(name, abi_name, abi, functions, hint):
    places = _places(name)
    for path in places:
        if not path.exists():
            continue
        library = ctypes.CDLL(str(path))
        for function, result, parameters in functions:
            entry = getattr(library, function, None)
            if entry is not None:
                entry.restype, entry.argtypes = result, parameters
        found = getattr(library, abi_name)()
        if found != abi:
            raise LibraryNotFound(
                f"{path} has ABI {found}, and this package is for ABI {abi}")
        return library
    raise LibraryNotFound(
        f"{name} is not in {' or '.join(str(path.parent) for path in places)}; "
        f"{hint}")


class _Lazy:
    def __init__(self, *arguments):
        self._arguments = arguments

    def __getattr__(self, name):
        library = self.__dict__.get("_library")
        if library is None:
            library = self.__dict__["_library"] = _open(*self._arguments)
        value = getattr(library, name)
        self.__dict__[name] = value
        return value


runtime = _Lazy(
    "libkvc-runtime.so", "kvc_runtime_abi", _abi.KVC_RUNTIME_ABI, _abi.RUNTIME,
    f"set {VARIABLE} to the folder that has it")
compiler = _Lazy(
    "libkvc-compiler.so", "kvc_compiler_abi", _abi.KVC_COMPILER_ABI,
    _abi.COMPILER, "pip install 'kvc[compiler]' adds it; "
    "a compiled artifact is loaded without")


def check(status):
    """Raises what a kvc_status says, unless it is KVC_OK."""
    if status.code == _abi.KVC_OK:
        return
    text = runtime.kvc_error_text().decode("utf-8", "replace")
    cls = errors.BY_CODE.get(status.code, errors.Error)
    raise cls(text, status.where, status.need, status.have, status.have_later)
