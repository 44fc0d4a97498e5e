#!/usr/bin/env python3
"""make_ops.py - what PyTorch says about every op: small inputs, outputs, gradients.

In:  nothing but seeds.   Out: ops.txt beside this script (under 300 KB).   Needs torch 2.12.1.
    python3 tests/golden/make_ops.py

The file is words and numbers between blanks: fscanf with %s, %lf and, for integers, %lld reads it.

    case OP VARIANT              opens a case; a comment line before the first case starts with #
    param NAME count ints...     an axis list, a stride, a flag as 0 or 1
    number NAME float            an epsilon, a scale
    text NAME word               an einsum equation, a dtype
    input NAME DTYPE rank dims... values...
    output NAME DTYPE rank dims... values...
    grad NAME DTYPE rank dims... values...     for each float input, if the case has gradients
    end

Values are row-major, %.9g for floats (nan, inf and -inf included), decimal for integers, 0 or 1
for bool.
A gradient is that of the loss  sum_i output[i] * weight(i),  i the flat index of the output and
weight(i) = ((7 * i) % 11 - 5) / 8. The loss is over the output alone named "out".

Inputs are distinct multiples of 2^-6 or so: exact in f32 and f16, no ties for max. Floats are
computed in f64 from the f32 inputs and rounded to f32 once, so the file is the truth and a reader's
tolerance is its own error. A few `edge` cases (max, lt, cast ...) run in their own dtype instead.
torch has few ops for u16 and u32; those cases are numpy's, with the same wrap-around.
"""

import os
import zlib

import numpy
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
F32, F16, BF16, BOOL = torch.float32, torch.float16, torch.bfloat16, torch.bool
I8, I32, I64 = torch.int8, torch.int32, torch.int64
U8, U16, U32 = torch.uint8, torch.uint16, torch.uint32
NAMES = {F32: "f32", F16: "f16", BF16: "bf16", BOOL: "bool", I8: "i8", I32: "i32", I64: "i64",
         U8: "u8", U16: "u16", U32: "u32"}
INF, NAN = float("inf"), float("nan")
lines = []
generator = torch.Generator()


def start(name):
    """Each group has its own seed: a new group moves no other."""
    generator.manual_seed(zlib.crc32(name.encode()))


def rand(*shape, step=64):
    """Distinct multiples of 1/step around zero, zero itself left out."""
    count = int(numpy.prod(shape, dtype=int))
    pool = torch.arange(1, max(128, count) + 1)
    pool = torch.cat([pool, -pool])[torch.randperm(2 * len(pool), generator=generator)]
    return (pool[:count] / step).to(F32).reshape(shape)


def ints(low, high, *shape, dtype=I64):
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def special(*values):
    return torch.tensor(values, dtype=F32)


def show(value, dtype):
    if dtype == BOOL:
        return str(int(value))
    return "%.9g" % value if dtype in (F32, F16, BF16) else str(value)


def write(kind, name, tensor):
    if tensor.dtype == torch.float64:
        tensor = tensor.to(F32)
    dtype = tensor.dtype
    lines.append(" ".join(str(v) for v in [kind, name, NAMES[dtype], tensor.dim(), *tensor.shape]))
    values = [show(v, dtype) for v in tensor.detach().flatten().tolist()]
    lines.extend(" ".join(values[i:i + 12]) for i in range(0, len(values), 12))


def weights(output):
    index = torch.arange(output.numel(), dtype=torch.float64)
    return (((7 * index) % 11 - 5) / 8).reshape(output.shape)


