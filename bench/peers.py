#!/usr/bin/env python3
"""peers.py - measures one peer on one row; run.sh calls it in turn with picograd's own bench.

    peers.py PEER ROW [-t THREADS] [-m MODEL.gguf] [--samples N]
        PEER  openblas, torch, llama          ROW  matmul:1024, prefill:512, decode:128 ...

Out: one JSON line, with who, version, row, median, unit, spread (highest - lowest sample, over the
median) and threads. Status 3 with a line that says why, if the peer or the row cannot be had.

What is timed, after an untimed warm-up:
    matmul:N    C = A B, square, f32, into an existing C; as many calls as half a second holds
    prefill:N   N random tokens in one batch into an empty cache, logits of the last one
    decode:N    N tokens one by one into an empty cache, logits of each
llama.cpp runs as its own llama-bench runs it: f16 cache, attention kernel chosen by itself.
"""
import argparse
import json
import os
import random
import statistics
import sys
import time


class Missing(Exception):
    pass


def repeat(call, seconds=0.5):
    """Runs per second of call, over at least so many seconds."""
    runs, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds or runs == 0:
        call()
        runs += 1
    return runs / elapsed


def matmul(name, size, samples):
    import numpy
    numbers = numpy.random.default_rng(1)
    a, b = (numbers.random((size, size), dtype=numpy.float32) - 0.5 for _ in range(2))
    c = numpy.empty_like(a)
    if name == "openblas":
        import threadpoolctl
        blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        if not blas or blas[0]["internal_api"] != "openblas":
            raise Missing("this numpy is not built on OpenBLAS")
        version, call = f"OpenBLAS {blas[0]['version']}", lambda: numpy.matmul(a, b, out=c)
    else:
        import torch
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        left, right, result = (torch.from_numpy(matrix) for matrix in (a, b, c))
        version, call = f"torch {torch.__version__}", lambda: torch.mm(left, right, out=result)
    repeat(call)
    speeds = [2e-9 * size**3 * repeat(call) for _ in range(samples)]
    probe = [0, size // 2, size - 1]
    if not numpy.allclose(c[probe], a[probe].astype("f8") @ b, rtol=1e-3, atol=1e-3):
        raise Missing("its product is wrong")
    return version, "GFLOP/s", speeds


def generation(row, count, samples, path, threads):
    if not path or not os.path.exists(path):
        raise Missing(f"no model file {path}")
    import ctypes
    import llama_cpp as llama
    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        raise Missing(f"llama.cpp cannot load {path}")
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(count, 512)
    params.n_threads = params.n_threads_batch = threads
    context = llama.llama_init_from_model(model, params)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    ids = [random.Random(1).randrange(vocabulary) for _ in range(count)]
    step = count if row == "prefill" else 1
    batches = [(llama.llama_token * step)(*ids[i:i + step]) for i in range(0, count, step)]

    def once():
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        begin = time.perf_counter()
        for batch in batches:
            if llama.llama_decode(context, llama.llama_batch_get_one(batch, step)):
                raise Missing("llama_decode failed")
            llama.llama_synchronize(context)
        return count / (time.perf_counter() - begin)

    once()
    return f"llama-cpp-python {llama.__version__}", "tok/s", [once() for _ in range(samples)]


def measure(arguments):
    row, _, count = arguments.row.partition(":")
    if not count.isdigit() or int(count) == 0:
        raise Missing(f"row {arguments.row} is not of the form name:count")
    count = int(count)
    if row == "matmul" and arguments.peer in ("openblas", "torch"):
        return matmul(arguments.peer, count, arguments.samples)
    if row in ("prefill", "decode") and arguments.peer == "llama":
        return generation(row, count, arguments.samples, arguments.model, arguments.threads)
    raise Missing(f"{arguments.peer} has no row {arguments.row}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["openblas", "torch", "llama"])
    parser.add_argument("row")
    parser.add_argument("-m", "--model")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--samples", type=int, default=5)
    arguments = parser.parse_args()
    # Read when the libraries load, so set before any of them is imported.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    try:
        version, unit, speeds = measure(arguments)
    except (Missing, ImportError) as reason:
        print(f"{arguments.peer}: {reason}", file=sys.stderr)
        return 3
    median = statistics.median(speeds)
    print(json.dumps({"who": arguments.peer, "version": version, "row": arguments.row,
                      "median": round(median, 4), "unit": unit, "threads": arguments.threads,
                      "spread": round((max(speeds) - min(speeds)) / median, 4)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
