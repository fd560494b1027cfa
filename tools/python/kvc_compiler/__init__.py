"""The compiler of kvc: libkvc-compiler, which the package `kvc` loads, and the
command `kvc`."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent

#: Where libkvc-compiler.so is.
LIBRARY_DIR = str(_HERE / "lib")


def main():
    """The command line: this process becomes the program."""
    program = str(_HERE / "bin" / "kvc")
    os.execv(program, ["kvc", *sys.argv[1:]])