def case(op, variant, function, inputs, params=None, numbers=None, texts=None, gradient=True,
         native=False):
    """Writes one case. function takes the inputs in order; native: no detour through f64."""
    lines.append(f"case {op} {variant}")
    for name, value in (params or {}).items():
        lines.append(" ".join(str(v) for v in ["param", name, len(value), *value]))
    for name, value in (numbers or {}).items():
        lines.append(f"number {name} {value:.9g}")
    for name, value in (texts or {}).items():
        lines.append(f"text {name} {value}")
    used = []
    for name, tensor in inputs.items():
        write("input", name, tensor)
        wide = tensor.dtype == F32 and not native
        used.append(tensor.to(torch.float64).requires_grad_(gradient) if wide else tensor)
    output = function(*used)
    write("output", "out", output)
    if gradient and output.dtype == torch.float64:
        (output * weights(output)).sum().backward()
        for name, tensor in zip(inputs, used):
            if tensor.dtype == torch.float64:
                write("grad", name, tensor.grad)
    lines.append("end")


def edge(op, function, *columns, native=False):
    """Values where a formula may go wrong; no gradients."""
    inputs = {"ab"[i]: special(*column) for i, column in enumerate(columns)}
    case(op, "edge", function, inputs, gradient=False, native=native)


def elementwise():
    binary = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
              "max": torch.maximum, "min": torch.minimum}
    shapes = {"same": ((2, 3), (2, 3)), "row": ((2, 3), (3,)), "both": ((2, 1, 4), (3, 1)),
              "scalar": ((), (2, 3)), "deep": ((3, 1), (2, 1, 1, 5))}
    for op, function in binary.items():
        for variant, (left, right) in shapes.items():
            start("binary" + variant)
            case(op, variant, function, {"a": rand(*left), "b": rand(*right)})
    edge("div", torch.div, [1, -1, 0, 1, INF, NAN, 0, 3], [0, 0, 0, -0.0, INF, 1, -5, 1e-45])
    for op in ("max", "min"):
        edge(op, binary[op], [NAN, 1, INF, -INF, 2], [1, NAN, 3, 4, 2], native=True)

    start("unary")
    unary = {"exp": torch.exp, "exp2": torch.exp2, "sin": torch.sin, "recip": torch.reciprocal,
             "trunc": torch.trunc, "gelu": F.gelu, "silu": F.silu,
             "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}
    for op, function in unary.items():
        case(op, "plain", function, {"a": rand(3, 7, step=32)})
        case(op, "wide", function, {"a": rand(24, step=8)})
    tiny_to_huge = [1e-30, 1e-10, 0.001, 0.99999994, 1, 1.0000001, 3e4, 1e10, 3e38]
    for op, function in {"log": torch.log, "log2": torch.log2, "sqrt": torch.sqrt}.items():
        case(op, "plain", function, {"a": rand(3, 7).abs() + 1 / 16})
        case(op, "wide", function, {"a": special(*tiny_to_huge)})
        edge(op, function, [0, -0.0, -1, INF, NAN, 1e-45, 1.17549435e-38])
    exponents = [0, -0.0, NAN, 88.7, 88.8, -87.3, -103, -104, 127.9, 128, -126, -149, -151, 1e-40]
    for op in ("exp", "exp2"):
        edge(op, unary[op], exponents + [INF, -INF])
    for op in ("gelu", "gelu_tanh", "silu"):   # without -inf, where torch multiplies inf by 0
        edge(op, unary[op], exponents)
    edge("recip", torch.reciprocal, [0, -0.0, INF, -INF, NAN, 1e-38, 3e38])
    edge("trunc", torch.trunc, [-0.5, -0.0, 1e10, -8388607.5, 16777216, INF, NAN, 2147483648])
    edge("sin", torch.sin, [0, -0.0, INF, NAN, 1e-40, 3.1415927, 355, 1e4, -1e5])
    case("sin", "huge", torch.sin, {"a": special(1e6, 1e8, 1e20, -3e38)}, gradient=False)

    start("where")
    case("where", "same", torch.where,
         {"condition": ints(0, 2, 2, 3, dtype=BOOL), "a": rand(2, 3), "b": rand(2, 3)})
    case("where", "broadcast", torch.where,
         {"condition": ints(0, 2, 3, 1, dtype=BOOL), "a": rand(2, 1, 4), "b": rand()})


def pairs(left, right, dtype):
    table = torch.tensor([[a, b] for a in left for b in right])
    return table[:, 0].to(dtype), table[:, 1].to(dtype)


def integers():
    arithmetic = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "max": torch.maximum,
                  "min": torch.minimum}
    bits = {"and": torch.bitwise_and, "or": torch.bitwise_or, "xor": torch.bitwise_xor}
    shifts = {"shl": torch.bitwise_left_shift, "shr": torch.bitwise_right_shift}
    division = {"idiv": lambda a, b: torch.div(a, b, rounding_mode="trunc"), "mod": torch.fmod,
                "floordiv": lambda a, b: torch.div(a, b, rounding_mode="floor"),
                "floormod": torch.remainder}
    for dtype in (I8, U8, I32, I64):
        if dtype == U8:
            left, right = pairs((0, 1, 7, 127, 128, 255), (1, 2, 3, 128, 255), dtype)
        else:
            left, right = pairs((-128, -7, -6, -1, 0, 1, 7, 127), (-128, -3, -1, 1, 2, 127), dtype)
        for op, function in {**arithmetic, **bits}.items():
            case(op, NAMES[dtype], function, {"a": left, "b": right})
        for op, function in shifts.items():
            amount = (torch.arange(len(left)) % 7).to(dtype)
            case(op, NAMES[dtype], function, {"a": left, "b": amount})
        keep = ~((left == -128) & (right == -1))   # overflows in i8, so C leaves it open
        for op, function in division.items():
            case(op, NAMES[dtype], function, {"a": left[keep], "b": right[keep]})
    wide = torch.tensor([2147483647, -2147483648, 65536, -65537], dtype=I32)
    for op in ("add", "sub", "mul"):
        case(op, "wrap_i32", arithmetic[op], {"a": wide, "b": wide.flip(0)})
    large = torch.tensor([2**40 + 3, -2**40 - 3, 2**62, -2**53 - 1])
    for op, function in division.items():
        case(op, "large_i64", function, {"a": large, "b": torch.tensor([7, 7, -1000003, 2**31])})
    left, right = pairs((0, 1), (0, 1), BOOL)
    for op, function in bits.items():
        case(op, "bool", function, {"a": left, "b": right})


