#!/usr/bin/env python3
"""make_llama.py - what transformers says about SmolLM2-135M-Instruct (Q4_1) in fp32.

In:  the model file, text.txt.   Out: llama.txt beside this script.
Needs torch 2.12.1, transformers 4.57.6, accelerate 1.15.0, gguf 0.19.0.
    python3 tests/golden/make_llama.py ~/.cache/picograd/models/SmolLM2-135M-Instruct.Q4_1.gguf

transformers unpacks the blocks to f32 while loading, so the file is what fp32 arithmetic on exactly
these weights gives. It is words and numbers between blanks, but for the rest of a `text` line:

    case NAME
    text REST OF THE LINE        the prompt, with a newline written as \\n and a backslash as \\\\;
                                 "-" for a prompt that is a piece of text.txt
    prompt count ids...
    logsumexp value              of the logits after the prompt's last token
    rounding value               max |f32 - f64| over those logits: torch's own error, a yardstick
    top 20 (id value)...         the largest logits, largest first
    sample 200 (id value)...     logits of a fixed set of ids
    greedy 64 (id margin)...     the continuation by largest logit, not stopped by the end token,
                                 and how far the second logit was behind at each step
    end

and one last block, for the first 256 ids of text.txt with nothing put before them:

    perplexity 256 ids...
    nll value                    mean over t = 1..255 of -log p(id[t] | id[0..t-1]), in nats
"""
import os
import sys

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY = 49152
SAMPLE = [(245 * i + 7) % VOCABULARY for i in range(200)]
CHAT = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")
PROMPTS = {
    "story": "Once upon a time",
    "one": "Water",   # a single token
    "capital": "The capital of France is",
    "sum": "Question: what is 17 plus 25? Answer:",
    "code": "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "french": "Il était une fois, dans un café à Zürich, un chat nommé Łukasz",
    "chat": CHAT.format("Why is the sky blue?"),
}
LONG = {"chunk64": 95, "chunk512": 600}   # so many ids from the start of text.txt


def tokenizer(path):
    """The vocabulary from the file, the splitting rules SmolLM2 was trained with."""
    fields = GGUFReader(path).fields
    words = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    result = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    result.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    result.add_special_tokens([word for word, kind in zip(words, kinds) if kind == 3])   # control
    return result


def numbers(keyword, values, width=10):
    """One line `keyword count`, then the values, a few to a line."""
    words = [str(value) for value in values]
    rows = [" ".join(words[i:i + width]) for i in range(0, len(words), width)]
    return [f"{keyword} {len(words)}", *rows]


def greedy(model, ids, count):
    """[(id, margin)]: feeds the whole prompt once, then one token at a time through the cache."""
    result, cache, feed = [], None, torch.tensor([ids])
    for _ in range(count):
        answer = model(feed, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        top = answer.logits[0, -1].topk(2)
        result.append((top.indices[0].item(), (top.values[0] - top.values[1]).item()))
        feed = top.indices[:1].reshape(1, 1)
    return result


def case(name, text, ids, model, double_model):
    logits = model(torch.tensor([ids])).logits[0, -1]
    exact = double_model(torch.tensor([ids])).logits[0, -1]
    top = logits.topk(20)
    continuation = greedy(model, ids, 64)
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    margin, rounding = min(m for _, m in continuation), (logits - exact).abs().max().item()
    print(f"{name}: {len(ids)} ids, smallest margin {margin:.4f}, rounding {rounding:.2g}")
    lines = [f"case {name}", f"text {escaped}", *numbers("prompt", ids, 16),
             f"logsumexp {logits.logsumexp(0).item():.9g}", f"rounding {rounding:.9g}"]
    ranked = zip(top.indices.tolist(), top.values.tolist())
    lines += numbers("top", [f"{i} {v:.9g}" for i, v in ranked], 5)
    lines += numbers("sample", [f"{i} {logits[i].item():.9g}" for i in SAMPLE], 5)
    lines += numbers("greedy", [f"{i} {m:.6g}" for i, m in continuation], 8)
    return [*lines, "end"]


@torch.no_grad()
def main(path):
    def load(dtype):
        folder, name = os.path.split(os.path.abspath(path))
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        return model.to(dtype).eval()

    torch.manual_seed(0)
    words = tokenizer(path)
    with open(os.path.join(HERE, "text.txt"), encoding="utf-8") as file:
        text = words.encode(file.read()).ids
    model, double_model = load(torch.float32), load(torch.float64)
    lines = []
    for name, prompt in PROMPTS.items():
        lines += case(name, prompt, words.encode(prompt).ids, model, double_model)
    for name, count in LONG.items():
        lines += case(name, "-", text[:count], model, double_model)
    ids = torch.tensor([text[:256]])
    losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
    lines += numbers("perplexity", text[:256], 16) + [f"nll {losses.item():.9g}"]
    with open(os.path.join(HERE, "llama.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print(f"text.txt: {len(text)} ids, nll {losses.item():.6f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_llama.py MODEL.gguf")
    main(sys.argv[1])
