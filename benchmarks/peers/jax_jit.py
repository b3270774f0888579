"""JAX: `jit(value_and_grad(...))` on prepared device arrays; recurrences by `lax.scan`, input products outside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.contestant import Contestant, Result
from benchmarks.rows import Arrays, Row

Tree = dict[str, Array]


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """Compiled on the first call; the timed call waits for every result."""
    if next(iter(params.values())).dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    leaves = {name: jnp.asarray(array) for name, array in params.items()}
    data = {name: jnp.asarray(array) for name, array in batch.items()}
    loss_of: Callable[[Tree, Tree], Array] = {"mlp": _mlp, "lenet": _lenet}.get(row.family) or _recurrent(row)
    step = jax.jit(jax.value_and_grad(loss_of))

    def call() -> Any:
        return jax.block_until_ready(step(leaves, data))

    def read(raw: Any) -> Result:
        loss, grads = raw
        return float(loss), {name: np.asarray(grad) for name, grad in grads.items()}

    return Contestant(call, read)


def _cross_entropy(z: Array, y: Array) -> Array:
    picked = jnp.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - picked)


def _mlp(p: Tree, data: Tree) -> Array:
    h = data["x"]
    for layer in ("fc1", "fc2"):
        h = jax.nn.relu(h @ p[f"{layer}.W"].T + p[f"{layer}.b"])
    return _cross_entropy(h @ p["out.W"].T + p["out.b"], data["y"])


def _lenet(p: Tree, data: Tree) -> Array:
    h = data["x"]
    for layer in ("conv1", "conv2"):
        h = lax.conv_general_dilated(h, p[f"{layer}.W"], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        h = jax.nn.relu(h + p[f"{layer}.b"][:, None, None])
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    h = h.reshape(h.shape[0], -1)
    for layer in ("fc1", "fc2"):
        h = jax.nn.relu(h @ p[f"{layer}.W"].T + p[f"{layer}.b"])
    return _cross_entropy(h @ p["out.W"].T + p["out.b"], data["y"])


def _recurrent(row: Row) -> Callable[[Tree, Tree], Array]:
    cell, units = row.cell, row.sizes["H"]

    def projected(p: Tree, x: Array) -> Array:
        """W x + b of all steps, [T, N, gates * H]."""
        if "embed.E" in p:
            x = p["embed.E"][x]
        elif row.family == "language":
            return p[f"{cell}.W"].T[x] + p[f"{cell}.b"]
        return x @ p[f"{cell}.W"].T + p[f"{cell}.b"]

    def states(p: Tree, x: Array) -> Array:
        start = jnp.zeros((row.sizes["N"], units), p[f"{cell}.U"].dtype)
        u = p[f"{cell}.U"].T

        def rnn(h: Array, a: Array) -> tuple[Array, Array]:
            h = jnp.tanh(a + h @ u)
            return h, h

        def lstm(state: tuple[Array, Array], a: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = state
            i, f, g, o = jnp.split(a + h @ u, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        def gru(h: Array, a: Array) -> tuple[Array, Array]:
            ar, az, an = jnp.split(a, 3, axis=-1)
            br, bz, bn = jnp.split(h @ u, 3, axis=-1)
            r, z = jax.nn.sigmoid(ar + br), jax.nn.sigmoid(az + bz)
            h = (1 - z) * jnp.tanh(an + r * (bn + p["gru.bn"])) + z * h
            return h, h

        step: Any = {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]
        carry: Any = (start, start) if cell == "lstm" else start
        return lax.scan(step, carry, projected(p, x))[1]

    def loss_of(p: Tree, data: Tree) -> Array:
        h = states(p, data["x"])
        if row.family == "recurrent":
            return jnp.mean((h - data["y"]) ** 2)
        return _cross_entropy(h @ p["out.W"].T + p["out.b"], data["y"])

    return loss_of
