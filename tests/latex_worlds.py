"""What the letters of a derivation stand for: tensors and adjoints of a small model, by the interpreter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from codegen.pipeline import Options, Stages, stages
from codegen.trial import choose_sizes, draw, shape_of
from symbolic import Model
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Index, Program, Role, Tensor, index, size
from tests.latex_reader.evaluation import NOWHERE, Grid

__all__ = ["SMALL", "Trial", "grids_of"]

SMALL = {"T": 4, "N": 2, "V": 3, "E": 2, "H": 3, "D": 2, "K": 2, "C": 3}


@dataclass(frozen=True)
class Trial:
    """A model at one point: ``given`` as its spec has it, ``made`` after the stable forms, with adjoints."""

    model: Model
    unroll: int | None = None
    seed: int = 3

    @cached_property
    def stages(self) -> Stages:
        return stages(self.model, Options(unroll=self.unroll))

    @cached_property
    def sizes(self) -> dict[str, int]:
        program = self.stages.program
        return choose_sizes(program, {n: v for n, v in SMALL.items() if n in program.sizes and program.sizes[n] is None})

    @cached_property
    def values(self) -> Mapping[str, Any]:
        program, rng = self.stages.program, np.random.default_rng(self.seed)
        start = {t.name: rng.normal(size=shape_of(t, self.sizes)) * 0.5 for t in program.parameters}
        return draw(program, self.sizes, start, self.seed).values

    @cached_property
    def given(self) -> dict[str, Grid]:
        return grids_of(self.stages.program, self.values, self.sizes)

    @cached_property
    def made(self) -> dict[str, Grid]:
        """Every tensor and adjoint by name; what only the computed program has too."""
        first = grids_of(self.stages.adjoint, self.values, self.sizes)
        return {**grids_of(self.stages.optimised, self.values, self.sizes), **first}

    @cached_property
    def adjoints(self) -> dict[str, Grid]:
        """The adjoint of each tensor; of one that the loss does not depend on it is 0."""
        found = {name: self.made[adjoint] for name, adjoint in self.stages.adjoint.gradients.items() if adjoint in self.made}
        for tensor in self.stages.program.parameters:
            if tensor.name not in found:
                found[tensor.name] = Grid(np.zeros(shape_of(tensor, self.sizes)), (0,) * tensor.rank)
        return found

    def part(self, name: str, numbers: Iterable[int]) -> Grid | None:
        """What the equations of these numbers add to the adjoint of a tensor, by the chain rule alone; ``None`` for none."""
        program = self.stages.adjoint
        adjoint = program.gradients.get(name, name)
        rows = [e for e in program.writers.get(adjoint, ()) if e.number in set(numbers)]
        if not rows:
            return None
        part = replace(program.tensor(adjoint), name="the_part")
        equations = [replace(e, target=part.at(e.target.indices)) for e in rows]
        whole = program.with_equations([*program.equations, *equations], [*program.tensors, part])
        return grids_of(whole, self.values, self.sizes, ["the_part"])["the_part"]


def grids_of(
    program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], names: Iterable[str] | None = None
) -> dict[str, Grid]:
    """The values of tensors, margins too: those are read through equations that shift them into bounds."""
    wanted = [program.tensor(name) for name in names] if names is not None else list(program.tensors)
    wanted = [t for t in wanted if t.name in values or t.name in program.writers or t.role not in (Role.PARAMETER, Role.INPUT)]
    shown: dict[str, Tensor] = {}
    equations: list[Equation] = []
    for tensor in wanted:
        if any(map(any, tensor.margin)):
            bounds = [tensor.bounds(axis) for axis in range(tensor.rank)]
            whole = Tensor(f"whole {tensor.name}", tuple(upper - lower for lower, upper in bounds), tensor.role, tensor.kind)
            letters = [index(f"m{axis}") for axis in range(tensor.rank)]
            over = tuple(Index(s, *b) for s, b in zip(letters, bounds, strict=True))
            target = whole.at([s - lower for s, (lower, _) in zip(letters, bounds, strict=True)])
            equations.append(Equation(target, tensor.at(letters), over))
            shown[tensor.name] = whole
    extended = program.with_equations([*program.equations, *equations], [*program.tensors, *shown.values()])
    found = evaluate(extended, values, sizes, [shown.get(t.name, t).name for t in wanted])
    made: dict[str, Grid] = {}
    rule = {size(name): sp.Integer(number) for name, number in sizes.items()}
    for tensor in wanted:
        array = found[shown.get(tensor.name, tensor).name]
        if tensor.is_index and tensor.name not in values:
            array = np.where(array < 0, NOWHERE, array)
        lower = tuple(int(sp.sympify(tensor.bounds(axis)[0]).xreplace(rule)) for axis in range(tensor.rank))
        made[tensor.name] = Grid(array if tensor.is_index else np.asarray(array, dtype=np.float64), lower)
    return made
