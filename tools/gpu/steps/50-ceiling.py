"""What memory can do here: the best of several readers, and a copy."""

NEEDS = ("gpu", "torch")


def step(context):
    import bench
    for size in (1 << 30, 4 << 30):
        context.row(f"read {size >> 30} GiB", lambda: bench.ceiling(size))
    context.row("copy 2 GiB", copy)
    context.row("matrix product bf16", product)


def copy():
    import bench
    import torch
    source = torch.randn(1 << 29, device="cuda")
    to = torch.empty_like(source)
    row = bench.compare({"copy": [lambda: to.copy_(source)]})["copy"]
    return {**row, "gb_s_read_and_written": 2 * source.nbytes / row["us"] / 1e3}


def product():
    import bench
    import torch
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
            for _ in range(2))
    row = bench.compare({"product": [lambda: a @ b]})["product"]
    return {**row, "tflop_s": 2 * 8192 ** 3 / row["us"] / 1e6}
