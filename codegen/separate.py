"""Every entry of a maximum is written by one equation, once: where several meet, each gets a slice of its own.

    m[n] = max over k of a[n,k],  m[n] = max over j of b[n,j]
        ->   m_each[0,n] = max over k of a[n,k],  m_each[1,n] = max over j of b[n,j],  m[n] = max over e of m_each[e,n]
    m[i[n]] = max over k of a[n,k]   ->   m[q] = max over (n, k) of a[n,k] where i[n] = q

A sum may be added to; a maximum stands in one statement, which finds nothing in its place. Where an equation may leave out an
entry its instances are counted: a maximum over none is 0, and must not be compared with the others (law 6).

Requires: a program that is not differentiated any more; each argument of a maximum has one equation. Ensures: the same values of
all tensors. Law: the greatest of all is the greatest of the greatest of each equation. Cost: linear; but for a write through an
index tensor or over a window every instance is asked for every entry whether it is the one.

>>> from symbolic.program import *
>>> N, n, k = size("N"), index("n"), index("k")
>>> m, a, b = Tensor("m", (N,)), Tensor("a", (N, 3), Role.INPUT), Tensor("b", (N,), Role.INPUT)
>>> rows = (Equation(m[n], a[n, k], (Index.over(n, N), Index.over(k, 3)), (), Reduction.MAX, numbers=(1,)),
...         Equation(m[n], b[n], (Index.over(n, N),), (sp.Gt(n, 2),), Reduction.MAX, numbers=(2,)))
>>> print(*separate(Program("p", (m, a, b), rows, {"N": None})).equations, sep="\\n")
(1) m_each[0, n] += max over (k) a[n, k]    for n=0..N - 1, k=0..2
(1) m_count[0, n] += 1    for n=0..N - 1
(2) m_each[1, n] += max over () b[n] [n > 2]    for n=0..N - 1
(2) m_count[1, n] += 1 [n > 2]    for n=0..N - 1
(1) m[q0] += max over (e) m_each[e, q0] [m_count[e, q0] > 0]    for q0=0..N - 1, e=0..1
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

import sympy as sp
from sympy import Expr, Indexed

from codegen.writes import is_mixed_radix
from symbolic.analysis import affine, index_reads, is_equal, is_positive, may_meet
from symbolic.errors import ScheduleError
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Names,
    Program,
    Reduction,
    Tensor,
    index_symbols,
)
from symbolic.rewrite.terms import renumbered

__all__ = ["separate", "unseparated"]

NAME = "separate"


def separate(program: Program) -> Program:
    """The program with one equation for each entry of a maximum."""
    if all(equation.reduction is Reduction.SUM for equation in program.equations):
        return program
    names = Names.of(program)
    among, *places = map(names.index, ["e", *(f"q{axis}" for axis in range(max(t.rank for t in program.tensors)))])
    once = program.with_equations(_once(equation, places, program) for equation in program.equations)
    for rows in once.writers.values():
        for part in _parts(rows) if rows[0].reduction is Reduction.MAX else ():
            if any(may_meet(a, b, once) for a, b in combinations(part, 2)):
                once = _sliced(part, among, places, once, names)
    return once


def unseparated(equation: Equation, program: Program) -> ScheduleError:
    """What a target raises that finds something in the place of a maximum: to write over it, or to add, would be wrong."""
    return ScheduleError(f"{program.name}: expected one equation for each entry of the maximum '{equation.name}', found several; "
                         "separate gives each a slice")


def _once(equation: Equation, places: Sequence[IndexName], program: Program) -> Equation:
    """A maximum whose instances write entries of their own: where a subscript may be the same in several, the entry runs over its
    axis and asks for them."""
    if equation.reduction is Reduction.SUM:
        return equation
    tensor = program.tensor(equation.name)
    wide = {axis: Index(places[axis], *tensor.bounds(axis)) for axis in range(tensor.rank)
            if not _is_plain(equation, axis, program)}
    if not wide:
        return equation
    target = tensor.at([wide[axis].symbol if axis in wide else part for axis, part in enumerate(equation.target.indices)])
    guards = tuple(sp.Eq(equation.target.indices[axis], index.symbol) for axis, index in wide.items())
    return renumbered(replace(equation, target=target, guards=(*equation.guards, *guards),
                              indices=(*wide.values(), *equation.indices)), NAME, equation)


def _is_plain(equation: Equation, axis: int, program: Program) -> bool:
    """Whether a subscript tells its indices: it has one at most, or counts through the axis digit by digit."""
    part = equation.target.indices[axis]
    form = affine(part)
    if form is None or index_reads((part,)):
        return False
    return len(form.symbols) <= 1 or is_mixed_radix(equation, part, program)


def _parts(rows: Sequence[Equation]) -> Collection[list[Equation]]:
    """The equations of one tensor, apart where they have different numbers on an axis on which all have one."""
    fixed = [axis for axis, parts in enumerate(zip(*(row.target.indices for row in rows), strict=True))
             if all(part.is_Integer for part in parts)]
    found: dict[tuple[Expr, ...], list[Equation]] = {}
    for row in rows:
        found.setdefault(tuple(row.target.indices[axis] for axis in fixed), []).append(row)
    return found.values()


def _sliced(
    rows: Sequence[Equation], among: IndexName, places: Sequence[IndexName], program: Program, names: Names
) -> Program:
    """The program with a slice for each of these equations of a maximum, and the greatest of the slices."""
    tensor = program.tensor(rows[0].name)
    axes = [axis for axis in range(tensor.rank) if not all(row.target.indices[axis].is_Integer for row in rows)]
    each, count = (
        Tensor(names.fresh(f"{tensor.name}_{what}"), (sp.Integer(len(rows)), *(tensor.shape[axis] for axis in axes)),
               margin=((0, 0), *(tensor.margin[axis] for axis in axes)))
        for what in ("each", "count"))
    every = all(_fills(row, axes, program) for row in rows)
    indices = tuple(Index(places[axis], *tensor.bounds(axis)) for axis in axes)
    entry = [among, *(i.symbol for i in indices)]
    target = tensor.at([places[axis] if axis in axes else part for axis, part in enumerate(rows[0].target.indices)])
    guards = () if every else (sp.Gt(count.at(entry), 0),)
    greatest = Equation(
        target, each.at(entry), (*indices, Index.over(among, len(rows))), guards, Reduction.MAX, origin=rows[-1].origin)
    made: dict[int, list[Equation]] = {}
    for k, row in enumerate(rows):
        place = [sp.Integer(k), *(row.target.indices[axis] for axis in axes)]
        found = [replace(row, target=each.at(place)), *(() if every else (_counted(row, count.at(place), program),))]
        made[id(row)] = [renumbered(equation, NAME, row) for equation in found]
    made[id(rows[-1])].append(renumbered(greatest, NAME, *rows))
    equations = [equation for old in program.equations for equation in made.get(id(old), (old,))]
    return program.with_equations(equations, (*program.tensors, each, *(() if every else (count,))))


def _counted(equation: Equation, target: Indexed, program: Program) -> Equation:
    """How many instances there are, or, of those that differ in nothing that a guard asks, whether there are any."""
    asked = frozenset().union(*map(index_symbols, (*equation.guards, target)))
    kept = tuple(i for i in equation.indices if i.symbol in asked or not is_positive(i.extent, program))
    return replace(equation, target=target, body=sp.Integer(1), indices=kept, reduction=Reduction.SUM)


def _fills(equation: Equation, axes: Sequence[int], program: Program) -> bool:
    """Whether the equation has an instance for every entry along these axes of its target."""
    tensor, indices = program.tensor(equation.name), {i.symbol: i for i in equation.indices}
    parts = [equation.target.indices[axis] for axis in axes]
    return (
        not equation.guards and len(set(parts)) == len(parts) and all(is_positive(i.extent, program) for i in equation.reduced)
        and all(part in indices and is_equal(indices[part].lower, lower, program)
                and is_equal(indices[part].upper, upper, program)
                for part, (lower, upper) in zip(parts, map(tensor.bounds, axes), strict=True))
    )
