"""Reuse of stored values: where a term is the value of an entry that some equation holds already, the entry is read
instead.

Requires: nothing. Ensures: the same values; ``1 - tanh(a)**2`` reads ``1 - h**2`` where ``h = tanh(a)``,
``sigmoid(a)*(1 - sigmoid(a))`` reads ``s*(1 - s)``, ``-e/s**2`` reads ``-p/s`` where ``p = e/s``, ``(v +
eps)**(-3/2)`` reads ``r**3``, and ``gt(a, 0)`` reads ``gt(h, 0)`` where ``h = relu(a)``, so that ``a`` need not be
kept. In slopes alone ``1 - s`` stands for ``sigmoid(-a)``, which has more digits where it is small. Law (17): the
equation is the only writer of that entry, it has an instance there for every instance of the reader, and the reader's
guards imply its own. Never a cycle: the entry depends on nothing that the term did not read, and stored equations are
ordered. Terms are compared modulo index names and offsets, factors modulo powers. Cost: linear; a table of the terms
that are worth it.

>>> from symbolic.program import *
>>> import sympy as sp
>>> N, n = size("N"), index("n")
>>> a, h, d_a, d_h = (Tensor(name, (N,)) for name in ("a", "h", "d_a", "d_h"))
>>> over = (Index.over(n, N),)
>>> program = Program("p", (a, h, d_a, d_h), (Equation(h[n], sp.tanh(a[n]), over, numbers=(1,)),
...     Equation(d_a[n], d_h[n]*(1 - sp.tanh(a[n])**2), over, numbers=(2,))), {"N": None})
>>> print(reuse_values(program, frozenset()).equations[1])
(2) d_a[n] += (1 - h[n]**2)*d_h[n]    for n=0..N - 1
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Indexed

from symbolic.functions import gt, relu, sigmoid
from symbolic.places import Shelf
from symbolic.program import Equation, IndexName, Program, Reduction, Role, index_symbols
from symbolic.rewrite.terms import apply_to_body, canonical, cost, head, is_dear, operands, powers, solve, substitute
from symbolic.rewrite.values import inside, is_met, sole_writer

__all__ = ["reuse_values"]

NAME = "reuse"
DERIVED = (Role.ADJOINT, Role.TANGENT)


@dataclass(frozen=True)
class _Stored:
    """``term == value`` wherever ``equation`` has an instance; ``value`` reads the equation's target.

    ``slopes_only``: the value has fewer digits than the term, so no forward equation takes it.
    """

    equation: Equation
    term: Expr
    value: Expr
    slopes_only: bool = False


def reuse_values(program: Program, keep: frozenset[str]) -> Program:
    """The program with stored values read instead of computed again."""
    table = _Table(program)
    return program.with_equations(table.rewritten(equation) for equation in program.equations)


def _scaled(body: Expr) -> tuple[Expr, Expr]:
    """``(scale, term)``: the factors that are numbers and sizes, and the rest."""
    scale, term = body.as_independent(Indexed, IndexName, as_Add=False)
    return scale, term


def _has_slope(term: Expr) -> bool:
    """Whether a product has more than plain reads: an adjoint's (1 - g**2)*d_g, that others of its equation share."""
    return bool(term.is_Mul) and any(cost(factor) for factor in term.args)


