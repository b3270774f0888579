"""PyTensor: symbolic gradient, `scan` for recurrences, compiled by its default backend (Numba in version 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.contestant import Contestant, Result
from benchmarks.rows import Arrays, Row


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """Shapes are fixed, and inputs trusted: the timed call checks nothing."""
    leaves = {name: _variable(name, array) for name, array in params.items()}
    data = {name: _variable(name, array) for name, array in batch.items()}
    loss = {"mlp": _mlp, "lenet": _lenet}.get(row.family, _recurrent)(row, leaves, data)
    outputs = [loss, *pytensor.grad(loss, list(leaves.values()))]
    function = pytensor.function([*leaves.values(), *data.values()], outputs)
    function.trust_input = True
    arguments = [*params.values(), *batch.values()]

    def call() -> Any:
        return function(*arguments)

    def read(raw: Any) -> Result:
        loss, *grads = raw
        return float(loss), dict(zip(params, grads, strict=True))

    return Contestant(call, read)


def _variable(name: str, array: Any) -> Any:
    return pt.tensor(name.replace(".", "_"), dtype=str(array.dtype), shape=array.shape)


def _cross_entropy(z: Any, y: Any) -> Any:
    """Of logits [M, K] and labels [M]."""
    return -pt.mean(pt.special.log_softmax(z, axis=-1)[pt.arange(z.shape[0]), y])


def _dense(h: Any, p: dict[str, Any]) -> Any:
    for layer in ("fc1", "fc2"):
        h = pt.maximum(h @ p[f"{layer}.W"].T + p[f"{layer}.b"], 0)
    return h @ p["out.W"].T + p["out.b"]


def _mlp(row: Row, p: dict[str, Any], data: dict[str, Any]) -> Any:
    return _cross_entropy(_dense(data["x"], p), data["y"])


def _conv(x: Any, weight: Any, bias: Any) -> Any:
    """Valid convolution as one product with gathered windows: PyTensor has no convolution of images for Numba, and a
    gather compiles sooner than a stack of 25 shifted copies."""
    (n, channels, height, width), (filters, _, size, _) = x.type.shape, weight.type.shape
    rows, columns = height - size + 1, width - size + 1
    places = np.arange(channels * height * width).reshape(channels, height, width)
    windows = sliding_window_view(places, (size, size), axis=(1, 2)).transpose(1, 2, 0, 3, 4).ravel()
    patches = x.reshape((n, places.size))[:, windows].reshape((n * rows * columns, channels * size * size))
    out = patches @ weight.reshape((filters, channels * size * size)).T + bias
    return out.reshape((n, rows, columns, filters)).transpose((0, 3, 1, 2))


def _lenet(row: Row, p: dict[str, Any], data: dict[str, Any]) -> Any:
    h = data["x"]
    for layer in ("conv1", "conv2"):
        h = pt.maximum(_conv(h, p[f"{layer}.W"], p[f"{layer}.b"]), 0)
        n, c, y, x = h.type.shape
        h = pt.max(h.reshape((n, c, y // 2, 2, x // 2, 2)), axis=(3, 5))
    return _cross_entropy(_dense(h.reshape((row.sizes["N"], 256)), p), data["y"])


def _recurrent(row: Row, p: dict[str, Any], data: dict[str, Any]) -> Any:
    cell, steps, samples, units = row.cell, row.sizes["T"], row.sizes["N"], row.sizes["H"]
    weight, x = p[f"{cell}.W"].T, data["x"]
    if "embed.E" in p:
        a = p["embed.E"][x.flatten()] @ weight
    elif row.family == "language":
        a = weight[x.flatten()]
    else:
        a = x.reshape((steps * samples, row.sizes["D"])) @ weight
    a = (a + p[f"{cell}.b"]).reshape((steps, samples, a.type.shape[1]))
    start = pt.zeros((samples, units), dtype=p[f"{cell}.U"].dtype)
    sigmoid, u = pt.sigmoid, p[f"{cell}.U"].T

    def rnn(a: Any, h: Any, u: Any) -> Any:
        return pt.tanh(a + h @ u)

    def lstm(a: Any, h: Any, c: Any, u: Any) -> Any:
        packed = a + h @ u
        i, f, g, o = (packed[:, k * units : (k + 1) * units] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * pt.tanh(g)
        return sigmoid(o) * pt.tanh(c), c

    def gru(a: Any, h: Any, u: Any, bn: Any) -> Any:
        b = h @ u
        r, z = (sigmoid(a[:, k * units : (k + 1) * units] + b[:, k * units : (k + 1) * units]) for k in range(2))
        return (1 - z) * pt.tanh(a[:, 2 * units :] + r * (b[:, 2 * units :] + bn)) + z * h

    step: Any = {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]
    states = [start, start] if cell == "lstm" else [start]
    fixed = [u, p["gru.bn"]] if cell == "gru" else [u]
    found = pytensor.scan(step, sequences=[a], outputs_info=states, non_sequences=fixed, return_updates=False)
    h = found[0] if cell == "lstm" else found
    if row.family == "recurrent":
        return pt.mean((h - data["y"]) ** 2)
    z = h.reshape((steps * samples, units)) @ p["out.W"].T + p["out.b"]
    return _cross_entropy(z, data["y"].flatten())
