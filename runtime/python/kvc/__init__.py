"""kvc: KV caches of LLM inference, compiled.

    import kvc

    artifact = kvc.compile("model.json")             # a spec to kernels
    program = kvc.load(artifact)                     # on this machine's CPU
    cache = kvc.Cache(program, tokens=8192)
    sequence = cache.open()
    with cache.step({sequence: len(k)}) as step:     # per step of the model
        for layer in range(program.model.layers):
            step.append(layer, k, v)                 # [rows, kv_heads, head_dim]
            out = step.attend(layer, q)              # [rows, q_heads, head_dim]

Arrays are those of PyTorch, numpy, anything with DLPack or the buffer protocol;
none is copied. Errors are classes: kvc.OutOfPages, kvc.SpecError, ...
"""

from .cache import ALL_LAYERS, Cache, Sequence, Step
from .compiler import Artifact, compile, explain
from .errors import (Busy, Corrupt, DeviceError, Diagnostic, Error,
                     InvalidArgument, IoError, NotAppended, OutOfMemory,
                     OutOfPages, OutOfSequences, Poisoned, SequenceFull,
                     SpecError, Stale, Unsupported, WouldBlock)
from .program import Device, Model, Plane, Program, Store, load

__version__ = "0.1.0"

__all__ = [
    "ALL_LAYERS", "Artifact", "Busy", "Cache", "Corrupt", "Device",
    "DeviceError", "Diagnostic", "Error", "InvalidArgument", "IoError",
    "Model", "NotAppended", "OutOfMemory", "OutOfPages", "OutOfSequences",
    "Plane", "Poisoned", "Program", "Sequence", "SequenceFull", "SpecError",
    "Stale", "Step", "Store", "Unsupported", "WouldBlock", "compile", "explain",
    "load"]
