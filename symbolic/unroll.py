"""Unrolling: the equations of a recurrence written out for each time step, on request.

    a[t,n,i] = U[i,j]*h[t-1,n,j], h[t,n,i] = tanh(a[t,n,i])    becomes, for two steps,
    h[0,n,i] = tanh(a[0,n,i]),  a[1,n,i] = U[i,j]*h[0,n,j],  h[1,n,i] = tanh(a[1,n,i])

The size of the time axis becomes a number and every index that runs over it takes its values one by one, so that the
composite function of a derivation stands there in full, and code without a loop. Tensors keep their names; entries
have constant time subscripts. Rolled and unrolled agree in every value and gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from symbolic.cycles import adjacency, components, graph, is_shifted
from symbolic.errors import ProgramError, SpecError, nearest
from symbolic.program import (
    Equation,
    Index,
    Program,
    Reduction,
    Size,
    Tensor,
    size,
    tensor_of,
)
from symbolic.rewrite.zeros import without_zeros

__all__ = ["recurrent_sizes", "unroll"]

MOST_INSTANCES = 10_000
"""Equations that are written out at most: more take minutes, and a file that nobody reads and no loop is behind."""


def unroll(program: Program, steps: int, axis: str = "auto") -> Program:
    """The program with ``steps`` time steps written out; ``axis`` names the size of time (``auto``: the one that recurs).

    Ensures the same values as ``program`` where that size is ``steps``. A read before the first or after the last step is 0,
    and so is what no step writes: it leaves its product, and the product its sum. Raises ProgramError where there is no
    recurrence, or the size has another value, SpecError where the steps make more equations than one can want written out.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ProgramError(f"{program.name}: expected a number of steps of at least 1 to unroll, found {steps!r}")
    time = _time(program, axis)
    fixed = program.sizes.get(time.name)
    if fixed is not None and fixed != steps:
        raise ProgramError(
            f"{program.name}: the spec fixes {time.name} = {fixed}, so {fixed} steps can be unrolled, not {steps}; "
            f"ask for {fixed}, or leave {time.name} free"
        )
    here = {time: sp.Integer(steps)}
    tensors = tuple(_with_extent(tensor, here) for tensor in program.tensors)
    shaped = replace(program, tensors=tensors, equations=(), sizes={**program.sizes, time.name: steps})
    _few_enough(program, time, here, steps)
    rows: list[Equation] = []
    numbers: dict[Any, int] = {}
    for block in _blocks(program.equations, time):
        instances = [pair for equation in block for pair in _instances(equation, time, here, shaped)]
        # Step by step, and within a step in the order of the text.
        for moment, _, equation in sorted(((m, k, e) for k, (m, e) in enumerate(instances)), key=lambda row: row[:2]):
            number = numbers.setdefault((moment, equation.numbers), len(numbers) + 1)
            rows.append(replace(equation, numbers=(number,)))
    left = without_zeros(shaped.with_equations(rows)).equations
    order = {number: k for k, number in enumerate(dict.fromkeys(e.number for e in left), start=1)}
    return shaped.with_equations(
        replace(e, numbers=(order[e.number],), origin=replace(e.origin, rule="unroll", parents=())) for e in left
    )


def recurrent_sizes(program: Program) -> tuple[Size, ...]:
    """The sizes of the axes that carry a recurrence, ordered by name.

    In a cycle of tensors, reads shifted along one axis carry it if no cycle is left without them: the packed gates of an LSTM are
    read at ``H+k`` too, but the steps alone carry its recurrence. Where no single axis does, all shifted ones are named.
    """
    component = components(graph(program))
    edges: dict[int, list[tuple[str, str, frozenset[Size]]]] = {}
    for equation in program.equations:
        for entry in equation.reads:
            name = tensor_of(entry)
            if name in component and component[name] == component.get(equation.name):
                edges.setdefault(component[name], []).append((equation.name, name, _shifted_along(entry, equation, program)))
    found: set[Size] = set()
    for rows in edges.values():
        sizes = frozenset().union(*(shifted for _, _, shifted in rows))
        alone = {s for s in sizes if not components(adjacency((a, b) for a, b, shifted in rows if s not in shifted))}
        found |= alone or sizes
    return tuple(sorted(found, key=lambda s: str(s.name)))


def _shifted_along(entry: Indexed, equation: Equation, program: Program) -> frozenset[Size]:
    shape = program.tensor(tensor_of(entry)).shape
    return frozenset().union(*(shape[k].atoms(Size) for k, part in enumerate(entry.indices) if is_shifted(part, equation)))