def unsigned():
    functions = {"add": numpy.add, "sub": numpy.subtract, "mul": numpy.multiply,
                 "max": numpy.maximum, "min": numpy.minimum, "idiv": numpy.floor_divide,
                 "mod": numpy.remainder, "and": numpy.bitwise_and, "or": numpy.bitwise_or,
                 "xor": numpy.bitwise_xor, "shl": numpy.left_shift, "shr": numpy.right_shift}
    for dtype, top in ((U16, 2**16 - 1), (U32, 2**32 - 1)):
        left, right = pairs((0, 1, 7, top // 2, top - 1, top), (1, 2, 3, top), dtype)
        for op, function in functions.items():
            if op in ("shl", "shr"):
                right = (torch.arange(len(left)) % 13).to(dtype)
            case(op, NAMES[dtype], lambda a, b: torch.from_numpy(function(a.numpy(), b.numpy())),
                 {"a": left, "b": right})


def comparisons():
    compare = {"lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq,
               "ne": torch.ne}
    real = [-INF, -1, -0.0, 0.0, 1, 1.5, INF, NAN]
    values = {F32: real, F16: real, BF16: real, BOOL: [0, 1], I8: [-128, -1, 0, 1, 127],
              U8: [0, 1, 127, 128, 255], U16: [0, 1, 32767, 32768, 65535],
              U32: [0, 1, 2**31 - 1, 2**31, 2**32 - 1], I32: [-2**31, -1, 0, 1, 2**31 - 1],
              I64: [-2**62, -1, 0, 2**53, 2**53 + 1]}
    for dtype, column in values.items():
        column = torch.tensor(column).to(dtype)
        wide = I64 if dtype in (U16, U32) else dtype   # torch does not compare these two itself
        for op, function in compare.items():
            case(op, NAMES[dtype], lambda a, b: function(a.to(wide), b.to(wide)),
                 {"a": column.reshape(-1, 1), "b": column}, native=True)


def cast(values, source, *targets):
    for target in targets:
        case("cast", f"{NAMES[source]}_{NAMES[target]}", lambda a: a.to(target),
             {"a": torch.tensor(values).to(source)}, texts={"to": NAMES[target]}, native=True)


def casts():
    halves = [0, -0.0, 1, 1.00048828125, 1.001, 1.00146484375, 65504, 65519.99, 65520, 1e-8,
              5.96e-8, 2.98e-8, 2.9802322e-8, 6.1e-5, -3.3333, 1e30, INF, -INF, NAN]
    brains = [0, -0.0, 1, 1.00390625, 1.01171875, 1.004, 3.39e38, 3.4e38, 1e-40, -3.3333, INF, NAN]
    cast(halves, F32, F16)
    cast(brains, F32, BF16)
    cast(halves, F16, F32)
    cast(brains, BF16, F32)
    cast([0, 1, 1.001, 65504, 6e-8, INF], F16, BF16)
    cast([0, 0.99, -0.99, 1.5, -1.5, 100.7, -100.2], F32, I8, I32, I64, BOOL)   # no overflow
    cast([0, 0.99, 1.5, 254.9], F32, U8)
    whole = [0, 1, -1, 127, 128, -129, 255, 256, 65537, -2**31]
    more = [2**31, 2**32 + 5, 16777217, 2**53 + 1]
    cast(whole + more, I64, I8, U8, I32, U16, U32, BOOL, F32, F16, BF16)
    for source in (I8, U8, I32, BOOL):
        for target in (F32, I64, U8):
            cast(whole, source, target)


def reductions():
    start("reductions")
    functions = {"sum": torch.sum, "mean": torch.mean, "reduce_max": torch.amax,
                 "reduce_min": torch.amin}
    axis_lists = {"last": [2], "first": [0], "middle": [1], "outer": [0, 2], "all": [0, 1, 2]}
    for op, function in functions.items():
        for variant, axes in axis_lists.items():
            keep = variant in ("middle", "outer")
            case(op, variant, lambda x: function(x, axes, keepdim=keep), {"a": rand(3, 4, 5)},
                 params={"axes": axes, "keep": [int(keep)]})
    for variant, axes in axis_lists.items():
        correction = int(variant in ("last", "all"))
        case("var", variant, lambda x: x.var(axes, correction=correction), {"a": rand(3, 4, 5)},
             params={"axes": axes, "keep": [0], "correction": [correction]})
    for dtype in (I8, U8, I32, I64):   # a sum stays in its dtype and wraps
        table = {"a": ints(0 if dtype == U8 else -100, 100, 3, 5, dtype=dtype)}
        params = {"axes": [1], "keep": [0]}
        case("sum", NAMES[dtype], lambda x: x.sum(1, dtype=dtype), table, params)
        case("reduce_max", NAMES[dtype], lambda x: x.amax(1), table, params)
        case("reduce_min", NAMES[dtype], lambda x: x.amin(1), table, params)
    table = {"a": torch.tensor([[1, INF, -INF, NAN], [2, 1, 3, 4], [0, -INF, -5, 1]])}
    for op in ("sum", "reduce_max", "reduce_min"):
        case(op, "edge", lambda x: functions[op](x, [0]), table, {"axes": [0], "keep": [0]},
             native=True)
    axes = {"last": 2, "first": 0, "middle": 1}
    ties = torch.tensor([[3, 1, 3, 1], [2, 2, 2, 2], [-1, -5, -5, -1]], dtype=I32)
    for op, function in {"argmax": torch.argmax, "argmin": torch.argmin}.items():
        for variant, axis in axes.items():
            case(op, variant, lambda x: function(x, axis), {"a": rand(3, 4, 5)}, {"axis": [axis]})
        case(op, "ties_i32", lambda x: function(x, 1), {"a": ties}, {"axis": [1]})   # first wins
    for variant, axis in axes.items():
        case("cumsum", variant, lambda x: x.cumsum(axis), {"a": rand(3, 4, 5)}, {"axis": [axis]})
    case("cumsum", "i32", lambda x: x.cumsum(0, dtype=I32), {"a": ints(-9, 9, 7, dtype=I32)},
         {"axis": [0]})


MATMULS = {
    "plain": ((3, 4), (4, 5)), "tails": ((17, 33), (33, 9)), "shared": ((2, 3, 4), (4, 5)),
    "batched": ((2, 3, 4), (2, 4, 5)), "broadcast": ((2, 1, 3, 4), (5, 4, 2)),
    "row": ((4,), (4, 5)), "column": ((3, 4), (4,)), "dot": ((4,), (4,)),
    "vector_batch": ((4,), (3, 4, 2)), "one": ((1, 1), (1, 1)),
}
EINSUMS = {
    "ij,jk": ((2, 3), (3, 4)), "ij,jk->ik": ((2, 3), (3, 4)), "ij->ji": ((2, 3),),
    "ba": ((2, 3),), "aB": ((2, 3),), "ii": ((3, 3),), "ii->i": ((3, 3),),
    "iij->ij": ((3, 3, 2),), "iij,jk->ik": ((3, 3, 2), (2, 4)), "ij->": ((2, 3),),
    "i,i->": ((4,), (4,)), "i,j->ij": ((3,), (2,)), "ij,j->i": ((3, 4), (4,)),
    "ij,ij->i": ((3, 4), (3, 4)), "ab,cd->": ((2, 2), (2, 3)), "Ba,aC": ((2, 3), (3, 2)),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 2)), "bhqd,bhkd->bhqk": ((1, 2, 3, 4), (1, 2, 2, 4)),
    "...ij,...jk->...ik": ((2, 1, 2, 3), (2, 3, 2)), "...ij->...ji": ((2, 2, 3),),
    "...ij,jk": ((2, 2, 3), (3, 2)), "b...k,kj->b...j": ((2, 2, 2, 3), (3, 2)),
    "...i,i->...": ((2, 2, 3), (3,)), "ij,jk,kl->il": ((2, 5), (5, 3), (3, 4)),
    "abc,cd,bd->a": ((2, 3, 4), (4, 2), (3, 2)), "a,b,c->cab": ((2,), (3,), (2,)),
}


