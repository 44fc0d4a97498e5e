#!/usr/bin/env python3
"""make_small_models.py - small random models, as Hugging Face folders, and their logits.

In:  text.txt.   Out: tests/models/small/NAME/ and small.txt beside this script.
Needs torch 2.12.1, transformers 4.57.6, tokenizers 0.22.1, sentencepiece 0.2.1.
    python3 tests/golden/make_small_models.py

Each model is one way in which models of the llama family differ: scaled rotations, a head size of
its own, biases, windows, several files. Their weights are drawn so that attention is neither flat
nor on one token, and rounded to the dtype they are saved in; transformers then computes in fp32,
eagerly. small.txt is words and numbers between blanks, but for the rest of a `text` line:

    case NAME
    text REST OF THE LINE        the prompt
    prompt count ids...          as transformers' tokenizer gives them
    rounding value               max |f32 - f64| over all logits: torch's own error, a yardstick
    ids count ids...             those of which the logits follow
    position P logsumexp L values...      after token P, for each P
    end
"""
import json
import os
import shutil
import sys
import tempfile

import sentencepiece
import torch
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from transformers import (GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaTokenizerFast,
                          MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast, Qwen2Config,
                          Qwen2ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = os.path.join(HERE, "..", "models", "small")
TEXT = "It's 1984: the Wörld says \"hello, 123 cats!\"\n\n  it's"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LLAMA3_CHAT = ("{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>"
               "\\n\\n' }}{% endif %}")
MISTRAL_CHAT = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
                "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
                "{{ message['content'] + eos_token }}{% endif %}{% endfor %}")
BYTE_LEVEL = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "llama-bpe": pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "qwen2": pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
}
SPECIAL = {
    "gpt-2": ["<|endoftext|>"],
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                  "<|end_header_id|>", "<|eot_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
BEGIN_END = {   # the tokens that begin and end a text
    "gpt-2": ("<|endoftext|>", "<|endoftext|>"),
    "smollm": ("<|im_start|>", "<|im_end|>"),
    "llama-bpe": ("<|begin_of_text|>", "<|eot_id|>"),
    "qwen2": (None, "<|im_end|>"),
}


def byte_level(rule, size):
    """A vocabulary of `size` tokens trained under one splitting rule, special tokens last."""
    result = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    if rule == "qwen2":
        result.normalizer = normalizers.NFC()
    result.pre_tokenizer = BYTE_LEVEL[rule]
    result.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size - len(SPECIAL[rule]), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    result.train([os.path.join(HERE, "text.txt")], trainer)
    result.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL[rule]])
    begin, end = BEGIN_END[rule]
    if rule == "llama-bpe":
        result.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, result.token_to_id(begin))])
    template = {"llama-bpe": LLAMA3_CHAT, "smollm": CHATML, "qwen2": CHATML}.get(rule)
    return PreTrainedTokenizerFast(tokenizer_object=result, bos_token=begin, eos_token=end,
                                   chat_template=template)


def sentence_piece(size):
    """BPE with byte fallback, as llama 2 and mistral have it."""
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            input=os.path.join(HERE, "text.txt"), model_prefix=os.path.join(folder, "small"),
            vocab_size=size, model_type="bpe", byte_fallback=True, character_coverage=0.98,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            split_digits=True, allow_whitespace_only_pieces=True, num_threads=1,
            hard_vocab_limit=False, minloglevel=2)
        return LlamaTokenizerFast(vocab_file=os.path.join(folder, "small.model"), legacy=True,
                                  add_prefix_space=True, chat_template=MISTRAL_CHAT)


def shape(width, **more):
    """Heads of 16 values, unless told; two query heads share a key head."""
    return {"vocab_size": 288, "hidden_size": width, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": width // 16,
            "num_key_value_heads": width // 32, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_theta": 10000.0, **more}


def make(name):
    """(configuration, class, tokenizer's rule, dtype, bytes of a shard or None)"""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            "beta_fast": 2.0, "beta_slow": 0.25}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    llama, llama_class = LlamaConfig, LlamaForCausalLM
    qwen2, qwen2_class = Qwen2Config, Qwen2ForCausalLM
    bf16, f16, f32 = torch.bfloat16, torch.float16, torch.float32
    return {
        "llama": (llama(**shape(32, tie_word_embeddings=False, intermediate_size=48)), llama_class,
                  "llama-bpe", f32, None),
        "llama-linear": (llama(**shape(64, rope_scaling={"rope_type": "linear", "factor": 2.0})),
                         llama_class, "gpt-2", bf16, None),
        "llama-yarn": (llama(**shape(64, rope_scaling=yarn, rope_theta=100.0)),
                       llama_class, "smollm", bf16, None),
        "llama-llama3": (llama(**shape(64, rope_scaling=llama3, rope_theta=100.0)), llama_class,
                         "llama-bpe", bf16, None),
        "llama-headdim": (llama(**shape(32, head_dim=32, intermediate_size=48,
                                        attention_bias=True, mlp_bias=True)),
                          llama_class, "smollm", f32, None),
        "mistral": (MistralConfig(**shape(64, vocab_size=384, sliding_window=8,
                                          intermediate_size=48)),
                    MistralForCausalLM, "sentencepiece", bf16, None),
        "qwen2": (qwen2(**shape(64, rms_norm_eps=1e-6)), qwen2_class, "qwen2", f16, None),
        "qwen2-window": (qwen2(**shape(64, use_sliding_window=True, sliding_window=8,
                                       max_window_layers=1, rope_theta=1000000.0)),
                         qwen2_class, "qwen2", bf16, None),
        "sharded": (llama(**shape(64)), llama_class, "gpt-2", bf16, "80KB"),
    }[name]


