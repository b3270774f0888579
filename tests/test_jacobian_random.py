"""Step Jacobians of random programs, against the tangents.

A tangent of a state is the sum over all blocks of the block times the tangent of what it is taken by: whatever the step reads,
earlier states, inputs or parameters. At steps that an equation of their own writes (a start) this says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from symbolic import ProgramError
from symbolic.interpreter import evaluate
from symbolic.jacobian import StepJacobian, step_jacobians
from symbolic.program import Equation, Index, Names, Program, Reduction, Tensor, index_symbols
from symbolic.tangent import tangent
from tests.programs import Case, drawn
from tests.stages import values_of

SEEDS = (*range(80), 362, 1061, 2479, 3109)
"""A short search, and four that were wrong once: places that are nowhere, a guard that became true, margins of steps."""


def moved_by(program: Program) -> list[str]:
    return [t.name for t in (*program.parameters, *program.inputs) if not t.is_index]


def residuals(jacobian: StepJacobian) -> tuple[Program, dict[str, tuple[str, str]]]:
    """The tangent program with two more tensors a state: its tangent less that of the blocks, and where a start is written."""
    program = jacobian.program
    dotted = tangent(replace(program, outputs=(), links={}), moved_by(program))
    names, tensors, equations = Names.of(dotted), list(dotted.tensors), list(dotted.equations)
    dots = {name: dotted.tensor(other) for name, other in dotted.tangents.items()}
    found = {}
    for state in jacobian.recurrence.states:
        if state not in dots:
            continue
        tensor = program.tensor(state)
        rest, start = (Tensor(names.fresh(name), tensor.shape) for name in ("rest", "start"))
        tensors += [rest, start]
        found[state] = (rest.name, start.name)
        places = [names.index("q") for _ in tensor.shape]
        over = tuple(Index.over(p, extent) for p, extent in zip(places, tensor.shape, strict=True))
        equations += [Equation(rest.at(places), dots[state].at(places), over), Equation(start.at(places), sp.Integer(0), over)]
        for block in (*jacobian.blocks, *jacobian.inputs, *jacobian.direct):
            of, by = block.between
            if of == state and by in dots:
                equations += [Equation(rest.at(block.of.indices), -term.coefficient * dots[by].at(block.by.indices),
                                       (*block.indices, *term.sums), term.guards) for term in block.terms]
        for writer in program.writers[state]:
            own = {i.symbol for i in writer.indices}
            if any(not index_symbols(writer.target.indices[a]) & own for a in jacobian.recurrence.axes(tensor)):
                equations.append(replace(writer, target=start.at(writer.target.indices), body=sp.Integer(1),
                                         reduction=Reduction.SUM))
    return dotted.with_equations(equations, tensors), found


def errors(case: Case, jacobians: tuple[StepJacobian, ...]) -> list[float]:
    """For each state the greatest residual, relative to its tangent."""
    values = values_of(case.model().program(), case.sizes, case.seed)
    rng = np.random.default_rng(case.seed)
    made = []
    for jacobian in jacobians:
        program, found = residuals(jacobian)
        point: dict[str, Any] = {**values}
        for name in moved_by(jacobian.program):
            point[program.tangents[name]] = rng.standard_normal(np.shape(values[name]))
        wanted = [name for state, pair in found.items() for name in (*pair, program.tangents[state])]
        arrays = evaluate(program, point, case.sizes, wanted)
        for state, (rest, start) in found.items():
            size = np.abs(arrays[program.tangents[state]]).max(initial=1)
            made.append(float(np.abs(np.where(arrays[start] == 0, arrays[rest], 0)).max(initial=0) / size))
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_give_the_tangents(seed: int) -> None:
    case = drawn(seed)
    try:
        jacobians = step_jacobians(case.model().program())
    except ProgramError as error:
        assert "no fixed number of steps" in str(error)  # noqa: PT017 - the only reason that these programs may have
        return
    assert max(errors(case, jacobians), default=0) < 1e-10, case


def test_the_programs_have_recurrences_and_a_fault_is_seen() -> None:
    seen = 0
    for seed in range(50):
        case = drawn(seed)
        try:
            jacobians = step_jacobians(case.model().program())
        except ProgramError:
            continue
        for good in (j for j in jacobians if j.blocks):
            first, *others = good.blocks
            term, *more = first.terms
            wrong = replace(first, terms=(replace(term, coefficient=2 * term.coefficient), *more))
            seen += max(errors(case, (replace(good, blocks=(wrong, *others)),)), default=0) > 1e-6
    assert seen >= 5
