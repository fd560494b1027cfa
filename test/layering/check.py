"""check.py SOURCE [BUILD]: do all arrows between folders point forwards?

Reads every #include and include of the tree, and the dynamic section of the
runtime if a build is given. Prints one line per violation; exits 1 if any."""
import os
import re
import subprocess
import sys

# What each folder may include, besides itself. A folder that is not here has no
# place in the order yet, which is an error as well.
MAY_INCLUDE = {
    "lib/base/Support": [],
    "lib/base/Spec": ["lib/base/Support"],
    "lib/base/Artifact": [],
    "lib/base/Simt": ["lib/base/Artifact"],
    "lib/base/Amx": [],
    "dialect": [],
    "lib/driver/Reference": ["dialect", "lib/base/Artifact"],
    "lib/driver/Import": ["dialect", "lib/base/Spec", "lib/base/Support"],
    "passes": ["dialect"],
    "codegen": ["dialect", "passes", "lib/base/Artifact", "lib/base/Simt"],
    "lib/driver/Compiler": ["lib/base/Support", "lib/base/Spec",
                            "lib/base/Artifact", "lib/base/Simt", "dialect",
                            "lib/driver/Import", "passes", "codegen"],
    "lib/driver/Explain": ["lib/base/Support", "lib/base/Spec",
                           "lib/base/Artifact", "dialect",
                           "lib/driver/Import", "lib/driver/Reference",
                           "lib/driver/Compiler"],
    "lib/driver/Jit": ["lib/base/Artifact", "runtime"],
    "lib/driver/CAPI": ["lib/base/Support", "lib/base/Spec",
                        "lib/base/Artifact", "lib/driver/Compiler",
                        "lib/driver/Explain", "lib/driver/Jit"],
    "runtime": ["lib/base/Artifact", "lib/base/Simt", "lib/base/Amx"],
}
BELOW = list(MAY_INCLUDE)
MAY_INCLUDE["lib/driver/Verify"] = BELOW
MAY_INCLUDE["tools"] = BELOW + ["lib/driver/Verify"]
MAY_INCLUDE["test"] = BELOW + ["lib/driver/Verify", "tools"]

# Installed headers are included by the name that users know.
PUBLIC = {"kvc/runtime": "runtime", "kvc/compiler": "lib/driver/CAPI"}

NO_LLVM = ["runtime", "lib/base/Artifact", "lib/base/Simt", "lib/base/Amx"]
# What the lower tier of lib/ has nothing of: MLIR, and of LLVM all but its
# support library.
NO_IR = re.compile(r"mlir(-c)?/|llvm(-c)?/(?!ADT/|Config/|Support/)")
NO_TARGETS = ["dialect", "passes"]
TARGETS = re.compile(r"\b(x86|avx\w*|amx|cuda|nvvm|nvptx|ptx)\b", re.I)
# What is right in one place only, and why.
CODECS = re.compile(r"\b(Int|Float)Codec(Attr)?\b")
CODE_TYPES = re.compile(
    r"\b\w*code(Type)?(\(\))?(\.|->)is(BF16|F16|F32|Integer\(\d)"
    r"|\bisa<\w*(Float|Integer)\w*>\([^()]*\bcode(Type)?\b", re.I)
ASK_SOURCES = re.compile(r"codegen/(cpu/(?!operands/)|nvptx/Schedules\.cpp)")
INCLUDE = re.compile(r'^\s*#?\s*include\s+["<]([^">]+)[">]')
SOURCES = (".h", ".hpp", ".c", ".cc", ".cpp", ".td", ".def", ".inc")

# The mainloops of tensor cores, and what only their operand sources may name.
MMA_LOOPS = re.compile(r"codegen/nvptx/AttendMma"
                       r"(SwapAB|NoSwapAB|NonFinite|Operands)?\.(h|cpp)")
MMA_TYPES = re.compile(r"\bis(BF16|F16|F32|Integer)\("
                       r"|\b\w*(Float\w*|Integer)Type\b"
                       r"|\bPtx::(Mma|Cvt|SubF16)\w*")


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:3]) if parts[0] == "lib" else parts[0]


def included_folder(name):
    for prefix, folder in PUBLIC.items():
        if name.startswith(prefix):
            return folder
    folder = folder_of(name)
    return folder if folder in MAY_INCLUDE else None


def check_line(path, folder, line):
    match = INCLUDE.match(line)
    if match:
        name = match.group(1)
        target = included_folder(name)
        if target and target != folder and target not in MAY_INCLUDE[folder]:
            yield f"{folder} must not include {target} ({name})"
        if folder in NO_LLVM and re.match(r"(llvm|mlir)(-c)?/", name):
            yield f"{folder} must not include LLVM ({name})"
        elif folder.startswith("lib/base/") and NO_IR.match(name):
            yield f"{folder} must not include MLIR or LLVM's IR ({name})"
        if "../" in name:
            yield f"includes start at the root of the tree ({name})"
    elif folder in NO_TARGETS and (found := TARGETS.search(line)):
        yield f"{folder} must not know a target (`{found.group(0)}`)"
    if MMA_LOOPS.fullmatch(path) and (found := MMA_TYPES.search(line)):
        yield ("a mainloop of tensor cores must ask an operand source "
               f"(`{found.group(0)}`)")


def check_words(path, folder, line):
    if folder in ("passes", "codegen", "runtime") and (
            found := CODECS.search(line)):
        yield (f"{folder} must ask a codec's interface and not know one "
               f"(`{found.group(0)}`)")
    if ASK_SOURCES.match(path) and (found := CODE_TYPES.search(line)):
        yield ("what depends on the type of a code is an operand source's "
               f"(`{found.group(0)}`)")


def check_file(source, path):
    folder = folder_of(path)
    if folder not in MAY_INCLUDE:
        yield f"{path}: {folder} has no place in the order of folders"
        return
    with open(os.path.join(source, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            for what in (*check_line(path, folder, line),
                         *check_words(path, folder, line)):
                yield f"{path}:{number}: {what}"


def check_sources(source):
    top = ["lib", "dialect", "passes", "codegen", "runtime", "tools", "test"]
    for start in top:
        for base, _, files in os.walk(os.path.join(source, start)):
            for name in sorted(files):
                if name.endswith(SOURCES):
                    path = os.path.relpath(os.path.join(base, name), source)
                    yield from check_file(source, path)


def check_runtime(source, build):
    if not os.path.exists(os.path.join(source, "runtime", "CMakeLists.txt")):
        return
    library = os.path.join(build, "lib", "libkvc-runtime.so")
    if not os.path.exists(library):
        yield f"{library}: the runtime is not built"
        return
    dynamic = subprocess.run(["readelf", "-d", library], check=True,
                             capture_output=True, text=True).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    if not needed:
        yield f"{library}: needs no library at all, which cannot be"
    for name in needed:
        if re.search("llvm|mlir|clang", name, re.I):
            yield f"{library}: must not link {name}"


def main(source, build=None):
    violations = list(check_sources(source))
    if build:
        violations += check_runtime(source, build)
    print("\n".join(violations) or "all arrows point forwards")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
