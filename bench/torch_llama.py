"""torch_llama.py - a llama in PyTorch, from a GGUF file, as fast as plain PyTorch has it: one step
for a prompt and for a token, a cache of fixed size, PyTorch's own attention."""
import numpy
import torch
import torch.nn.functional as F
from gguf import GGUFReader
from gguf.quants import dequantize


PARTS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up",
         "ffn_down")


class Block(torch.nn.Module):
    def __init__(self, weights, heads, key_heads, context, epsilon):
        super().__init__()
        self.weight = torch.nn.ParameterDict(weights)
        self.heads, self.key_heads, self.epsilon = heads, key_heads, epsilon
        query = weights["attn_q"]
        self.size = len(query) // heads
        for name in ("keys", "values"):
            self.register_buffer(name, query.new_zeros(key_heads, context, self.size))

    @staticmethod
    def rotate(x, cos, sin):  # x (heads, tokens, size), pairs (2i, 2i + 1)
        left, right = x[..., 0::2], x[..., 1::2]
        return torch.stack([left * cos - right * sin, left * sin + right * cos], -1).flatten(-2)

    def attend(self, x, places, cos, sin):
        weight, tokens = self.weight, len(x)
        q, k, v = (F.linear(x, weight[name]).view(tokens, -1, self.size).transpose(0, 1)
                   for name in ("attn_q", "attn_k", "attn_v"))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        self.keys.index_copy_(1, places, k)
        self.values.index_copy_(1, places, v)
        mask = None
        if tokens == 1:  # else a prompt: the cache was empty
            k, v = self.keys, self.values
            mask = torch.arange(k.shape[1]) <= places[:, None]
        k, v = (part.repeat_interleave(self.heads // self.key_heads, 0) for part in (k, v))
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask,
                                           is_causal=tokens > 1)[0]
        return F.linear(y.transpose(0, 1).reshape(tokens, -1), weight["attn_output"])

    def forward(self, x, places, cos, sin):
        weight, shape = self.weight, x.shape[-1:]
        y = F.rms_norm(x, shape, weight["attn_norm"], self.epsilon)
        x = x + self.attend(y, places, cos, sin)
        y = F.rms_norm(x, shape, weight["ffn_norm"], self.epsilon)
        y = F.silu(F.linear(y, weight["ffn_gate"])) * F.linear(y, weight["ffn_up"])
        return x + F.linear(y, weight["ffn_down"])


class Llama(torch.nn.Module):
    def __init__(self, path, dtype, context, compiled):
        super().__init__()
        reader = GGUFReader(path)
        found = {tensor.name: tensor for tensor in reader.tensors}

        def fact(name):
            return reader.fields[f"llama.{name}"].contents()

        def constant(name):
            values = numpy.array(dequantize(found[name].data, found[name].tensor_type))
            return torch.nn.Parameter(torch.from_numpy(values).to(dtype), requires_grad=False)

        self.epsilon, heads = fact("attention.layer_norm_rms_epsilon"), fact("attention.head_count")
        self.embedding, self.norm = constant("token_embd.weight"), constant("output_norm.weight")
        self.head = constant("output.weight") if "output.weight" in found else self.embedding
        self.vocabulary, width = self.embedding.shape
        self.block = torch.nn.ModuleList(
            Block({part: constant(f"blk.{i}.{part}.weight") for part in PARTS}, heads,
                  fact("attention.head_count_kv"), context, self.epsilon)
            for i in range(fact("block_count")))
        half = torch.arange(0, width // heads, 2, dtype=torch.float32) * heads / width
        turns = torch.outer(torch.arange(context), fact("rope.freq_base") ** -half)
        self.register_buffer("cos", turns.cos().to(dtype))
        self.register_buffer("sin", turns.sin().to(dtype))
        if compiled:  # a block at a time, as PyTorch advises: all of them share the code
            for block in self.block:
                block.compile(dynamic=False)

    def forward(self, ids, places):
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[places], self.sin[places]
        for block in self.block:
            x = block(x, places, cos, sin)
        return F.linear(F.rms_norm(x[-1:], x.shape[-1:], self.norm, self.epsilon), self.head)
