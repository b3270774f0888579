"""How arrays are compared: max|got - want| / max|want| of each array alone; an array of zeros needs 1e-15."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["FLOAT32", "FLOAT64", "ZERO", "assert_close", "error_of"]

FLOAT64, FLOAT32 = 1e-9, 1e-4
"""The tolerances of the contract with torch; no size and no condition enters them."""
ZERO = 1e-15


def error_of(got: Any, want: Any) -> float:
    """The error of one array; of an array of zeros the largest entry in units of 1e-15 of the tolerance."""
    want, got = np.asarray(want, dtype=float), np.asarray(got, dtype=float)
    if want.shape != got.shape:
        raise AssertionError(f"expected shape {want.shape}, found {got.shape}")
    if not want.size:
        return 0.0
    largest = float(np.max(np.abs(got - want)))
    scale = float(np.max(np.abs(want)))
    if scale == 0:
        return 0.0 if largest <= ZERO else float("inf")
    return largest / scale if np.isfinite(largest) else float("inf")


def assert_close(got: Mapping[str, Any], want: Mapping[str, Any], tolerance: float, what: str) -> None:
    """Every wanted array within the tolerance; says all that are not, with their errors."""
    wrong = [f"{name}: {error:.2e}" for name in want if not (error := error_of(got[name], want[name])) <= tolerance]
    assert not wrong, f"{what} beyond {tolerance:g}: {', '.join(wrong)}"