class _Table:
    """What is stored, by the head of its term, and by one tensor that it reads for products and powers."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.terms: dict[object, dict[Expr, list[_Stored]]] = {}
        products: list[tuple[_Stored, Indexed]] = []
        self._sole: dict[int, bool] = {}
        self._rank: dict[int, tuple[int, int]] = {}
        for position, equation in enumerate(program.equations):
            scale, term = _scaled(equation.body)
            tensor = program.tensor(equation.name)
            if equation.reduction is not Reduction.SUM or equation.reduced or tensor.is_index:
                continue
            if is_dear(term) or isinstance(term, relu) or (tensor.role in DERIVED and _has_slope(term)):
                self._rank[id(equation)] = cost(term), position
                self._store(equation, scale, term, products)
        self.products = Shelf(products, lambda row: row[1])

    def _store(self, equation: Equation, scale: Expr, term: Expr, products: list[tuple[_Stored, Indexed]]) -> None:
        symbols = frozenset(i.symbol for i in equation.indices)
        target = equation.target
        if index_symbols(term) != symbols or not operands(term):
            return
        if isinstance(term, relu) and scale == 1:
            self._add(_Stored(equation, gt(term.args[0], 0), gt(target, 0)))
        if isinstance(term, sigmoid) and scale == 1:
            self._add(_Stored(equation, sigmoid(-term.args[0]), 1 - target, slopes_only=True))
        if not isinstance(term, relu):
            self._add(_Stored(equation, term, target / scale))
        if term.is_Mul or term.is_Pow:
            pattern = next((e for e in operands(term) if solve(e.indices, e.indices, symbols) is not None), None)
            if pattern is not None:
                products.append((_Stored(equation, term, target / scale), pattern))

    def _add(self, stored: _Stored) -> None:
        self.terms.setdefault(head(stored.term), {}).setdefault(canonical(stored.term).term, []).append(stored)

    def rewritten(self, equation: Equation) -> Equation:
        used: dict[Equation, None] = {}

        def visit(expr: Expr) -> Expr:
            if isinstance(expr, Indexed) or not expr.args:
                return expr
            whole = self._whole(expr, equation, used)
            if whole is not None:
                return whole
            if expr.is_Mul or expr.is_Pow:
                expr = self._factors(expr, equation, used)
                if isinstance(expr, Indexed):
                    return expr
            parts = [visit(part) for part in expr.args]
            return expr.func(*parts) if any(a is not b for a, b in zip(parts, expr.args, strict=True)) else expr

        if cost(equation.body) == 0:
            return equation
        body = visit(equation.body)
        return apply_to_body(equation, body, NAME) if used else equation

    def _whole(self, expr: Expr, reader: Equation, used: dict[Equation, None]) -> Expr | None:
        alike = self.terms.get(head(expr))
        if alike is None:
            return None
        form = canonical(expr)
        for stored in alike.get(form.term, ()):
            writer = stored.equation
            if writer is reader or stored.slopes_only and self.program.tensor(reader.name).role not in DERIVED:
                continue
            own = canonical(stored.term)
            values = solve(own.places, form.places, frozenset(i.symbol for i in writer.indices))
            if values is not None and self._holds(writer, values, reader):
                used[writer] = None
                return substitute(stored.value, values)
        return None

    def _holds(self, writer: Equation, values: dict[IndexName, Expr], reader: Equation) -> bool:
        """Whether the writer's instance at these values is there, and alone, for every instance of the reader.

        Of two equations that store the same term (or a square root and its inverse) one reads the other, never both: a stored
        equation reads only those of lower rank.
        """
        derived = self.program.tensor(writer.name).role in DERIVED
        if derived and self.program.tensor(reader.name).role not in DERIVED:
            return False  # the forward program stands without its adjoint
        if id(reader) in self._rank and self._rank[id(reader)] <= self._rank[id(writer)]:
            return False
        if id(writer) not in self._sole:
            self._sole[id(writer)] = sole_writer(writer, self.program)
        return (
            self._sole[id(writer)]
            and inside(values, writer, reader, self.program)
            and is_met(substitute(writer.target, values), reader, self.program)
        )

    def _factors(self, expr: Expr, reader: Equation, used: dict[Equation, None]) -> Expr:
        """Take stored products and powers out of a product: ``e/s**2`` is ``p/s``."""
        for entry in operands(expr):
            for stored, pattern in self.products.near(entry):
                if stored.equation is reader:
                    continue
                symbols = frozenset(i.symbol for i in stored.equation.indices)
                values = solve(pattern.indices, entry.indices, symbols)
                if values is None:
                    continue
                made = self._divided(expr, substitute(stored.term, values))
                if made is None or not self._holds(stored.equation, values, reader):
                    continue
                rest, times = made
                used[stored.equation] = None
                return rest * substitute(stored.value, values) ** times
        return expr

    def _divided(self, expr: Expr, term: Expr) -> tuple[Expr, Expr] | None:
        """``(rest, n)`` with ``expr = rest * term**n``, every factor of the term used up or its power brought nearer to 0."""
        held, wanted = powers(expr), powers(term)
        ratios = [held.get(base, sp.Integer(0)) / exponent for base, exponent in wanted.items()]
        if not all(r.is_number and r.is_real for r in ratios):
            return None
        least = min(ratios, key=abs)
        if len({sp.sign(r) for r in ratios}) != 1 or least == 0:
            return None
        times = sp.Integer(int(least)) if abs(least) >= 1 else sp.Integer(0)
        if times == 0 or (times < 0 and len(wanted) > 1):
            return None
        rest = sp.Mul(*(base ** (exponent - times * wanted.get(base, 0)) for base, exponent in held.items()))
        if cost(rest * sp.Symbol("y") ** times) >= cost(expr):
            return None
        return rest, times
