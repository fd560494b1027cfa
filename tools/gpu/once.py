"""One short append and attend, for tools that watch a process.

    once.py KIT ARTIFACT DEVICE [FAULT]

Without a planted fault it exits with 1 if the results are wrong.
"""
import pathlib
import sys

# A tool that watches this process would watch all of PyTorch.
sys.modules["torch"] = None

import cases
import kvc


def main():
    kit, artifact, name = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    fault = sys.argv[4] if len(sys.argv) > 4 else ""
    device = kvc.Device(kvc.Library(kit / "libkvc-runtime.so"), name)
    program = kvc.Program(device, kit / artifact)
    case = cases.Case(program, 0, "once", sequences=2, longest=100)
    row = cases.check(device, case, poisons=["nan"], fault=fault or None)
    print(row)
    return 1 if row["findings"] and not fault else 0


if __name__ == "__main__":
    sys.exit(main())
