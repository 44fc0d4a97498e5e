#!/usr/bin/env python3
"""Writes tests/io/golden/: what the tokenizers library makes of the texts below.

    pip install tokenizers==0.23.3 gguf==0.19.0
    python3 make_tokenizer_golden.py SmolLM2-135M-Instruct.Q4_1.gguf

texts.txt        one text a line, bytes that are not plain ASCII as \\xNN
vocabulary.txt   a small BPE vocabulary trained here: "kind token" lines, an empty line, merges
ids-RULE.txt     the ids of each text: RULE is smollm2 for the real model, else a splitting rule
                 with the small vocabulary
splits.txt       rule, first code point of 4096, hash of the lengths of all pieces of their lines
codepoints.txt   the same for the real model's ids; see line_of
"""
import hashlib
import os
import random
import sys

from gguf import GGUFReader
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        trainers)

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4

GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def isolated(*patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])


# As the tokenizer.json of GPT-2, SmolLM2, Llama 3, Qwen2 and Mistral Nemo have them; default is
# llama.cpp's.
WHOLE_WORDS = ("llama-bpe", "tekken")
NORMALISED = ("qwen2",)
SPLITS = {
    "gpt-2": isolated(GPT2),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), isolated(GPT2)]),
    "llama-bpe": isolated(LLAMA3),
    "qwen2": isolated(QWEN2),
    "tekken": isolated(TEKKEN),
    "default": isolated(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}

