"""GRU networks, reset after the product: `gru_small`. States are kept [T, H, N], as in the LSTM.

    r, z = sigmoid(W x + U h + b);  q = U_n h + bn;  n = tanh(W_n x + b_n + r q);  h' = n + z (h - n)

The biases ride in the products, as a column beside W (or U) and a row of ones under x (or h).
"""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse
from benchmarks.tuned.lstm import by_unit
from benchmarks.tuned.workspace import Workspace

Array = np.ndarray


def halved(matrix: Array, units: int) -> Array:
    """The rows of r and z are halved in place: sigmoid(a) = (1 + tanh(a/2)) / 2."""
    matrix[: 2 * units] *= matrix.dtype.type(0.5)
    return matrix


def with_ones(rows: Array, joined: Array) -> Array:
    """Writes [T, K, N] with a row of ones under the rows of each step into `joined` [T, K+1, N]."""
    joined[:, :-1] = rows
    joined[:, -1] = 1
    return joined


def forward(projected: Array, u: Array, bn: Array, workspace: Workspace) -> tuple[Array, Array, Array]:
    """Turns `projected` [T, 3H, N] into the gates r z n in place; returns them, U h + bn, and [h; 1] [T+1, H+1, N]."""
    steps, packed, samples = projected.shape
    units = packed // 3
    dtype = projected.dtype
    bias = np.concatenate((np.zeros(2 * units, dtype), bn))
    matrix = halved(np.concatenate((u, bias[:, None]), axis=1), units)
    states = workspace.empty("states", (steps + 1, units + 1, samples), dtype)
    states[0] = 0
    states[:, -1] = 1
    products = workspace.empty("products", projected.shape, dtype)
    scratch = np.empty((units, samples), dtype)
    half = dtype.type(0.5)
    add, subtract, multiply, tanh, dot = np.add, np.subtract, np.multiply, np.tanh, matrix.dot
    h = states[:, :-1]
    views = (
        states, h, h[1:], projected[:, : 2 * units], projected[:, :units], projected[:, units : 2 * units],
        projected[:, 2 * units :], products, products[:, : 2 * units], products[:, 2 * units :],
    )  # fmt: skip
    for joined, before, h_t, r_z, r_t, z_t, n_t, p_t, p_rz, q_t in zip(*views, strict=False):
        dot(joined, p_t)
        add(r_z, p_rz, r_z)
        tanh(r_z, r_z)
        multiply(r_z, half, r_z)
        add(r_z, half, r_z)
        multiply(r_t, q_t, scratch)
        add(n_t, scratch, n_t)
        tanh(n_t, n_t)
        subtract(before, n_t, scratch)
        multiply(scratch, z_t, scratch)
        add(scratch, n_t, h_t)
    return projected, products[:, 2 * units :], states


def slopes(gates: Array, q: Array, h: Array, workspace: Workspace) -> tuple[Array, Array]:
    """The factors of dL/dh in the adjoints of (r, z, q), packed [T, 3H, N], and of n's pre-activation [T, H, N]."""
    units = q.shape[1]
    r, z, n = gates[:, :units], gates[:, units : 2 * units], gates[:, 2 * units :]
    packed = workspace.empty("slopes", gates.shape, gates.dtype)
    s_r, s_z, s_q = packed[:, :units], packed[:, units : 2 * units], packed[:, 2 * units :]
    not_z = np.subtract(1, z, out=workspace.empty("not_z", q.shape, q.dtype))
    s_n = np.square(n, out=workspace.empty("s_n", q.shape, q.dtype))  # (1 - z) (1 - n^2)
    np.subtract(1, s_n, s_n)
    s_n *= not_z
    np.multiply(s_n, r, s_q)  # s_n r
    np.subtract(1, r, s_r)  # s_n q r (1 - r)
    s_r *= s_q
    s_r *= q
    np.subtract(h[:-1], n, s_z)  # (h - n) z (1 - z)
    s_z *= z
    s_z *= not_z
    return packed, s_n


def backward(d_h: Array, packed: Array, z: Array, u: Array, workspace: Workspace) -> Array:
    """Adjoints of (r, z, q) [T, 3H, N]; `d_h` [T, H, N] ends as the whole adjoint of every state."""
    steps, units, samples = d_h.shape
    u_t = np.ascontiguousarray(u.T)
    d_a = workspace.empty("d_a", packed.shape, packed.dtype)
    scratch = np.empty((units, samples), d_h.dtype)
    add, multiply, dot = np.add, np.multiply, u_t.dot
    by_gate = (steps, 3, units, samples)
    views = (d_h, z, d_a, d_a.reshape(by_gate), packed.reshape(by_gate))
    after: tuple[Array, Array, Array] | None = None
    for dh_t, z_t, da_t, da_gates, s_t in zip(*(view[::-1] for view in views), strict=True):
        if after is not None:
            da_after, dh_after, z_after = after
            dot(da_after, scratch)
            add(dh_t, scratch, dh_t)
            multiply(dh_after, z_after, scratch)
            add(dh_t, scratch, dh_t)
        multiply(dh_t, s_t, da_gates)
        after = da_t, dh_t, z_t
    return d_a


def value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    u, units = params["gru.U"], params["gru.U"].shape[1]
    steps, samples, features = batch["x"].shape
    dtype = u.dtype
    x = with_ones(batch["x"].transpose(0, 2, 1), workspace.empty("x", (steps, features + 1, samples), dtype))
    matrix = halved(np.concatenate((params["gru.W"], params["gru.b"][:, None]), axis=1), units)
    projected = np.matmul(matrix, x, out=workspace.empty("projected", (steps, 3 * units, samples), dtype))
    gates, q, states = forward(projected, u, params["gru.bn"], workspace)
    h = states[:, :-1]
    loss, d_h = mse(h[1:], batch["y"].transpose(0, 2, 1), workspace.empty("d_h", (steps, units, samples), dtype))
    packed, s_n = slopes(gates, q, h, workspace)
    d_p = by_unit(backward(d_h, packed, gates[:, units : 2 * units], u, workspace), "d_p", workspace)
    s_n *= d_h
    d_n = by_unit(s_n, "d_n", workspace)
    grad_u = d_p.dot(by_unit(states[:-1], "states by unit", workspace).T)
    grad_w = np.concatenate((d_p[: 2 * units], d_n)).dot(by_unit(x, "x by unit", workspace).T)
    return loss, {
        "gru.W": np.ascontiguousarray(grad_w[:, :-1]),
        "gru.U": np.ascontiguousarray(grad_u[:, :-1]),
        "gru.b": np.ascontiguousarray(grad_w[:, -1]),
        "gru.bn": np.ascontiguousarray(grad_u[2 * units :, -1]),
    }
