"""What the rewrite rules share: walking and comparing terms, and what they cost.

Two terms are compared modulo the names of their indices and integer offsets: ``tanh(c[t+1,n,i])`` and
``tanh(c[s,m,j])`` have one canonical form, ``tanh(c[_0,_1,_2])``, and differ in what stands for ``_0, _1, _2``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine
from symbolic.cost import operations
from symbolic.program import Equation, IndexName, Reduction, index, index_symbols, reads, tensor_of

__all__ = [
    "Canonical",
    "apply_to_body",
    "bottom_up",
    "canonical",
    "cost",
    "head",
    "is_dear",
    "is_pointwise",
    "operands",
    "powers",
    "renumbered",
    "solve",
    "split_terms",
    "substitute",
    "without",
]

CHEAP = 8
"""A term is worth a tensor of its own from this cost on: one call of a transcendental function."""


def bottom_up(expr: Expr, rule: Callable[[Expr], Expr]) -> Expr:
    """Apply ``rule`` to every node, operands first; what stands in subscripts is left alone."""
    if not expr.args or isinstance(expr, Indexed):
        return rule(expr)
    parts = [bottom_up(part, rule) for part in expr.args]
    if any(new is not old for new, old in zip(parts, expr.args, strict=True)):
        expr = expr.func(*parts)
    return rule(expr)


def apply_to_body(equation: Equation, body: Expr, name: str, *others: Equation) -> Equation:
    """The equation with another body, marked as made by the rewrite ``name`` from itself and ``others``."""
    return renumbered(replace(equation, body=body), name, equation, *others)


def renumbered(equation: Equation, name: str, *sources: Equation) -> Equation:
    """The equation with the numbers of all ``sources`` (law 20), its origin naming the rewrite."""
    numbers = tuple(dict.fromkeys(n for source in sources for n in source.numbers))
    return replace(equation, numbers=numbers, origin=replace(equation.origin, rule=name, parents=numbers, partial=None))


def operands(expr: Expr) -> tuple[Indexed, ...]:
    """The distinct reads that are operands of an expression (not those inside subscripts), ordered."""
    found: dict[Indexed, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Indexed):
            found.setdefault(node)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(found)


def powers(expr: Expr) -> dict[Expr, Expr]:
    """The factors of a product with their exponents: ``2*x/s**2`` gives ``{2: 1, x: 1, s: -2}``; exp stays a base."""
    found: dict[Expr, Expr] = {}
    for factor in sp.Mul.make_args(expr):
        base, exponent = (factor.base, factor.exp) if factor.is_Pow else (factor, sp.Integer(1))
        found[base] = found.get(base, sp.Integer(0)) + exponent
    return found


def without(product: Expr, factor: Expr) -> Expr:
    """A product with one of its factors left out. Division would do, but SymPy does not cancel exp(a + b)/exp(a + b)."""
    factors = list(sp.Mul.make_args(product))
    factors.remove(factor)
    return sp.Mul(*factors)


@lru_cache(maxsize=65536)
def cost(expr: Expr) -> int:
    """Floating point operations of one evaluation, by the table of functions."""
    return operations(expr)


def is_dear(term: Expr) -> bool:
    """Whether a term is worth reading from where it is stored: it calls a function, divides or takes a root."""
    return any(cost(base) >= CHEAP or not (power.is_Integer and power > 0) for base, power in powers(term).items())


def substitute(expr: Any, rule: Mapping[Any, Any]) -> Any:
    """Simultaneous substitution of indices, with subscripts brought back to the form in which a person would write them."""
    expr = expr.xreplace(rule)
    if all(value.is_Symbol for value in rule.values()):
        return expr
    rough = {
        entry: entry.func(entry.base, *map(tidy, entry.indices))
        for entry in expr.atoms(Indexed)
        if entry.indices
        if any(_is_rough(part) for part in entry.indices)
    }
    return expr.xreplace(rough) if rough else expr


@lru_cache(maxsize=65536)
def head(expr: Expr) -> tuple[str, tuple[str, ...]]:
    """What two terms must share to be equal modulo indices: the outermost operation and the tensors that are read."""
    return type(expr).__name__, tuple(sorted({tensor_of(e) for e in operands(expr)}))


def _is_rough(part: Expr) -> bool:
    return bool(part.is_Add or part.is_Mul) and any(
        node.is_Mul and any(f.is_Add for f in node.args) for node in sp.preorder_traversal(part)
    )


def tidy(part: Expr) -> Expr:
    """A subscript multiplied out (subscripts are affine and small, so this is bounded)."""
    return sp.expand(part) if _is_rough(part) else part


# ---- indices -----------------------------------------------------------------------------------------------------------


def solve(pattern: tuple[Expr, ...], subscripts: tuple[Expr, ...], symbols: frozenset[IndexName]) -> dict[IndexName, Expr] | None:
    """Values of ``symbols`` that make ``pattern`` equal to ``subscripts``, or ``None``.

    Each symbol must stand alone in some subscript with coefficient +1 or -1; subscripts that hold none must be the same.
    """
    found: dict[IndexName, Expr] = {}
    later: list[tuple[Expr, Expr]] = []
    for part, wanted in zip(pattern, subscripts, strict=True):
        moving = index_symbols(part) & symbols
        if len(moving) == 1:
            (symbol,) = moving
            value = _solve_one(part, wanted, symbol)
            if value is not None and symbol not in found:
                found[symbol] = value
                continue
        later.append((part, wanted))
    if len(found) < len(symbols):
        return None
    for part, wanted in later:
        made = substitute(part, found)
        if made != wanted and sp.expand(made - wanted) != 0:
            return None
    return found


def _solve_one(part: Expr, wanted: Expr, symbol: IndexName) -> Expr | None:
    if part == symbol:
        return wanted
    form = affine(part)
    if form is None or form.symbols != (symbol,):
        return None
    coefficient = form.coefficient(symbol)
    if coefficient == 1:
        return tidy(wanted - form.constant)
    return tidy(form.constant - wanted) if coefficient == -1 else None


@dataclass(frozen=True)
class Canonical:
    """``term`` over positional indices ``_0, _1, ...``, and what each stands for in the term it was made from."""

    term: Expr
    places: tuple[Expr, ...]

    @property
    def values(self) -> dict[IndexName, Expr]:
        return {position(k): value for k, value in enumerate(self.places)}


@lru_cache(maxsize=256)
def position(k: int) -> IndexName:
    """The k-th positional index."""
    return index(f"_{k}")


@lru_cache(maxsize=65536)
def canonical(term: Expr) -> Canonical:
    """The term modulo the names of its indices and integer offsets (law 18)."""
    bound: dict[IndexName, Expr] = {}
    places: list[Expr] = []
    composite: list[Expr] = []
    for entry in reads(term):
        for part in entry.indices:
            form = affine(part)
            if form is not None and len(form.symbols) == 1 and isinstance(form.symbols[0], IndexName):
                (symbol,) = form.symbols
                if symbol not in bound and form.coefficient(symbol) in (1, -1):
                    here = position(len(places))
                    bound[symbol] = here - form.constant if form.coefficient(symbol) == 1 else form.constant - here
                    places.append(part)
                    continue
            composite.append(part)
    rest = [s for part in composite for s in sorted(index_symbols(part), key=str)]
    rest += sorted(index_symbols(term), key=str)
    for symbol in rest:
        if symbol not in bound:
            bound[symbol] = position(len(places))
            places.append(symbol)
    return Canonical(substitute(term, bound), tuple(places))


# ---- equations ---------------------------------------------------------------------------------------------------------


def is_pointwise(equation: Equation) -> bool:
    """One instance for each entry it writes: a sum without reduced indices whose target map is injective."""
    if equation.reduction is not Reduction.SUM or equation.reduced:
        return False
    symbols = frozenset(i.symbol for i in equation.indices)
    return solve(equation.target.indices, equation.target.indices, symbols) is not None


def split_terms(equation: Equation, name: str) -> tuple[Equation, ...]:
    """A contribution whose body is a sum, as one contribution for each term; only where nothing is reduced.

    Contributions commute, so this is exact; it lets a reader add ``z`` and ``-m`` before ``-log(s)``.
    """
    if equation.reduction is not Reduction.SUM or equation.reduced:
        return (equation,)
    coefficient, rest = equation.body.as_coeff_Mul()
    sums = [f for f in sp.Mul.make_args(rest) if f.is_Add]
    if len(sums) != 1:
        return (equation,)
    outside = coefficient * sp.Mul(*(f for f in sp.Mul.make_args(rest) if f is not sums[0]))
    if cost(outside) > 2:
        return (equation,)
    return tuple(apply_to_body(equation, outside * term, name) for term in sums[0].args)