TEXTS = [
    b"", b" ", b"  ", b"\n", b"\t", b"a", b"Hello, world!", b"Hello  world", b" leading",
    b"trailing ",
    b"three   spaces and  two", b"tab\tand\ttabs\t\t", b"line\nline\n\nline\r\nline\r\r\n\n",
    b" \n \n  \n   x", b"\n\n\n   \t  \n", b"    indented\n        more\n", b"x" * 70, b" " * 45,
    b"I'm you're he's we've they'll she'd don't I'M YOU'RE HE'S 'tis o'clock ''s 's't're",
    b"12345 1,234.56 3.14159e-10 0xDEADBEEF 2024-12-31 1st 2nd 10%", b"a1b22c333d4444e55555",
    b"1 2  3   4\t5\n6", b"  7", b"no. 8 ", b"9\n", b"!?!?...;;--//\\\\##$$%%^^&&**(())__++==",
    b"if (a<=b && c!=d) { return x->y[0] ^ ~z; }", b"\"quoted\" 'single' `back`",
    b"#include <stdio.h>\nint main(void) {\n    printf(\"%d\\n\", 42);\n    return 0;\n}\n",
    b"def f(x, *args, **kwargs):\n\t\"\"\"Doc.\"\"\"\n\treturn [i ** 2 for i in range(10)]\n",
    b"SELECT a.id, COUNT(*) FROM t AS a WHERE a.x >= 3 GROUP BY a.id;",
    b"<html><body class=\"x\">&amp;&lt;</body></html>", b"https://example.org/a?b=c&d=%20#e",
    b"{\"key\": [1, 2.5, null, true], \"k\\u00e9\": \"v\"}", b"C:\\Windows\\System32",
    b"a_b-c.d:e;f",
    b"CamelCaseAndsnake_case_and-kebab-case", b"\x00\x01\x02\x04\x06\x13\x14\x16\x1d\x1e\x1f\x7f",
    b"a\x04b!\x06! \x13 x", b"The three laws of thermodynamics say that", b"\xef\xbb\xbfBOM",
    "naïve café Ünïcödé ÀÉÎÕÜ ß ŉ ﬀ ﬁ ǆ".encode(), "Größe Straße ſtraße I'ſ 'ſ".encode(),
    "Привет, мир! Съешь же ещё этих мягких французских булок".encode(),
    "Καλημέρα κόσμε ΑΒΓ".encode(), "你好,世界。今天天气很好!漢字かな交じり文".encode(),
    "こんにちは世界 カタカナ ひらがな".encode(), "안녕하세요 세계 한국어".encode(),
    "مرحبا بالعالم ١٢٣٤٥".encode(), "שלום עולם".encode(), "नमस्ते दुनिया १२३".encode(),
    "สวัสดีชาวโลก ๑๒๓".encode(), "Xin chào thế giới".encode(), "გამარჯობა ამა ሰላም ልዑል".encode(),
    "தமிழ் తెలుగు ಕನ್ನಡ മലയാളം ພາສາລາວ".encode(), "ⅣⅫ ½¾ ² ³ ₁₂ ①② ൰ 𐄇 𝟘𝟙𝟚 ௰".encode(),
    "😀😃 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇺🇸 ❤️ ☃ ✓".encode(), "🤷🏻‍♀️text🎉🎉🎉 end".encode(),
    "e\u0301 a\u0308\u0304 n\u0303 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢".encode(), "\u200b\u200d\u2060\ufeff\u00ad x".encode(),
    "\u00a0nbsp\u00a0\u00a0two \u3000ideo\u2003em\u2028ls\u2029ps\u0085nel\u180emvs\u1680og".encode(),
    "“quotes” ‘single’ – — … • ° © ® ™ € £ ¥ × ÷ ≤ ≥ ∞ ∑ √ π".encode(),
    "\U00010400\U00010450 \U0001d400\U0001d7ce \U00020000\U0002a6df \U00031350".encode(),
    "\U000e0001\U000e0041 \U000f0000 \U0010ffff \U00050000 !\U00050000!".encode(),
    "\U0001e4f0\U00016d40 \ua7da\u1c89 \U00010d40\U00011de0\U00016ff4".encode(),  # Unicode 15 to 17
    b"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", b"<|im_end|><|im_end|>",
    b"<|im_end|", b"<|im_end|>x", b" <|im_end|> ", b"1<|im_start|>2", b"<<|endoftext|>>",
    b"<tool><tool_call><tool_cal l>", b"<|im_start<|im_start|>|>", b"  <|im_end|>  7",
    b"the cats and dogs", b"cats", b" cats", b"catsup dogs's", b"<filename>a.c<gh_stars>10",
    # Invalid UTF-8: lone and overlong bytes, surrogates, cut characters, beyond U+10FFFF.
    b"\xff", b"a\xffb", b"\x80\x80", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xe2(\xa1",
    b"\xf0\x9f\x98", b"\xf0\x9f\x98 \xf0\x9f x \xf0 y", b"\xf0\x28\x8c\xbc", b"\xc0\xaf",
    b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xb0\x80x", b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80", b"\xfe\xfe\xff\xff", b"ok\xe2\x82\xacok\xe2\x82", b"caf\xe9 na\xefve",
    b"<|im_end\xff|><|im_end|>\xff", b"\xf0\x90\x80", b"\xef\xbf\xbd", b"1\xff2 \xff3",
    # Marks out of order, letters that compose, that never do, and marks that are newer than the
    # tables of the tokenizers library; Hangul; what is in normal form C only without its accent.
    "e\u0301 e\u0323\u0301 e\u0301\u0323 \u1ebf \u1ec7\u0301 q\u0307\u0323 q\u0323\u0307".encode(),
    "\u212b \u2126 \u0340\u0341 \u0958 \u2adc \ufb1d \uf900 \U0001d15e \u0344".encode(),
    "\u1100\u1161\u11a8 \uac00\u11a8 \u1100\u1161 \u11a8 \ud55c\uae00".encode(),
    "a\u0898\u0301 a\u0301\u0898\u0323 \U00011935\U00011930 \U00011938 a\u1ac0\u0323".encode(),
    "\u0301a \u0301 o\u0328\u0304 o\u0304\u0328 \u01ed s\u0323\u0307 \u1e9b\u0323".encode(),
    ("a" + "\u0301\u0323\u0345\u0334" * 40 + "b").encode(), ("n\u0303" * 50).encode(),
    # Cases, as the rule of Mistral sees them; very long words; zero bytes.
    "ABCdefGHI iPhone XMLHttpRequest ÄÖÜäöü ǅungla ʰʲ ªº ΑΒγδ ЖЗий McDonald's DON'T".encode(),
    "AéB aÉb Ⅷ ⓐⒶ 𝐀𝐚 ǆǅǄ ﬁX ßẞ ა ᲐᲑ Ა".encode(), b"path/to/file.c //comment\n/* x */\n/\n",
    b"A" * 300, b"aA" * 200, b"ab" * 300 + b" " + b"supercalifragilistic" * 20, b"1" * 100,
    "世界" .encode() * 80, "é".encode() * 120, b"!?" * 90, b"\n" * 60, b"\t \t" * 40, b"\x00",
    b"a\x00b \x00\x00 c\x00", b"<|im_start|>" * 5, b"<|im_start|>\x00<|im_end|>\n",
]


def random_texts():
    """Soup of what the rules look at, seeded, so that the file stays the same."""
    dice = random.Random(1234)
    parts = ([chr(c) for c in range(32, 127)] + list("  \t\n\r'''012399") +
             ["'s", "'LL", "\r\n", "   ", "<|im_end|>", "<tool>", " the", "ing", "é", "ß", "Ω", "я",
              "א", "ع", "ह", "ि", "世", "界", "한", "\u0301", "😀", "\u200d", "\u00a0", "\u3000", "½", "٣"])
    for _ in range(120):
        yield "".join(dice.choice(parts) for _ in range(dice.randrange(4, 28))).encode()


def escape(data):
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in data)


