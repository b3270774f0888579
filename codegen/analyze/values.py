"""What an analysis says, as values that print and go into JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "Analysis", "BlockBound", "Bound", "Clipping", "Depth", "Formula", "Growth", "Matrix", "Recurrent", "Tried", "growth",
    "overflow",
]

VANISHED = 1e-6
"""An error of which less is left after all steps (or layers) has vanished; one that grows beyond the inverse has exploded.
Nothing hangs on the digit: factors away from 1 pass it after some dozen steps, whatever it is."""


@dataclass(frozen=True)
class Growth:
    """How an error grows on its way back: its norms from where it starts, the geometric mean of the factors from each to the
    next, the least and the greatest of them, the part that is left at the end, and a word: vanishing, exploding or steady;
    overflow where the states themselves are not finite, none where there is nothing to compare."""

    norms: tuple[float, ...]
    mean: float
    least: float
    greatest: float
    left: float
    verdict: str


def growth(norms: Sequence[float]) -> Growth:
    """The growth along norms in the order of propagation.

    A norm that is 0 or not finite ends the mean: 0 is vanishing (an underflow, or no way back), infinity and NaN are exploding.
    """
    known = [float(n) for n in norms]
    end = next((k for k, n in enumerate(known) if not (math.isfinite(n) and n > 0)), len(known))
    factors = [b / a for a, b in itertools.pairwise(known[:end])]
    mean = math.exp((math.log(known[end - 1]) - math.log(known[0])) / (end - 1)) if end > 1 else math.nan
    if end == 0 or len(known) < 2:
        beyond = bool(known) and not math.isfinite(known[0])
        return Growth(tuple(known), math.nan, math.nan, math.nan, math.nan, "exploding" if beyond else "none")
    left = known[-1] / known[0]
    if end < len(known):
        finite = math.isfinite(known[end])
        factors.append(0.0 if finite else math.inf)
        left = 0.0 if finite else math.inf
        mean = mean if end > 1 else factors[0]
    verdict = "vanishing" if left < VANISHED else "exploding" if not left <= 1 / VANISHED else "steady"
    return Growth(tuple(known), mean, min(factors), max(factors), left, verdict)


def overflow(steps: int) -> Growth:
    """What is said of an error that goes back through states that are not finite."""
    return Growth((math.nan,) * steps, math.nan, math.nan, math.nan, math.nan, "overflow")


@dataclass(frozen=True)
class Formula:
    """``d of / d by``: the sum of ``terms`` where ``condition`` holds, in the notation of specs."""

    of: str
    by: str
    terms: tuple[str, ...]
    condition: str = ""

    def __str__(self) -> str:
        shown = self.terms[0] + "".join(f" - {t[1:]}" if t.startswith("-") else f" + {t}" for t in self.terms[1:])
        bracketed = f"({shown})" if self.condition and len(self.terms) > 1 else shown
        return f"d{self.of}/d{self.by} = {f'{self.condition}*' if self.condition else ''}{bracketed}"


@dataclass(frozen=True)
class Matrix:
    """A matrix of a Jacobian, a parameter or a part of one: its norm (greatest singular value), and for a square one its spectral
    radius (greatest absolute eigenvalue)."""

    name: str
    norm: float
    radius: float | None


@dataclass(frozen=True)
class BlockBound:
    """The norm of one block is at most ``proven``, at any state; ``None`` where that is not bounded, for the ranges of ``open``
    are not. ``here``: at most this at the states of this run."""

    of: str
    by: str
    proven: float | None
    here: float | None
    open: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Bound:
    """What the weights and the slopes allow: the factor of a step is at most ``factor`` in the long run, at the states of this
    run at most ``here``. ``slope``: where a step is one matrix after one function, the greatest slope of that."""

    matrices: tuple[Matrix, ...]
    blocks: tuple[BlockBound, ...]
    factor: float | None
    here: float | None
    slope: float | None


@dataclass(frozen=True)
class Tried:
    """One way to fill the weights, the factor that was measured with it, and the verdict; ``nearest``: nearest to 1 of all."""

    what: str
    factor: float
    verdict: str
    nearest: bool = False


@dataclass(frozen=True)
class Recurrent:
    """One recurrence: its formula, its bounds and its measured norms, step 0 first.

    ``injected``: an error put in at the last step alone. ``loss_norms``: |dL/dh| of the spec's own loss for each state.
    """

    states: tuple[str, ...]
    axis: str
    steps: int
    reverse: bool
    formula: tuple[Formula, ...]
    bound: Bound | None
    injected: Growth | None
    loss_norms: Mapping[str, tuple[float, ...]]
    tried: tuple[Tried, ...] = ()
    weights: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Depth:
    """The gradient by the output of each layer, the last layer first."""

    layers: tuple[str, ...]
    growth: Growth
    tried: tuple[Tried, ...] = ()
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clipping:
    """The norm of the whole gradient, and for each clipping (kind, limit) the factor by which it becomes shorter."""

    norm: float
    greatest: float
    own: bool
    factors: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Analysis:
    """The outcome of ``analyze``."""

    name: str
    sizes: Mapping[str, int]
    seed: int
    fresh: bool
    loss: float
    recurrences: tuple[Recurrent, ...]
    depth: Depth | None
    clipping: Clipping

    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON, in which a number that is not finite is null."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
