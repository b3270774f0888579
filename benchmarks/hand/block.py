"""Several arrays in one allocation."""

from __future__ import annotations

import math

import numpy as np


def block(dtype: np.dtype, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Uninitialised arrays of these shapes, cut from one block.

    glibc gives freed memory back to the kernel once it exceeds twice the largest block freed before, and then every
    page is faulted in anew on the next call: separate arrays of a few MB pay for that, one block of them all does not.
    """
    sizes = [math.prod(shape) for shape in shapes]
    parts = np.split(np.empty(sum(sizes), dtype), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