def _time(program: Program, axis: str) -> Size:
    found = recurrent_sizes(program)
    names = [str(s.name) for s in found]
    if axis != "auto":
        if axis not in program.sizes:
            raise ProgramError(
                f"{program.name}: no size '{axis}' to unroll{nearest(axis, program.sizes)}; known: {', '.join(program.sizes)}"
            )
        return size(axis)
    if not found:
        raise ProgramError(
            f"{program.name}: nothing to unroll: expected a recurrence, a tensor that is read at another step than "
            "it is written (h[t-1] where h[t] is computed) along an axis whose extent is a named size; found none"
        )
    if len(found) > 1:
        raise ProgramError(f"{program.name}: expected one recurrent axis to unroll, found {', '.join(names)}; unroll(program, "
                           "steps, axis) takes one of them by its name")
    return found[0]


# ---- instances ---------------------------------------------------------------------------------------------------------


def _with_extent(tensor: Tensor, here: Mapping[Size, Expr]) -> Tensor:
    return replace(
        tensor,
        shape=tuple(e.xreplace(here) for e in tensor.shape),
        low=sp.sympify(tensor.low).xreplace(here),
        below=None if tensor.below is None else sp.sympify(tensor.below).xreplace(here),
    )


def _over_time(equation: Equation, time: Size) -> tuple[Index, ...]:
    """The indices to write out: those whose range has the size in it, unless a maximum is taken over them."""
    found = tuple(i for i in equation.indices if time in i.lower.free_symbols | i.upper.free_symbols)
    return found if equation.reduction is Reduction.SUM else tuple(i for i in found if i in equation.free)


def _few_enough(program: Program, time: Size, here: Mapping[Size, Expr], steps: int) -> None:
    count = 0
    for equation in program.equations:
        extents = [int((i.upper - i.lower).xreplace(here)) for i in _over_time(equation, time)]
        count += math.prod(extents)
    if count > MOST_INSTANCES:
        raise SpecError(
            f"{program.name}: {steps} steps of {time.name} make {count:,} equations, expected at most {MOST_INSTANCES:,}: "
            "unrolled code is as long as its steps and meant to be read; unroll fewer, or leave the loop "
            "(the same values, in code of constant size)"
        )


def _blocks(equations: Iterable[Equation], time: Size) -> Iterator[list[Equation]]:
    """Runs of equations that all have a step, or all have none."""
    for _, block in itertools.groupby(equations, key=lambda e: bool(_over_time(e, time))):
        yield list(block)


def _instances(equation: Equation, time: Size, here: Mapping[Size, Expr], shaped: Program) -> Iterator[tuple[int, Equation]]:
    """The equation at each step, with the step of its target (that of its first index for a sum over time)."""
    moving = _over_time(equation, time)
    ranges = [range(*(int(b.xreplace(here)) for b in (i.lower, i.upper))) for i in moving]
    rest = tuple(Index(i.symbol, i.lower.xreplace(here), i.upper.xreplace(here)) for i in equation.indices if i not in moving)
    for point in itertools.product(*ranges):
        rule: dict[Any, Expr] = {**here, **{i.symbol: sp.Integer(v) for i, v in zip(moving, point, strict=True)}}
        made = replace(equation.xreplace(rule), indices=rest)
        if not made.has_instances or not _may_write(made, shaped):
            continue
        made = _without_zeros(made, shaped)
        if made.body != 0 or made.reduction is not Reduction.SUM:
            yield (point[0] if point else 0), made


def _outside(subscripts: Iterable[Expr], tensor: Tensor) -> bool:
    """Whether a constant subscript lies outside its axis."""
    for axis, part in enumerate(subscripts):
        lower, upper = tensor.bounds(axis)
        if part.is_Integer and upper.is_Integer and not lower <= part < upper:
            return True
    return False


def _may_write(equation: Equation, shaped: Program) -> bool:
    return not _outside(equation.target.indices, shaped.tensor(equation.name))


def _without_zeros(equation: Equation, shaped: Program) -> Equation:
    """Reads outside the time axis are 0; they stay as they are only where the body would not be finite."""
    zeros = {
        e: sp.Integer(0)
        for e in equation.reads
        if not shaped.tensor(tensor_of(e)).is_index and _outside(e.indices, shaped.tensor(tensor_of(e)))
    }
    if not zeros:
        return equation
    body = equation.body.xreplace(zeros)
    return equation if body.has(sp.zoo, sp.nan, sp.oo) else replace(equation, body=body)
