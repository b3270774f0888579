"""Whether a contestant computes the right thing: loss and every gradient against one float64 reference."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.rows import Arrays

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""Largest error of an array, max|got - want| / max|want|."""
ZERO = 1e-15


class Wrong(Exception):
    """A contestant whose loss or gradient differs from the reference."""


def error(got: np.ndarray | float, want: np.ndarray | float) -> float:
    """max|got - want| / max|want|; of an array of zeros, the absolute error in units of `ZERO`."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    scale = float(np.max(np.abs(want), initial=0.0))
    distance = float(np.max(np.abs(got - want), initial=0.0))
    return distance / (scale or ZERO)


def worst_error(result: Result, reference: Arrays, dtype: str) -> float:
    """The largest error over the loss and all gradients; raises `Wrong` where a name, a shape or a value is off.

    `reference` holds the gradients by name, and the loss under "loss".
    """
    loss, grads = result
    found: dict[str, np.ndarray | float] = {"loss": loss, **grads}
    if set(found) != set(reference):
        missing, extra = sorted(set(reference) - set(found)), sorted(set(found) - set(reference))
        raise Wrong(f"names differ: missing {missing}, extra {extra}")
    worst = 0.0
    for name, want in reference.items():
        got = found[name]
        if np.shape(got) != np.shape(want):
            raise Wrong(f"{name}: expected shape {np.shape(want)}, found {np.shape(got)}")
        this = error(got, want)
        if not this <= TOLERANCE[dtype]:
            raise Wrong(f"{name}: error {this:.1e} of max|want|, allowed {TOLERANCE[dtype]:.0e}")
        worst = max(worst, this)
    return worst
