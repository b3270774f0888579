"""Blend: a mean by a weight and its complement takes one product, ``(1 - z)*g + z*h`` is ``g + z*(h - g)``.

Requires: nothing; best after ``logistic``, which shows the weights of gates. Ensures: such a sum is written as one end and a
part of the way to the other, so that the weight is read once; its slope by z is then one product too, ``(h - g)*d_y``. Law:
distribution, for a weight that is proved to lie in [0, 1] (the value of a sigmoid): nothing is larger there than twice the
larger end, and the result is right to a rounding of that end. (For a weight of any size the difference of two large products
would be a rounding of something else.) Kept only where it costs less, so ``1 - z`` alone stays. Cost: linear.

>>> from symbolic.functions import sigmoid
>>> from symbolic.program import *
>>> N, n = size("N"), index("n")
>>> a, z, g, h, y = (Tensor(name, (N,)) for name in "azghy")
>>> over = (Index.over(n, N),)
>>> program = Program("p", (a, z, g, h, y), (Equation(z[n], sigmoid(a[n]), over, numbers=(1,)),
...     Equation(y[n], (1 - z[n])*g[n] + z[n]*h[n], over, numbers=(2,))), {"N": None})
>>> print(blend_means(program, frozenset()).equations[1])
(2) y[n] += (-g[n] + h[n])*z[n] + g[n]    for n=0..N - 1
"""

from __future__ import annotations

from itertools import combinations, permutations

import sympy as sp
from sympy import Expr, Indexed

from symbolic.functions import sigmoid
from symbolic.program import Equation, Program, Reduction
from symbolic.rewrite.terms import apply_to_body, bottom_up, cost
from symbolic.rewrite.values import Values

__all__ = ["blend_means"]

NAME = "blend"
MOST_TERMS = 8


def blend_means(program: Program, keep: frozenset[str]) -> Program:
    """The program with means by a weight in [0, 1] and its complement written with one product."""
    values = Values(program)
    rows: list[Equation | None] = [_blended(equation, values) for equation in program.equations]
    alike: dict[object, list[int]] = {}
    for k, equation in enumerate(rows):
        if equation is not None and _is_plain(equation):
            key = (equation.target, frozenset(equation.indices), frozenset(equation.guards))
            alike.setdefault(key, []).append(k)
    for group in alike.values():
        for first, second in combinations(group if len(group) <= MOST_TERMS else (), 2):
            made = _joined(rows[first], rows[second], values)
            if made is not None:
                rows[first], rows[second] = made, None
    return program.with_equations(equation for equation in rows if equation is not None)


def _is_plain(equation: Equation) -> bool:
    return equation.reduction is Reduction.SUM and not equation.reduced


def _blended(equation: Equation, values: Values) -> Equation:
    """The equation with the means that stand in its body."""
    if not _is_plain(equation) or not equation.body.has(sp.Add):
        return equation
    body = bottom_up(equation.body, lambda expr: _mean(expr, equation, values) or expr)
    return equation if body == equation.body else apply_to_body(equation, body, NAME)


def _joined(first: Equation | None, second: Equation | None, values: Values) -> Equation | None:
    """Two contributions to the same entries that are the two ends of one mean."""
    if first is None or second is None:
        return None
    made = _mean(first.body + second.body, first, values)
    return apply_to_body(first, made, NAME, second) if made is not None else None


def _mean(expr: Expr, reader: Equation, values: Values) -> Expr | None:
    """A sum with ``(1 - w)*a`` and ``w*b`` in it, as ``a + w*(b - a)`` and the rest."""
    if not expr.is_Add or not 2 <= len(expr.args) <= MOST_TERMS:
        return None
    for first, second in permutations(expr.args, 2):
        for factor in sp.Mul.make_args(first):
            weight = 1 - factor
            if not factor.is_Add or weight not in sp.Mul.make_args(second) or not _is_weight(weight, reader, values):
                continue
            a, b = first / factor, second / weight
            made = sp.Add(a, weight * (b - a), *(term for term in expr.args if term not in (first, second)))
            if cost(made) < cost(expr):
                return made
    return None


def _is_weight(expr: Expr, reader: Equation, values: Values) -> bool:
    """Whether a factor is proved to lie in [0, 1]: a sigmoid, or an entry that stores one."""
    seen = values.value(expr, reader) if isinstance(expr, Indexed) else expr
    return isinstance(seen, sigmoid)