def products():
    for variant, (left, right) in MATMULS.items():
        start("matmul" + variant)
        case("matmul", variant, torch.matmul, {"a": rand(*left), "b": rand(*right)})
    for index, (equation, shapes) in enumerate(EINSUMS.items()):
        start("einsum" + equation)
        case("einsum", f"e{index}", lambda *operands: torch.einsum(equation, *operands),
             {"abc"[i]: rand(*shape) for i, shape in enumerate(shapes)},
             texts={"equation": equation})


def conv(op, variant, x, weight, bias, stride, padding, dilation, groups):
    start(op + variant)
    inputs = {"a": rand(*x), "weight": rand(*weight)}
    if bias:
        inputs["bias"] = rand(weight[0])
    function = F.conv1d if op == "conv1d" else F.conv2d
    case(op, variant, lambda a, w, b=None: function(a, w, b, stride, padding, dilation, groups),
         inputs, params={"stride": stride, "padding": padding, "dilation": dilation,
                         "groups": [groups]})


def convolutions():
    conv("conv1d", "plain", (2, 3, 9), (4, 3, 3), True, [1], [0], [1], 1)
    conv("conv1d", "stride_padding", (2, 3, 9), (2, 3, 3), True, [2], [1], [1], 1)
    conv("conv1d", "dilation", (1, 2, 11), (3, 2, 3), False, [1], [2], [2], 1)
    conv("conv1d", "groups", (2, 4, 7), (6, 2, 2), True, [1], [0], [1], 2)
    one, two, none = [1, 1], [2, 2], [0, 0]
    conv("conv2d", "plain", (2, 3, 5, 6), (4, 3, 3, 3), True, one, none, one, 1)
    conv("conv2d", "pointwise", (1, 4, 3, 3), (5, 4, 1, 1), False, one, none, one, 1)
    conv("conv2d", "stride_padding", (1, 2, 7, 7), (3, 2, 3, 3), True, two, one, one, 1)
    conv("conv2d", "uneven", (1, 2, 8, 6), (2, 2, 3, 2), True, [3, 1], [2, 0], [1, 2], 1)
    conv("conv2d", "dilation", (1, 2, 7, 7), (2, 2, 3, 3), False, one, two, two, 1)
    conv("conv2d", "groups", (2, 4, 4, 4), (4, 2, 3, 3), True, one, one, one, 2)
    conv("conv2d", "depthwise", (1, 3, 5, 5), (3, 1, 3, 3), True, one, one, one, 3)
    pools = {"plain": (two, two, none), "overlap": ([3, 3], one, none),
             "padding": ([3, 2], [2, 1], [1, 0])}   # the average counts the padding's zeros
    functions = {"avg_pool2d": F.avg_pool2d, "max_pool2d": F.max_pool2d}
    for variant, (kernel, stride, padding) in pools.items():
        start("pool" + variant)
        for op, function in functions.items():
            case(op, variant, lambda a: function(a, kernel, stride, padding),
                 {"a": rand(1, 2, 6, 5)},
                 params={"kernel": kernel, "stride": stride, "padding": padding})


