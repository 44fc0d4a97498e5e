"""side_tinygrad.py - tinygrad on its CPU device (kernels by clang), jitted; `beam` with BEAM=2."""
import importlib.metadata
import os
import random
import shutil
import sys
import time
import types

os.environ.setdefault("DEV", "CPU")
os.environ["CC"] = shutil.which("clang-19") or "clang"
os.environ["HALF"] = "0"  # weights as the file has them, not rounded to f16

from tinygrad import Device, Tensor, TinyJit, UOp, nn  # noqa: E402

from peers import Job, Missing  # noqa: E402


def version(peer):
    return f"tinygrad {importlib.metadata.version('tinygrad')}" + " BEAM=2" * (peer == "beam")


def rms_norm(x, weight):
    return x * (x * x).mean(-1, keepdim=True).add(1e-5).rsqrt() * weight


def function(row):
    """Shapes of the inputs, and what is computed."""
    size = row.sizes
    line, matrix = (size[-1],), tuple(size)
    if row.kind == "conv2d":
        n, c, h, w, filters, k, _ = size
        stride = row.filter
        return [(n, c, h, w), (filters, c, k, k)], lambda x, w: x.conv2d(w, **stride)
    if row.kind == "attention":
        heads, queries, width, keys = size
        if queries not in (1, keys):
            raise Missing("tinygrad has no causal mask for the last queries alone")
        return ([(1, heads, count, width) for count in (queries, keys, keys)],
                lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=queries > 1))
    kinds = {
        "matmul": ([size[:2], size[1:]], lambda a, b: a @ b),
        "linear": ([size[:2], size[:0:-1]], lambda x, w: x @ w.T),
        "softmax": ([matrix], lambda x: x.softmax(-1)),
        "layernorm": ([matrix, line, line], lambda x, w, b: x.layernorm() * w + b),
        "rmsnorm": ([matrix, line], rms_norm),
        "gelu": ([matrix], lambda x: 0.5 * x * (1 + (x * 0.5 ** 0.5).erf())),
        "swiglu": ([matrix, matrix], lambda x, y: x.silu() * y),
        "chain": ([matrix, matrix, matrix], lambda x, y, z: (x * y + z).relu()),
    }
    if row.kind not in kinds or row.type:
        raise Missing("tinygrad has no such row")
    return kinds[row.kind]


def wait():
    Device[Device.DEFAULT].synchronize()


def make_tensors(row):
    shapes, compute = function(row)
    Tensor.manual_seed(1)
    inputs = [Tensor.randn(*shape).realize() for shape in shapes]
    jitted = TinyJit(lambda *inputs: compute(*inputs).realize())

    def once():
        jitted(*inputs)
        wait()

    return Job(once, warm_up=4)  # a run, its capture, and the first replays


def load_model(row):
    # tinygrad 0.14.0's wheel lacks this module; on a CPU only its Linear is used, which is nn's.
    stand_in = types.ModuleType("tinygrad.llm.kernels.amd")
    stand_in.Linear, stand_in.amd_custom_kernels_supported = nn.Linear, lambda device: False
    stand_in.gated_delta_prefill = stand_in.flash_attention = None
    sys.modules.setdefault("tinygrad.llm.kernels", types.ModuleType("tinygrad.llm.kernels"))
    sys.modules.setdefault("tinygrad.llm.kernels.amd", stand_in)
    from tinygrad.llm.model import Transformer
    model, _ = Transformer.from_gguf(Tensor(open(row.file, "rb").read()), row.sizes[0] + 1)
    return model


def make_model(row):
    count = row.sizes[0]
    model = load_model(row)
    position = UOp.variable("start_pos", 1, count)
    cold = Tensor([0.0]).realize()
    numbers = random.Random(1)
    ids = [numbers.randrange(1000, 40000) for _ in range(count + 1)]

    def step(part, start):
        model(Tensor([part]).realize(), start, cold).realize()
        wait()

    def prefill():
        step(ids[:count], 0)

    def decode():
        for i in range(count):
            step(ids[i:i + 1], position.bind(max(i, 1)))

    def both():
        begin = time.perf_counter()
        prefill()
        step(ids[count:], position.bind(count))
        return time.perf_counter() - begin

    if row.kind in ("cold", "warm"):
        return Job(value=lambda: 1e3 * (both() + both() - 2 * min(both() for _ in range(2))))
    if row.kind == "prefill":
        return Job(prefill, warm_up=3)
    return Job(decode, steps=count, warm_up=4, warm=lambda: step(ids[:1], position.bind(1)))


def make(peer, row, threads):
    if row.kind == "memory" or peer == "beam" and row.kind in ("cold", "warm"):
        raise Missing("tinygrad is not asked for this row")
    if row.kind == "cold":
        os.environ["CACHELEVEL"] = "0"
        from tinygrad import helpers
        helpers.CACHELEVEL.value = 0
    return make_model(row) if row.file else make_tensors(row)
