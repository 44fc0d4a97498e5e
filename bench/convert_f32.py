#!/usr/bin/env python3
"""convert_f32.py IN.gguf OUT.gguf - the same model with every tensor unpacked to f32.

For the F32 rows of the benchmark: the same numbers as the blocks stand for, in four bytes each.
OUT appears whole or not at all.
"""
import os
import sys

from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize


def convert(source, target):
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        # The writer writes these itself; file_type 0 means all f32.
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = 0 if name == "general.file_type" else field.contents()
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype("f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: convert_f32.py IN.gguf OUT.gguf")
    partial = f"{sys.argv[2]}.{os.getpid()}"
    try:
        convert(sys.argv[1], partial)
        os.rename(partial, sys.argv[2])
    finally:
        if os.path.exists(partial):
            os.remove(partial)
