"""What can be proved of subscripts: affine forms, intervals, signs, and that a read stays in bounds.

Sizes are integers of at least 1. Everything here may answer "not proved" (``False`` or ``None``); that is slower, never wrong.
Signs are first proved for all sizes; where that fails and the spec fixes every size, the numbers decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp
from sympy import Expr, Indexed

from symbolic.program import Equation, Index, IndexName, Program, index_symbols, is_index_read, tensor_of

__all__ = [
    "Affine", "affine", "are_apart", "at_most", "in_bounds", "interval", "is_equal", "is_nonnegative", "is_positive", "lies_in",
    "may_meet", "subscript_range",
]


@dataclass(frozen=True)
class Affine:
    """``sum(coefficients[s] * s) + constant``: integer combination of indices (and index reads) plus a size expression."""

    coefficients: tuple[tuple[Expr, Expr], ...]
    constant: Expr

    def coefficient(self, symbol: Expr) -> Expr:
        """The coefficient of one index or index read, 0 where it does not occur."""
        return dict(self.coefficients).get(symbol, sp.Integer(0))

    @property
    def symbols(self) -> tuple[Expr, ...]:
        return tuple(s for s, _ in self.coefficients)


@lru_cache(maxsize=65536)
def affine(expr: Expr) -> Affine | None:
    """The affine form of a subscript in its indices and index reads, or ``None``."""
    expr = sp.sympify(expr)
    if isinstance(expr, IndexName | Indexed):
        return Affine(((expr, sp.Integer(1)),), sp.Integer(0))
    if not _varies(expr):
        return Affine((), expr)
    coefficients: dict[Expr, Expr] = {}
    constant: Expr = sp.Integer(0)
    for term in sp.Add.make_args(sp.expand_mul(expr)):
        if not _varies(term):
            constant += term
            continue
        factors = sp.Mul.make_args(term)
        moving = [f for f in factors if _varies(f)]
        if len(moving) != 1 or not isinstance(moving[0], IndexName | Indexed):
            return None
        rest = sp.Mul(*(f for f in factors if f is not moving[0]))
        coefficients[moving[0]] = coefficients.get(moving[0], sp.Integer(0)) + rest
    ordered = sorted(((s, c) for s, c in coefficients.items() if c != 0), key=lambda item: sp.default_sort_key(item[0]))
    return Affine(tuple(ordered), constant)


def _varies(expr: Expr) -> bool:
    return bool(expr.atoms(IndexName)) or expr.has(Indexed)


def subscript_range(
    expr: Expr, ranges: Mapping[IndexName, Index], program: Program
) -> tuple[Expr, Expr] | None:
    """The inclusive interval ``(least, greatest)`` of a subscript over the index ranges, or ``None`` where it is not affine or
    a coefficient has no known sign. An index read lies in its tensor's declared range (outside it is nowhere)."""
    if expr.is_Integer:
        return expr, expr
    form = affine(expr)
    if form is None:
        return None
    least = greatest = form.constant
    if not form.coefficients:
        return least, greatest
    for symbol, coefficient in form.coefficients:
        if isinstance(symbol, Indexed):
            tensor = program.tensor(tensor_of(symbol))
            if tensor.below is None:
                return None
            low, high = tensor.low, tensor.below - 1
        elif symbol in ranges:
            low, high = ranges[symbol].lower, ranges[symbol].last
        else:
            low = high = symbol
        if coefficient == 1:
            least, greatest = (least + low, greatest + high) if least or greatest else (low, high)
        elif is_nonnegative(coefficient, program):
            least, greatest = least + coefficient * low, greatest + coefficient * high
        elif is_nonnegative(-coefficient, program):
            least, greatest = least + coefficient * high, greatest + coefficient * low
        else:
            return None
    return least, greatest


interval = subscript_range


def in_bounds(entry: Indexed, equation: Equation, program: Program) -> bool:
    """Whether the read (or target) is proved inside the tensor's bounds for every instance of the equation's domain."""
    ranges = guarded_ranges(equation)
    tensor = program.tensor(tensor_of(entry))
    for axis, subscript in enumerate(entry.indices):
        found = subscript_range(subscript, ranges, program)
        if found is None:
            return False
        if not lies_in(found, tensor.bounds(axis), program):
            return False
    return all(in_bounds(inner, equation, program) for inner in index_reads(entry.indices))


def index_reads(parts: Iterable[Expr]) -> tuple[Indexed, ...]:
    """The index reads that stand in subscripts, ordered."""
    found = {r for part in parts for r in _index_reads(part)}
    return tuple(sorted(found, key=sp.default_sort_key)) if len(found) > 1 else tuple(found)


@lru_cache(maxsize=65536)
def _index_reads(part: Expr) -> frozenset[Indexed]:
    return frozenset(r for r in sp.sympify(part).atoms(Indexed) if is_index_read(r))


def guarded_ranges(equation: Equation) -> dict[IndexName, Index]:
    """The index ranges of an equation (guards that bound one index by sizes alone narrow its range)."""
    return {i.symbol: i for i in equation.indices}


