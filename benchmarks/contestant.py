"""What every contestant hands to the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Result = tuple[float, dict[str, np.ndarray]]


class Missing(Exception):
    """A contestant that this installation does not have."""


@dataclass(frozen=True)
class Contestant:
    """`call` is the timed work: loss and every parameter gradient, from arrays prepared beforehand.

    `read` turns what `call` returned into a float and NumPy arrays; it is never timed. `timed`, where a contestant is a
    C function, makes that many calls in C and returns their seconds: no call from Python is counted.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Result]
    timed: Callable[[int], float] | None = None


def same(result: Result) -> Result:
    """`read` of a contestant that already returns a loss and NumPy arrays."""
    return result
