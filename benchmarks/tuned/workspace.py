"""Scratch arrays that outlive a call.

A large NumPy array is mapped on allocation and unmapped when freed, and the kernel clears every page anew: on rows with
megabytes of scratch that costs more than the arithmetic. What is returned (the gradients) is never taken from here.
"""

from __future__ import annotations

import numpy as np


class Workspace:
    """Named scratch arrays, allocated on first use and again where a shape or dtype changes; not for two threads."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array of that name; its content is whatever the last call left there."""
        found = self._arrays.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            found = self._arrays[name] = np.empty(shape, dtype)
        return found

    def zeros(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The same, filled with 0."""
        found = self.empty(name, shape, dtype)
        found.fill(0)
        return found
