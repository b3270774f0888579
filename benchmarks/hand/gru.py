"""GRU networks, gates packed r z n, reset after the product: `gru_small`.

r, z = sigmoid(W x + U h + b);  q = U_n h + bn;  n = tanh(W_n x + b_n + r q);  h' = n + z (h - n)
"""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.block import block
from benchmarks.hand.losses import mse
from benchmarks.hand.lstm import sigmoid

Array = np.ndarray


def forward(rz: Array, n: Array, q: Array, h: Array, u: Array, bn: Array) -> None:
    """Turns projected inputs [T, N, 2H], [T, N, H] into r z and n, in place; fills q [T, N, H] and h [T+1, N, H]."""
    units = len(bn)
    u_rz, u_n = np.ascontiguousarray(u[: 2 * units].T), np.ascontiguousarray(u[2 * units :].T)
    product, scratch = np.empty_like(rz[0]), np.empty_like(n[0])
    h[0] = 0
    views = (rz, rz[:, :, :units], rz[:, :, units:], n, q, h, h[1:])
    for rz_t, r_t, z_t, n_t, q_t, before, h_t in zip(*views, strict=False):
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


def slopes(rz: Array, n: Array, q: Array, h: Array, packed: Array, s_n: Array) -> None:
    """What dL/dh is multiplied with: for the adjoints of r, z, q `packed` [T, N, 3H]; of n's pre-activation `s_n`."""
    r, z = np.split(rz, 2, axis=2)
    s_r, s_z, s_q = np.split(packed, 3, axis=2)
    np.subtract(1, z, s_r)
    np.multiply(n, n, s_n)
    np.subtract(1, s_n, s_n)
    np.multiply(s_n, s_r, s_n)  # (1 - z) (1 - n^2)
    np.subtract(h[:-1], n, s_z)
    np.multiply(s_z, s_r, s_z)
    np.multiply(s_z, z, s_z)  # (h - n) z (1 - z)
    np.multiply(s_n, r, s_q)
    np.subtract(1, r, s_r)
    np.multiply(s_r, q, s_r)
    np.multiply(s_r, s_q, s_r)  # s_n q r (1 - r)


def backward(d_h: Array, d_a: Array, z: Array, u: Array) -> None:
    """Turns the slopes `d_a` into the adjoints of (r, z, q); `d_h` ends as the whole adjoint of every state."""
    by_gate = d_a.reshape(*d_h.shape[:2], 3, -1)
    d_before, scratch = np.zeros((2, *d_h[0].shape), u.dtype)
    views = (d_h, d_h[:, :, None], z, d_a, by_gate)
    for dh_t, dh_gates, z_t, da_t, da_gates in zip(*(view[::-1] for view in views), strict=True):
        np.add(dh_t, d_before, dh_t)
        np.multiply(dh_gates, da_gates, da_gates)
        da_t.dot(u, d_before)
        np.multiply(dh_t, z_t, scratch)
        np.add(d_before, scratch, d_before)


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, weight, bias = params["gru.U"], params["gru.W"], params["gru.b"]
    y, (steps, samples, units) = batch["y"], batch["y"].shape
    x = batch["x"].reshape(steps * samples, -1)
    one, two, three = ((steps, samples, gates * units) for gates in (1, 2, 3))
    rz, d_a, n, q, d_h, s_n, h = block(x.dtype, two, three, one, one, one, one, (steps + 1, samples, units))
    x.dot(weight[: 2 * units].T, rz.reshape(len(x), -1))
    x.dot(weight[2 * units :].T, n.reshape(len(x), -1))
    np.add(rz, bias[: 2 * units], rz)
    np.add(n, bias[2 * units :], n)
    forward(rz, n, q, h, u, params["gru.bn"])
    loss, _ = mse(h[1:], y, d_h)
    slopes(rz, n, q, h, d_a, s_n)
    backward(d_h, d_a, rz[:, :, units:], u)
    rows = d_a.reshape(len(x), -1)
    grads = {"gru.U": rows.T.dot(h[:-1].reshape(len(x), -1)), "gru.bn": rows[:, 2 * units :].sum(axis=0)}
    np.multiply(d_h, s_n, d_a[:, :, 2 * units :])  # from here on the adjoints of (r, z, n)
    return loss, grads | {"gru.W": rows.T.dot(x), "gru.b": rows.sum(axis=0)}
