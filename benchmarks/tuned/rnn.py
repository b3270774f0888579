"""Elman networks: `rnn_small`, `rnn_long` (real inputs) and `rnn_char` (one-hot inputs, dense output)."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse
from benchmarks.tuned.losses import softmax_cross_entropy
from benchmarks.tuned.workspace import Workspace

Array = np.ndarray


def forward(projected: Array, u: Array, workspace: Workspace) -> Array:
    """States h [T+1, N, H] with h[0] = 0 and h[t+1] = tanh(projected[t] + U h[t])."""
    steps, samples, units = projected.shape
    h = workspace.empty("h", (steps + 1, samples, units), projected.dtype)
    h[0] = 0
    u_t = np.ascontiguousarray(u.T)
    a = np.empty((samples, units), projected.dtype)
    add, tanh = np.add, np.tanh
    for before, after, drive in zip(h, h[1:], projected, strict=False):
        before.dot(u_t, a)
        add(a, drive, a)
        tanh(a, after)
    return h


def backward(d_h: Array, h: Array, u: Array, workspace: Workspace) -> Array:
    """Adjoint of the pre-activations [T, N, H], from the adjoint `d_h` that reaches h[1:] from outside.

    d_a[t] = (1 - h[t+1]^2) (d_h[t] + U^T d_a[t+1]); the factor is computed for all steps at once.
    """
    slope = np.square(h[1:], out=workspace.empty("slope", d_h.shape, d_h.dtype))
    np.subtract(1, slope, slope)
    d_a = workspace.empty("d_a", d_h.shape, d_h.dtype)
    total = np.empty_like(d_h[0])
    add, multiply = np.add, np.multiply
    multiply(d_h[-1], slope[-1], d_a[-1])
    for after, here, outer, factor in zip(d_a[:0:-1], d_a[-2::-1], d_h[-2::-1], slope[-2::-1], strict=True):
        after.dot(u, total)
        add(total, outer, total)
        multiply(total, factor, here)
    return d_a


def value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    x, u = batch["x"], params["rnn.U"]
    steps, samples, features = x.shape
    units = len(u)
    inputs = x.reshape(-1, features)
    projected = inputs.dot(params["rnn.W"].T, workspace.empty("projected", (len(inputs), units), x.dtype))
    projected += params["rnn.b"]
    h = forward(projected.reshape(steps, samples, units), u, workspace)
    loss, d_h = mse(h[1:], batch["y"], workspace.empty("d_h", batch["y"].shape, x.dtype))
    d_a = backward(d_h, h, u, workspace).reshape(-1, units)
    return loss, {
        "rnn.W": d_a.T.dot(inputs),
        "rnn.U": d_a.T.dot(h[:-1].reshape(-1, units)),
        "rnn.b": np.ones(len(d_a), x.dtype).dot(d_a),
    }


def char_value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x`, `y` [T, N] of characters; the one-hot product is a row lookup.

    Its adjoint is a product with the one-hot matrix, which beats `np.add.at` four times at this size.
    """
    u, weight = params["rnn.U"], params["out.W"]
    x, y = batch["x"], batch["y"].reshape(-1)
    units, characters = params["rnn.W"].shape
    projected = params["rnn.W"].T[x]
    projected += params["rnn.b"]
    h = forward(projected, u, workspace)
    states = h[1:].reshape(-1, units)
    z = weight.dot(states.T)
    z += params["out.b"][:, None]
    loss, d_z = softmax_cross_entropy(z, y)
    d_a = backward(d_z.T.dot(weight).reshape(projected.shape), h, u, workspace).reshape(-1, units)
    ones = np.ones(y.size, h.dtype)
    one_hot = np.zeros((y.size, characters), h.dtype)
    one_hot[np.arange(y.size), x.reshape(-1)] = 1
    return loss, {
        "rnn.W": d_a.T.dot(one_hot),
        "rnn.U": d_a.T.dot(h[:-1].reshape(-1, units)),
        "rnn.b": ones.dot(d_a),
        "out.W": d_z.dot(states),
        "out.b": d_z.dot(ones),
    }
