"""A few large decodes, for profilers that watch a process.

    long.py KIT ARTIFACT DEVICE [BATCH [TOKENS]]
"""
import pathlib
import random
import sys

# A tool that watches this process would watch all of PyTorch.
sys.modules["torch"] = None

import cases
import floats
import kvc


def main():
    kit, artifact, name = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    batch = int(sys.argv[4]) if len(sys.argv) > 4 else 16
    tokens = int(sys.argv[5]) if len(sys.argv) > 5 else 8192
    device = kvc.Device(kvc.Library(kit / "libkvc-runtime.so"), name)
    program = kvc.Program(device, kit / artifact)
    model, info = program.model, program.stores[0]
    width = floats.WIDTH[model["dtype"]]
    rng = random.Random(1)
    pages = -(-tokens // info["page"])
    page_count = batch * pages
    ids = rng.sample(range(page_count), page_count)
    with device.memory() as memory:
        # Pages of one random page's bytes: a profile does not mind.
        one = floats.random_rows(rng, model["dtype"],
                                 info["page_bytes"] // width)
        pool = memory.upload(one * page_count)
        planes = [kvc.Plane(pool.address + p["page_offset"],
                            info["page_bytes"], p["head_stride"])
                  for p in info["planes"]]
        q_row = model["q_heads"] * model["head_dim_k"] * width
        out_row = model["q_heads"] * model["head_dim_v"] * width
        q = memory.upload(floats.random_rows(rng, model["dtype"],
                                             batch * q_row // width))
        size = program.workspace(0, batch, batch, tokens)
        upload = lambda code, values: memory.upload(
            cases.as_bytes(code, values)).address
        fields = dict(
            batch=batch, rows=batch, max_queries=1, max_kv_len=tokens,
            q=q.address, q_row_stride=q_row,
            out=memory.upload(bytes(batch * out_row)).address,
            out_row_stride=out_row, cu_q=upload("i", range(batch + 1)),
            kv_len=upload("i", [tokens] * batch), table=upload("i", ids),
            table_stride=pages, workspace=memory.upload(bytes(size)).address,
            workspace_bytes=size)
        for _ in range(4):
            program.attend(0, planes, **fields)
        memory.download(pool)  # waits


if __name__ == "__main__":
    main()
