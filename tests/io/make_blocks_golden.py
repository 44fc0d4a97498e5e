#!/usr/bin/env python3
"""Writes tests/io/golden/blocks.txt, what ggml's own quantisers make of some rows, and decoded.txt,
what the gguf package makes of some blocks.

    pip install gguf==0.19.0 llama-cpp-python==0.3.36
    python3 make_blocks_golden.py

blocks.txt: "row" and 256 floats as the bytes of f32 in hexadecimal; after it for each type its name
and the first 16 digits of the SHA-256 of the row's blocks.
decoded.txt: type, blocks of 256 values, and these values, in hexadecimal.
"""
import ctypes
import hashlib
import os

import llama_cpp
import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROW = 256
# Where a block has numbers of 16 bits.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
          "IQ4_XS": [0]}


def rows():
    dice = numpy.random.default_rng(1234)
    yield numpy.zeros(ROW)
    yield numpy.arange(ROW) - 127.5
    yield numpy.where(numpy.arange(ROW) % 2, 1.0, -1.0)           # a tie for the largest magnitude
    yield numpy.full(ROW, 3.25)                                   # no range at all
    yield (numpy.arange(ROW) % 32 - 16) / 2                       # halves: rounding
    yield dice.normal(size=ROW) * 1e-6                            # scales below f16's normal range
    yield dice.normal(size=ROW) * 3e4
    yield dice.normal(size=ROW) * numpy.repeat([0, 1e-20, 1, 30], ROW // 4)  # groups of zeros
    yield numpy.abs(dice.normal(size=ROW))                        # nothing below 0
    for scale in (1, 0.02, 100):
        yield dice.normal(size=ROW) * scale


def ggml_quantize():
    library = os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so")
    function = ctypes.CDLL(library).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]

    def quantize(row, name):
        kind = GGMLQuantizationType[name]
        length, size = GGML_QUANT_SIZES[kind]
        blocks = numpy.zeros(ROW // length * size, numpy.uint8)
        assert function(kind, row.ctypes.data, blocks.ctypes.data, 0, 1, ROW, None) == len(blocks)
        return blocks.tobytes()
    return quantize


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
    quantize = ggml_quantize()
    with open_golden("blocks.txt") as file:
        for row in rows():
            row = row.astype(numpy.float32)
            file.write(f"row {row.tobytes().hex()}\n")
            for name in ["F16", "BF16"] + list(HALVES):
                digits = hashlib.sha256(quantize(row, name)).hexdigest()[:16]
                file.write(f"{name} {digits}\n")


if __name__ == "__main__":
    main()
