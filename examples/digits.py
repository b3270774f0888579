"""What the digit examples share: the data, and training through a generated module."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy is loaded: with batches this small the threads of a BLAS wait for each other longer than they compute.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

Array = np.ndarray[Any, Any]
Vary = Callable[[Array, np.random.Generator], Array]


def load_digits(seed: int = 0) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """scikit-learn's 1797 handwritten digits of 8 by 8 pixels in 0..1: (images, labels) to train on and to test on."""
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        script = f"examples/{Path(sys.argv[0]).name}"
        line = f".venv/bin/pip install '.[examples]' && .venv/bin/python {script}"
        raise SystemExit(f"the digits come with scikit-learn; in the checkout: {line}") from None
    data = bundled()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images, labels = (data.images[order] / 16).astype(np.float32), data.target[order]
    return (images[360:], labels[360:]), (images[:360], labels[:360])


def accuracy(module: Any, params: dict[str, Array], output: str, batch: dict[str, Array], labels: Array) -> float:
    """The share of images whose largest score is at their label."""
    return float(np.mean(module.predict(params, batch)[output].argmax(axis=-1) == labels))


def train(
    module: Any, data: tuple[Array, Array], epochs: int, rate: float, size: int = 32, seed: int = 0, vary: Vary | None = None
) -> dict[str, Array]:
    """Plain training: shuffled batches, the gradient and the update of the module; a tenth of the rate in the last third.

    ``vary(images, rng)`` changes the images of a batch, so that the small set of them goes further.
    """
    images, labels = data
    rng = np.random.default_rng(seed)
    params, state = module.init(seed), None
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = rng.permutation(len(labels))
        for first in range(0, len(order) - size + 1, size):
            chosen = order[first : first + size]
            seen = images[chosen] if vary is None else vary(images[chosen], rng)
            loss, grads = module.value_and_grad(params, {"x": seen, "y": labels[chosen]})
            params, state = module.update(params, grads, state, rate=rate if 3 * epoch <= 2 * epochs else rate / 10)
            total += loss
        if epoch % max(epochs // 10, 1) == 0:
            print(f"epoch {epoch:3d}: loss {total / (len(order) // size):.4f}, {time.perf_counter() - start:.1f} s")
    return dict(params)


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Each image [1, 8, 8] moved by at most one pixel in both directions, the border filled with black."""
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, size=(2, len(images), 1, 1))
    rows, columns = down + np.arange(8)[:, None], right + np.arange(8)
    return np.ascontiguousarray(framed[np.arange(len(images))[:, None, None], 0, rows, columns][:, None])


def enlarged(images: Array) -> Array:
    """28 by 28 pixels from 8 by 8, each pixel repeated, in one row."""
    near = np.arange(28) * 8 // 28
    return np.ascontiguousarray(images[:, near][:, :, near].reshape(len(images), 784))
