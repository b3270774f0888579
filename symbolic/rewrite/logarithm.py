"""Logarithm of a softmax: ``log(exp(z)/s)`` is ``z - log(s)``, also through tensors that stage the parts.

Requires: nothing. Ensures: a logarithm of a product of exponentials and of sums of exponentials is the sum of its
parts, where the quotient could be 0 in floating point and its logarithm infinite. Law: log(a*b) = log(a) + log(b) for
a, b > 0; an exponential is positive, and so is a sum of exponentials. Where nothing is reduced the parts become
contributions of their own. Cost: linear.

>>> from symbolic.program import *
>>> import sympy as sp
>>> N, n, k = size("N"), index("n"), index("k")
>>> z, p, l, s = Tensor("z", (N,)), Tensor("p", (N,)), Tensor("l", (N,)), Tensor("s")
>>> over = (Index.over(n, N),)
>>> program = Program("p", (z, p, l, s), (
...     Equation(s.at(()), sp.exp(z[k]), (Index.over(k, N),), numbers=(1,)),
...     Equation(p[n], sp.exp(z[n])/s.at(()), over, numbers=(2,)),
...     Equation(l[n], -sp.log(p[n]), over, numbers=(3,))), {"N": None})
>>> print(*split_logarithms(program, frozenset()).equations[2:], sep=chr(10))
(3) l[n] += -z[n]    for n=0..N - 1
(3) l[n] += log(s[])    for n=0..N - 1
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Indexed

from symbolic.program import Equation, Program, Reduction, tensor_of
from symbolic.rewrite.terms import apply_to_body, bottom_up, powers, split_terms
from symbolic.rewrite.values import Values

__all__ = ["is_sum_of_exponentials", "split_logarithms"]

NAME = "logarithm"


def split_logarithms(program: Program, keep: frozenset[str]) -> Program:
    """The program with the logarithms of softmax-like quotients taken apart."""
    values = Values(program)
    sums = {name for name in program.writers if is_sum_of_exponentials(name, program, values)}
    if not sums:
        return program
    rows: list[Equation] = []
    for equation in program.equations:
        if not equation.body.has(sp.log):
            rows.append(equation)
            continue

        def rule(expr: Expr, reader: Equation = equation) -> Expr:
            if not isinstance(expr, sp.log):
                return expr
            return _parts(expr.args[0], reader, values, sums) or expr

        body = bottom_up(equation.body, rule)
        rows += (equation,) if body == equation.body else split_terms(apply_to_body(equation, body, NAME), NAME)
    return program.with_equations(rows)


def is_sum_of_exponentials(name: str, program: Program, values: Values) -> bool:
    """Whether every equation that writes the tensor sums an exponential, or a staged one, over at least one index."""
    found = program.writers.get(name, ())
    return bool(found) and all(
        e.reduction is Reduction.SUM and e.reduced and _exponent(e.body, e, values) is not None for e in found
    )


def _exponent(expr: Expr, reader: Equation, values: Values) -> Expr | None:
    if isinstance(expr, Indexed):
        seen = values.value(expr, reader)
        return _exponent(seen, reader, values) if seen is not None else None
    return expr.args[0] if isinstance(expr, sp.exp) else None


def _parts(inside: Expr, reader: Equation, values: Values, sums: set[str]) -> Expr | None:
    """``log`` of a product as a sum, or ``None`` where a factor is not known to be positive or nothing is an exponential."""
    if isinstance(inside, Indexed) and tensor_of(inside) not in sums:
        seen = values.value(inside, reader)
        return _parts(seen, reader, values, sums) if seen is not None else None
    total, exponentials = sp.Integer(0), 0
    for base, power in powers(inside).items():
        if isinstance(base, Indexed) and tensor_of(base) in sums:
            total += power * sp.log(base)
            continue
        z = _exponent(base, reader, values)
        if z is not None:
            total, exponentials = total + power * z, exponentials + 1
        elif base.is_number and base.is_positive:
            total += power * sp.log(base)
        else:
            return None
    return total if exponentials else None
