"""compute-sanitizer on short runs, and on a wrong call that it must catch."""
import os
import shutil
import subprocess
import sys

NEEDS = ("gpu",)

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def find():
    path = os.environ.get("PATH", "") + ":/usr/local/cuda/bin"
    return shutil.which("compute-sanitizer", path=path)


def step(context):
    if not find():
        context.row("sanitizer", lambda: {
            "findings": [], "note": "compute-sanitizer is not here"})
        return
    models = context.models("small")
    planted = models[0]
    context.row("planted table", lambda: wrong(context, planted), 8)
    # Every tool on one model comes before any tool on them all.
    for model in models:
        for tool in TOOLS:
            context.row(f"{tool} {model['name']}",
                        lambda: clean(context, tool, model), 8)


def check(context, tool, model, fault=""):
    """(exit status, what it printed) of one short run under a tool."""
    artifact = model["artifacts"][-1]
    command = [find(), "--tool", tool, "--error-exitcode", "9",
               sys.executable, str(context.kit / "once.py"),
               str(context.kit), artifact["file"], context.device_name, fault]
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=context.left())
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:]


def clean(context, tool, model):
    status, text = check(context, tool, model)
    findings = [] if status == 0 else [f"{tool}: exit status {status}"]
    summary = [line for line in text.splitlines() if "SUMMARY" in line]
    return {"findings": findings, "summary": summary,
            "text": text if findings else ""}


def wrong(context, model):
    status, text = check(context, "memcheck", model, "table")
    caught = status == 9 and "Invalid __global__ read" in text
    return {"findings": [] if caught else ["memcheck did not catch a page "
                                           "table with an id beyond the pool"],
            "status": status, "text": text[:1500]}