def is_equal(a: Expr, b: Expr, program: Program) -> bool:
    """Whether two size expressions are the same number, for all sizes or for the fixed ones."""
    if a == b:
        return True
    difference = sp.expand(a - b)
    if difference == 0:
        return True
    return bool(program.sizes) and difference.xreplace(program.fixed) == 0


def at_most(a: Expr, b: Expr, program: Program) -> bool:
    """Whether ``a <= b`` is proved."""
    if a is b:
        return True
    if a.is_Integer and b.is_Integer:
        return bool(a <= b)
    return is_nonnegative(b - a, program)


def lies_in(interval: tuple[Expr, Expr], bounds: tuple[Expr, Expr], program: Program) -> bool:
    """Whether an inclusive interval is proved to lie in the half-open range ``bounds``."""
    return at_most(bounds[0], interval[0], program) and at_most(interval[1], bounds[1] - 1, program)


def are_apart(first: tuple[Expr, Expr], second: tuple[Expr, Expr], program: Program) -> bool:
    """Whether two inclusive intervals are proved to have no number in common."""
    (a, b), (c, d) = first, second
    if a.is_Integer and b.is_Integer and c.is_Integer and d.is_Integer:
        return bool(b.p < c.p or d.p < a.p)
    return at_most(first[1] + 1, second[0], program) or at_most(second[1] + 1, first[0], program)


def may_meet(a: Equation, b: Equation, program: Program) -> bool:
    """Whether two equations of one tensor may write the same entry: on no axis their subscripts are proved apart."""
    ours, others = ({i.symbol: i for i in equation.indices} for equation in (a, b))
    spans = [(subscript_range(part, ours, program), subscript_range(other, others, program))
             for part, other in zip(a.target.indices, b.target.indices, strict=True)]
    return not any(first and second and are_apart(first, second, program) for first, second in spans)


def is_positive(expr: Expr, program: Program) -> bool:
    """Whether ``expr >= 1`` is proved."""
    return is_nonnegative(expr - 1, program)


def is_nonnegative(expr: Expr, program: Program) -> bool:
    """Whether an integer expression of sizes (and free index symbols: no) is proved ``>= 0``."""
    expr = sp.sympify(expr)
    if expr.is_Integer:
        return bool(expr >= 0)
    if _proved(expr):
        return True
    if index_symbols(expr):
        return False
    return bool(program.fixed) and _proved(expr.xreplace(program.fixed))


@lru_cache(maxsize=65536)
def _proved(expr: Expr) -> bool:
    """``expr >= 0`` for all sizes >= 1: with size = 1 + s every coefficient of a polynomial in s is non-negative."""
    expr = sp.expand(expr)
    if expr.is_number:
        return bool(expr >= 0)
    if index_symbols(expr):
        return False
    if expr.has(sp.Max) or expr.has(sp.Min):
        return _proved_of_parts(expr)
    if expr.has(sp.floor) or expr.has(sp.ceiling):
        return _proved_rounded(expr)
    if not expr.is_polynomial(*expr.free_symbols):
        return False
    shifted = sp.expand(expr.xreplace({s: s + 1 for s in expr.free_symbols}))
    return all(term.as_coeff_Mul()[0] >= 0 for term in sp.Add.make_args(shifted))


def _proved_of_parts(expr: Expr) -> bool:
    """``c*min(a, b) + r >= 0``, c > 0, needs both ``c*a + r >= 0`` and ``c*b + r >= 0``; one is enough where c < 0; a maximum is
    the other way round."""
    atom = min(expr.atoms(sp.Max, sp.Min), key=sp.default_sort_key)
    marker = sp.Dummy("extreme")
    replaced = sp.expand(expr.xreplace({atom: marker}))
    coefficient = replaced.coeff(marker)
    rest = replaced - coefficient * marker
    if not coefficient.is_number or rest.has(marker):
        return False
    every = (coefficient > 0) == isinstance(atom, sp.Min)
    return (all if every else any)(_proved(sp.expand(rest + coefficient * part)) for part in atom.args)


def _proved_rounded(expr: Expr) -> bool:
    """Replace floor(u) by the bound that makes the claim harder: u - (d-1)/d below, u above, where d is u's denominator.

    For the first one, ``floor(u) + n >= 0`` is ``u + n >= 0``, for n is an integer.
    """
    whole = True
    for atom in sorted(expr.atoms(sp.floor, sp.ceiling), key=sp.default_sort_key):
        argument = atom.args[0]
        _, denominator = sp.fraction(sp.together(argument))
        slack = (denominator - 1) / denominator if denominator.is_Integer else sp.Integer(1)
        below, above = (argument - slack, argument) if isinstance(atom, sp.floor) else (argument, argument + slack)
        marker = sp.Dummy("rounded")
        replaced = sp.expand(expr.xreplace({atom: marker}))
        coefficient = replaced.coeff(marker)
        if not coefficient.is_number or (replaced - coefficient * marker).has(marker):
            return False
        if whole and coefficient == 1 and isinstance(atom, sp.floor):
            below = argument
        whole = False
        expr = sp.expand(replaced.xreplace({marker: below if coefficient >= 0 else above}))
    return _proved(expr)
