#!/usr/bin/env python3
"""gpu.py [--picograd COMMAND] [--device cuda] [-m FILE] [--part PART] [ROW...] - picograd on a GPU
beside PyTorch on the same one; scripts/gpu_check.sh calls it.

In:  the command, a GPU; PyTorch where it is there, alone else.
Out: a line for each row: picograd's median and PyTorch's, their ratio, and the share of what a copy
     of the GPU's memory reaches, for rows that are bound by it. Status 1 where a row fails.

A row of picograd is `picograd bench ROW --device cuda --json -`, in a process of its own. PyTorch's
are timed by events, 20 runs one after the other after a warm-up. The median of the runs counts.
Rows of models are those of `-m random:1b`: bf16 weights of Llama-3.2-1B's shape. PyTorch computes
them in bf16, from a cache of fixed size, a step as one CUDA graph, the next token taken from the
logits on the GPU; picograd computes in fp32, and copies each step's logits to the host. Then what a
step costs besides its work: random:tiny, whose kernels do next to nothing, as a CUDA graph and
kernel by kernel. --rehearse takes tiny sizes, and the CPU for PyTorch where it has no GPU.
"""
import argparse
import collections
import json
import os
import re
import statistics
import subprocess
import sys
import time

Row = collections.namedtuple("Row", "name precision model graph", defaults=("fp32", None, True))
KERNELS = [Row(name, precision) for precision in ("fp32", "tf32") for name in (
    "matmul:4096x4096x4096", "linear:4096x4096x4096", "matmul:8192x8192x8192",
    "linear:8192x8192x8192")] + [Row(name) for name in (
        "softmax:16384x4096", "layernorm:16384x4096", "rmsnorm:16384x4096", "gelu:16384x4096",
        "chain:16384x4096", "attention:32x2048x64x2048", "attention:32x2048x128x2048",
        "attention:32x1x64x4096")]
MODELS = [Row("decode:128", model="random:1b"), Row("prefill:512", model="random:1b"),
          Row("decode:128", model="random:tiny"),
          Row("decode:128", model="random:tiny", graph=False),
          Row("decode:128", model="random:1b", graph=False)]
TINY_KERNELS = [Row("matmul:64x64x64"), Row("softmax:64x64"), Row("attention:2x16x64x16")]
TINY_MODELS = [Row("decode:4", model="random:tiny"), Row("prefill:8", model="random:tiny"),
               Row("decode:4", model="random:tiny", graph=False)]
RUNS, COPIED = 20, 1 << 28  # values


def numbers(row):
    kind, _, sizes = row.partition(":")
    return kind, [int(size) for size in sizes.split("x")]


def picograd(options, row):
    """The row's JSON, with the number of kernels in the largest program: the step."""
    command = [options.picograd, "bench", row.name, "--device", options.device, "--json", "-",
               "--precision", row.precision] + (["-m", row.model] if row.model else [])
    if options.rehearse:
        command += ["-r", "1"]
    switches = dict(os.environ, PG_DEBUG="1", PG_CUDA_GRAPH="1" if row.graph else "0")
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=switches, timeout=60)
        said = re.sub(r"^picograd: compiled (\d+) kernels.*\n", "", done.stderr, flags=re.M)
        kernels = re.findall(r"^picograd: compiled (\d+) kernels", done.stderr, flags=re.M)
        found = json.loads(done.stdout.splitlines()[0])
        return dict(found, kernels=max(map(int, kernels), default=0))
    except subprocess.TimeoutExpired:
        return {"error": "took more than 60 s"}
    except (IndexError, ValueError):
        return {"error": (said.strip().splitlines() or ["said nothing"])[-1]}


def torch_seconds(options, call):
    torch, times = options.torch, []
    for _ in range(3):
        call()
    for _ in range(RUNS):
        if options.torch_device == "cpu":
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            continue
        first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        second.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(second) / 1e3)
    return statistics.median(times)


def torch_kernel(options, row):
    """The row as PyTorch computes it, and how much it does: operations, or bytes moved."""
    torch = options.torch
    functional, (kind, size) = torch.nn.functional, numbers(row.name)
    if options.torch_device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = row.precision == "tf32"

    def random(*shape):
        return torch.randn(*shape, device=options.torch_device)

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


def replayed(options, call):
    """The same work as one launch: a CUDA graph."""
    torch = options.torch
    if options.torch_device == "cpu":
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what libraries set up is not to be captured
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay():
        graph.replay()

    replay.of = call  # whose tensors the graph has the addresses of
    return replay


