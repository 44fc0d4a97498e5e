"""side_torch.py - PyTorch, eager and by torch.compile (Inductor).

Eager calls write into memory that is there where PyTorch has a call that does. Compiled weights are
constants (Inductor's freezing), so that it may pack them."""
import os
import time

import torch
import torch.nn.functional as F

from peers import Job, Missing

aten = torch.ops.aten


def version(peer):
    return f"torch {torch.__version__}" + (" torch.compile" if peer == "inductor" else "")


def random(*shape):
    return torch.randn(*shape)


class Layer(torch.nn.Module):
    """function(inputs..., weight), with the weight as a constant for the compiler."""

    def __init__(self, function, weight):
        super().__init__()
        self.function, self.weight = function, torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, *inputs):
        return self.function(*inputs, self.weight)


# Of matrices (R, C): inputs beside the first, what is computed, and how eager mode does it best.
def elementwise(kind, rows, columns):
    out, matrix, line = random(rows, columns), (rows, columns), (columns,)
    mean, scale = torch.empty(rows, 1), torch.empty(rows, 1)
    return {
        "softmax": ([], lambda x: F.softmax(x, -1),
                    lambda x: aten._softmax.out(x, -1, False, out=out)),
        "layernorm": ([line, line], lambda x, w, b: F.layer_norm(x, line, w, b, 1e-5),
                      lambda x, w, b: aten.native_layer_norm.out(x, line, w, b, 1e-5, out0=out,
                                                                 out1=mean, out2=scale)),
        "rmsnorm": ([line], lambda x, w: F.rms_norm(x, line, w, 1e-5),
                    lambda x, w: F.rms_norm(x, line, w, 1e-5)),
        "gelu": ([], F.gelu, lambda x: aten.gelu.out(x, out=out)),
        "swiglu": ([matrix], lambda x, y: F.silu(x) * y,
                   lambda x, y: aten.silu.out(x, out=out).mul_(y)),
        "chain": ([matrix, matrix], lambda x, y, z: F.relu(x * y + z),
                  lambda x, y, z: torch.addcmul(z, x, y, out=out).relu_()),
    }[kind], out


def make_elementwise(peer, row):
    (shapes, function, eager), out = elementwise(row.kind, *row.sizes)
    inputs = [random(*row.sizes), *(random(*shape) for shape in shapes)]
    if peer == "torch":
        return Job(lambda: eager(*inputs))
    compiled = torch.compile(lambda out, *inputs: out.copy_(function(*inputs)))
    return Job(lambda: compiled(out, *inputs), warm_up=3)


def make_product(peer, row):
    sizes, stride = row.sizes, {}
    if row.kind == "matmul":
        a, b, out = random(*sizes[:2]), random(*sizes[1:]), random(sizes[0], sizes[2])
        if peer == "torch":
            return Job(lambda: torch.mm(a, b, out=out))
        compiled = torch.compile(torch.mm)
        return Job(lambda: compiled(a, b), warm_up=3)
    if row.kind == "linear":
        x, layer = random(*sizes[:2]), Layer(F.linear, random(sizes[2], sizes[1]))
    else:
        n, c, h, w, filters, size, _ = sizes
        stride = row.filter
        x = random(n, c, h, w)
        layer = Layer(lambda x, weight: F.conv2d(x, weight, **stride),
                      random(filters, c, size, size))
    if row.type == "bf16":
        x, layer = x.bfloat16(), layer.bfloat16()
    elif row.type:
        raise Missing("PyTorch has no weights in GGUF's blocks")
    layer = layer.eval()
    compiled = layer if peer == "torch" else torch.compile(layer)
    return Job(lambda: compiled(x), warm_up=3)


def make_attention(peer, row):
    heads, queries, width, keys = row.sizes
    if queries not in (1, keys):
        mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    else:
        mask = None
    q, k, v = (random(1, heads, count, width) for count in (queries, keys, keys))

    def attention(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask,
                                              is_causal=queries == keys and queries > 1)

    compiled = attention if peer == "torch" else torch.compile(attention)
    return Job(lambda: compiled(q, k, v), warm_up=3)


def make_model(peer, row):
    import torch_llama
    types = {"F32": torch.float32, "BF16": torch.bfloat16}
    if row.model not in types:
        raise Missing("PyTorch has no weights in GGUF's blocks")
    count = row.sizes[0]
    step = torch_llama.from_file(row.file, types[row.model], count + 1,
                                 peer == "inductor").eval()
    ids = torch.randint(step.vocabulary, (count + 1,))
    places = torch.arange(count + 1)

    def prefill():
        return step(ids[:count], places[:count])

    def decode():
        for i in range(count):
            step(ids[i:i + 1], places[i:i + 1])

    def both():
        begin = time.perf_counter()
        prefill()
        step(ids[count:], places[count:])
        return time.perf_counter() - begin

    if row.kind in ("cold", "warm"):
        return Job(value=lambda: 1e3 * (both() - min(both() for _ in range(3))))
    return Job(prefill) if row.kind == "prefill" else Job(decode, steps=count)


def make(peer, row, threads):
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64
    import torch._inductor.config as inductor
    inductor.freezing = row.file is None
    inductor.force_disable_caches = row.kind == "cold"
    if row.kind in ("prefill", "decode") or peer == "inductor" and row.kind in ("cold", "warm"):
        return make_model(peer, row)
    if row.kind in ("matmul", "linear", "conv2d"):
        return make_product(peer, row)
    if row.kind == "attention":
        return make_attention(peer, row)
    if row.file is None:
        return make_elementwise(peer, row)
    raise Missing(f"{peer} has no row {row.kind}")
