#!/usr/bin/env python3
"""peers.py PEER -t THREADS - answers for one peer what bench.py asks, a line each.

In, from standard input:  {"row": "matmul:1024", "model": "F32", "file": PATH or null}
Out, a line of JSON:      {"version": ..., "took": seconds, "step_seconds": ...}
                                              the mean step of half a second, or of one run
                          {"version": ..., "took": seconds, "value": ...}   for rows in ms or MB
                          {"missing": why}    the peer or the row cannot be had
What a row needs is made once and kept until another row is asked for, so that asking in turn with
the other sides costs no set-up. A step is what picograd's row does: one call, all tokens of a
prefill, one token of a decode. What a peer offers to be fast is used: results go into memory that
is there, weights may be packed before, compiled code is warmed up.
"""
import argparse
import importlib
import json
import os
import sys
import time


class Missing(Exception):
    """The reason, for people."""


class Job:
    """call() runs `steps` steps, after warm() a few times; or value() gives what the row asks."""

    def __init__(self, call=None, steps=1, warm_up=1, warm=None, value=None):
        self.call, self.steps, self.value = call, steps, value
        self.warm_up, self.warm = warm_up, warm or call


class Row:
    """conv2d:1x3x4:q4_1 as kind, sizes and type; model and file of rows of models."""

    def __init__(self, asked):
        name, sizes, *rest = asked["row"].split(":")
        self.kind, self.sizes = name, [int(size) for size in sizes.split("x")]
        if len(self.sizes) == 1 and name == "matmul":
            self.sizes *= 3
        if len(self.sizes) == 1 and asked["file"] is None:
            self.sizes *= 2
        self.type = rest[0] if rest else None
        self.model, self.file = asked["model"], asked["file"]

    @property
    def filter(self):
        """Of a conv2d: its stride and padding."""
        return {"stride": self.sizes[6], "padding": self.sizes[5] // 2}


MODULES = {"openblas": "side_openblas", "torch": "side_torch", "inductor": "side_torch",
           "llama": "side_llama", "tinygrad": "side_tinygrad", "beam": "side_tinygrad"}


def step_seconds(job, least=0.5):
    runs, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < least or runs == 0:
        job.call()
        runs += 1
    return elapsed / (runs * job.steps)


def answers(peer, threads):
    """A generator that is sent questions."""
    job, asked_before, answer = None, None, None
    while True:
        asked = yield answer
        try:
            module = importlib.import_module(MODULES[peer])
            if asked != asked_before:
                job, asked_before = None, None
                row = Row(asked)
                job = module.make(peer, row, threads)
                for _ in range(job.warm_up if job.call else 0):
                    job.warm()
                asked_before = asked
            begin = time.perf_counter()
            result = ({"value": job.value()} if job.value
                      else {"step_seconds": step_seconds(job)})
            answer = {"version": module.version(peer), "took": time.perf_counter() - begin,
                      **result}
        except (Missing, ImportError) as reason:
            answer = {"missing": str(reason)}
        except Exception as error:  # what a peer raises is its answer
            answer = {"missing": f"{type(error).__name__}: {error}".split("\n")[0][:200]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=MODULES)
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    # Read when the libraries load, so set before any of them is imported.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUM_CPU_THREADS"):
        os.environ[name] = str(arguments.threads)
    if arguments.peer == "beam":
        os.environ["BEAM"] = "2"
    sys.modules["peers"] = sys.modules["__main__"]  # what the sides import is this
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    teller = answers(arguments.peer, arguments.threads)
    next(teller)
    for line in sys.stdin:
        print(json.dumps(teller.send(json.loads(line))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
