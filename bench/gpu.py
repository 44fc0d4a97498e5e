#!/usr/bin/env python3
"""gpu.py [--picograd COMMAND] [--device cuda] [-m MODEL] [ROW...] - picograd on a GPU beside
PyTorch on the same one; scripts/gpu_check.sh calls it.

In:  the command, a GPU; PyTorch where it is there, alone else.
Out: a line for each row: picograd's median and PyTorch's, their ratio, and the share of what a copy
     of the GPU's memory reaches, for rows that are bound by it.

A row of picograd is `picograd bench ROW --device cuda --json -`, in a process of its own. PyTorch's
are timed by events, 20 runs one after the other after a warm-up. The median of the runs counts.
"""
import argparse
import json
import statistics
import subprocess
import sys

ROWS = [(row, precision) for precision in ("fp32", "tf32") for row in (
    "matmul:4096x4096x4096", "linear:4096x4096x4096", "matmul:8192x8192x8192",
    "linear:8192x8192x8192")] + [(row, "fp32") for row in (
        "softmax:16384x4096", "layernorm:16384x4096", "rmsnorm:16384x4096", "gelu:16384x4096",
        "chain:16384x4096", "attention:32x2048x64x2048", "attention:32x1x64x4096")]
RUNS = 20


def numbers(row):
    kind, _, sizes = row.partition(":")
    return kind, [int(size) for size in sizes.split("x")]


def picograd(options, row, precision, model=None):
    command = [options.picograd, "bench", row, "--device", options.device, "--json", "-",
               "--precision", precision] + (["-m", model] if model else [])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout.splitlines()[0])
    except subprocess.TimeoutExpired:
        return {"error": "took more than 60 s"}
    except (IndexError, ValueError):
        return {"error": (done.stderr.strip().splitlines() or ["said nothing"])[-1]}


def torch_seconds(torch, call):
    for _ in range(3):
        call()
    times = []
    for _ in range(RUNS):
        first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        second.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(second) / 1e3)
    return statistics.median(times)


def torch_call(torch, row):
    """The row as PyTorch computes it, and how much it does: operations, or bytes moved."""
    functional, (kind, size) = torch.nn.functional, numbers(row)

    def random(*shape):
        return torch.randn(*shape, device="cuda")

    if kind == "matmul":
        a, b, out = random(size[0], size[1]), random(size[1], size[2]), random(size[0], size[2])
        return lambda: torch.mm(a, b, out=out), 2 * size[0] * size[1] * size[2]
    if kind == "linear":
        x, weight = random(size[0], size[1]), random(size[2], size[1])
        return lambda: functional.linear(x, weight), 2 * size[0] * size[1] * size[2]
    if kind == "attention":
        heads, queries, width, keys = size
        q, k, v = (random(1, heads, count, width) for count in (queries, keys, keys))
        seen = queries * (keys - (queries - 1) / 2)
        causal = queries > 1
        return (lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal),
                4 * heads * seen * width)
    x, y, z, out = (random(*size) for _ in range(4))
    line, weight, bias = (size[1],), random(size[1]), random(size[1])
    calls = {"softmax": (lambda: torch.softmax(x, -1, out=out), 2),
             "layernorm": (lambda: functional.layer_norm(x, line, weight, bias, 1e-5), 2),
             "rmsnorm": (lambda: functional.rms_norm(x, line, weight, 1e-5), 2),
             "gelu": (lambda: functional.gelu(x), 2),
             "chain": (lambda: torch.addcmul(z, x, y, out=out).relu_(), 4)}
    call, times = calls[kind]
    return call, times * 4 * size[0] * size[1]


def copy_rate(torch):
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    return 2 * 4 * x.numel() / torch_seconds(torch, lambda: y.copy_(x))


def import_torch():
    try:
        import torch
        return torch if torch.cuda.is_available() else None
    except ImportError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picograd", default="build/picograd")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("-m", "--model")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    torch, copied = import_torch(), 0
    if torch:
        copied = copy_rate(torch)
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}; a copy moves "
              f"{copied / 1e9:.0f} GB/s")
    else:
        print("no PyTorch with a GPU: picograd alone")
    rows = [(row, "fp32") for row in options.rows] or ROWS
    good = True
    for row, precision in rows:
        ours = picograd(options, row, precision)
        if "error" in ours:
            print(f"{row:28} {precision}  {ours['error']}", flush=True)
            good = False
            continue
        line = f"{row:28} {precision}  {ours['median']:10.1f} {ours['unit']}"
        if torch:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            call, amount = torch_call(torch, row)
            theirs = amount / torch_seconds(torch, call) / 1e9
            line += f"  torch {theirs:10.1f}  ratio {ours['median'] / theirs:.2f}"
            if ours["unit"] == "GB/s":
                line += f"  of a copy {1e9 * ours['median'] / copied:.2f}"
            torch.cuda.empty_cache()
        print(line, flush=True)
    for row in ("decode:128", "prefill:512") if options.model else ():
        ours = picograd(options, row, "fp32", options.model)
        print(f"{row:28} fp32  " + (ours.get("error") or f"{ours['median']:10.1f} {ours['unit']}"))
        good &= "error" not in ours
    return not good


if __name__ == "__main__":
    sys.exit(main())
