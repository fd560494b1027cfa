"""Does steps in one process.

    work.py WORK DEVICE STEP=SECONDS,... END [SEED OF A DRY RUN]
"""
import gc
import importlib.util
import json
import os
import pathlib
import sys
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import clock  # noqa: E402


def write_json(path, value):
    """Whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1, default=str))
    os.replace(temporary, path)


def read_result(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": {}}


class OutOfTime(Exception):
    pass


class Context:
    """What a step gets. `row(key, function)` is how it does its work: the
    function's dict is kept under the key, and not computed again."""

    kit = HERE
    _device = None  # of all steps of this process

    def __init__(self, work, name, device, end):
        self.out, self.name, self.device_name = work, name, device
        self.index = json.loads((HERE / "kit.json").read_text())
        self.begun, self.end = clock.now(work), end
        self.result = read_result(work, name)
        self.rows = self.result["rows"]
        self.before = self.result.get("spent", 0)

    def left(self):
        return clock.left(self.end, self.out)

    def save(self):
        self.result["spent"] = round(
            self.before + clock.now(self.out) - self.begun, 1)
        write_json(self.out / f"{self.name}.json", self.result)

    def compute(self, function, needs):
        return function()

    def row(self, key, function, needs=2):
        """`needs`: seconds without which it is not begun."""
        if key in self.rows:
            return self.rows[key]
        if self.left() < needs:
            raise OutOfTime()
        start = clock.now(self.out)
        self.rows[key] = {"error": "crashed its process"}
        self.save()
        try:
            row = self.compute(function, needs)
        except Exception as error:  # a row must not cost the others
            self.rows[key] = {"error": f"{type(error).__name__}: {error}"[:600],
                              "trace": traceback.format_exc()[-1500:]}
            self.save()
            if "CUDA" in str(error):  # nothing works in this process any more
                os._exit(3)
            return self.rows[key]
        row["seconds"] = round(clock.now(self.out) - start, 3)
        self.rows[key] = row
        self.save()
        return row

    def other(self, name):
        """The rows of another step so far."""
        return read_result(self.out, name)["rows"]

    # kvc ---------------------------------------------------------------

    def device(self):
        import kvc
        if not Context._device:
            library = kvc.Library(self.kit / "libkvc-runtime.so")
            Context._device = kvc.Device(library, self.device_name)
        return Context._device

    def models(self, group):
        return [m for m in self.index["models"] if m["group"] == group]

    def program(self, artifact):
        import kvc
        return kvc.Program(self.device(), self.kit / artifact["file"])


def load_step(name):
    path = HERE / "steps" / f"{name}.py"
    spec = importlib.util.spec_from_file_location("step", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def missing(needs, device):
    """What a step needs and is not here; "" if nothing."""
    if "gpu" in needs and not device.startswith("cuda"):
        return "needs a GPU"
    if "torch" in needs and not importlib.util.find_spec("torch"):
        return "needs PyTorch"
    return ""


def do_step(context, device):
    try:
        module = load_step(context.name)
        why = missing(getattr(module, "NEEDS", ()), device)
        if why:
            context.row("step", lambda: {"note": why}, 0)
        else:
            module.step(context)
    except OutOfTime:
        context.save()
        return
    except Exception as error:  # a driver that is not there, say
        context.rows["step"] = {"error": f"{type(error).__name__}: {error}",
                                "trace": traceback.format_exc()[-1500:]}
    context.result["done"] = True
    context.save()


def free():
    """What the last step has left in the GPU's memory."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and hasattr(torch, "cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()


def main():
    work, device = pathlib.Path(sys.argv[1]), sys.argv[2]
    plan, end = sys.argv[3], float(sys.argv[4])
    make = Context
    if len(sys.argv) > 5:
        import dry
        make = dry.prepare(work, sys.argv[5])
    for entry in plan.split(","):
        name, seconds = entry.split("=")
        until = min(end, clock.now(work) + float(seconds))
        (work / "now.tmp").write_text(f"{name} {until}")
        os.replace(work / "now.tmp", work / "now")
        do_step(make(work, name, device, until), device)
        free()


if __name__ == "__main__":
    import work  # this file: what others import must be the same classes
    work.main()
