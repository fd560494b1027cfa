"""The machine that a run was on, and how fast it reads."""

import platform
import time

import torch

#: More than caches hold, of most machines.
_BYTES = 512 << 20


def cpu_name():
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def read_bandwidth(size=_BYTES, rounds=5):
    """Bytes/s at which PyTorch's threads read memory: the fastest of a few sums
    of an array, for what else runs only slows them."""
    values = torch.ones(size // 4, dtype=torch.float32)
    best = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        values.sum()
        best = max(best, size / (time.perf_counter() - begin))
    return best
