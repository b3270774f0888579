"""Specialise: a sum over an index that a guard fixes is the one term, so a one-hot product is a row of the matrix.

Requires: a product term that sums over ``v``, and either a guard ``v == x[t,n]`` of its own, or a factor ``o[t,n,v]``
whose only equation is ``o[t,n,x[t,n]] += c`` or ``o[t,n,v] += c`` under the guard ``v == x[t,n]``. Ensures: ``v`` is
gone, ``W[i,v]*o[t,n,v]`` reads ``W[i, x[t,n]]``. Law: the sum has one instance at most; where x is nowhere, or
outside the range of v, it has none, and the new term is 0 too: a factor read at the bare ``v`` is then outside its
tensor (law 8). Cost: linear.

>>> from symbolic.program import *
>>> import sympy as sp
>>> N, V, H = map(size, "NVH"); n, v, i = map(index, "nvi")
>>> x = Tensor("x", (N,), Role.INPUT, Kind.INDEX, below=V)
>>> o, W, a = Tensor("o", (N, V)), Tensor("W", (H, V), Role.PARAMETER), Tensor("a", (N, H))
>>> each = tuple(Index.over(k, e) for k, e in ((n, N), (i, H), (v, V)))
>>> program = Program("p", (x, o, W, a), (
...     Equation(o[n, v], sp.Integer(1), (each[0], each[2]), (sp.Eq(v, x[n]),), numbers=(1,)),
...     Equation(a[n, i], W[i, v]*o[n, v], each, numbers=(2,))), {"N": None, "V": None, "H": None})
>>> print(specialise(program, frozenset()).equations[1])
(2) a[n, i] += W[i, x[n]]    for n=0..N - 1, i=0..H - 1
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.analysis import affine, index_reads, is_equal, lies_in, subscript_range
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index, index_symbols, tensor_of
from symbolic.rewrite.terms import is_pointwise, operands, powers, renumbered, solve, substitute
from symbolic.rewrite.values import inside, is_met, is_somewhere, ranges_of

__all__ = ["specialise"]

NAME = "specialise"


def specialise(program: Program, keep: frozenset[str]) -> Program:
    """The program without sums over indices that an equality fixes."""
    deltas = {}
    for name, writers in program.writers.items():
        delta = _delta(writers[0], program) if len(writers) == 1 else None
        if delta is not None:
            deltas[name] = delta
    rows = []
    for equation in program.equations:
        opened = _opened(equation, deltas, program)
        rows.append(_fixed(opened, program) or equation)
    return program.with_equations(rows)


def _delta(equation: Equation, program: Program) -> Equation | None:
    """``o[..., v] += c`` under an equality that fixes v; a write at ``x[...]`` is one at v under ``v == x[...]``."""
    if operands(equation.body) or equation.reduction is not Reduction.SUM:
        return None
    tensor, indices, guards = program.tensor(equation.name), list(equation.indices), list(equation.guards)
    subscripts = list(equation.target.indices)
    taken = {i.symbol for i in indices}
    for axis, part in enumerate(subscripts):
        if not index_reads((part,)):
            continue
        symbol = next(s for s in map(index, (f"v_{k}" for k in range(axis, axis + len(taken) + 1))) if s not in taken)
        taken.add(symbol)
        subscripts[axis] = symbol
        indices.append(Index(symbol, *tensor.bounds(axis)))
        guards.append(sp.Eq(symbol, part))
    made = replace(equation, target=tensor.at(subscripts), indices=tuple(indices), guards=tuple(guards))
    return made if any(isinstance(guard, sp.Eq) for guard in guards) and is_pointwise(made) else None


def _opened(equation: Equation, deltas: dict[str, Equation], program: Program) -> Equation:
    """The equation with factors that are deltas replaced by their body, their guards among its own."""
    if equation.reduction is not Reduction.SUM or not equation.reduced:
        return equation
    for entry, power in powers(equation.body).items():
        if not (isinstance(entry, Indexed) and power == 1 and tensor_of(entry) in deltas):
            continue
        writer = deltas[tensor_of(entry)]
        values = solve(writer.target.indices, entry.indices, frozenset(i.symbol for i in writer.indices))
        if values is None or not inside(values, replace(writer, guards=()), equation, program):
            continue
        guards = equation.guards + tuple(substitute(guard, values) for guard in writer.guards)
        body = equation.body / entry * substitute(writer.body, values)
        equation = renumbered(replace(equation, body=body, guards=guards), NAME, equation, writer)
    return equation


def _fixed(equation: Equation, program: Program) -> Equation | None:
    """The equation with every reduced index gone that a guard fixes, or ``None`` where there is none."""
    changed: Equation | None = None
    for guard in equation.guards:
        now = changed or equation
        if isinstance(guard, sp.Eq) and guard in now.guards and now.reduction is Reduction.SUM:
            changed = _without(now, guard, program) or changed
    return changed


def _without(equation: Equation, guard: Relational, program: Program) -> Equation | None:
    for symbol, value in _solutions(guard):
        over = next((i for i in equation.reduced if i.symbol == symbol), None)
        if over is None or any(symbol in index_symbols(b) for i in equation.indices for b in (i.lower, i.upper)):
            continue
        others = tuple(g for g in equation.guards if g is not guard)
        smaller = replace(equation, indices=tuple(i for i in equation.indices if i is not over))
        if not (
            _always_inside(value, over.lower, over.upper, smaller, program)
            or _vanishes(equation, symbol, over.lower, over.upper, program)
        ):
            continue
        rule = {symbol: value}
        guards = tuple(g for g in (substitute(other, rule) for other in others) if g is not sp.true)
        return renumbered(replace(smaller, body=substitute(equation.body, rule), guards=guards), NAME, equation)
    return None


def _solutions(guard: Relational) -> list[tuple[IndexName, Expr]]:
    """Indices that stand bare on one side, with the other side."""
    sides = ((guard.lhs, guard.rhs), (guard.rhs, guard.lhs))
    return [(a, b) for a, b in sides if isinstance(a, IndexName) and affine(b) is not None and a not in index_symbols(b)]


def _always_inside(value: Expr, lower: Expr, upper: Expr, reader: Equation, program: Program) -> bool:
    """Whether the fixed value is proved to lie in the range, so that the one instance always exists."""
    found = subscript_range(value, ranges_of(reader), program)
    if found is None or not lies_in(found, (lower, upper), program):
        return False
    return all(is_met(entry, reader, program) and is_somewhere(entry, reader, program) for entry in operands(value))


def _vanishes(equation: Equation, symbol: IndexName, lower: Expr, upper: Expr, program: Program) -> bool:
    """Whether a factor is read at the bare index over the whole of its axis: beyond the range it is out of bounds, 0 (and the
    other factors that read through the index are finite there)."""
    covered = False
    for base, power in powers(equation.body).items():
        if symbol not in index_symbols(base):
            continue
        if not (isinstance(base, Indexed) and power.is_Integer and power > 0):
            return False
        for axis, part in enumerate(base.indices):
            least, beyond = program.tensor(tensor_of(base)).bounds(axis)
            if part == symbol and is_equal(least, lower, program) and is_equal(beyond, upper, program):
                covered = True
    return covered
