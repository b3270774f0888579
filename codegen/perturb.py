"""Derivatives by perturbation: the oracle that knows nothing of the chain rule.

Central differences over a sweep of steps, extrapolated to step 0 (Ridders 1982, Richardson's scheme with an error estimate);
and the complex step (Squire and Trapp 1998) for programs through which a complex number can pass. Both work on a function of
one number, the loss along a direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["COMPLEX_STEP", "Slope", "complex_slope", "slope"]

RATIO = 4.0
"""From one step of the sweep to the next; small enough that a plateau cannot fall between two steps."""

STEPS = 11
"""Steps of the sweep: from one tenth of the scale down to a ten-millionth."""

ROUNDING = 2.0**-52
NOISE = 64
"""A loss is a sum of some hundred rounded terms: its rounding error is taken as this many units in the last place."""

COMPLEX_STEP = 1e-30
"""So small that its square vanishes: the imaginary part is the derivative to the last digit."""


@dataclass(frozen=True)
class Slope:
    """A measured derivative: ``value``, how far it may be off by ``error``, and whether a kink lies under the smallest steps."""

    value: float
    error: float
    kink: bool = False


def slope(function: Callable[[float], float], scale: float = 1.0, first: float = 0.1) -> Slope:
    """d function / dh at h = 0.

    ``scale`` is the size of what is perturbed. Raises nothing: where the function is not finite, the error is infinite.
    """
    middle = function(0.0)
    sides: list[tuple[float, float, float]] = []
    table: list[list[float]] = []
    best, error = math.nan, math.inf
    largest = abs(middle)
    for k in range(STEPS):
        h = first * scale / RATIO**k
        right, left = function(h), function(-h)
        if not (math.isfinite(right) and math.isfinite(left)):
            table.append([])
            continue
        largest = max(largest, abs(right), abs(left))
        sides.append((h, (right - middle) / h, (middle - left) / h))
        rounding = NOISE * ROUNDING * max(abs(right), abs(left), abs(middle)) / h
        row = [(right - left) / (2 * h)]
        above = table[-1] if table else []
        factor = 1.0
        for j, upper in enumerate(above[:5]):
            factor *= RATIO**2
            row.append(row[j] + (row[j] - upper) / (factor - 1))
            off = max(abs(row[j + 1] - row[j]), abs(row[j + 1] - upper)) + rounding
            if off < error:
                best, error = row[j + 1], off
        table.append(row)
    return Slope(best, error, _kink(sides, largest))


def _kink(sides: list[tuple[float, float, float]], largest: float) -> bool:
    """Whether the slopes to the right and to the left differ by an amount that does not shrink with the step.

    On a smooth function the difference is proportional to the step; a kink within the step keeps it.
    """
    gaps = [(h, abs(right - left)) for h, right, left in sides]
    clear = [(h, gap) for h, gap in gaps if gap > 100 * NOISE * ROUNDING * largest / h]
    if len(clear) < 4 or clear[-1][0] > 30 * gaps[-1][0]:
        return False  # the difference vanished in the rounding long before the smallest step: smooth
    (small, least), (large, most) = clear[-1], clear[-3]
    return least > 0.25 * most and small < large


def complex_slope(function: Callable[[complex], complex], step: float = COMPLEX_STEP) -> Slope:
    """The derivative at 0 of a function that is analytic there: no difference is taken, so nothing cancels."""
    value = complex(function(complex(0.0, step))).imag / step
    return Slope(value, abs(value) * 16 * ROUNDING if math.isfinite(value) else math.inf)
