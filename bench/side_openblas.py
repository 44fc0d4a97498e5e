"""side_openblas.py - OpenBLAS, by numpy: products into a matrix that is there."""
import numpy
import threadpoolctl

from peers import Job, Missing


def version(_):
    return f"OpenBLAS {blas()['version']}"


def blas():
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if not found or found[0]["internal_api"] != "openblas":
        raise Missing("this numpy is not built on OpenBLAS")
    return found[0]


def make(_, row, threads):
    if row.kind not in ("matmul", "linear"):
        raise Missing("OpenBLAS has only products")
    if row.type:
        raise Missing("OpenBLAS has no packed weights")
    m, k, n = row.sizes
    numbers = numpy.random.default_rng(1)
    a = numbers.random((m, k), dtype=numpy.float32) - 0.5
    b = numbers.random((k, n) if row.kind == "matmul" else (n, k), dtype=numpy.float32) - 0.5
    b = b if row.kind == "matmul" else b.T
    c = numpy.empty((m, n), dtype=numpy.float32)
    blas()
    return Job(lambda: numpy.matmul(a, b, out=c))
