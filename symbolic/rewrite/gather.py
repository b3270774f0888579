"""Gather: an adjoint that is scattered to ``t-1`` is written at ``t``, reading its sources at ``t+1``.

Requires: an adjoint equation with a target subscript ``i + c`` or ``c - i`` (c an integer or a size expression for
the reflection ``T-1-t``), its index in no other target subscript. Ensures: the subscript is bare, the domain is the
exact image of the old one, clipped to the tensor's bounds (a write outside them does not happen, law 2), so the
volume never grows (law 14). Slices ``H+k``, strided windows and subscripts read from index tensors stay scatters:
they are as good, or better. Law: a renaming of the index by a bijection. Cost: linear.

>>> from symbolic.program import *
>>> T, t = size("T"), index("t")
>>> h, w = Tensor("d_h", (T,), Role.ADJOINT), Tensor("d_a", (T,), Role.ADJOINT)
>>> program = Program("p", (h, w), (Equation(h[t - 1], 2*w[t], (Index.over(t, T),), numbers=(1,)),), {"T": None})
>>> print(*gather(program, frozenset()).equations)
(1) d_h[t] += 2*d_a[t + 1]    for t=0..T - 2
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Expr

from symbolic.analysis import affine, at_most
from symbolic.program import Equation, Index, IndexName, Program, Reduction, Role, index_symbols
from symbolic.rewrite.terms import renumbered, substitute, tidy

__all__ = ["gather"]

NAME = "gather"


def gather(program: Program, keep: frozenset[str]) -> Program:
    """The program with shifted and reflected adjoint targets written at their bare index."""
    return program.with_equations(_gathered(equation, program) for equation in program.equations)


def _gathered(equation: Equation, program: Program) -> Equation:
    if equation.reduction is not Reduction.SUM or program.tensor(equation.name).role is not Role.ADJOINT:
        return equation
    changed = equation
    for axis in range(len(equation.target.indices)):
        changed = _axis(changed, axis, program) or changed
    return changed if changed is equation else renumbered(changed, NAME, equation)


def _axis(equation: Equation, axis: int, program: Program) -> Equation | None:
    part = equation.target.indices[axis]
    form = affine(part)
    if form is None or len(form.symbols) != 1 or not isinstance(form.symbols[0], IndexName):
        return None
    symbol = form.symbols[0]
    sign, constant = form.coefficient(symbol), form.constant
    if not (sign == -1 or (sign == 1 and constant.is_Integer and constant != 0)):
        return None
    others = (p for place, p in enumerate(equation.target.indices) if place != axis)
    if any(symbol in index_symbols(p) for p in others):
        return None
    if any(symbol in index_symbols(bound) for i in equation.indices for bound in (i.lower, i.upper)):
        return None
    over = equation.index(symbol)
    # i = s - c for a shift, i = c - s for a reflection; s runs over the image.
    if sign == 1:
        lower, upper = over.lower + constant, over.upper + constant
    else:
        lower, upper = constant - over.upper + 1, constant - over.lower + 1
    least, beyond = program.tensor(equation.name).bounds(axis)
    clipped = _larger(lower, least, program), _smaller(upper, beyond, program)
    if clipped[0] is None or clipped[1] is None:
        return None
    rule = {symbol: tidy(sign * (symbol - constant))}
    indices = tuple(Index(i.symbol, *map(sp.expand, clipped)) if i.symbol == symbol else i for i in equation.indices)
    target = substitute(equation.target, rule)
    guards = tuple(g for g in (substitute(guard, rule) for guard in equation.guards) if g is not sp.true)
    return replace(equation, target=target, body=substitute(equation.body, rule), guards=guards, indices=indices)


def _larger(a: Expr, b: Expr, program: Program) -> Expr | None:
    if at_most(b, a, program):
        return a
    return b if at_most(a, b, program) else None


def _smaller(a: Expr, b: Expr, program: Program) -> Expr | None:
    if at_most(a, b, program):
        return a
    return b if at_most(b, a, program) else None