def torch_model(options, row):
    """A row of a model as PyTorch computes it, how many tokens it is, and the weights' bytes."""
    import torch_llama
    torch, (kind, (count,)) = options.torch, numbers(row.name)
    model = torch_llama.random(row.model, torch.bfloat16, max(count, 16), options.torch_device)
    ids = torch.randint(model.vocabulary, (count,), device=options.torch_device)
    places = torch.arange(count, device=options.torch_device)
    if kind == "prefill":
        return replayed(options, lambda: model(ids, places)), count, model.weight_bytes()
    token, place = ids[:1].clone(), places[:1].clone()

    def step():
        token.copy_(model(token, place).argmax(-1))
        place.add_(1)

    replay = replayed(options, step)

    def decode():
        place.zero_()
        for _ in range(count):
            replay()

    return decode, count, model.weight_bytes()


def copy_rate(options):
    count = COPIED if options.torch_device == "cuda" else 1 << 16
    x = options.torch.randn(count, device=options.torch_device)
    y = options.torch.empty_like(x)
    return 2 * 4 * count / torch_seconds(options, lambda: y.copy_(x))


def kernel_columns(options, row, ours):
    if not options.torch_device:
        return ""
    call, amount = torch_kernel(options, row)
    theirs = amount / torch_seconds(options, call) / 1e9
    line = f"  torch {theirs:10.1f}  ratio {ours['median'] / theirs:.2f}"
    if ours["unit"] == "GB/s":
        line += f"  of a copy {1e9 * ours['median'] / options.copied:.2f}"
    return line


def model_columns(options, row, ours):
    """PyTorch's; of decode also how much of a copy's bandwidth the weights take, and the time of a
    kernel: all of the step's, over their number."""
    line, weights, speeds = "", 0, [ours["median"]]
    if options.torch_device and row.graph and row.model.startswith("random:"):
        call, tokens, weights = torch_model(options, row)
        speeds.append(tokens / torch_seconds(options, call))
        line += f"  torch {speeds[1]:10.1f}  ratio {speeds[0] / speeds[1]:.2f}"
    if not row.name.startswith("decode"):
        return line
    if weights:
        shares = " and ".join(f"{speed * weights / options.copied:.2f}" for speed in speeds)
        line += f"  of a copy {shares}"
    if ours["kernels"]:
        line += (f"  {ours['kernels']} kernels, "
                 f"{1e6 / ours['median'] / ours['kernels']:.2f} us each")
    return line


def find_torch(options):
    options.torch_device = None
    try:
        import torch
    except ImportError:
        return
    options.torch = torch
    torch.set_grad_enabled(False)
    if torch.cuda.is_available():
        options.torch_device = "cuda"
    elif options.rehearse:
        options.torch_device = "cpu"
        torch.set_num_threads(1)


def run_row(options, row):
    ours = picograd(options, row)
    name = row.name + (f" {os.path.basename(row.model)}" if row.model else "")
    line = f"{name:28} {row.precision}  "
    if "error" in ours:
        print(line + ours["error"], flush=True)
        return False
    line += f"{ours['median']:10.1f} {ours['unit']}"
    if not row.graph:
        line += "  kernel by kernel (PG_CUDA_GRAPH=0)"
    try:
        line += (model_columns if row.model else kernel_columns)(options, row, ours)
    except RuntimeError as error:  # of PyTorch: no memory, no such kernel
        line += f"  torch: {str(error).splitlines()[0]}"
    print(line, flush=True)
    if options.torch_device == "cuda":
        options.torch.cuda.empty_cache()
    return True


def main():
    parser = argparse.ArgumentParser(description="picograd on a GPU beside PyTorch")
    parser.add_argument("--picograd", default="build/picograd")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("-m", "--model", help="a file, for rows of it without PyTorch")
    parser.add_argument("--part", choices=("all", "kernels", "models"), default="all")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes; PyTorch on a CPU")
    parser.add_argument("rows", nargs="*", help="of kernels, instead of the usual ones")
    options = parser.parse_args()
    find_torch(options)
    if options.torch_device:
        where = (options.torch.cuda.get_device_name() if options.torch_device == "cuda"
                 else "a rehearsal on the CPU: the numbers mean nothing")
        options.copied = copy_rate(options)
        print(f"torch {options.torch.__version__}, {where}; a copy moves "
              f"{options.copied / 1e9:.0f} GB/s")
    else:
        print("no PyTorch with a GPU: picograd alone")
    kernels, models = (TINY_KERNELS, TINY_MODELS) if options.rehearse else (KERNELS, MODELS)
    if options.model:
        models = models + [Row(row.name, model=options.model) for row in models[:2]]
    parts = {"kernels": kernels, "models": models, "all": kernels + models}
    rows = [Row(name) for name in options.rows] or parts[options.part]
    if any(row.model for row in rows):
        print("models: bf16 weights; picograd computes in fp32 and copies logits to the host; "
              "PyTorch\ncomputes in bf16, a CUDA graph a step, and its logits stay on the GPU")
    good = [run_row(options, row) for row in rows]
    return not all(good)


if __name__ == "__main__":
    sys.exit(main())
