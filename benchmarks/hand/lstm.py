"""LSTM networks, gates packed i f g o: `lstm_small`, `lstm_tiny` (real inputs), `lstm_lm` (embedding, dense output)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.block import block
from benchmarks.hand.losses import mse, softmax_cross_entropy
from benchmarks.hand.rnn import one_hot

Array = np.ndarray


def sigmoid(a: Array) -> None:
    """1 / (1 + exp(-a)), in place."""
    np.negative(a, a)
    np.exp(a, a)
    np.add(a, 1, a)
    np.reciprocal(a, a)


@dataclass(frozen=True)
class Kept:
    """What the passes share: gates i f . o and their adjoint [T, N, 4H]; h, c [T+1, N, H]; g, tanh(c[1:]), d_h."""

    gates: Array
    d_a: Array
    h: Array
    c: Array
    g: Array
    tanh_c: Array
    d_h: Array


def project(x: Array, params: dict[str, Array], steps: int) -> Kept:
    """Allocates everything and puts W x + b of all steps into the gates, for `x` [T*N, D].

    In two blocks: at the sizes of `lstm_lm` one would exceed the 32 MB above which glibc never keeps memory.
    """
    units = params["lstm.U"].shape[1]
    samples = len(x) // steps
    packed, states, one = (steps, samples, 4 * units), (steps + 1, samples, units), (steps, samples, units)
    kept = Kept(*block(x.dtype, packed, packed, states), *block(x.dtype, states, one, one, one))
    x.dot(params["lstm.W"].T, kept.gates.reshape(-1, 4 * units))
    np.add(kept.gates, params["lstm.b"], kept.gates)
    return kept


def forward(kept: Kept, u: Array) -> None:
    """Turns projected inputs into the gates, in place, and fills h, c, g and tanh_c.

    One sigmoid over the whole contiguous step, a quarter of it wasted, costs less than three over strided blocks.
    """
    gates, h, c = kept.gates, kept.h, kept.c
    h[0], c[0] = 0, 0
    u_t = np.ascontiguousarray(u.T)
    product, scratch = np.empty_like(gates[0]), np.empty_like(h[0])
    views = (gates, *np.split(gates, 4, axis=2), kept.g, h, h[1:], c, c[1:], kept.tanh_c)
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


def slopes(kept: Kept) -> None:
    """Puts into `d_a` what dL/dc (for i f g) or dL/dh (for o) is multiplied with; g and tanh_c turn into slopes too."""
    i, _, _, o = np.split(kept.gates, 4, axis=2)
    s_i, s_f, s_g, s_o = np.split(kept.d_a, 4, axis=2)
    np.subtract(1, kept.gates, kept.d_a)
    np.multiply(kept.d_a, kept.gates, kept.d_a)
    np.multiply(s_i, kept.g, s_i)
    np.multiply(s_f, kept.c[:-1], s_f)
    np.multiply(s_o, kept.tanh_c, s_o)
    for values, gate, slope in ((kept.g, i, s_g), (kept.tanh_c, o, kept.tanh_c)):  # (1 - tanh^2) gate
        np.multiply(values, values, values)
        np.subtract(1, values, values)
        np.multiply(values, gate, slope)


def backward(kept: Kept, u: Array) -> None:
    """Turns the slopes `d_a` into the adjoint of the pre-activations, from `d_h`."""
    slopes(kept)
    units, d_a = u.shape[1], kept.d_a
    d_c, d_h, scratch = np.zeros((3, *kept.h[0].shape), u.dtype)
    d_ifg = d_a.reshape(*d_a.shape[:2], 4, units)[:, :, :3]
    views = (kept.d_h, d_a, d_ifg, d_a[:, :, 3 * units :], kept.tanh_c, kept.gates[:, :, units : 2 * units])
    for outer, da_t, da_ifg, da_o, slope_c, f_t in zip(*(view[::-1] for view in views), strict=True):
        np.add(d_h, outer, d_h)
        np.multiply(d_h, slope_c, scratch)
        np.add(d_c, scratch, d_c)
        np.multiply(d_c[:, None], da_ifg, da_ifg)
        np.multiply(d_h, da_o, da_o)
        np.multiply(d_c, f_t, d_c)
        da_t.dot(u, d_h)


def cell_gradients(kept: Kept, x: Array) -> dict[str, Array]:
    """Gradients of W, U and b from all steps."""
    d_a, before = kept.d_a.reshape(len(x), -1), kept.h[:-1].reshape(len(x), -1)
    return {"lstm.W": d_a.T.dot(x), "lstm.U": d_a.T.dot(before), "lstm.b": d_a.sum(axis=0)}


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [T, N, D], `y` [T, N, H]."""
    x = batch["x"].reshape(-1, batch["x"].shape[2])
    kept = project(x, params, len(batch["x"]))
    forward(kept, params["lstm.U"])
    loss, _ = mse(kept.h[1:], batch["y"], kept.d_h)
    backward(kept, params["lstm.U"])
    return loss, cell_gradients(kept, x)


def language_value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for tokens `x`, `y` [T, N]."""
    weight, embedding = params["out.W"], params["embed.E"]
    tokens = batch["x"].reshape(-1)
    x = embedding[tokens]
    kept = project(x, params, len(batch["x"]))
    forward(kept, params["lstm.U"])
    states = kept.h[1:].reshape(len(x), -1)
    z = states.dot(weight.T)
    z += params["out.b"]
    loss, d_z = softmax_cross_entropy(z, batch["y"].reshape(-1))
    d_z.dot(weight, kept.d_h.reshape(len(x), -1))
    backward(kept, params["lstm.U"])
    d_x = kept.d_a.reshape(len(x), -1).dot(params["lstm.W"])
    return loss, {
        "embed.E": one_hot(tokens, len(embedding), x.dtype).T.dot(d_x),
        **cell_gradients(kept, x),
        "out.W": d_z.T.dot(states),
        "out.b": d_z.sum(axis=0),
    }
