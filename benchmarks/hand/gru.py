"""GRU networks, gates packed r z n, reset after the product: `gru_small`.

r, z = sigmoid(W x + U h + b);  q = U_n h + bn;  n = tanh(W_n x + b_n + r q);  h' = n + z (h - n)
"""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse
from benchmarks.hand.lstm import sigmoid

Array = np.ndarray


def forward(a_rz: Array, a_n: Array, u: Array, bn: Array) -> tuple[Array, Array]:
    """Turns projected inputs [T, N, 2H], [T, N, H] into r z and n, in place; returns h [T+1, N, H] and q [T, N, H]."""
    steps, samples, units = a_n.shape
    h = np.zeros((steps + 1, samples, units), u.dtype)
    q = np.empty_like(a_n)
    u_rz, u_n = np.ascontiguousarray(u[: 2 * units].T), np.ascontiguousarray(u[2 * units :].T)
    product = np.empty((samples, 2 * units), u.dtype)
    scratch = np.empty((samples, units), u.dtype)
    for rz_t, r_t, z_t, n_t, q_t, before, h_t in zip(
        a_rz, a_rz[:, :, :units], a_rz[:, :, units:], a_n, q, h, h[1:], strict=False
    ):
        before.dot(u_rz, product)
        np.add(rz_t, product, rz_t)
        sigmoid(rz_t)
        before.dot(u_n, q_t)
        np.add(q_t, bn, q_t)
        np.multiply(r_t, q_t, scratch)
        np.add(n_t, scratch, n_t)
        np.tanh(n_t, n_t)
        np.subtract(before, n_t, scratch)
        np.multiply(scratch, z_t, scratch)
        np.add(scratch, n_t, h_t)
    return h, q


def slopes(rz: Array, n: Array, h: Array, q: Array) -> tuple[Array, Array]:
    """What dL/dh is multiplied with: for the adjoints of r, z and q packed [T, N, 3H], and of n's pre-activation."""
    steps, samples, units = n.shape
    r, z = np.split(rz, 2, axis=2)
    packed = np.empty((steps, samples, 3 * units), n.dtype)
    s_r, s_z, s_q = np.split(packed, 3, axis=2)
    s_n = (1 - z) * (1 - n * n)
    np.multiply(s_n, r, s_q)
    np.multiply(s_q, (1 - r) * q, s_r)
    np.multiply(z * (1 - z), h[:-1] - n, s_z)
    return packed, s_n


def backward(d_h: Array, slope: Array, z: Array, u: Array) -> Array:
    """Adjoints of (r, z, q) [T, N, 3H], written over `slope`; `d_h` ends as the whole adjoint of every state."""
    steps, samples, units = d_h.shape
    d_before, scratch = np.zeros((2, samples, units), u.dtype)
    views = (d_h, d_h[:, :, None], z, slope, slope.reshape(steps, samples, 3, units))
    for dh_t, dh_gates, z_t, da_t, da_gates in zip(*(view[::-1] for view in views), strict=True):
        np.add(dh_t, d_before, dh_t)
        np.multiply(dh_gates, da_gates, da_gates)
        da_t.dot(u, d_before)
        np.multiply(dh_t, z_t, scratch)
        np.add(d_before, scratch, d_before)
    return slope


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, y, units = params["gru.U"], batch["y"], batch["y"].shape[2]
    x = batch["x"].reshape(-1, batch["x"].shape[2])
    weight, bias = params["gru.W"], params["gru.b"]
    rz, n = x.dot(weight[: 2 * units].T), x.dot(weight[2 * units :].T)
    rz += bias[: 2 * units]
    n += bias[2 * units :]
    rz, n = rz.reshape(*y.shape[:2], -1), n.reshape(y.shape)
    h, q = forward(rz, n, u, params["gru.bn"])
    loss, d_h = mse(h[1:], y)
    slope, s_n = slopes(rz, n, h, q)
    d_a = backward(d_h, slope, rz[:, :, units:], u)
    rows = d_a.reshape(-1, 3 * units)
    grads = {"gru.U": rows.T.dot(h[:-1].reshape(-1, units)), "gru.bn": rows[:, 2 * units :].sum(axis=0)}
    np.multiply(d_h, s_n, d_a[:, :, 2 * units :])  # from here on the adjoints of (r, z, n)
    return loss, grads | {"gru.W": rows.T.dot(x), "gru.b": rows.sum(axis=0)}
