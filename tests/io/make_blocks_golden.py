#!/usr/bin/env python3
"""Writes tests/io/golden/blocks.txt: what ggml's own quantisers make of some rows.

    pip install gguf==0.19.0
    python3 make_blocks_golden.py

Lines: type, the 64 floats of a row as the bytes of f32 in hexadecimal, its blocks the same way.
"""
import os

import numpy
from gguf import GGMLQuantizationType, quants

ROW = 64


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


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "blocks.txt")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
            for row in rows():
                row = row.astype(numpy.float32)
                blocks = quants.quantize(row, GGMLQuantizationType[name])
                file.write(f"{name} {row.tobytes().hex()} {blocks.tobytes().hex()}\n")


if __name__ == "__main__":
    main()
