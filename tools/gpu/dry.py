"""What stands in for a GPU, its driver and PyTorch in a dry run.

Steps go through their rows as they would, but a row is not computed: it takes
a time on the counted clock, and leaves a result of the usual size. Rows take
as long as they may be thought to at worst, now and then much longer, and some
end the process.
"""
import importlib.machinery
import os
import random
import shutil
import sys
from unittest import mock

import clock
import work

# Seconds of a row, and of starting a process: PyTorch, a context, the kit.
ROWS = {"10-environment": 2, "15-ops": 0.2, "20-golden": 0.5,
        "30-correctness": 1.2, "40-sanitizer": 9, "50-ceiling": 4,
        "60-decode": 9, "70-prefill": 9, "80-append": 4, "90-ncu": 30}
START = 15
BYTES = 4000  # of a row's result
GRACE = 10  # as in `run`
KILLED = 137  # the exit status that says so


class DryContext(work.Context):
    seed = ""

    def compute(self, function, needs):
        rng = random.Random(f"{self.seed} {self.name} {len(self.rows)}")
        slow = 3 if rng.random() < 0.05 else 1
        seconds = slow * ROWS.get(self.name, 5) * rng.uniform(0.3, 1)
        # A process that takes longer than its step is killed.
        if seconds > self.left() + GRACE:
            clock.spend(self.out, self.left() + GRACE)
            os._exit(KILLED)
        clock.spend(self.out, seconds)
        if rng.random() < 0.01:
            os._exit(3)
        return {"us": 10.0, "gb_s": 4000.0, "of_ceiling": 0.9, "best": "dry",
                "times": {}, "findings": [],
                "filler": "".join(rng.choices("0123456789abcdef", k=BYTES))}

    def device(self):
        return mock.MagicMock()

    def program(self, artifact):
        return mock.MagicMock()


def prepare(folder, seed):
    """The class of contexts; PyTorch is a stand-in from here on, and so are
    NVIDIA's tools."""
    clock.spend(folder, START)
    DryContext.seed = seed
    shutil.which = lambda name, path=None: f"/stand-in/{name}"
    for name in ("torch", "torch.nn", "torch.nn.functional",
                 "torch.nn.attention"):
        module = mock.MagicMock()
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules["triton"] = None  # its import fails
    return DryContext
