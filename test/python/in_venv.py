"""Runs a command with the Python of the virtual environment that
tools/setup-python makes, or says that there is none.

    in_venv.py VENV MODULE,... ARGUMENT...

VENV is where it is looked for unless $KVC_PYTHON_VENV says so; MODULEs are those
that the command needs.
"""

import os
import subprocess
import sys

venv = os.environ.get("KVC_PYTHON_VENV") or sys.argv[1]
python = os.path.join(venv, "bin", "python")
for module in sys.argv[2].split(","):
    found = os.path.exists(python) and subprocess.run(
        [python, "-c", "import importlib.util, sys; "
         "sys.exit(importlib.util.find_spec(sys.argv[1]) is None)", module],
        check=False).returncode == 0
    if not found:
        print(f"cannot run here: no Python with {module} in {venv}; "
              "tools/setup-python makes one")
        sys.exit(77)
os.execv(python, [python, *sys.argv[3:]])
