"""Elman networks: `rnn_small`, `rnn_long` (real inputs) and `rnn_char` (one-hot inputs, dense output)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse, softmax_cross_entropy

Array = np.ndarray


def forward(h: Array, u: Array) -> None:
    """Turns [0; projected inputs] into the states [T+1, N, H], in place: h[t+1] = tanh(projected[t] + U h[t])."""
    u_t = np.ascontiguousarray(u.T)
    product = np.empty_like(h[0])
    for before, h_t in pairwise(h):
        before.dot(u_t, product)
        np.add(h_t, product, h_t)
        np.tanh(h_t, h_t)


def backward(d_h: Array, h: Array, u: Array) -> Array:
    """Adjoint of the pre-activations [T*N, H], written over the adjoint `d_h` that reaches the states from outside.

    d_a[t] = (1 - h[t+1]^2) (d_h[t] + U^T d_a[t+1])
    """
    slope = h[1:] * h[1:]
    np.subtract(1, slope, slope)
    product = np.zeros_like(h[0])
    for d_t, slope_t in zip(d_h[::-1], slope[::-1], strict=True):
        np.add(d_t, product, d_t)
        np.multiply(d_t, slope_t, d_t)
        d_t.dot(u, product)
    return d_h.reshape(-1, len(u))


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, y = params["rnn.U"], batch["y"]
    x = batch["x"].reshape(-1, batch["x"].shape[2])
    h = np.zeros((len(y) + 1, *y.shape[1:]), y.dtype)
    x.dot(params["rnn.W"].T, h[1:].reshape(-1, len(u)))
    h[1:] += params["rnn.b"]
    forward(h, u)
    loss, d_h = mse(h[1:], y)
    d_a = backward(d_h, h, u)
    return loss, {
        "rnn.W": d_a.T.dot(x),
        "rnn.U": d_a.T.dot(h[:-1].reshape(-1, len(u))),
        "rnn.b": d_a.sum(axis=0),
    }


def char_value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for characters `x`, `y` [T, N]; the product with one-hot inputs is a row lookup."""
    u, weight = params["rnn.U"], params["out.W"]
    x, y = batch["x"], batch["y"].reshape(-1)
    h = np.zeros((len(x) + 1, x.shape[1], len(u)), u.dtype)
    np.add(params["rnn.W"].T[x], params["rnn.b"], h[1:])
    forward(h, u)
    states = h[1:].reshape(-1, len(u))
    z = states.dot(weight.T)
    z += params["out.b"]
    loss, d_z = softmax_cross_entropy(z, y)
    d_a = backward(d_z.dot(weight).reshape(h[1:].shape), h, u)
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
