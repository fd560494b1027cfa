"""Nsight Compute on one short decode, where it is and may count."""
import os
import shutil
import subprocess
import sys

NEEDS = ("gpu",)


def step(context):
    ncu = shutil.which("ncu", path=os.environ.get("PATH", "") +
                       ":/usr/local/cuda/bin")
    if not ncu:
        context.row("ncu", lambda: {"findings": [], "note": "ncu is not here"})
        return
    models = context.models("bench") or context.models("small")
    context.row(models[0]["name"], lambda: profile(context, ncu, models[0]), 20)


def profile(context, ncu, model):
    # Clocks are not ours to lock.
    command = [ncu, "--clock-control", "none", "--kernel-name", "regex:attend_decode", "--launch-count",
               "1", "--launch-skip", "2", "--set", "full", "--page", "details",
               sys.executable, str(context.kit / "long.py"), str(context.kit),
               model["artifacts"][0]["file"], context.device_name]
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=context.left())
    path = context.out / "90-ncu.txt"
    path.write_text(done.stdout + done.stderr)
    return {"findings": [], "status": done.returncode, "file": path.name,
            "lines": [line.strip() for line in done.stdout.splitlines()
                      if "Throughput" in line or "Duration" in line
                      or "Occupancy" in line or "ERR" in line][:20]}
