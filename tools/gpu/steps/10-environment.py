"""What this machine is."""
import os
import platform
import shutil
import subprocess
import sys

QUERY = ("name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,"
         "clocks.max.mem,power.limit,temperature.gpu,mig.mode.current,"
         "clocks_throttle_reasons.active")


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True,
                              timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"


def machine():
    cores = len(os.sched_getaffinity(0))
    return {"python": sys.version.split()[0], "cores": cores,
            "system": platform.platform(), "libc": platform.libc_ver()[1],
            "compute-sanitizer": tool("compute-sanitizer"),
            "ncu": tool("ncu"), "ptxas": tool("ptxas")}


def tool(name):
    return shutil.which(name, path=os.environ.get("PATH", "") +
                        ":/usr/local/cuda/bin") or "not here"


def gpu():
    text = output("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader")
    lines = [line.split(", ") for line in text.splitlines()]
    keys = QUERY.split(",")
    if not all(len(line) == len(keys) for line in lines):
        return {"gpus": [], "note": text}
    return {"gpus": [dict(zip(keys, line)) for line in lines]}


def packages():
    try:
        import torch
    except ImportError:
        return {"torch": "not here"}
    row = {"torch": torch.__version__, "cuda": torch.version.cuda,
           "cudnn": torch.backends.cudnn.version()}
    try:
        import triton
        row["triton"] = triton.__version__
    except ImportError:
        row["triton"] = "not here"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        row.update({"gpu": properties.name,
                    "capability": f"{properties.major}.{properties.minor}",
                    "multiprocessors": properties.multi_processor_count,
                    "l2_bytes": properties.L2_cache_size,
                    "memory_bytes": properties.total_memory})
    return row


def step(context):
    context.row("machine", machine)
    context.row("gpu", gpu)
    context.row("packages", packages)
    context.row("kit", lambda: {
        key: context.index[key] for key in ("version", "commit", "targets")})

    def kvc_row():
        models = context.models("small")
        program = context.program(models[0]["artifacts"][0])
        row = {"target": program.target, "device": context.device_name}
        # Where the driver takes no binary of the kit's, every figure is of code
        # that it compiled itself.
        return {**row, "note": program.remarks} if program.remarks else row

    context.row("kvc", kvc_row)
