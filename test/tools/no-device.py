"""no-device.py SPEC: a level that this CPU lacks something of is refused with
what to do, whichever levels those are here."""
import json
import subprocess
import sys


def kvc(*args):
    return subprocess.run(["kvc", *args], capture_output=True, text=True)


rows = json.loads(kvc("targets", "--json").stdout)["targets"]
levels = {row["name"]: row for row in rows if "x86-64" in row["name"]}
for name, row in levels.items():
    if row["runs_here"]:
        continue
    result = kvc("verify", sys.argv[1], "--target=" + name)
    assert result.returncode == 4, (name, result)
    error = f"target `{name}` cannot run here: {row['why_not']} [E-NO-DEVICE]"
    assert error in result.stderr, (error, result.stderr)
    if levels.get("sim:" + name, {"runs_here": False})["runs_here"]:
        help = f"`--target=sim:{name}` runs the same kernels in an emulator"
    elif name.startswith("sim:"):
        help = ("only AMX is emulated, and the CPU must have all else; `kvc "
                "targets` lists what runs here")
    else:
        help = "`kvc targets` lists what runs here"
    assert "help: " + help in result.stderr, (help, result.stderr)
