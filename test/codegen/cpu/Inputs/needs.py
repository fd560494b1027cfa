"""needs.py TARGET SPEC...: does code use what its manifest asks a CPU for, at most?

Compiles each SPEC for TARGET, disassembles every object, and assembles the text
again with exactly the features that the manifest lists: GNU as refuses an
instruction whose feature is off, where LLVM's assembler takes all of x86. Prints
how many instructions were judged, or one line per refusal; exits 1 if any.
`--omit=FEATURE` judges as if the manifest did not list that one."""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile

# The features that kvc knows, as GNU as calls them.
AS = {
    "sse3": "sse3", "ssse3": "ssse3", "sse4.1": "sse4.1", "sse4.2": "sse4.2",
    "popcnt": "popcnt", "avx": "avx", "avx2": "avx2", "fma": "fma",
    "f16c": "f16c", "lzcnt": "lzcnt", "bmi": "bmi", "bmi2": "bmi2",
    "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd",
    "avx512dq": "avx512dq", "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16",
    "amx-tile": "amx_tile", "amx-bf16": "amx_bf16", "amx-int8": "amx_int8",
}
# Off wherever they are not listed, and never listed.
NEVER = ["movbe", "adx", "aes", "pclmul", "rdrnd", "fsgsbase", "sha", "gfni",
         "vaes", "avx512_fp16", "avx512vbmi", "avx512ifma", "avx_vnni"]


def architecture(features):
    on = [AS[feature] for feature in features]
    off = [name for name in list(AS.values()) + NEVER if name not in on]
    # Off comes last: what is on turns on what it builds on.
    return "generic64" + "".join(f"+{x}" for x in on) + "".join(f"+no{x}" for x in off)


def text_of(path):
    """What is in an object, as lines that an assembler takes."""
    shown = subprocess.run(
        ["llvm-objdump", "-d", "--no-show-raw-insn", "--no-leading-addr", path],
        check=True, capture_output=True, text=True).stdout
    lines = []
    for line in shown.splitlines():
        if not line.startswith((" ", "\t")):
            continue
        # A jump's goal, and what a constant's address is relative to, as names.
        line = re.sub(r"\s*<[^>]*>$", "", line.split("#")[0].rstrip())
        if "<unknown>" in line:
            sys.exit(f"{path}: cannot disassemble `{line}`")
        lines.append(line.strip())
    return lines


def refusals(lines, arch, folder):
    source = os.path.join(folder, "text.s")
    with open(source, "w") as file:
        file.write("\n".join(lines) + "\n")
    done = subprocess.run(
        ["as", f"-march={arch}", "-o", os.devnull, source],
        capture_output=True, text=True)
    found = set()
    for line in done.stderr.splitlines():
        error = re.match(r".*text\.s:(\d+): Error: (.*)", line)
        if error:
            number, why = error.groups()
            mnemonic = lines[int(number) - 1].split()[0]
            found.add(f"`{mnemonic}`: {re.sub(' on `generic64.*', '', why)}")
    if done.returncode and not found:
        sys.exit(done.stderr)
    return found


def judge(spec, target, omit, folder):
    artifact = os.path.join(folder, "a.kvca")
    subprocess.run(["kvc", "compile", spec, f"--target={target}", "--no-cache",
                    "-o", artifact], check=True)
    with zipfile.ZipFile(artifact) as bundle:
        manifest = json.loads(bundle.read("manifest.json"))
        blobs = {}
        for kernel in manifest["kernels"]:
            blobs.setdefault(kernel["blob"], set()).update(kernel["features"])
        count, found = 0, set()
        for blob, features in blobs.items():
            path = os.path.join(folder, "object.o")
            with open(path, "wb") as file:
                file.write(bundle.read(blob))
            lines = text_of(path)
            count += len(lines)
            found |= refusals(lines, architecture(features - {omit}), folder)
    return count, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("specs", nargs="+")
    parser.add_argument("--omit", default="")
    arguments = parser.parse_args()
    total, found = 0, set()
    with tempfile.TemporaryDirectory() as folder:
        for spec in arguments.specs:
            count, refused = judge(spec, arguments.target, arguments.omit, folder)
            total += count
            found |= {f"{os.path.basename(spec)}: {line}" for line in refused}
    print("\n".join(sorted(found)) or f"{total} instructions need no more")
    sys.exit(1 if found else 0)


main()
