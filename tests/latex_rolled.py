"""What one step of a recurrence does to a small change, by the interpreter and central differences: the state before held fixed.

Every read of a state at another step than the one that is written reads a copy of it; a change of the copy is a change of the
state before, a change of a parameter is one that reaches this step at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from symbolic.interpreter import evaluate
from symbolic.program import Equation, Program, Role, Tensor, size, tensor_of
from tests.latex_reader.evaluation import Grid
from tests.latex_worlds import Trial, grids_of

__all__ = ["Steps"]

Array = np.ndarray[Any, Any]
STEP = 1e-5


@dataclass(frozen=True)
class Steps:
    """The steps of a trial's model that is not unrolled; ``states``: what is carried from step to step along the first axis."""

    trial: Trial
    states: tuple[str, ...]

    @cached_property
    def program(self) -> Program:
        """The program with the states before as inputs."""
        program = self.trial.stages.program
        return program.with_equations([self._held(e) for e in program.equations], [*program.tensors, *self._copies.values()])

    @cached_property
    def _copies(self) -> Mapping[str, Tensor]:
        found = {}
        for name in self.states:
            tensor = self.trial.stages.program.tensor(name)
            bounds = [tensor.bounds(axis) for axis in range(tensor.rank)]
            found[name] = Tensor(f"{name} before", tuple(upper - lower for lower, upper in bounds), Role.INPUT)
        return found

    def _held(self, equation: Equation) -> Equation:
        """The equation with what it reads of the states at other steps taken from their copies."""
        rule = {}
        for read in equation.reads:
            name = tensor_of(read)
            if name in self.states and equation.target.indices and read.indices[0] != equation.target.indices[0]:
                tensor = self.trial.stages.program.tensor(name)
                rule[read] = self._copies[name].at(
                    [part - tensor.bounds(axis)[0] for axis, part in enumerate(read.indices)])
        return replace(equation, body=equation.body.xreplace(rule)) if rule else equation

    @cached_property
    def values(self) -> dict[str, Any]:
        """All that is given, and the copies with the values that the states have."""
        sizes, program = self.trial.sizes, self.trial.stages.program
        states = grids_of(program, self.trial.values, sizes, self.states)
        return {**self.trial.values, **{f"{name} before": states[name].values for name in self.states}}

    def jacobian(self, of: str, by: str) -> Grid:
        """``d of[..] / d by[..]``, first the subscripts of the one, then those of the other, a state before or a parameter."""
        program = self.trial.stages.program
        name = f"{by} before" if by in self.states else by
        start = np.asarray(self.values[name], dtype=float)
        found = []
        for place in np.ndindex(*start.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = start.copy()
                moved[place] += step
                ends.append(evaluate(self.program, {**self.values, name: moved}, self.trial.sizes, [of])[of])
            found.append((np.asarray(ends[0]) - np.asarray(ends[1])) / (2 * STEP))
        shape = program.tensor(of).rank
        values = np.moveaxis(np.asarray(found).reshape(*start.shape, *found[0].shape), range(start.ndim), range(-start.ndim, 0))
        rule = {size(known): sp.Integer(number) for known, number in self.trial.sizes.items()}
        tensor = program.tensor(by)
        lower = [int(sp.sympify(tensor.bounds(axis)[0]).xreplace(rule)) for axis in range(tensor.rank)]
        return Grid(values, (0,) * shape + tuple(lower))
