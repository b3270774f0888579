"""Logistic functions by structure: what is a sigmoid, a softplus or the logarithm of a sigmoid is called so, and so
computed safely.

Requires: nothing. Ensures: the same values wherever the old ones were finite. Laws, for every real z:

    1/(1 + exp(-z)) = exp(z)/(1 + exp(z)) = sigmoid(z)        log(1 + exp(z)) = log1p(exp(z)) = softplus(z)
    log(sigmoid(z)) = log_sigmoid(z)                           log(1 - sigmoid(z)) = log_sigmoid(-z)
    log(max2(p, c)) = max2(log(p), log(c)) for c > 0

Each is found through tensors that stage a part of it (``p = sigmoid(z)`` read by a loss: binary cross entropy), where
the read is proved to meet the one instance that defines it; ``p`` stays for its other readers. Cost: linear.

>>> from symbolic.program import *
>>> import sympy as sp
>>> N, n = size("N"), index("n")
>>> z, p, l = (Tensor(name, (N,)) for name in "zpl")
>>> over = (Index.over(n, N),)
>>> program = Program("p", (z, p, l), (Equation(p[n], 1/(1 + sp.exp(-z[n])), over, numbers=(1,)),
...     Equation(l[n], -sp.log(1 - p[n]), over, numbers=(2,))), {"N": None})
>>> print(*recognise_logistic(program, frozenset()).equations, sep=chr(10))
(1) p[n] += sigmoid(z[n])    for n=0..N - 1
(2) l[n] += -log_sigmoid(-z[n])    for n=0..N - 1
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Indexed

from symbolic.functions import log1p, log_sigmoid, max2, sigmoid, softplus
from symbolic.program import Equation, Program
from symbolic.rewrite.terms import apply_to_body, bottom_up, powers, without
from symbolic.rewrite.values import Values

__all__ = ["recognise_logistic"]

NAME = "logistic"


def recognise_logistic(program: Program, keep: frozenset[str]) -> Program:
    """The program with sigmoid, softplus and log_sigmoid where they are written out."""
    for _ in range(2):  # sigmoids first; then the logarithms of tensors that the first round made sigmoids
        values = Values(program)
        program = program.with_equations(_rewritten(equation, values) for equation in program.equations)
    return program


def _rewritten(equation: Equation, values: Values) -> Equation:
    if not equation.body.has(sp.exp, sp.log, log1p, sp.Pow):
        return equation
    finder = _Finder(equation, values)
    body = bottom_up(equation.body, finder.rule)
    return equation if body == equation.body else apply_to_body(equation, body, NAME)


class _Finder:
    """The patterns, each through staged tensors as seen by one reader."""

    def __init__(self, reader: Equation, values: Values) -> None:
        self.reader, self.values = reader, values

    def rule(self, expr: Expr) -> Expr:
        if expr.is_Pow or expr.is_Mul:
            return self.quotient(expr)
        if isinstance(expr, sp.log):
            return self.logarithm(expr)
        if isinstance(expr, log1p):
            z = self.exponent(expr.args[0])
            return softplus(z) if z is not None else expr
        return expr

    def quotient(self, expr: Expr) -> Expr:
        """``exp(z)**a * (1 + exp(z))**-n``: sigmoid(-z) for each power, sigmoid(z) where an exp(z) stands with it."""
        held = powers(expr)
        for base, exponent in held.items():
            if isinstance(base, sigmoid) and exponent == 1:  # exp(z)*sigmoid(-z) is sigmoid(z)
                above = [b for b, e in held.items() if e == 1 and self.exponent(b) == -base.args[0]]
                if above:
                    return without(without(expr, above[0]), base) * sigmoid(-base.args[0])
            if not (exponent.is_Integer and exponent < 0):
                continue
            z = self.one_plus_exp(base)
            if z is None:
                continue
            rest = sp.Mul(*(b**e for b, e in held.items() if b != base))
            above = [b for b, e in held.items() if e == 1 and self.exponent(b) == z]
            if above and exponent == -1:
                return without(rest, above[0]) * sigmoid(z)
            return rest * sigmoid(-z) ** (-exponent)
        return expr

    def logarithm(self, expr: Expr) -> Expr:
        (inside,) = expr.args
        made = self.log_of(inside)
        if made is not None:
            return made
        if isinstance(inside, max2):
            a, b = inside.args
            if b.is_number and b.is_positive and (made := self.log_of(a)) is not None:
                return max2(made, sp.log(b).evalf())
        return expr

    def log_of(self, inside: Expr) -> Expr | None:
        z = self.one_plus_exp(inside)
        if z is not None:
            return softplus(z)
        z = self.sigmoid_of(inside)
        if z is not None:
            return log_sigmoid(z)
        z = self.one_minus_sigmoid(inside)
        return log_sigmoid(-z) if z is not None else None

    # ---- seeing through staged tensors ---------------------------------------------------------------------------------

    def see(self, expr: Expr) -> Expr:
        """What a read is worth, where that is proved; anything else as it is."""
        for _ in range(4):
            if not isinstance(expr, Indexed):
                return expr
            value = self.values.value(expr, self.reader)
            if value is None:
                return expr
            expr = value
        return expr

    def exponent(self, expr: Expr) -> Expr | None:
        expr = self.see(expr)
        return expr.args[0] if isinstance(expr, sp.exp) else None

    def one_plus_exp(self, expr: Expr) -> Expr | None:
        return self.exponent(rest) if (rest := self.one_plus(expr)) is not None else None

    def one_plus(self, expr: Expr) -> Expr | None:
        expr = self.see(expr)
        if expr.is_Add and len(expr.args) == 2 and sp.Integer(1) in expr.args:
            return next(part for part in expr.args if part != 1)
        return None

    def sigmoid_of(self, expr: Expr) -> Expr | None:
        expr = self.see(expr)
        if isinstance(expr, sigmoid):
            return expr.args[0]
        made = self.quotient(expr) if expr.is_Pow or expr.is_Mul else expr
        return made.args[0] if isinstance(made, sigmoid) else None

    def one_minus_sigmoid(self, expr: Expr) -> Expr | None:
        rest = self.one_plus(expr)
        return self.sigmoid_of(-rest) if rest is not None else None
