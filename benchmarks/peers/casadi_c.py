"""CasADi: a matrix expression graph of all steps, its gradient, and the C it generates, called by a loop in C."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

import casadi as ca
import numpy as np
from casadi import MX

from benchmarks import native
from benchmarks.contestant import Contestant, Result, same
from benchmarks.rows import Arrays, Row


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The loop is unrolled: CasADi's maps and folds generate no faster code at these lengths."""
    native.compiler()
    dtype = next(iter(params.values())).dtype
    data = _columns(row, batch, dtype)
    leaves = {name: _symbol(name, array) for name, array in params.items()}
    inputs = {name: _symbol(name, array) for name, array in data.items()}
    loss = _loss(row, leaves, inputs)
    gradients = [ca.gradient(loss, leaf) for leaf in leaves.values()]
    function = ca.Function("gradient", [*leaves.values(), *inputs.values()], [loss, *gradients], {"cse": True})

    folder, real = Path(tempfile.mkdtemp(prefix="casadi-")), native.REAL[str(dtype)]
    generator = ca.CodeGenerator("gradient", {"casadi_real": real})
    generator.add(function)
    (folder / "gradient.c").write_text(generator.dump(), encoding="utf-8")
    sources = [folder / "gradient.c", native.SOURCES / "casadi.c"]
    library = native.shared_library(sources, folder / "bench.so", "-DFUNCTION=gradient", f"-DREAL={real}")

    loss_out, grads = np.empty((), dtype), {name: np.empty_like(array) for name, array in params.items()}
    given, found = [*params.values(), *data.values()], [loss_out, *grads.values()]
    arg = (ctypes.c_void_p * function.sz_arg())(*(array.ctypes.data for array in given))
    res = (ctypes.c_void_p * function.sz_res())(*(array.ctypes.data for array in found))
    iw, w = np.empty(function.sz_iw() + 1, np.int64), np.empty(function.sz_w() + 1, dtype)
    library.bench_run.restype = ctypes.c_int64

    def timed(calls: int) -> float:
        pointers = (arg, res, ctypes.c_void_p(iw.ctypes.data), ctypes.c_void_p(w.ctypes.data))
        spent: int = library.bench_run(ctypes.c_int64(calls), *pointers)
        if spent < 0 or not given:  # `given` is named so that what the addresses point to lives
            raise RuntimeError("the generated function failed")
        return spent * 1e-9

    def call() -> Result:
        timed(1)
        return float(loss_out), grads

    return Contestant(call, same, timed)


def _columns(row: Row, batch: Arrays, dtype: np.dtype) -> Arrays:
    """The batch with a column for each step, as CasADi lays out matrices: [T, .] in NumPy's order; tokens one-hot."""
    if row.family == "recurrent":
        return {name: np.ascontiguousarray(array[:, 0]) for name, array in batch.items()}
    return {name: np.eye(row.sizes["V"], dtype=dtype)[array[:, 0]] for name, array in batch.items()}


def _symbol(name: str, array: np.ndarray) -> MX:
    """A symbol over the same memory: columns come first, so a matrix [m, n] is seen as its transpose."""
    return MX.sym(name.replace(".", "_"), *reversed(array.shape))


def _sigmoid(a: MX) -> MX:
    return 1 / (1 + ca.exp(-a))


def _loss(row: Row, p: dict[str, MX], data: dict[str, MX]) -> MX:
    cell, steps, units = row.cell, row.sizes["T"], row.sizes["H"]
    u = p[f"{cell}.U"].T
    projected = ca.mtimes(p[f"{cell}.W"].T, data["x"]) + ca.repmat(p[f"{cell}.b"], 1, steps)
    h = c = MX.zeros(units, 1)
    states = []
    for t in range(steps):
        a = projected[:, t] + ca.mtimes(u, h)
        if cell == "rnn":
            h = ca.tanh(a)
        else:
            i, f, g, o = ca.vertsplit(a, units)
            c = _sigmoid(f) * c + _sigmoid(i) * ca.tanh(g)
            h = _sigmoid(o) * ca.tanh(c)
        states.append(h)
    if row.family == "recurrent":
        return ca.sumsqr(ca.horzcat(*states) - data["y"]) / (steps * units)
    z = ca.mtimes(p["out.W"].T, ca.horzcat(*states)) + ca.repmat(p["out.b"], 1, steps)
    columns = ca.horzsplit(z)
    return (sum(ca.logsumexp(column) for column in columns) - ca.dot(data["y"], z)) / steps
