"""Ranges of values: an interval that holds an expression at every point, from the table of functions and the equations.

Exact for a polynomial in one read (``s*(1 - s)`` with s in [0, 1] is in [0, 1/4]) and for one of degree 1 in each of several
(``(1 - z)*g + z*h`` is a mean, never beyond g and h); else the rules of interval arithmetic (Moore 1966). A state that is read
back from an earlier step is in [-1, 1] where that claim, put into its own equations, gives it again and it starts within.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import lies_in, may_meet, subscript_range
from symbolic.functions import FUNCTIONS, row_of
from symbolic.program import Equation, Index, IndexName, Program, Reduction, tensor_of
from symbolic.recurrence import recurrences
from symbolic.rewrite.terms import without
from symbolic.rewrite.values import apart, ranges_of

__all__ = ["ANY", "Interval", "Ranges", "greatest"]

Interval = tuple[float, float]
ANY: Interval = (-math.inf, math.inf)
UNIT: Interval = (-1.0, 1.0)
NOTHING: Interval = (0.0, 0.0)

MOST_CORNERS = 8
"""Reads of a polynomial whose corners are all tried (2 to the power of so many)."""


def greatest(interval: Interval) -> float:
    """The greatest absolute value in an interval."""
    return max(abs(interval[0]), abs(interval[1]))


class Ranges:
    """Ranges of the tensors of a forward program, where the arrays of its parameters and inputs are these.

    ``known`` gives ranges that are not to be proved (measured ones, say).
    """

    def __init__(self, program: Program, values: Mapping[str, Any], known: Mapping[str, Interval] | None = None) -> None:
        self.program, self.values, self.found = program, values, dict(known or {})
        for name, array in values.items():
            if np.size(array):
                self.found.setdefault(name, (float(np.min(array)), float(np.max(array))))
        for each in recurrences(program):
            self._by_induction(each.states)

    def _by_induction(self, states: Iterable[str]) -> None:
        """Take states to be in [-1, 1] as long as that gives itself again; the others are left open."""
        claimed = [name for name in states if name not in self.found]
        while claimed:
            trial = self._reader(dict.fromkeys(claimed, UNIT))
            kept = [name for name in claimed if _inside(trial.written(self.program.writers.get(name, ())), UNIT)]
            if kept == claimed:
                self.found.update(dict.fromkeys(claimed, UNIT))
                return
            claimed = kept

    def _reader(self, more: Mapping[str, Interval] | None = None) -> _Reader:
        return _Reader(self.program, self.values, {**self.found, **(more or {})})

    def of(self, expr: Expr, indices: Iterable[Index] = ()) -> Interval:
        """The range of an expression over entries, where its indices have these ranges."""
        return self._reader().within({i.symbol: i for i in indices}).of(expr)


class _Reader:
    """Reads ranges off equations. ``here``: the ranges of the indices of the expression in hand."""

    def __init__(self, program: Program, values: Mapping[str, Any], found: Mapping[str, Interval]) -> None:
        self.program, self.values = program, values
        self.found: dict[tuple[str, int], Interval] = {(name, -1): span for name, span in found.items()}
        self.open: set[str] = set()
        self.here: Mapping[IndexName, Index] = {}

    def within(self, here: Mapping[IndexName, Index]) -> _Reader:
        """The same reader (and what it found) for an expression over other indices."""
        other = copy(self)
        other.here = here
        return other

    def entry(self, read: Indexed) -> Interval:
        """What an entry, 0 beyond the bounds, lies in; anything where its tensor depends on itself.

        Only the equations that may write it count: ``h[t]`` is a tanh, whatever ``h[-1]`` starts with.
        """
        name = tensor_of(read)
        if (name, -1) in self.found:
            known = self.found[name, -1]
            return known if self._is_inside(read) else _hull(known, NOTHING)
        rows = self.program.writers.get(name, ())
        met = [k for k, e in enumerate(rows) if not apart(read, self.here, e.target, ranges_of(e), self.program)]
        key = (name, sum(1 << k for k in met))
        if key not in self.found:
            if name in self.open:
                return ANY
            self.open.add(name)
            found = self.written([rows[k] for k in met])
            self.open.remove(name)
            if self.open and math.inf in (-found[0], found[1]):
                return found  # it may be open only because what it hangs on is being asked for
            self.found[key] = found
        return self.found[key] if self._is_inside(read) else _hull(self.found[key], NOTHING)

    def _is_inside(self, read: Indexed) -> bool:
        """Whether a read is proved to meet an entry of the array, its margins left out."""
        shape = self.program.tensor(tensor_of(read)).shape
        spans = [subscript_range(part, self.here, self.program) for part in read.indices]
        return all(span is not None and lies_in(span, (sp.Integer(0), extent), self.program)
                   for span, extent in zip(spans, shape, strict=True))

    def written(self, rows: Sequence[Equation]) -> Interval:
        """The range of the sum of all that these equations write into an entry."""
        if not rows:
            return ANY
        if all(e.reduction is Reduction.MAX for e in rows):
            return _hull(*(self._body(e) for e in rows), NOTHING)
        if any(e.reduction is not Reduction.SUM for e in rows):
            return ANY
        places: dict[Expr, list[Equation]] = {}
        for e in rows:
            places.setdefault(e.target, []).append(e)
        alone = not any(may_meet(a[0], b[0], self.program) for a, b in itertools.combinations(places.values(), 2))
        return (_hull if alone else _add)(*map(self._together, places.values()))

    def _together(self, rows: list[Equation]) -> Interval:
        """The sum of equations of one target: as one expression, for z*h and (1 - z)*g are bounded together, not one by one."""
        if any(e.guards or e.reduced for e in rows):
            return _add(*(_hull(self._sum(e), NOTHING) for e in rows))
        whole = self._body(replace(rows[0], body=sp.Add(*(e.body for e in rows))))
        return whole if all(map(self._covers, rows)) else _hull(whole, NOTHING)

    def _covers(self, equation: Equation) -> bool:
        """Whether an equation writes every entry of its target (but for margins): what none writes is 0."""
        ranges, parts = ranges_of(equation), equation.target.indices
        shape = self.program.tensor(equation.name).shape
        return len(set(parts)) == len(parts) and all(
            part in ranges and ranges[part].lower == 0 and ranges[part].upper == extent
            for part, extent in zip(parts, shape, strict=True)
        )

    def _body(self, equation: Equation) -> Interval:
        return self.within(ranges_of(equation)).of(equation.body)

    def _sum(self, equation: Equation) -> Interval:
        """The range of a sum ``U[i,j]*h[j]``: the greatest sum of absolute weights along j, times the greatest h."""
        if not equation.reduced:
            return self._body(equation)
        reduced = {i.symbol for i in equation.reduced}
        for factor in sp.Mul.make_args(equation.body):
            if isinstance(factor, Indexed) and tensor_of(factor) in self.values and reduced <= set(factor.indices):
                axes = tuple(k for k, part in enumerate(factor.indices) if part in reduced)
                if len(axes) == len(reduced):
                    weights = np.abs(np.asarray(self.values[tensor_of(factor)], dtype=float)).sum(axis=axes)
                    rest = self._body(replace(equation, body=without(equation.body, factor)))
                    size = float(np.max(weights, initial=0.0)) * greatest(rest) if greatest(rest) else 0.0
                    return -size, size
        return ANY

    def of(self, expr: Expr) -> Interval:
        if expr.is_number:
            return (float(expr), float(expr)) if expr.is_real else ANY
        if isinstance(expr, Indexed):
            return self.entry(expr)
        variables = _variables(expr)
        ranges = [self._variable(v) for v in variables]
        return _meet(self._by_parts(expr), self._polynomial(expr, variables, ranges))

    def _variable(self, part: Expr) -> Interval:
        return self.entry(part) if isinstance(part, Indexed) else self._function(part)

    def _function(self, expr: Expr) -> Interval:
        row = FUNCTIONS["exp"] if isinstance(expr, sp.exp) else row_of(expr)
        if row is None:
            return ANY
        span: Interval = row.span
        if row.name in ("max2", "min2", "clip", "where"):
            return _choice(row.name, [self.of(part) for part in expr.args])
        if len(expr.args) == 1 and row.slope is not None and row.slope[0] >= 0:
            low, high = (float(row.value(end)) if math.isfinite(end) else None for end in self.of(expr.args[0]))
            span = (span[0] if low is None else max(span[0], low), span[1] if high is None else min(span[1], high))
        return span

    def _polynomial(self, expr: Expr, variables: tuple[Expr, ...], ranges: list[Interval]) -> Interval:
        if not variables or len(variables) > MOST_CORNERS:
            return ANY
        polynomial = _as_polynomial(expr, variables)
        if polynomial is None:
            return ANY
        if len(variables) == 1:
            return _of_one([float(c) for c in polynomial.all_coeffs()], ranges[0])
        if any(polynomial.degree(v) > 1 for v in polynomial.gens) or not all(map(math.isfinite, itertools.chain(*ranges))):
            return ANY
        terms = [(float(c), powers) for powers, c in polynomial.terms()]
        corners = [sum(c * math.prod(v for v, p in zip(point, powers, strict=True) if p) for c, powers in terms)
                   for point in itertools.product(*ranges)]
        return min(corners), max(corners)

    def _by_parts(self, expr: Expr) -> Interval:
        if expr.is_Add:
            return _add(*(self.of(part) for part in expr.args))
        if expr.is_Mul:
            return _times(expr.args, self)
        if expr.is_Pow:
            return _power(self.of(expr.base), expr.exp)
        return self._function(expr)


def _times(factors: Iterable[Expr], reader: _Reader) -> Interval:
    """A product, the factors that hang on the same reads together: ``s*(1 - s)*x`` is in [0, 1/4] times the range of x."""
    groups: list[tuple[set[Expr], list[Expr]]] = []
    for factor in factors:
        shared = set(_variables(factor))
        near = [g for g in groups if g[0] & shared]
        groups = [g for g in groups if not g[0] & shared]
        groups.append((shared.union(*(g[0] for g in near)), [factor, *(f for g in near for f in g[1])]))
    total: Interval = (1.0, 1.0)
    for _, parts in groups:
        if len(parts) > 1 and len(groups) > 1:
            total = _mul(total, reader.of(sp.Mul(*parts)))
        else:
            for part in parts:
                total = _mul(total, reader.of(part))
    return total


def _variables(expr: Expr) -> tuple[Expr, ...]:
    """The outermost reads and functions."""
    found: dict[Expr, None] = {}

    def walk(node: Expr) -> None:
        if isinstance(node, Indexed | sp.Function):
            found.setdefault(node)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(sorted(found, key=sp.default_sort_key))


@lru_cache(maxsize=4096)
def _as_polynomial(expr: Expr, variables: tuple[Expr, ...]) -> Any:
    """The expression as a polynomial in its reads and functions with numbers for coefficients, or ``None``."""
    names = sp.symbols(f"v:{len(variables)}")
    body = expr.xreplace(dict(zip(variables, names, strict=True)))
    if not body.is_polynomial(*names) or body.free_symbols - set(names):
        return None
    polynomial = sp.Poly(body, *names)
    return polynomial if polynomial.total_degree() <= MOST_CORNERS else None


def _of_one(coefficients: list[float], interval: Interval) -> Interval:
    """The range of a polynomial over an interval: at its ends, and where its slope is 0."""
    low, high = interval
    places = [x for x in (low, high) if math.isfinite(x)]
    if len(coefficients) > 2:
        roots = np.roots(np.polyder(coefficients))
        places += [float(r.real) for r in roots if abs(r.imag) < 1e-9 and low <= r.real <= high]
    values = [float(np.polyval(coefficients, x)) for x in places]
    if len(coefficients) > 1:
        upward = math.copysign(math.inf, coefficients[0])
        values += [upward] if high == math.inf else []
        values += [upward if len(coefficients) % 2 else -upward] if low == -math.inf else []
    return min(values, default=coefficients[-1]), max(values, default=coefficients[-1])


def _choice(name: str, parts: list[Interval]) -> Interval:
    if name == "where":
        return _hull(parts[1], parts[2])
    if name == "clip":
        low, high = parts[1][0], parts[2][1]
        return min(max(parts[0][0], low), high), max(min(parts[0][1], high), low)
    pick = max if name == "max2" else min
    return pick(p[0] for p in parts), pick(p[1] for p in parts)


def _inside(inner: Interval, outer: Interval) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _hull(*parts: Interval) -> Interval:
    return min(p[0] for p in parts), max(p[1] for p in parts)


def _meet(a: Interval, b: Interval) -> Interval:
    return max(a[0], b[0]), min(a[1], b[1])


def _add(*parts: Interval) -> Interval:
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def _mul(a: Interval, b: Interval) -> Interval:
    products = [0.0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return min(products), max(products)


def _power(base: Interval, exponent: Expr) -> Interval:
    if not exponent.is_Integer:
        positive = base[0] >= 0 and exponent.is_number and exponent > 0
        return (base[0] ** float(exponent), base[1] ** float(exponent)) if positive else ANY
    n = int(exponent)
    if n < 0:
        if base[0] <= 0 <= base[1]:
            return ANY
        low, high = _power(base, -exponent)
        return (1 / high if math.isfinite(high) else 0.0), (1 / low if math.isfinite(low) else 0.0)
    ends = [base[0] ** n, base[1] ** n]
    if n % 2 == 0 and base[0] <= 0 <= base[1]:
        ends.append(0.0)
    return min(ends), max(ends)
