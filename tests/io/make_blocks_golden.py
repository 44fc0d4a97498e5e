#!/usr/bin/env python3
"""Writes tests/io/golden/blocks.txt, what ggml's own quantisers make of some rows, and decoded.txt,
what the gguf package makes of some blocks.

    pip install gguf==0.19.0
    python3 make_blocks_golden.py

blocks.txt: type, the 64 floats of a row as the bytes of f32 in hexadecimal, its blocks the same way.
decoded.txt: type, blocks of 256 values, and these values, in hexadecimal.
"""
import os

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROW = 64
# Where a block has numbers of 16 bits.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
          "IQ4_XS": [0]}


def rows():
    dice = numpy.random.default_rng(1234)
    yield numpy.zeros(ROW)
    yield numpy.arange(ROW) - 31.5
    yield numpy.where(numpy.arange(ROW) % 2, 1.0, -1.0)           # a tie for the largest magnitude
    yield numpy.full(ROW, 3.25)                                   # no range at all
    yield (numpy.arange(ROW) % 32 - 16) / 2                       # halves: rounding
    yield dice.normal(size=ROW) * 1e-6                            # scales below f16's normal range
    yield dice.normal(size=ROW) * 3e4
    for scale in (1, 0.02, 100):
        yield dice.normal(size=ROW) * scale


def random_blocks(dice, name):
    """Any codes, and scales that are ordinary numbers."""
    kind = GGMLQuantizationType[name]
    length, size = GGML_QUANT_SIZES[kind]
    blocks = dice.integers(0, 256, (256 // length, size)).astype(numpy.uint8)
    for at in HALVES[name]:
        halves = dice.normal(size=len(blocks)).astype(numpy.float16)
        blocks[:, at:at + 2] = halves.view(numpy.uint8).reshape(-1, 2)
    return blocks


def open_golden(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", name)
    return open(path, "w", encoding="utf-8", newline="\n")


def main():
    dice = numpy.random.default_rng(4321)
    with open_golden("decoded.txt") as file:
        for name in HALVES:
            blocks = random_blocks(dice, name)
            values = quants.dequantize(blocks, GGMLQuantizationType[name]).astype(numpy.float32)
            file.write(f"{name} {blocks.tobytes().hex()} {values.tobytes().hex()}\n")
    with open_golden("blocks.txt") as file:
        for name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
            for row in rows():
                row = row.astype(numpy.float32)
                blocks = quants.quantize(row, GGMLQuantizationType[name])
                file.write(f"{name} {row.tobytes().hex()} {blocks.tobytes().hex()}\n")


if __name__ == "__main__":
    main()
