"""How large the terms of every entry are: the scale on which two ways through the same arithmetic may differ.

    c = sum of a*b - d   ->   |c| = sum of |a|*|b| + |d|,   f(x)   ->   |f(x)| + |f'(x)|*|x|

where |a| of a computed entry is what its own terms add up to in absolute value. It is the sum of the absolute terms that a
result is made of: cancellation (conditioning) enters, the number of terms does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import given
from symbolic.functions import row_of
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Program, Reduction, Role, Tensor, is_index_read, tensor_of

__all__ = ["magnitudes"]

ENDING = "\N{MODIFIER LETTER VERTICAL LINE}"
"""No name of a model ends so."""


def magnitudes(program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wanted: Iterable[str]) -> dict[str, Any]:
    """The sum of the absolute terms of each entry of the tensors ``wanted``."""
    twins = {t.name: _twin(t) for t in program.tensors if not given(t) and not t.is_index}
    rows = [*program.equations, *(_absolute(e, twins) for e in program.equations if e.name in twins)]
    doubled = replace(program, tensors=(*program.tensors, *twins.values()), equations=tuple(rows))
    found = evaluate(doubled, values, sizes, [twins[name].name for name in wanted])
    return {name: found[twins[name].name] for name in wanted}


def _twin(tensor: Tensor) -> Tensor:
    return replace(tensor, name=f"{tensor.name}{ENDING}", role=Role.INTERMEDIATE)


def _absolute(equation: Equation, twins: Mapping[str, Tensor]) -> Equation:
    reduction = equation.reduction
    body = _size(equation.body, twins)
    assert reduction in (Reduction.SUM, Reduction.MAX)
    return replace(equation, target=twins[equation.name].at(equation.target.indices), body=body)


def _size(expr: Expr, twins: Mapping[str, Tensor]) -> Expr:
    """At least the absolute value of an expression, and what an error of its parts becomes in it."""
    if isinstance(expr, Indexed):
        name = tensor_of(expr)
        return twins[name].at(expr.indices) if name in twins and not is_index_read(expr) else _abs(expr)
    if expr.is_Add or expr.is_Mul:
        return expr.func(*(_size(part, twins) for part in expr.args))
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        return _size(expr.base, twins) ** expr.exp
    moving = [k for k, part in enumerate(expr.args) if part.atoms(Indexed)]
    if not moving:
        return _abs(expr)
    if expr.is_Pow:
        slopes = {0: expr.exp * expr.base ** (expr.exp - 1)} if moving == [0] else {}
    else:
        row = row_of(expr)
        slopes = {k: sp.sympify(row.derivatives[k](*expr.args)) for k in moving} if row is not None else {}
    return _abs(expr) + sp.Add(*(_abs(slope) * _size(expr.args[k], twins) for k, slope in slopes.items()))


def _abs(expr: Expr) -> Expr:
    from symbolic.functions import absolute

    return abs(expr) if expr.is_number else absolute(expr)
