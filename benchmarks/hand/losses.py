"""The two losses with their gradients."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def softmax_cross_entropy(z: Array, y: Array) -> tuple[float, Array]:
    """Mean cross-entropy of logits `z` [M, V] against classes `y` [M]; returns it and dL/dz, which overwrites `z`.

    loss = mean_m(log(sum_v exp(z[m, v])) - z[m, y[m]]);  dz[m, v] = (softmax(z)[m, v] - [v = y[m]]) / M
    """
    samples = y.size
    rows = np.arange(samples)
    z -= z.max(axis=1, keepdims=True)
    picked = z[rows, y]
    np.exp(z, out=z)
    total = z.sum(axis=1, keepdims=True)
    loss = float(np.log(total).sum() - picked.sum()) / samples
    z /= total * samples
    z[rows, y] -= z.dtype.type(1 / samples)
    return loss, z


def mse(h: Array, y: Array, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error of `h` against `y`, any equal shapes; returns it and dL/dh = 2 (h - y) / size, in `out`."""
    difference = np.subtract(h, y, out=out)
    flat = difference.reshape(-1)
    loss = float(flat.dot(flat)) / flat.size
    difference *= difference.dtype.type(2 / flat.size)
    return loss, difference
