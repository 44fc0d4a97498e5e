"""torch_llama.py - a llama in PyTorch, as fast as plain PyTorch has it: one step for a prompt and
for a token, a cache of fixed size, PyTorch's own attention. Its weights come from a GGUF file, or
are random ones in the shape of a model of src/models/llama_random.c."""
import collections

import torch
import torch.nn.functional as F


Facts = collections.namedtuple(
    "Facts", "layers width hidden heads key_heads vocabulary rope_base epsilon")
SHAPES = {"random:1b": Facts(16, 2048, 8192, 32, 8, 128256, 500000, 1e-5),
          "random:tiny": Facts(16, 64, 256, 4, 1, 256, 500000, 1e-5)}
PARTS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up",
         "ffn_down")


class Block(torch.nn.Module):
    def __init__(self, weights, facts, context):
        super().__init__()
        self.weight = torch.nn.ParameterDict(weights)
        self.heads, self.key_heads, self.epsilon = facts.heads, facts.key_heads, facts.epsilon
        query = weights["attn_q"]
        self.size = len(query) // facts.heads
        for name in ("keys", "values"):
            self.register_buffer(name, query.new_zeros(facts.key_heads, context, self.size))

    @staticmethod
    def rotate(x, cos, sin):  # x (heads, tokens, size), pairs (2i, 2i + 1)
        left, right = x[..., 0::2], x[..., 1::2]
        return torch.stack([left * cos - right * sin, left * sin + right * cos], -1).flatten(-2)

    def attend(self, x, places, cos, sin, mask):
        weight, tokens = self.weight, len(x)
        q, k, v = (F.linear(x, weight[name]).view(tokens, -1, self.size).transpose(0, 1)
                   for name in ("attn_q", "attn_k", "attn_v"))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        self.keys.index_copy_(1, places, k)
        self.values.index_copy_(1, places, v)
        if mask is None:  # a prompt: the cache was empty
            k, v = (part.repeat_interleave(self.heads // self.key_heads, 0) for part in (k, v))
        else:  # a token: heads of the same keys are rows of one query, and no key is copied
            q, k, v = q.reshape(self.key_heads, -1, self.size), self.keys, self.values
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask,
                                           is_causal=mask is None)[0]
        y = y.reshape(self.heads, tokens, self.size).transpose(0, 1).reshape(tokens, -1)
        return F.linear(y, weight["attn_output"])

    def forward(self, x, places, cos, sin, mask):
        weight, shape = self.weight, x.shape[-1:]
        y = F.rms_norm(x, shape, weight["attn_norm"], self.epsilon)
        x = x + self.attend(y, places, cos, sin, mask)
        y = F.rms_norm(x, shape, weight["ffn_norm"], self.epsilon)
        y = F.silu(F.linear(y, weight["ffn_gate"])) * F.linear(y, weight["ffn_up"])
        return x + F.linear(y, weight["ffn_down"])


class Llama(torch.nn.Module):
    """weight(name) gives the tensor of that name in a GGUF file, or None."""

    def __init__(self, facts, weight, context, compiled=False):
        super().__init__()

        def constant(name):
            return torch.nn.Parameter(weight(name), requires_grad=False)

        self.epsilon, self.vocabulary = facts.epsilon, facts.vocabulary
        self.embedding, self.norm = constant("token_embd.weight"), constant("output_norm.weight")
        head = weight("output.weight")
        self.head = (self.embedding if head is None else
                     torch.nn.Parameter(head, requires_grad=False))
        self.block = torch.nn.ModuleList(
            Block({part: constant(f"blk.{i}.{part}.weight") for part in PARTS}, facts, context)
            for i in range(facts.layers))
        size = self.block[0].size
        places = torch.arange(context)
        turns = torch.outer(places, facts.rope_base ** -(torch.arange(0, size, 2) / size))
        device, dtype = self.embedding.device, self.embedding.dtype
        self.register_buffer("cos", turns.cos().to(device, dtype))
        self.register_buffer("sin", turns.sin().to(device, dtype))
        self.register_buffer("places", places.to(device))
        if compiled:  # a block at a time, as PyTorch advises: all of them share the code
            for block in self.block:
                block.compile(dynamic=False)

    def weight_bytes(self):
        return sum(weight.numel() * weight.element_size() for weight in self.parameters())

    def forward(self, ids, places):
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[places], self.sin[places]
        mask = self.places <= places[:, None] if len(ids) == 1 else None
        for block in self.block:
            x = block(x, places, cos, sin, mask)
        return F.linear(F.rms_norm(x[-1:], x.shape[-1:], self.norm, self.epsilon), self.head)


def from_file(path, dtype, context, compiled):
    import numpy
    from gguf import GGUFReader
    from gguf.quants import dequantize
    reader = GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}

    def fact(name):
        return reader.fields[f"llama.{name}"].contents()

    def weight(name):
        if name not in found:
            return None
        values = numpy.array(dequantize(found[name].data, found[name].tensor_type))
        return torch.from_numpy(values).to(dtype)

    vocabulary, width = reversed(found["token_embd.weight"].shape.tolist())
    facts = Facts(fact("block_count"), width, fact("feed_forward_length"),
                  fact("attention.head_count"), fact("attention.head_count_kv"), vocabulary,
                  fact("rope.freq_base"), fact("attention.layer_norm_rms_epsilon"))
    return Llama(facts, weight, context, compiled)


def random(name, dtype, context, device):
    """Of mean 0 and variance 1 / columns, as picograd's of this name; norms are ones."""
    facts = SHAPES[name]
    keys = facts.key_heads * facts.width // facts.heads
    rows = {"token_embd": facts.vocabulary, "attn_k": keys, "attn_v": keys,
            "ffn_gate": facts.hidden, "ffn_up": facts.hidden}

    def weight(name):
        part = name.split(".")[-2]
        if part == "output":
            return None
        if part.endswith("norm"):
            return torch.ones(facts.width, dtype=dtype, device=device)
        columns = facts.hidden if part == "ffn_down" else facts.width
        values = torch.randn(rows.get(part, facts.width), columns, dtype=dtype, device=device)
        return values / columns ** 0.5

    return Llama(facts, weight, context)