NAMES = ["llama", "llama-linear", "llama-yarn", "llama-llama3", "llama-headdim", "mistral", "qwen2",
         "qwen2-window", "sharded"]


def draw(model, seed):
    """Products as large as what they are applied to, norms near 1, biases that matter."""
    generator = torch.Generator().manual_seed(seed)
    for key, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in key:
            weight.copy_(1 + 0.2 * noise)
        elif key.endswith("bias"):
            weight.copy_(0.3 * noise)
        else:
            weight.copy_(noise * (0.5 if "embed" in key else 0.8 / weight.shape[1] ** 0.5))


def rewrite(folder, name):
    """Older ways to write the same, which folders in use have, too."""
    def edit(file, change):
        path = os.path.join(folder, file)
        with open(path, encoding="utf-8") as old:
            content = json.load(old)
        change(content)
        with open(path, "w", encoding="utf-8") as new:
            json.dump(content, new, indent=1, ensure_ascii=False)
            new.write("\n")

    def pairs_to_text(tokenizer):
        merges = tokenizer["model"]["merges"]
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in merges]

    def old_scaling(config):
        config["rope_scaling"] = {"type": "linear", "factor": 2.0}

    def new_scaling(config):
        config["rope_parameters"] = {**config.pop("rope_scaling"),
                                     "rope_theta": config.pop("rope_theta")}

    edit("tokenizer.json",
         pairs_to_text if name in ("mistral", "llama-linear") else lambda tokenizer: None)
    if name == "mistral":   # what asks transformers for the .model file
        edit("tokenizer_config.json", lambda config: config.pop("add_prefix_space"))
    if name == "llama-linear":
        edit("config.json", old_scaling)
    if name == "llama-llama3":
        edit("config.json", new_scaling)


def golden(name, kind, folder, tokenizer):
    # Loaded anew: a model that was cast to bf16 and back has rotations rounded to bf16, too.
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = tokenizer.encode(TEXT)
    logits = model(torch.tensor([ids])).logits[0]
    exact = model.to(torch.float64)(torch.tensor([ids])).logits[0]
    rounding = (logits - exact).abs().max().item()
    chosen = [(23 * i + 5) % logits.shape[1] for i in range(12)]
    escaped = TEXT.replace("\\", "\\\\").replace("\n", "\\n")
    print(f"{name}: {len(ids)} ids, logits up to {logits.abs().max().item():.3g}, "
          f"rounding {rounding:.2g}")
    lines = [f"case {name}", f"text {escaped}", f"prompt {len(ids)}", " ".join(map(str, ids)),
             f"rounding {rounding:.9g}", f"ids {len(chosen)} " + " ".join(map(str, chosen))]
    for place, row in enumerate(logits):
        lines.append(f"position {place} logsumexp {row.logsumexp(0).item():.9g}")
        lines.append(" ".join(f"{row[i].item():.9g}" for i in chosen))
    return [*lines, "end"]


@torch.no_grad()
def main():
    lines = []
    for seed, name in enumerate(NAMES):
        config, kind, rule, dtype, shard = make(name)
        tokenizer = (sentence_piece(config.vocab_size) if rule == "sentencepiece"
                     else byte_level(rule, config.vocab_size))
        assert len(tokenizer) <= config.vocab_size, (name, len(tokenizer))
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        model = kind(config).eval()
        draw(model, seed)
        model = model.to(dtype)
        ends = [tokenizer.eos_token_id]
        if rule == "llama-bpe":
            ends.append(tokenizer.convert_tokens_to_ids("<|end_of_text|>"))
        model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id,
                                                   eos_token_id=ends if len(ends) > 1 else ends[0])
        folder = os.path.join(SMALL, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        tokenizer.save_pretrained(folder)
        lines += golden(name, kind, folder, tokenizer)
        rewrite(folder, name)
        size = sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder))
        print(f"{name}: {size} bytes")
    with open(os.path.join(HERE, "small.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
