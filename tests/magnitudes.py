"""How far two ways through the same arithmetic may lie apart, in units of the rounding of one operation.

    c[n] = sum_k a[n,k]*b[k] - d[n]
      ->   E(c)[n] = sum_k |a[n,k]*b[k]| + |d[n]|  +  sum_k (|b[k]|*E(a)[n,k] + |a[n,k]|*E(b)[k]) + E(d)[n]

The absolute terms of an entry, and what the same of its operands becomes in it: |dc/da| is the condition of the step. What is
given is exact. It grows with the steps that values go through and with their condition, not with the length of a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import sympy as sp
from sympy import Expr

from codegen.lower import given
from symbolic.adjoint import partial
from symbolic.functions import absolute
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Program, Role, Tensor, is_index_read, tensor_of

__all__ = ["magnitudes"]

ENDING = "\N{MODIFIER LETTER VERTICAL LINE}"
"""No name of a model ends so."""


def magnitudes(program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wanted: Iterable[str]) -> dict[str, Any]:
    """E of each entry of the tensors ``wanted``."""
    twins = {t.name: replace(t, name=f"{t.name}{ENDING}", role=Role.INTERMEDIATE)
             for t in program.tensors if not (given(t) or t.is_index)}
    rows = [_bound(e, twins) for e in program.equations if e.name in twins]
    doubled = replace(program, tensors=(*program.tensors, *twins.values()), equations=(*program.equations, *rows))
    found = evaluate(doubled, values, sizes, [twins[name].name for name in wanted])
    return {name: found[twins[name].name] for name in wanted}


def _bound(equation: Equation, twins: Mapping[str, Tensor]) -> Equation:
    body = _size(equation.body)
    for entry in equation.reads:
        if tensor_of(entry) in twins and not is_index_read(entry) and equation.body.has(entry):
            body += _abs(partial(equation.body, entry)) * twins[tensor_of(entry)].at(entry.indices)
    return replace(equation, target=twins[equation.name].at(equation.target.indices), body=body)


def _size(expr: Expr) -> Expr:
    """An expression with the absolute values of its terms."""
    if expr.is_Add or expr.is_Mul:
        return expr.func(*map(_size, expr.args))
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        return _size(expr.base) ** expr.exp
    return _abs(expr)


def _abs(expr: Expr) -> Expr:
    return sp.Abs(expr) if expr.is_number else absolute(expr)
