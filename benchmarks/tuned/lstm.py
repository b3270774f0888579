"""LSTM networks: `lstm_small`, `lstm_tiny` (real inputs) and `lstm_lm` (embedding, dense output).

States are kept [T, H, N]: a step's gates are then contiguous blocks of one [4H, N] product. A step multiplies
[W U b], held as one matrix, with [x[t]; h[t-1]; 1], held as one array `joined` [T+1, D+H+1, N] that also serves the
weight gradients of all steps in one product. sigmoid(a) = (1 + tanh(a/2)) / 2, with the halves folded into the
matrix, makes the activation of all four gates a single call of tanh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import mse
from benchmarks.tuned.losses import softmax_cross_entropy
from benchmarks.tuned.workspace import Workspace

Array = np.ndarray


@dataclass(frozen=True)
class History:
    """What the forward pass keeps: the gates i f g o [T, 4H, N], cells c [T+1, H, N] and tanh(c[1:])."""

    joined: Array
    gates: Array
    cells: Array
    tanh_cells: Array


def forward(x: Array, weight: Array, u: Array, bias: Array, workspace: Workspace) -> History:
    """Runs the cell over `x` [T, D, N]; the states are `joined[1:, D:-1]`."""
    steps, features, samples = x.shape
    units = u.shape[1]
    dtype = x.dtype
    matrix = np.concatenate((weight, u, bias[:, None]), axis=1)
    matrix[: 2 * units] *= dtype.type(0.5)
    matrix[3 * units :] *= dtype.type(0.5)
    joined = workspace.empty("joined", (steps + 1, features + units + 1, samples), dtype)
    joined[:-1, :features] = x
    joined[0, features:-1] = 0
    joined[:, -1] = 1
    gates = workspace.empty("gates", (steps, 4 * units, samples), dtype)
    cells = workspace.empty("cells", (steps + 1, units, samples), dtype)
    cells[0] = 0
    tanh_cells = workspace.empty("tanh_cells", (steps, units, samples), dtype)
    scratch = np.empty((units, samples), dtype)
    half = dtype.type(0.5)
    add, multiply, tanh, dot = np.add, np.multiply, np.tanh, matrix.dot
    i, f, g, o = split(gates)
    views = (joined, gates, gates[:, : 2 * units], i, f, g, o, cells, cells[1:], tanh_cells, joined[1:, features:-1])
    for z_t, a_t, i_f, i_t, f_t, g_t, o_t, c_before, c_t, tanh_c, h_t in zip(*views, strict=False):
        dot(z_t, a_t)
        tanh(a_t, a_t)
        multiply(i_f, half, i_f)
        add(i_f, half, i_f)
        multiply(o_t, half, o_t)
        add(o_t, half, o_t)
        multiply(i_t, g_t, scratch)
        multiply(f_t, c_before, c_t)
        add(c_t, scratch, c_t)
        tanh(c_t, tanh_c)
        multiply(o_t, tanh_c, h_t)
    return History(joined, gates, cells, tanh_cells)


def split(gates: Array) -> tuple[Array, Array, Array, Array]:
    """The views i, f, g, o [T, H, N] of the packed gates [T, 4H, N]."""
    units = gates.shape[1] // 4
    i, f, g, o = (gates[:, k * units : (k + 1) * units] for k in range(4))
    return i, f, g, o


def slopes(kept: History, workspace: Workspace) -> tuple[Array, Array]:
    """The factors of the backward loop, of all steps at once: packed [T, 4H, N], and dc/dh = o (1 - tanh(c)^2)."""
    i, f, g, o = split(kept.gates)
    packed = workspace.empty("slopes", kept.gates.shape, kept.gates.dtype)
    s_i, s_f, s_g, s_o = split(packed)
    cell = workspace.empty("cell_slope", kept.tanh_cells.shape, kept.gates.dtype)
    np.square(kept.tanh_cells, cell)
    np.subtract(1, cell, cell)
    np.multiply(o, cell, cell)
    np.subtract(1, i, s_i)  # i (1 - i) g
    s_i *= i
    s_i *= g
    np.subtract(1, f, s_f)  # f (1 - f) c[t-1]
    s_f *= f
    s_f *= kept.cells[:-1]
    np.square(g, s_g)  # (1 - g^2) i
    np.subtract(1, s_g, s_g)
    s_g *= i
    np.subtract(1, o, s_o)  # o (1 - o) tanh(c)
    s_o *= o
    s_o *= kept.tanh_cells
    return packed, cell


def backward(d_h: Array, kept: History, u: Array, workspace: Workspace) -> Array:
    """Adjoint of the pre-activations [T, 4H, N], from the adjoint `d_h` [T, H, N], which is overwritten."""
    steps, units, samples = d_h.shape
    packed, cell = slopes(kept, workspace)
    u_t = np.ascontiguousarray(u.T)
    d_a = workspace.empty("d_a", packed.shape, packed.dtype)
    d_c = np.zeros((units, samples), d_h.dtype)
    scratch = np.empty_like(d_c)
    add, multiply, dot = np.add, np.multiply, u_t.dot
    by_gate = (steps, 4, units, samples)
    views = (
        d_h, d_a, d_a[:, 3 * units :], d_a.reshape(by_gate)[:, :3], packed[:, 3 * units :],
        packed.reshape(by_gate)[:, :3], cell, kept.gates[:, units : 2 * units],
    )  # fmt: skip
    after: Array | None = None
    for dh_t, da_t, da_o, da_ifg, s_o, s_ifg, s_c, f_t in zip(*(view[::-1] for view in views), strict=True):
        if after is not None:
            dot(after, scratch)
            add(dh_t, scratch, dh_t)
        multiply(dh_t, s_o, da_o)
        multiply(dh_t, s_c, scratch)
        add(d_c, scratch, d_c)
        multiply(d_c, s_ifg, da_ifg)
        multiply(d_c, f_t, d_c)
        after = da_t
    return d_a


def by_unit(steps_first: Array, name: str, workspace: Workspace) -> Array:
    """[T, K, N] -> a contiguous [K, T*N], the layout in which all steps make one product."""
    steps, units, samples = steps_first.shape
    copy = workspace.empty(name, (units, steps, samples), steps_first.dtype)
    copy[...] = steps_first.transpose(1, 0, 2)
    return copy.reshape(units, -1)


def cell_gradients(d_a: Array, joined: Array, features: int) -> dict[str, Array]:
    """Gradients of W, U and b in one product of `d_a` [4H, T*N] with `joined` [D+H+1, T*N]."""
    grad = d_a.dot(joined.T)
    return {
        "lstm.W": np.ascontiguousarray(grad[:, :features]),
        "lstm.U": np.ascontiguousarray(grad[:, features:-1]),
        "lstm.b": np.ascontiguousarray(grad[:, -1]),
    }


def value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    x, u = batch["x"].transpose(0, 2, 1), params["lstm.U"]
    features = x.shape[1]
    kept = forward(x, params["lstm.W"], u, params["lstm.b"], workspace)
    loss, d_h = mse(
        kept.joined[1:, features:-1],
        batch["y"].transpose(0, 2, 1),
        workspace.empty("d_h", (len(x), u.shape[1], x.shape[2]), x.dtype),
    )
    d_a = by_unit(backward(d_h, kept, u, workspace), "d_a by unit", workspace)
    return loss, cell_gradients(d_a, by_unit(kept.joined[:-1], "joined by unit", workspace), features)


def language_value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x`, `y` [T, N] of tokens; the embedding's scatter-add is a product with one-hot rows."""
    embedding, u, weight = params["embed.E"], params["lstm.U"], params["out.W"]
    x, y = batch["x"], batch["y"].reshape(-1)
    vocabulary, features = embedding.shape
    (steps, samples), units = x.shape, u.shape[1]
    kept = forward(embedding[x].transpose(0, 2, 1), params["lstm.W"], u, params["lstm.b"], workspace)
    kept.joined[-1, :features] = 0
    joined = by_unit(kept.joined, "joined by unit", workspace)
    states = joined[features:-1, samples:]
    z = weight.dot(states, workspace.empty("z", (vocabulary, y.size), weight.dtype))
    z += params["out.b"][:, None]
    loss, d_z = softmax_cross_entropy(z, y)
    d_h = workspace.empty("d_h", (steps, units, samples), weight.dtype)
    d_states = weight.T.dot(d_z, workspace.empty("d_states", (units, y.size), weight.dtype))
    d_h[...] = d_states.reshape(units, steps, samples).transpose(1, 0, 2)
    d_a = by_unit(backward(d_h, kept, u, workspace), "d_a by unit", workspace)
    d_x = params["lstm.W"].T.dot(d_a, workspace.empty("d_x", (features, y.size), weight.dtype))
    one_hot = workspace.zeros("one_hot", (vocabulary, y.size), weight.dtype)
    one_hot[x.reshape(-1), np.arange(y.size)] = 1
    return loss, {
        "embed.E": one_hot.dot(d_x.T),
        **cell_gradients(d_a, joined[:, :-samples], features),
        "out.W": d_z.dot(states.T),
        "out.b": d_z.dot(np.ones(y.size, d_z.dtype)),
    }
