"""LSTM networks, gates packed i f g o: `lstm_small`, `lstm_tiny` (real inputs), `lstm_lm` (embedding, dense output)."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse, softmax_cross_entropy
from benchmarks.hand.rnn import one_hot

Array = np.ndarray


def sigmoid(a: Array) -> None:
    """1 / (1 + exp(-a)), in place."""
    np.negative(a, a)
    np.exp(a, a)
    np.add(a, 1, a)
    np.reciprocal(a, a)


def forward(gates: Array, u: Array) -> tuple[Array, Array, Array, Array]:
    """Turns projected inputs [T, N, 4H] into the gates i f . o, in place; returns g, h, c [T+1, N, H] and tanh(c[1:]).

    One sigmoid over the whole contiguous step, a quarter of it wasted, costs less than three over strided blocks.
    """
    steps, samples, packed = gates.shape
    units = packed // 4
    h = np.zeros((steps + 1, samples, units), u.dtype)
    c = np.zeros_like(h)
    g, tanh_c = np.empty_like(h[1:]), np.empty_like(h[1:])
    u_t = np.ascontiguousarray(u.T)
    product = np.empty((samples, packed), u.dtype)
    scratch = np.empty((samples, units), u.dtype)
    views = (gates, *np.split(gates, 4, axis=2), g, h, h[1:], c, c[1:], tanh_c)
    for a_t, i_t, f_t, a_g, o_t, g_t, h_before, h_t, c_before, c_t, tanh_t in zip(*views, strict=False):
        h_before.dot(u_t, product)
        np.add(a_t, product, a_t)
        np.tanh(a_g, g_t)
        sigmoid(a_t)
        np.multiply(f_t, c_before, c_t)
        np.multiply(i_t, g_t, scratch)
        np.add(c_t, scratch, c_t)
        np.tanh(c_t, tanh_t)
        np.multiply(o_t, tanh_t, h_t)
    return g, h, c, tanh_c


def slopes(gates: Array, g: Array, c: Array, tanh_c: Array) -> tuple[Array, Array]:
    """What dL/dc (for i f g) or dL/dh (for o) is multiplied with to give d_a, [T, N, 4H]; and dc/dh, [T, N, H]."""
    i, _, _, o = np.split(gates, 4, axis=2)
    packed = 1 - gates
    packed *= gates
    s_i, s_f, s_g, s_o = np.split(packed, 4, axis=2)
    s_i *= g
    s_f *= c[:-1]
    np.multiply(1 - g * g, i, s_g)
    s_o *= tanh_c
    return packed, (1 - tanh_c * tanh_c) * o


def backward(d_h: Array, gates: Array, g: Array, c: Array, tanh_c: Array, u: Array) -> Array:
    """Adjoint of the pre-activations, [T*N, 4H], from the adjoint `d_h` [T, N, H] that reaches h from outside."""
    steps, samples, units = d_h.shape
    d_a, cell = slopes(gates, g, c, tanh_c)  # each step's slopes become its adjoint in place
    d_c, d_h_t, scratch = np.zeros((3, samples, units), u.dtype)
    d_ifg = d_a.reshape(steps, samples, 4, units)[:, :, :3]
    views = (d_h, d_a, d_ifg, d_a[:, :, 3 * units :], cell, gates[:, :, units : 2 * units])
    for outer, da_t, da_ifg, da_o, s_c, f_t in zip(*(view[::-1] for view in views), strict=True):
        np.add(d_h_t, outer, d_h_t)
        np.multiply(d_h_t, s_c, scratch)
        np.add(d_c, scratch, d_c)
        np.multiply(d_c[:, None], da_ifg, da_ifg)
        np.multiply(d_h_t, da_o, da_o)
        np.multiply(d_c, f_t, d_c)
        da_t.dot(u, d_h_t)
    return d_a.reshape(-1, 4 * units)


def project(x: Array, params: dict[str, Array], shape: tuple[int, ...]) -> Array:
    """W x + b of all steps, for `x` [T*N, D], as [T, N, 4H]."""
    projected = x.dot(params["lstm.W"].T)
    projected += params["lstm.b"]
    return projected.reshape(*shape, -1)


def cell_gradients(d_a: Array, x: Array, h: Array) -> dict[str, Array]:
    """Gradients of W, U and b from all steps."""
    before = h[:-1].reshape(len(x), -1)
    return {"lstm.W": d_a.T.dot(x), "lstm.U": d_a.T.dot(before), "lstm.b": d_a.sum(axis=0)}


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, y = params["lstm.U"], batch["y"]
    x = batch["x"].reshape(-1, batch["x"].shape[2])
    gates = project(x, params, y.shape[:2])
    g, h, c, tanh_c = forward(gates, u)
    loss, d_h = mse(h[1:], y)
    return loss, cell_gradients(backward(d_h, gates, g, c, tanh_c, u), x, h)


def language_value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for tokens `x`, `y` [T, N]."""
    u, weight, embedding = params["lstm.U"], params["out.W"], params["embed.E"]
    tokens = batch["x"].reshape(-1)
    x = embedding[tokens]
    gates = project(x, params, batch["x"].shape)
    g, h, c, tanh_c = forward(gates, u)
    states = h[1:].reshape(len(x), -1)
    z = states.dot(weight.T)
    z += params["out.b"]
    loss, d_z = softmax_cross_entropy(z, batch["y"].reshape(-1))
    d_a = backward(d_z.dot(weight).reshape(g.shape), gates, g, c, tanh_c, u)
    return loss, {
        "embed.E": one_hot(tokens, len(embedding), u.dtype).T.dot(d_a.dot(params["lstm.W"])),
        **cell_gradients(d_a, x, h),
        "out.W": d_z.T.dot(states),
        "out.b": d_z.sum(axis=0),
    }