def write(name, lines):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


def byte_level(split):
    return pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build(tokens, kinds, merges, rule):
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges,
                                     ignore_merges=rule in WHOLE_WORDS))
    tokenizer.pre_tokenizer = byte_level(SPLITS[rule])
    if rule in NORMALISED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, kinds):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        if kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def train(texts):
    """All bytes, 300 merges, words that no merge reaches, control and user-defined tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(SPLITS["gpt-2"])
    trainer = trainers.BpeTrainer(vocab_size=556, show_progress=False, special_tokens=[],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([t.decode("utf-8", "replace") for t in texts], trainer)
    path = os.path.join(FOLDER, "..")
    _, merges = tokenizer.model.save(path, "temporary")
    os.remove(os.path.join(path, "temporary-vocab.json"))
    with open(merges, encoding="utf-8") as file:
        rules = [line.rstrip("\n") for line in file if not line.startswith("#version")]
    os.remove(merges)
    vocabulary = tokenizer.get_vocab()
    rows = [(NORMAL, token) for token in sorted(vocabulary, key=vocabulary.get)]
    rows += [(NORMAL, word) for word in ("dogs", "catsup", "Ġcats", "Ġlaws", "Ġthermodynamics")
             if word not in vocabulary]
    rows += [(CONTROL, "<|im_start|>"), (CONTROL, "<|im_end|>"), (CONTROL, "<|endoftext|>")]
    rows += [(USER_DEFINED, "<tool"), (USER_DEFINED, "<tool_call>"), (USER_DEFINED, "<tool>")]
    return rows, rules


def line_of(character):
    c = character
    return f"a{c}1{c}{c} {c}!{c}'s {c}\n"


def chunks():
    """Lines for every code point below U+33000, 4096 at a time; above lie no letters."""
    for first in range(0, 0x33000, 4096):
        points = [c for c in range(first, first + 4096) if not 0xD800 <= c < 0xE000]
        yield first, "".join(line_of(chr(c)) for c in points)


def digest(numbers):
    return hashlib.sha256(" ".join(map(str, numbers)).encode()).hexdigest()[:16]


def main():
    texts = TEXTS + list(random_texts())
    write("texts.txt", map(escape, texts))
    reader = GGUFReader(sys.argv[1])
    field = lambda name: reader.fields["tokenizer.ggml." + name].contents()
    merges = [tuple(m.split(" ")) for m in field("merges")]
    real = build(field("tokens"), field("token_type"), merges, "smollm")
    rows, rules = train(texts)
    write("vocabulary.txt", [f"{kind} {token}" for kind, token in rows] + [""] + rules)
    tokenizers = {"smollm2": real}
    for rule in SPLITS:
        tokenizers[rule] = build([t for _, t in rows], [k for k, _ in rows],
                                 [tuple(r.split(" ")) for r in rules], rule)
    for name, tokenizer in tokenizers.items():
        write(f"ids-{name}.txt", [" ".join(map(str, tokenizer.encode(
            text.decode("utf-8", "replace")).ids)) for text in texts])
    lines = []
    for rule, split in SPLITS.items():
        for first, text in chunks():
            pieces = split.pre_tokenize_str(text)
            lines.append(f"{rule} {first:x} {digest(len(p.encode()) for p, _ in pieces)}")
    write("splits.txt", lines)
    write("codepoints.txt", [f"{first:x} {digest(real.encode(text).ids)}"
                             for first, text in chunks()])


if __name__ == "__main__":
    main()
