"""The point of an analysis: fresh parameters or given ones, and inputs."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.trial import choose_sizes, draw, extent, moved_to, sizes_of
from symbolic.errors import ChainruleError
from symbolic.program import Program, Size
from symbolic.recurrence import recurrences

__all__ = ["Point", "point_of"]

STEPS, BATCH = 100, 8
"""Steps and samples where the sizes are free: long enough for a factor to show, and quick."""


@dataclass(frozen=True)
class Point:
    """``values``: every parameter and input; ``fresh``: whether the parameters are those of the spec's initialisers."""

    sizes: Mapping[str, int]
    values: Mapping[str, Any]
    fresh: bool

    def moved(self, values: Mapping[str, Any]) -> Point:
        """The same point with other arrays in some places."""
        return Point(self.sizes, {**self.values, **values}, self.fresh)


def point_of(program: Program, module: types.ModuleType, sizes: Mapping[str, int], given: Mapping[str, Any], seed: int) -> Point:
    """What is not given is drawn: inputs from the normal distribution, parameters by the spec's initialisers.

    Lengths of sequences, and whatever else counts steps, are as great as they may be: no step is left out. Carried states start
    at 0, as in a first window. Raises ChainruleError for names, shapes and numbers that do not fit, and for parameters of which
    some are missing.
    """
    for name, array in given.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise ChainruleError(f"--params: expected finite numbers, found {count} of {array.size} in '{name}' that are not")
    names = [t.name for t in program.parameters]
    missing = [name for name in names if name not in given]
    fresh = len(missing) == len(names)
    known = sizes_of(program, sizes, given)
    if missing and not fresh:
        raise ChainruleError(f"--params: expected all parameters of {program.name} or none, found {len(names) - len(missing)} of "
                             f"{len(names)}; missing: {', '.join(missing)}")
    steps = {mark for each in recurrences(program) for mark in each.along if isinstance(mark, Size)}
    chosen = choose_sizes(program, known, {"N": BATCH, **{str(s): STEPS for s in steps}})
    needed = {str(symbol) for t in program.parameters for extent in t.shape for symbol in extent.free_symbols}
    start = module.init(seed, **{n: v for n, v in chosen.items() if n in needed and program.sizes.get(n) is None})
    start = {name: np.asarray(array, dtype=float) for name, array in start.items()}
    trial = draw(program, chosen, start, seed)
    whole = {t.name: np.full_like(trial.values[t.name], extent(t.below, chosen) - 1) for t in program.inputs
             if t.is_index and t.below is not None and t.below.free_symbols & steps}
    still = {name: np.zeros_like(trial.values[name]) for name in program.links.values()}
    trial = moved_to(trial, program, {**start, **whole, **still, **given})
    return Point(chosen, trial.values, fresh)
