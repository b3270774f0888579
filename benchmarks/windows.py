"""The 2x2 maximum with ReLU of both LeNets, over four views of the corners of the windows: they differ in where images lie.

ReLU and maximum commute, so ReLU comes after pooling, on a quarter of the data.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Corners = tuple[Array, Array, Array, Array]
"""Views of one array, in row-major order of the window."""


def pool(corners: Corners) -> Array:
    """relu(max over the corners)."""
    first, second, third, fourth = corners
    h: Array = np.maximum(first, second)
    np.maximum(h, third, out=h)
    np.maximum(h, fourth, out=h)
    np.maximum(h, 0, out=h)
    return h


def pool_adjoint(d_h: Array, h: Array, corners: Corners) -> None:
    """Overwrites the corners with their adjoint: what is left of d_h goes to the first one that equals the maximum."""
    left = d_h * (h > 0)
    for corner in corners:
        np.multiply(left, corner == h, out=corner)
        left -= corner
