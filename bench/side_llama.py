"""side_llama.py - llama.cpp, by llama-cpp-python, as its own llama-bench runs it: f16 cache,
attention kernel chosen by itself."""
import ctypes
import os
import random
import resource

import llama_cpp as llama

from peers import Job, Missing


def version(_):
    return f"llama-cpp-python {llama.__version__}"


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


SILENT = llama.llama_log_callback(lambda level, text, data: None)


def open_model(path, count, threads):
    llama.llama_log_set(SILENT, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        raise Missing(f"llama.cpp cannot load {path}")
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(count + 1, 512)
    params.n_threads = params.n_threads_batch = threads
    return model, llama.llama_init_from_model(model, params)


def decode(context, ids):
    batch = (llama.llama_token * len(ids))(*ids)
    if llama.llama_decode(context, llama.llama_batch_get_one(batch, len(ids))):
        raise Missing("llama_decode failed")
    llama.llama_synchronize(context)


def make(_, row, threads):
    if row.kind not in ("prefill", "decode", "memory"):
        raise Missing("llama.cpp has only rows of models")
    if not row.file or not os.path.exists(row.file):
        raise Missing(f"no model file {row.file}")
    count, before = row.sizes[0], resident()  # Python's own
    model, context = open_model(row.file, count, threads)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    numbers = random.Random(1)
    ids = [numbers.randrange(vocabulary) for _ in range(count + 1)]
    step = 1 if row.kind == "decode" else count

    def once():
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        for i in range(0, count, step):
            decode(context, ids[i:i + step])

    def memory():
        once()
        decode(context, ids[count:])
        return 1e-6 * (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    if row.kind == "memory":
        return Job(value=memory)
    return Job(once, steps=count // step)