def normalisations():
    start("softmax")
    large = special(1000, 1001, 999, -1000, -1001, -999, 0, 88, -88, 1, -INF, 1).reshape(4, 3)
    for op, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        for variant, axis in {"last": 2, "first": 0, "middle": 1}.items():
            case(op, variant, lambda a: function(a, axis), {"a": rand(2, 3, 5, step=16)},
                 params={"axis": [axis]})
        case(op, "large", lambda a: function(a, 1), {"a": large}, {"axis": [1]}, gradient=False)
    start("norms")
    case("layer_norm", "affine", lambda a, w, b: F.layer_norm(a, [6], w, b, 1e-5),
         {"a": rand(2, 3, 6), "weight": rand(6), "bias": rand(6)}, numbers={"epsilon": 1e-5})
    case("layer_norm", "plain", lambda a: F.layer_norm(a, [5], None, None, 1e-3),
         {"a": rand(4, 5)}, numbers={"epsilon": 1e-3})
    case("rms_norm", "affine", lambda a, w: F.rms_norm(a, [6], w, 1e-5),
         {"a": rand(2, 3, 6), "weight": rand(6)}, numbers={"epsilon": 1e-5})
    case("rms_norm", "plain", lambda a: F.rms_norm(a, [5], None, 1e-2), {"a": rand(4, 5)},
         numbers={"epsilon": 1e-2})
    for variant, groups in {"two": 2, "one": 1, "each": 4}.items():
        case("group_norm", variant, lambda a, w, b: F.group_norm(a, groups, w, b, 1e-5),
             {"a": rand(2, 4, 3, 2), "weight": rand(4), "bias": rand(4)},
             params={"groups": [groups]}, numbers={"epsilon": 1e-5})
    start("loss")
    case("cross_entropy", "mean", F.cross_entropy,
         {"a": rand(4, 7, step=16), "target": ints(0, 7, 4)})
    case("cross_entropy", "one", F.cross_entropy, {"a": rand(1, 3), "target": torch.tensor([2])})


