"""Conformance of single instructions: every row of lib/base/Simt/Ops.def."""
import kvc
import ops

NEEDS = ("gpu",)


def step(context):
    device = context.device()
    refused = []
    for target in context.index["ops"]:
        folder = context.kit / "ops" / target
        try:
            module = device.driver.load((folder / "ops.ptx").read_bytes())
        except kvc.Error as error:
            refused.append(f"{target}: {error}")
            continue
        for kernel in ops.read(folder):
            context.row(f"{target} {kernel['name']}",
                        lambda: one(module, device, kernel))
        return
    context.row("step", lambda: {"findings": refused or ["the kit has none"]})


def one(module, device, kernel):
    return ops.compare(kernel, ops.run(module, device, kernel))
