"""Cancel: a sum of few products is multiplied out where that leaves less to compute.

Requires: nothing; it looks at adjoint equations. Ensures: ``(1 - p)*y - (1 - y)*p`` of a binary cross entropy reads
``y - p``. Law: distribution. Only sums whose products give at most eight terms are tried, and kept only where they
cost less, so the work is bounded. Cost: linear.

>>> from symbolic.program import *
>>> N, n = size("N"), index("n")
>>> p, y, d = Tensor("p", (N,)), Tensor("y", (N,)), Tensor("d_z", (N,), Role.ADJOINT)
>>> program = Program("p", (p, y, d), (
...     Equation(d[n], (1 - y[n])*p[n] - (1 - p[n])*y[n], (Index.over(n, N),), numbers=(1,)),), {"N": None})
>>> print(*cancel(program, frozenset()).equations)
(1) d_z[n] += p[n] - y[n]    for n=0..N - 1
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symbolic.program import Equation, Program, Reduction, Role
from symbolic.rewrite.terms import apply_to_body, bottom_up, cost

__all__ = ["cancel", "multiplied"]

NAME = "cancel"
MOST_TERMS = 8


def cancel(program: Program, keep: frozenset[str]) -> Program:
    """The program with the sums of its adjoint equations multiplied out where terms cancel, within one or between two."""
    derived = {t.name for t in program.tensors if t.role in (Role.ADJOINT, Role.TANGENT)}
    rows: list[Equation] = []
    places: dict[object, int] = {}
    for equation in program.equations:
        if equation.name not in derived:
            rows.append(equation)
            continue
        if equation.body.has(sp.Add) and (body := bottom_up(equation.body, multiplied)) != equation.body:
            equation = apply_to_body(equation, body, NAME)
        alike = equation.target, equation.indices, equation.guards, equation.reduction
        if alike in places and (made := _together(rows[places[alike]], equation)) is not None:
            rows[places[alike]] = made
            continue
        places.setdefault(alike, len(rows))
        rows.append(equation)
    return program.with_equations(rows)


def _together(one: Equation, other: Equation) -> Equation | None:
    """Two contributions to the same entries as one, if terms cancel between them."""
    if one.reduction is not Reduction.SUM:
        return None
    body = multiplied(one.body + other.body)
    return apply_to_body(one, body, NAME, other) if cost(body) < cost(one.body) + cost(other.body) else None


def multiplied(expr: Expr) -> Expr:
    """A sum of products of sums, multiplied out if that is cheaper; ``-(y - p)`` is ``p - y``."""
    if expr.is_Mul:
        return _signed(expr)
    if not expr.is_Add:
        return expr
    sizes = [sp.prod([len(f.args) for f in sp.Mul.make_args(term) if f.is_Add]) for term in expr.args]
    if max(sizes) == 1 or sum(sizes) > MOST_TERMS:
        return expr
    made = sp.Add(*(sp.expand_mul(term, deep=False) for term in expr.args))
    return made if cost(made) < cost(expr) else expr


def _signed(expr: Expr) -> Expr:
    """A product whose sign can go into its only sum (``1 - h**2`` stays: a number leads it)."""
    sums = [f for f in expr.args if f.is_Add and not any(term.is_number for term in f.args)]
    if len(sums) != 1 or not expr.as_coeff_Mul()[0].is_negative or not sums[0].could_extract_minus_sign():
        return expr
    return sp.Mul(-1, expr / sums[0], sp.Add(*(-term for term in sums[0].args)))
