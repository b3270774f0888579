"""Elman networks: `rnn_small`, `rnn_long` (real inputs) and `rnn_char` (one-hot inputs, dense output)."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse, softmax_cross_entropy

Array = np.ndarray


def forward(projected: Array, u: Array) -> Array:
    """States h [T+1, N, H] with h[0] = 0 and h[t+1] = tanh(projected[t] + U h[t])."""
    steps, samples, units = projected.shape
    h = np.empty((steps + 1, samples, units), u.dtype)
    h[0] = 0
    u_t = np.ascontiguousarray(u.T)
    a = np.empty((samples, units), u.dtype)
    for before, after, drive in zip(h, h[1:], projected, strict=False):
        before.dot(u_t, a)
        np.add(a, drive, a)
        np.tanh(a, after)
    return h


def backward(d_h: Array, h: Array, u: Array) -> Array:
    """Adjoint of the pre-activations, d_a[t] = (1 - h[t+1]^2) (d_h[t] + U^T d_a[t+1]), [T, N, H]."""
    slope = 1 - h[1:] ** 2
    d_a = np.empty_like(d_h)
    scratch = np.zeros_like(d_h[0])
    for d_out, d_here, factor in zip(d_h[::-1], d_a[::-1], slope[::-1], strict=True):
        np.add(d_out, scratch, scratch)
        np.multiply(scratch, factor, d_here)
        d_here.dot(u, scratch)
    return d_a


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, y = params["rnn.U"], batch["y"]
    x = batch["x"].reshape(-1, batch["x"].shape[2])
    projected = x.dot(params["rnn.W"].T)
    projected += params["rnn.b"]
    h = forward(projected.reshape(y.shape), u)
    loss, d_h = mse(h[1:], y)
    d_a = backward(d_h, h, u).reshape(-1, len(u))
    return loss, {
        "rnn.W": d_a.T.dot(x),
        "rnn.U": d_a.T.dot(h[:-1].reshape(-1, len(u))),
        "rnn.b": d_a.sum(axis=0),
    }


def char_value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for characters `x`, `y` [T, N]; the product with one-hot inputs is a row lookup."""
    u, weight = params["rnn.U"], params["out.W"]
    x, y = batch["x"], batch["y"].reshape(-1)
    projected = params["rnn.W"].T[x]
    projected += params["rnn.b"]
    h = forward(projected, u)
    states = h[1:].reshape(-1, len(u))
    z = states.dot(weight.T)
    z += params["out.b"]
    loss, d_z = softmax_cross_entropy(z, y)
    d_a = backward(d_z.dot(weight).reshape(projected.shape), h, u).reshape(-1, len(u))
    return loss, {
        "rnn.W": d_a.T.dot(one_hot(x, params["rnn.W"].shape[1], u.dtype)),
        "rnn.U": d_a.T.dot(h[:-1].reshape(-1, len(u))),
        "rnn.b": d_a.sum(axis=0),
        "out.W": d_z.T.dot(states),
        "out.b": d_z.sum(axis=0),
    }


def one_hot(x: Array, classes: int, dtype: np.dtype) -> Array:
    """[M, V] of 0 and 1 for the classes `x` of any shape; a product with it beats `np.add.at` at these sizes."""
    rows = np.zeros((x.size, classes), dtype)
    rows[np.arange(x.size), x.reshape(-1)] = 1
    return rows
