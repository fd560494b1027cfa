"""Runs a command and checks its exit code: exit-code.py CODE COMMAND...

With --signal=NAME, the signal is sent to the command once it has begun to wait
for its standard input.
"""

import signal
import subprocess
import sys
import time

arguments = sys.argv[1:]
name = None
if arguments[0].startswith("--signal="):
    name = arguments.pop(0).split("=")[1]
expected = int(arguments[0])
if name is None:
    code = subprocess.call(arguments[1:])
else:
    child = subprocess.Popen(arguments[1:], stdin=subprocess.PIPE)
    # In a read of a pipe it sleeps; before that, it runs.
    while open(f"/proc/{child.pid}/stat").read().split(") ")[1][0] != "S":
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(getattr(signal, name))
    code = child.wait()
if code != expected:
    sys.exit(f"expected exit code {expected}, found {code}")
