"""HIPS autograd: plain NumPy programs, differentiated by `value_and_grad`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import autograd.numpy as anp
from autograd import value_and_grad

from benchmarks.contestant import Contestant, Result
from benchmarks.rows import Arrays, Row


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The timed call traces and differentiates anew, as autograd does."""
    loss_of: Callable[..., Any] = {"mlp": _mlp, "lenet": _lenet}.get(row.family) or partial(_recurrent, row)
    step = value_and_grad(loss_of)

    def read(raw: Any) -> Result:
        loss, grads = raw
        return float(loss), dict(grads)

    return Contestant(partial(step, params, batch), read)


def _sigmoid(a: Any) -> Any:
    return 0.5 * anp.tanh(0.5 * a) + 0.5


def _cross_entropy(z: Any, y: Any) -> Any:
    z = z.reshape(-1, z.shape[-1])
    z = z - anp.max(z, axis=1, keepdims=True)
    return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[anp.arange(len(z)), y.ravel()])


def _mlp(p: Arrays, data: Arrays) -> Any:
    h = data["x"]
    for layer in ("fc1", "fc2"):
        h = anp.maximum(anp.dot(h, p[f"{layer}.W"].T) + p[f"{layer}.b"], 0)
    return _cross_entropy(anp.dot(h, p["out.W"].T) + p["out.b"], data["y"])


def _conv(x: Any, weight: Any, bias: Any) -> Any:
    """Valid 5x5 convolution [N, C, Y, X] -> [N, O, Y-4, X-4] as one product with the shifted copies of x."""
    size = weight.shape[2]
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    shifts = [x[:, :, p : p + rows, q : q + columns] for p in range(size) for q in range(size)]
    patches = anp.stack(shifts, axis=2).reshape(x.shape[0], -1, rows * columns)
    out = anp.matmul(weight.reshape(weight.shape[0], -1), patches) + bias[:, None]
    return out.reshape(x.shape[0], weight.shape[0], rows, columns)


def _lenet(p: Arrays, data: Arrays) -> Any:
    h: Any = data["x"]
    for layer in ("conv1", "conv2"):
        h = anp.maximum(_conv(h, p[f"{layer}.W"], p[f"{layer}.b"]), 0)
        n, c, y, x = h.shape
        h = anp.max(h.reshape(n, c, y // 2, 2, x // 2, 2), axis=(3, 5))
    h = h.reshape(h.shape[0], -1)
    for layer in ("fc1", "fc2"):
        h = anp.maximum(anp.dot(h, p[f"{layer}.W"].T) + p[f"{layer}.b"], 0)
    return _cross_entropy(anp.dot(h, p["out.W"].T) + p["out.b"], data["y"])


def _recurrent(row: Row, p: Arrays, data: Arrays) -> Any:
    cell, units = row.cell, row.sizes["H"]
    x: Any = data["x"]
    weight, u = p[f"{cell}.W"].T, p[f"{cell}.U"].T

    def projected(t: int) -> Any:
        """W x[t] + b, inside the loop: slicing a product of all steps would cost a full array in each adjoint step."""
        if row.family == "recurrent":
            return anp.dot(x[t], weight) + p[f"{cell}.b"]
        if "embed.E" in p:
            return anp.dot(p["embed.E"][x[t]], weight) + p[f"{cell}.b"]
        return weight[x[t]] + p[f"{cell}.b"]

    h = c = anp.zeros((row.sizes["N"], units), dtype=p[f"{cell}.U"].dtype)
    steps: list[Any] = []
    loss: Any = 0.0
    for t in range(row.sizes["T"]):
        if cell == "rnn":
            h = anp.tanh(projected(t) + anp.dot(h, u))
        elif cell == "lstm":
            a = projected(t) + anp.dot(h, u)
            i, f, g, o = (a[:, k * units : (k + 1) * units] for k in range(4))
            c = _sigmoid(f) * c + _sigmoid(i) * anp.tanh(g)
            h = _sigmoid(o) * anp.tanh(c)
        else:
            a, b = projected(t), anp.dot(h, u)
            gates = _sigmoid(a[:, : 2 * units] + b[:, : 2 * units])
            r, z = gates[:, :units], gates[:, units:]
            h = (1 - z) * anp.tanh(a[:, 2 * units :] + r * (b[:, 2 * units :] + p["gru.bn"])) + z * h
        if row.family == "recurrent":  # summed in the loop: the adjoint of a stack of T arrays costs T squared
            loss = loss + anp.sum((h - data["y"][t]) ** 2)
        else:
            steps.append(h)
    if row.family == "recurrent":
        return loss / data["y"].size
    states = anp.stack(steps)
    return _cross_entropy(anp.dot(states, p["out.W"].T) + p["out.b"], data["y"])