def attend(q, k, v, mask=None, causal=False):
    group = q.shape[1] // k.shape[1]   # query head h reads key head h / group
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attention():
    start("attention")
    # (query heads, key heads, queries, keys); batch 2, width 4; the scale is 1 / sqrt(width).
    sizes = {"plain": (2, 2, 3, 5), "causal": (2, 2, 5, 5), "grouped": (4, 2, 3, 4),
             "grouped_causal": (6, 2, 4, 4), "mask": (2, 1, 2, 6)}
    for variant, (heads, kv_heads, queries, keys) in sizes.items():
        causal = variant.endswith("causal")
        inputs = {"q": rand(2, heads, queries, 4, step=32),
                  "k": rand(2, kv_heads, keys, 4, step=32), "v": rand(2, kv_heads, keys, 4)}
        if variant == "mask":
            # True may look. Two new queries over a cache of six: the last one sees the last key.
            inputs["mask"] = torch.ones(queries, keys, dtype=BOOL).tril(keys - queries)
        case("attention", variant, lambda q, k, v, m=None: attend(q, k, v, m, causal), inputs,
             params={"causal": [int(causal)]})


def indexing():
    start("indexing")
    case("embedding", "repeats", lambda w, i: F.embedding(i, w),
         {"weight": rand(6, 4), "index": torch.tensor([[0, 5, 2], [2, 2, 1]])})
    for variant, axis, shape in (("first", 0, (2, 4)), ("last", 1, (3, 5))):
        index = ints(0, (3, 4)[axis], *shape)
        case("gather", variant, lambda a, i: a.gather(axis, i), {"a": rand(3, 4), "index": index},
             params={"axis": [axis]})
        case("scatter_add", variant, lambda a, i, s: a.scatter_add(axis, i, s),
             {"a": rand(3, 4), "index": index, "source": rand(*shape)}, params={"axis": [axis]})
    case("gather", "rank3", lambda a, i: a.gather(1, i),
         {"a": rand(2, 4, 3), "index": ints(0, 4, 2, 2, 3)}, params={"axis": [1]})
    case("scatter_add", "i32", lambda a, i, s: a.scatter_add(0, i, s),
         {"a": torch.zeros(4, dtype=I32), "index": ints(0, 4, 9),
          "source": ints(-9, 9, 9, dtype=I32)}, params={"axis": [0]})
    slices = {"front": ([0, 0], [2, 3], [1, 1]), "step": ([1, 0], [7, 5], [2, 3]),
              "inner": ([2, 1], [6, 4], [1, 1]), "one": ([6, 4], [7, 5], [1, 1]),
              "empty": ([3, 0], [3, 5], [1, 1])}
    for variant, (begin, end, step) in slices.items():
        keys = tuple(slice(*triple) for triple in zip(begin, end, step))
        case("slice", variant, lambda a: a[keys], {"a": rand(7, 5)},
             params={"begin": begin, "end": end, "step": step})
    for variant, axes in {"rows": [0], "both": [0, 1]}.items():
        case("flip", variant, lambda a: a.flip(axes), {"a": rand(3, 4)}, params={"axes": axes})
    case("permute", "cycle", lambda a: a.permute(2, 0, 1), {"a": rand(2, 3, 4)},
         params={"axes": [2, 0, 1]})
    case("expand", "rows", lambda a: a.expand(3, 2, 4), {"a": rand(2, 1)},
         params={"shape": [3, 2, 4]})
    case("pad", "zeros", lambda a: F.pad(a, (3, 0, 1, 2)), {"a": rand(2, 3)},
         params={"before": [1, 3], "after": [2, 0]})
    for axis in (0, 1, 2):
        case("stack", f"axis{axis}", lambda *t: torch.stack(t, axis),
             {name: rand(2, 3) for name in "abc"}, params={"axis": [axis]})
    for axis, shapes in enumerate([((2, 3), (4, 3), (1, 3)), ((2, 3), (2, 1), (2, 4))]):
        case("concat", f"axis{axis}", lambda *t: torch.cat(t, axis),
             {"abc"[i]: rand(*shape) for i, shape in enumerate(shapes)}, params={"axis": [axis]})


def main():
    lines.append(f"# by make_ops.py with torch {torch.__version__}, numpy {numpy.__version__}")
    for section in (elementwise, integers, unsigned, comparisons, casts, reductions, products,
                    convolutions, normalisations, attention, indexing):
        section()
    text = "\n".join(lines) + "\n"
    path = os.path.join(HERE, "ops.txt")
    with open(path, "w") as file:
        file.write(text)
    cases = sum(line.startswith("case ") for line in lines)
    print(f"{path}: {cases} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
