"""Compiles a cache for an H100 and for CPUs on a machine without a GPU, saves it,
and says what is in the file. The machine that runs it needs the runtime alone:

    program = kvc.load("llama3-8b.kvca", device="cuda:0")

    ship_artifact.py [SPEC [FILE]]
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import kvc

LLAMA3_8B = {
    "kvc": "0.1", "name": "llama3-8b",
    "model": {"layers": 32, "q_heads": 32, "kv_heads": 8, "head_dim": 128,
              "dtype": "bf16"},
    "streams": {"k": {"codec": "bf16"}, "v": {"codec": "int8"}},
    "layout": {"kind": "paged", "page": 16}}


def main():
    spec = sys.argv[1] if len(sys.argv) > 1 else LLAMA3_8B
    try:
        artifact = kvc.compile(spec, targets=["sm_90", "x86-64-v3"])
    except kvc.SpecError as error:
        for each in error.diagnostics:  # with line, column and what would do
            print(each)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[2] if len(sys.argv) > 2 else
                    Path(folder) / "cache.kvca")
        artifact.save(path)
        print(f"{path.name}: {path.stat().st_size} bytes, "
              f"{len(artifact.remarks)} remarks of the compiler")
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                print(f"  {entry.file_size:8} {entry.filename}")

        # Here there is no GPU, so the same file runs on the CPU.
        program = kvc.load(path, device="cpu")
    model = program.model
    print(f"{program.name} for {program.target}: {model.layers} layers, "
          f"{model.q_heads} heads over {model.kv_heads} of {model.head_dim_k}")
    for store in program.stores:
        per_token = store.page_bytes * len(store.layers) // (
            store.page_tokens or 1)
        planes = ", ".join(f"{each.stream} {each.role} {each.type}"
                           for each in store.planes)
        print(f"  store {store.name}: {per_token} bytes a token in all layers "
              f"({planes})")
    gigabytes = program.bytes_for(8 * 8192, sequences=8) / 1e9
    print(f"8 sequences of 8,192 tokens take {gigabytes:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
