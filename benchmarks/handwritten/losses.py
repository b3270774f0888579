"""The two losses with their gradients; samples are the last axis, so that reductions over classes run along rows."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def softmax_cross_entropy(z: Array, y: Array) -> tuple[float, Array]:
    """Mean cross-entropy of logits `z` [V, M] against classes `y` [M]; returns it and dL/dz, which overwrites `z`.

    loss = mean_m(log(sum_v exp(z[v, m])) - z[y[m], m]);  dz[v, m] = (softmax(z)[v, m] - [v = y[m]]) / M
    """
    samples = y.size
    columns = np.arange(samples)
    z -= np.maximum.reduce(z, axis=0)
    picked = z[y, columns]
    np.exp(z, z)
    total = np.add.reduce(z, axis=0)
    loss = float(np.add.reduce(np.log(total) - picked)) / samples
    z /= total * z.dtype.type(samples)
    z[y, columns] -= z.dtype.type(1 / samples)
    return loss, z


def mse(h: Array, y: Array, out: Array) -> tuple[float, Array]:
    """Mean squared error of `h` against `y`, any equal shapes; returns it and dL/dh = 2 (h - y) / size, in `out`."""
    difference = np.subtract(h, y, out=out)
    flat = difference.reshape(-1)
    loss = float(flat.dot(flat)) / flat.size
    difference *= difference.dtype.type(2 / flat.size)
    return loss, difference
