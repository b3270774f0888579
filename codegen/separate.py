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

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import sympy as sp
from sympy import Indexed

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
    Role,
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
    places = [names.index(f"q{axis}") for axis in range(max((t.rank for t in program.tensors), default=0))]
    once = program.with_equations(_once(equation, places, program) for equation in program.equations)
    for name, rows in once.writers.items():
        if rows[0].reduction is Reduction.MAX and any(may_meet(a, b, once) for a, b in combinations(rows, 2)):
            once = _sliced(name, places, once, names)
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


def _sliced(name: str, places: Sequence[IndexName], program: Program, names: Names) -> Program:
    """The program with a slice for each equation of a maximum, and the greatest of the slices."""
    tensor, rows = program.tensor(name), program.writers[name]
    among = Index.over(names.index("e"), len(rows))
    each, count = (
        Tensor(names.fresh(f"{name}_{what}"), (among.extent, *tensor.shape), Role.INTERMEDIATE, margin=((0, 0), *tensor.margin))
        for what in ("each", "count"))
    slices = {id(row): sp.Integer(k) for k, row in enumerate(rows)}
    every = all(_fills(row, program) for row in rows)
    indices = tuple(Index(places[axis], *tensor.bounds(axis)) for axis in range(tensor.rank))
    entry = [among.symbol, *(i.symbol for i in indices)]
    found: list[Equation] = []
    for equation in program.equations:
        if id(equation) not in slices:
            found.append(equation)
            continue
        target = (slices[id(equation)], *equation.target.indices)
        found.append(renumbered(replace(equation, target=each.at(target)), NAME, equation))
        if not every:
            found.append(renumbered(_counted(equation, count.at(target), program), NAME, equation))
        if equation is rows[-1]:
            guards = () if every else (sp.Gt(count.at(entry), 0),)
            found.append(renumbered(Equation(tensor.at(entry[1:]), each.at(entry), (*indices, among), guards, Reduction.MAX,
                                             origin=equation.origin), NAME, *rows))
    return program.with_equations(found, (*program.tensors, each, *(() if every else (count,))))


def _counted(equation: Equation, target: Indexed, program: Program) -> Equation:
    """How many instances there are, or, of those that differ in nothing that a guard asks, whether there are any."""
    asked = frozenset().union(*map(index_symbols, (*equation.guards, target)))
    kept = tuple(i for i in equation.indices if i.symbol in asked or not is_positive(i.extent, program))
    return replace(equation, target=target, body=sp.Integer(1), indices=kept, reduction=Reduction.SUM)


def _fills(equation: Equation, program: Program) -> bool:
    """Whether the equation has an instance for every entry of its target."""
    tensor, indices = program.tensor(equation.name), {i.symbol: i for i in equation.indices}
    parts = equation.target.indices
    return (
        not equation.guards and len(set(parts)) == len(parts) and all(is_positive(i.extent, program) for i in equation.reduced)
        and all(part in indices and is_equal(indices[part].lower, lower, program)
                and is_equal(indices[part].upper, upper, program)
                for part, (lower, upper) in zip(parts, map(tensor.bounds, range(tensor.rank)), strict=True))
    )
