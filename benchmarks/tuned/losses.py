"""Softmax cross-entropy with the samples as last axis, so that reductions over classes run along rows."""

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
