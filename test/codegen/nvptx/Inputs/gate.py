"""gate.py SM FOLDER: does ptxas take the PTX of every spec there as it should?

Nothing spilled, no stack, nothing serialized. Prints one line per kernel that
fails; exits 1 if any. `gate.py --log FILE` judges what ptxas printed once."""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys

STACK = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)


def complaints(log):
    found = []
    kernel = None
    kernels = 0
    for line in log.splitlines():
        entry = re.search(r"Compiling entry function '(\w+)'", line)
        if entry:
            kernel = entry.group(1)
            kernels += 1
        stack = STACK.search(line)
        if stack and any(map(int, stack.groups())):
            found.append(f"{kernel}: {line.strip()}")
        if "serialized" in line:
            found.append(line.strip())
    if kernels == 0:
        found.append("no kernel was assembled")
    return found


def judge(sm, spec):
    ptx = subprocess.run(
        ["kvc", "compile", spec, f"--target={sm}", "--no-cache", "--emit=ptx"],
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout
    done = subprocess.run(
        ["ptxas", "-v", f"-arch={sm}", "-o", os.devnull, "-"],
        input=ptx,
        capture_output=True,
        timeout=120,
    )
    log = done.stdout.decode() + done.stderr.decode()
    where = f"{os.path.basename(spec)}, {sm}: "
    if done.returncode:
        return [where + log.strip()]
    found = complaints(log)
    return [where + text for text in found]


def main():
    if sys.argv[1] == "--log":
        with open(sys.argv[2]) as file:
            found = complaints(file.read())
    else:
        sm, folder = sys.argv[1:]
        specs = sorted(glob.glob(os.path.join(folder, "*.json")))
        assert specs, f"no specs in {folder}"
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = sum(pool.map(lambda spec: judge(sm, spec), specs), [])
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
