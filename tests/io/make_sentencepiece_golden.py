#!/usr/bin/env python3
"""Writes tests/io/golden/: what the sentencepiece library makes of texts.txt there.

    pip install sentencepiece==0.2.1 protobuf
    python3 make_sentencepiece_golden.py

pieces-NAME.txt  a small vocabulary trained here: a line of settings, "kind score token" lines, and
                 for `map` the charsmap in hexadecimal
ids-NAME.txt     the ids of each text
NAME is llama (BPE as Llama 2 has it), unused (the same, some tokens of the kind unused), user
(user-defined tokens), words (BPE over spaces, an unknown token instead of bytes, no space in
front), map (unigram with characters mapped), unigram, bytes (unigram with byte tokens and
user-defined tokens).
"""
import io
import os
import random
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
NORMAL, USER_DEFINED, UNUSED = 1, 4, 5
USER_DEFINED_TEXTS = ["<tool>", "<tool_call>", "the", "<|im_start|>", "\u2581\u2581"]

# From, to, as code points: what NFKC does to some of the letters in texts.txt, and what nmt does to
# spaces and control characters. "e" with an accent and a longer key that begins so, too.
MAP = {"\ufb00": "ff", "\ufb01": "fi", "\u00bd": "1\u20442", "\u00b2": "2", "e\u0301": "\u00e9",
       "e\u0301\u0323": "\u1eb9\u0301", "\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ",
       "\r": " ", "\u200b": " ", "\ufeff": "", "\u00ad": "", "\x01": "", "\x7f": "", "\u2160": "I",
       "\u2163": "IV", "\u2460": "1", "\u2122": "TM", "\u2026": "...", "\u212b": "\u00c5",
       "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647", "\u1100\u1161": "\uac00",
       "\U0001d7d8": "0", "A\u030a": "\u00c5"}


def texts():
    with open(os.path.join(FOLDER, "texts.txt"), encoding="utf-8", newline="\n") as file:
        for line in file.read().split("\n")[:-1]:
            parts = line.split("\\x")
            data = parts[0].encode()
            for part in parts[1:]:
                data += bytes([int(part[:2], 16)]) + part[2:].encode()
            yield data.decode("utf-8", "replace")


def write(name, lines):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


def train(**settings):
    model = io.BytesIO()
    lines = [line for text in texts() for line in text.replace("\0", "").split("\n") if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, hard_vocab_limit=False, num_threads=1,
        character_coverage=0.98, minloglevel=2, **settings)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto


def save(name, proto):
    rules = proto.normalizer_spec
    lines = [f"prefix {int(rules.add_dummy_prefix)} single {int(rules.remove_extra_whitespaces)}"]
    lines += [f"{p.type} {p.score:.9g} {p.piece}" for p in proto.pieces]
    if rules.precompiled_charsmap:
        lines += ["", rules.precompiled_charsmap.hex()]
    write(f"pieces-{name}.txt", lines)
    model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    write(f"ids-{name}.txt", [" ".join(map(str, model.encode(text))) for text in texts()])


def main():
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    llama = {"model_type": "bpe", "vocab_size": 1000, "byte_fallback": True, "split_digits": True,
             "allow_whitespace_only_pieces": True, **plain}
    proto = train(**llama)
    save("llama", proto)
    dice = random.Random(5)
    for piece in proto.pieces:
        if piece.type == NORMAL and len(piece.piece) > 1 and dice.random() < 0.4:
            piece.type = UNUSED
    save("unused", proto)
    save("user", train(**llama, user_defined_symbols=USER_DEFINED_TEXTS))
    save("words", train(model_type="bpe", vocab_size=700, split_by_whitespace=False,
                        add_dummy_prefix=False, **plain))
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for left, right in MAP.items():
            points = lambda text: " ".join(f"{ord(c):X}" for c in text)
            rules.write(f"{points(left)}\t{points(right)}\n")
        rules.flush()
        save("map", train(model_type="unigram", vocab_size=700,
                          normalization_rule_tsv=rules.name))
    save("unigram", train(model_type="unigram", vocab_size=700, **plain))
    save("bytes", train(model_type="unigram", vocab_size=1000, byte_fallback=True,
                        user_defined_symbols=USER_DEFINED_TEXTS, **plain))


if __name__ == "__main__":
    main()
