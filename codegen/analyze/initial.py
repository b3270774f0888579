"""Ways to fill weights, tried and measured: the catalogue's initialisers, and gains that bring the factor to 1.

An orthogonal matrix has norm 1, so the factor of a step is its gain times what the slopes leave (the root of their mean square),
and the gain that brings it to 1 is the inverse of the factor at gain 1. The slopes move with the gain, so it is corrected a few
times by the factor measured with it; the best of these is listed. (He et al. 2015, equation 10, is the same for relu: half of the
slopes are 0.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np

from codegen.analyze.gates import Gate
from codegen.analyze.values import Growth, Tried
from codegen.trial import extent
from symbolic.initialisers import INITIALISERS, fans

__all__ = ["Weight", "marked", "tried_biases", "tried_weights"]

NAMES = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal")
REFINED = 4
"""Times that a gain is corrected by the factor measured with it."""

GAINS = (0.05, 20.0)
BIASES = (0.0, 1.0, 2.0, 4.0)

Measure = Callable[[Mapping[str, Any]], Growth]


@dataclass(frozen=True)
class Weight:
    """A weight as it is stored; ``transposed``: [in, out], where an initialiser makes [out, in]."""

    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def made(self) -> tuple[int, ...]:
        """The shape that an initialiser makes: [out, in, kernel...]."""
        return self.shape[::-1] if self.transposed else self.shape

    @property
    def blocks(self) -> int:
        """How many square matrices lie in a packed one, as the gates in the U of an LSTM."""
        rows, columns, *kernel = self.made
        return rows // columns if not kernel and rows % columns == 0 and rows > columns else 1

    def filled(self, name: str, seed: int, *arguments: float) -> Any:
        """The weight by an initialiser of the catalogue."""
        array = _function(name)(np.random.default_rng(seed), self.made, *map(int, fans(self.made)), *arguments)
        return array.T if self.transposed else array


@cache
def _function(name: str) -> Callable[..., Any]:
    space: dict[str, Any] = {"np": np}
    exec(INITIALISERS[name].source, space)  # noqa: S102 - the catalogue's own text, never a user's
    return cast("Callable[..., Any]", space[name])


def tried_weights(weights: Mapping[str, Weight], own: str, now: Growth, measure: Measure, seed: int) -> tuple[Tried, ...]:
    """The spec's own weights, then each initialiser for all of them, and an orthogonal one with the gain that did best."""
    rows = [Tried(own, now.mean, now.verdict)]
    for name in NAMES:
        rows.append(_tried(name, measure({n: w.filled(name, seed + k) for k, (n, w) in enumerate(weights.items())})))
    if all(w.shape[0] == w.shape[1] and len(w.shape) == 2 for w in weights.values()):
        rows.append(_tried("identity", measure({n: w.filled("identity", seed, 1.0) for n, w in weights.items()})))

    plain = {n: w.filled("orthogonal", seed + k, 1.0, w.blocks) for k, (n, w) in enumerate(weights.items())}

    def orthogonal(gain: float) -> Growth:
        return measure({name: gain * array for name, array in plain.items()})

    packed = sorted({w.blocks for w in weights.values()})
    words = f", {packed[0]}" if len(packed) == 1 and packed[0] > 1 else ""
    gain, found = 1.0, orthogonal(1.0)
    rows.append(_tried(f"orthogonal(1{words})", found))
    refined: list[Tried] = []
    for _ in range(REFINED):
        if not (math.isfinite(found.mean) and found.mean > 0):
            break
        gain = min(max(gain / found.mean, GAINS[0]), GAINS[1])
        found = orthogonal(gain)
        refined.append(_tried(f"orthogonal({gain:.3g}{words})", found))
    rows += [row for row in marked(refined) if row.nearest and row.what not in (known.what for known in rows)]
    return tuple(rows)


def tried_biases(
    found: Sequence[Gate], values: Mapping[str, Any], sizes: Mapping[str, int], measure: Measure
) -> tuple[Tried, ...]:
    """The biases of gates at a few numbers: the more a gate is open, the nearer its factor to 1."""
    rows = []
    for number in BIASES if found else ():
        arrays = {gate.bias: np.array(values[gate.bias], dtype=float) for gate in found}
        places = []
        for gate in found:
            first, last = extent(gate.first, sizes), extent(gate.last, sizes)
            arrays[gate.bias][first : last + 1] = value = gate.sign * number or 0.0
            whole = last - first + 1 == arrays[gate.bias].size
            places.append(f"{gate.bias}{'' if whole else f'[{first}..{last}]'} = {value:g}")
        rows.append(_tried(", ".join(places), measure(arrays)))
    return tuple(rows)


def _tried(what: str, found: Growth) -> Tried:
    return Tried(what, found.mean, found.verdict)


def marked(rows: Sequence[Tried]) -> tuple[Tried, ...]:
    """The rows with the nearest to 1 (in ratio) marked."""
    far = [abs(math.log(r.factor)) if 0 < r.factor < math.inf else math.inf for r in rows]
    nearest = min(range(len(rows)), key=far.__getitem__, default=None)
    return tuple(replace(row, nearest=k == nearest and math.isfinite(far[k])) for k, row in enumerate(rows))
