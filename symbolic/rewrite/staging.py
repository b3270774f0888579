"""Staging: give a term, or a sum, that several equations compute a tensor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine, at_most
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Names,
    Origin,
    Program,
    Role,
    Tensor,
    index_symbols,
    tensor_of,
)
from symbolic.rewrite.terms import operands, substitute, tidy
from symbolic.rewrite.values import inside

__all__ = ["Use", "staged"]

DERIVED = (Role.ADJOINT, Role.TANGENT)


@dataclass(frozen=True)
class Use:
    """One place where a term stands: in equation number ``row`` of the pass, at ``places`` for the positional indices."""

    row: int
    term: Expr
    places: tuple[Expr, ...]
    reduced: tuple[Index, ...] = ()


def staged(
    uses: Sequence[Use], rows: Sequence[Equation], program: Program, names: Names, number: int, rule: str, wanted: str
) -> tuple[Tensor, Equation, tuple[tuple[Use, Indexed], ...]] | None:
    """A tensor for the common term of ``uses``, the equation that computes it, and the uses that it serves, each with the
    entry to read; ``None`` where it would serve fewer than two equations.

    The equation computes the term where one use, the base, computes it: over its domain and under those of its guards that
    the others share; a use is served if all its instances are proved to be among them (law 4).
    """
    best: tuple[Tensor, Equation, tuple[Use, ...]] | None = None
    for base in uses:
        source = rows[base.row]
        axes = _axes(base, source, program)
        equation = _computed(base, axes, source) if axes is not None else None
        if axes is None or equation is None:
            continue
        served = tuple(use for use in uses if _serves(equation, len(axes), use, rows[use.row], program))
        if len({use.row for use in served}) < 2 or (best is not None and len(served) <= len(best[2])):
            continue
        derived = any(program.tensor(tensor_of(e)).role in DERIVED for e in operands(equation.body))
        tensor = Tensor(
            wanted,
            tuple(axis.extent for axis in axes),
            Role.ADJOINT if derived else Role.INTERMEDIATE,
            margin=tuple(axis.margin for axis in axes),
        )
        best = tensor, replace(equation, numbers=(number,), origin=Origin(rule, source.numbers)), served
        if len(served) == len(uses):
            break
    if best is None:
        return None
    tensor, equation, served = best
    rank = tensor.rank
    # The axes in the order in which the first use names its indices: [t,n,j], not [j,t,n].
    symbols = [i.symbol for i in rows[served[0].row].indices]
    order = sorted(range(rank), key=lambda k: _first(served[0].places[k], symbols))
    tensor = Tensor(
        names.fresh(wanted), tuple(tensor.shape[k] for k in order), tensor.role, margin=tuple(tensor.margin[k] for k in order)
    )
    indices = tuple(equation.indices[k] for k in order)
    equation = replace(equation, target=tensor.at([i.symbol for i in indices]), indices=indices + equation.indices[rank:])
    return tensor, equation, tuple((use, tensor.at([use.places[k] for k in order])) for use in served)


def _first(place: Expr, symbols: list[IndexName]) -> int:
    """Where the index of a place stands in the order of an equation's indices."""
    return min((symbols.index(s) for s in index_symbols(place) if s in symbols), default=len(symbols))


@dataclass(frozen=True)
class _Axis:
    """One axis of the tensor: the index that runs over the image of the base's, and the extent and margin that hold it."""

    index: Index
    extent: Expr
    margin: tuple[int, int]


def _axes(use: Use, equation: Equation, program: Program) -> tuple[_Axis, ...] | None:
    axes: dict[IndexName, _Axis] = {}
    for k, place in enumerate(use.places):
        form = affine(place)
        if form is None or len(form.symbols) != 1 or not isinstance(form.symbols[0], IndexName):
            return None
        symbol, sign = form.symbols[0], form.coefficient(form.symbols[0])
        if symbol in axes or sign not in (1, -1):
            return None
        over = equation.index(symbol)
        if sign == 1:
            lower, upper = over.lower + form.constant, over.upper + form.constant
        else:
            lower, upper = form.constant - over.upper + 1, form.constant - over.lower + 1
        if index_symbols(lower) or index_symbols(upper):
            return None
        lower, upper = sp.expand(lower), sp.expand(upper)
        found = _extent(k, use, lower, upper, program)
        if found is None:
            return None
        axes[symbol] = _Axis(Index(symbol, lower, upper), *found)
    return tuple(axes.values())


def _extent(k: int, use: Use, lower: Expr, upper: Expr, program: Program) -> tuple[Expr, tuple[int, int]] | None:
    """The extent and margin of an axis: that of a tensor which the term reads there bare, where it holds the range."""
    for entry in operands(use.term):
        tensor = program.tensor(tensor_of(entry))
        for axis, part in enumerate(entry.indices):
            if part == use.places[k]:
                least, beyond = tensor.bounds(axis)
                if at_most(least, lower, program) and at_most(upper, beyond, program):
                    return tensor.shape[axis], tensor.margin[axis]
    return (upper, (0, 0)) if at_most(sp.Integer(0), lower, program) else None


def _computed(base: Use, axes: tuple[_Axis, ...], source: Equation) -> Equation | None:
    """The equation that computes the base's term under all its guards, its target still to be named."""
    rule: dict[IndexName, Expr] = {}
    for place, axis in zip(base.places, axes, strict=True):
        form = affine(place)
        assert form is not None
        symbol = axis.index.symbol
        rule[symbol] = tidy(form.coefficient(symbol) * (symbol - form.constant))
    known = {*rule, *(i.symbol for i in base.reduced)}
    if not all(index_symbols(guard) <= known for guard in source.guards):
        return None
    guards = tuple(g for g in (substitute(guard, rule) for guard in source.guards) if g is not sp.true)
    return Equation(source.target, substitute(base.term, rule), tuple(a.index for a in axes) + base.reduced, guards)


def _serves(equation: Equation, rank: int, use: Use, reader: Equation, program: Program) -> bool:
    """Whether for each instance of the reader the equation computes the use's term, all of it and nothing else."""
    axes, summed = equation.indices[:rank], equation.indices[rank:]
    values: dict[IndexName, Expr] = {i.symbol: place for i, place in zip(axes, use.places, strict=True)}
    for own, other in zip(summed, use.reduced, strict=True):
        if (own.lower, own.upper) != (other.lower, other.upper):
            return False
        values[own.symbol] = other.symbol
    if substitute(equation.body, values) != use.term:
        return False
    reduced = {i.symbol for i in use.reduced}
    inner = {g for g in (substitute(g, values) for g in equation.guards) if index_symbols(g) & reduced}
    if inner != {g for g in reader.guards if index_symbols(g) & reduced}:
        return False
    return inside(values, replace(equation, indices=axes), reader, program)
