"""Shared contractions (law 18): a sum of products that several equations compute is computed once.

Requires: nothing; best after ``gather``. Ensures: where two sums reduce the same product and differ only in factors
that are free of the reduced indices, the sum is staged: ``d_r[t,j] += U[i,j]*d_a[t,i]*h[t-1,j]`` and ``d_h[t-1,j] +=
U[i,j]*d_a[t,i]*r[t,j]`` of a GRU that resets before the product read one ``d_a_U[t,j]``. Law: a factor free of the
reduced indices may stand outside the sum, if it is a number or a parameter, or every entry sums at least one instance: a
factor of no instance is not evaluated and may be infinite (law 3); the base and its readers as for common terms. Cost:
linear.

>>> from symbolic.program import *
>>> H = size("H"); i, j = index("i"), index("j")
>>> U, r, h, a, d_r, d_h = (Tensor(n, (H,) * (1 + (n == "U"))) for n in ("U", "r", "h", "a", "d_r", "d_h"))
>>> over = (Index.over(j, H), Index.over(i, H))
>>> program = Program("p", (U, r, h, a, d_r, d_h), (
...     Equation(d_r[j], U[i, j]*a[i]*h[j], over, numbers=(1,)),
...     Equation(d_h[j], U[i, j]*a[i]*r[j], over, numbers=(2,))), {"H": None})
>>> print(*share_contractions(program, frozenset()).equations, sep=chr(10))
(3) a_U[j] += U[i, j]*a[i]    for j=0..H - 1, i=0..H - 1
(1) d_r[j] += a_U[j]*h[j]    for j=0..H - 1
(2) d_h[j] += a_U[j]*r[j]    for j=0..H - 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import at_most, index_reads, subscript_range
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Names,
    Program,
    Reduction,
    Role,
    index,
    index_symbols,
    tensor_of,
)
from symbolic.rewrite.staging import Use, staged
from symbolic.rewrite.terms import canonical, operands, position, renumbered, substitute

__all__ = ["share_contractions"]

NAME = "contractions"


def share_contractions(program: Program, keep: frozenset[str]) -> Program:
    """The program with sums of products that several equations hold staged in tensors."""
    table: dict[object, list[Use]] = {}
    for row, equation in enumerate(program.equations):
        core = _core(equation, program)
        if core is not None and (keyed := _use(row, core, equation)) is not None:
            key, use = keyed
            table.setdefault(key, []).append(use)
    rows = list(program.equations)
    tensors = list(program.tensors)
    names: Names | None = None
    place = {row: (row, 1) for row in range(len(rows))}
    for uses in table.values():
        if len(uses) < 2:
            continue
        names = names or Names.of(program)
        number = program.next_number + len(tensors) - len(program.tensors)
        found = staged(uses, rows, program, names, number, NAME, _name(uses[0].term))
        if found is None:
            continue
        tensor, equation, served = found
        for use, entry in served:
            rows[use.row] = _reading(rows[use.row], use, entry)
        place[len(rows)] = (min(use.row for use, _ in served), 0)
        tensors.append(tensor)
        rows.append(equation)
    return program.with_equations((rows[row] for row in sorted(place, key=place.__getitem__)), tensors)


def _core(equation: Equation, program: Program) -> Expr | None:
    """The factors that vary over the reduced indices, where they are a product of at least two, and the others may stand
    outside the sum."""
    if equation.reduction is not Reduction.SUM or not equation.reduced:
        return None
    reduced = {i.symbol for i in equation.reduced}
    factors = [f for f in sp.Mul.make_args(equation.body) if index_symbols(f) & reduced]
    if len(factors) < 2:
        return None
    outer = [f for f in sp.Mul.make_args(equation.body) if not index_symbols(f) & reduced]
    finite = all(f.is_number or _is_parameter(f, program) for f in outer)
    return sp.Mul(*factors) if finite or _sums_something(equation, program) else None


def _is_parameter(factor: Expr, program: Program) -> bool:
    return isinstance(factor, Indexed) and program.tensor(tensor_of(factor)).role is Role.PARAMETER


def _sums_something(equation: Equation, program: Program) -> bool:
    """Whether at least one instance is proved for each entry: the first or the last of the reduced indices is in all guards."""
    if not all(at_most(i.lower + 1, i.upper, program) for i in equation.reduced):
        return False
    reduced = {i.symbol for i in equation.reduced}
    ranges = {i.symbol: i for i in equation.indices}
    guards = [g for g in equation.guards if index_symbols(g) & reduced]
    return any(
        all(_holds(substitute(guard, ends), ranges, program) for guard in guards)
        for ends in ({i.symbol: i.lower for i in equation.reduced}, {i.symbol: i.last for i in equation.reduced})
    )


def _holds(guard: sp.Basic, ranges: Mapping[IndexName, Index], program: Program) -> bool:
    """Whether a comparison is proved for all instances."""
    if guard is sp.true:
        return True
    if not isinstance(guard, sp.Le | sp.Lt | sp.Ge | sp.Gt):
        return False
    if any(program.tensor(tensor_of(e)).ignore is not None for e in index_reads(guard.args)):
        return False
    found = subscript_range(guard.gts - guard.lts, ranges, program)
    return found is not None and at_most(sp.Integer(isinstance(guard, sp.Lt | sp.Gt)), found[0], program)


def _use(row: int, core: Expr, equation: Equation) -> tuple[object, Use] | None:
    """The core modulo names: free indices are positional, reduced ones are told apart by the order of their first use.

    ``None`` where a reduced index stands in a composite subscript, or in two subscripts: it would be taken for a free one.
    """
    form = canonical(core)
    reduced = {i.symbol: i for i in equation.reduced}
    names: dict[IndexName, IndexName] = {}
    places: list[Expr] = []
    order: list[Index] = []
    for k, part in enumerate(form.places):
        if part in reduced and reduced[part] not in order:
            names[position(k)] = index(f"_r{len(order)}")
            order.append(reduced[part])
        elif index_symbols(part) & set(reduced):
            return None
        else:
            names[position(k)] = index(f"_f{len(places)}")
            places.append(part)
    ranges = tuple((i.lower, i.upper) for i in order)
    return (form.term.xreplace(names), ranges), Use(row, core, tuple(places), tuple(order))


def _reading(equation: Equation, use: Use, entry: Expr) -> Equation:
    """The equation with the sum read from its tensor: the reduced indices and their guards are gone."""
    reduced = {i.symbol for i in equation.reduced}
    outer = sp.Mul(*(f for f in sp.Mul.make_args(equation.body) if not index_symbols(f) & reduced))
    guards = tuple(g for g in equation.guards if not index_symbols(g) & reduced)
    indices = tuple(i for i in equation.indices if i.symbol not in reduced)
    return renumbered(replace(equation, body=outer * entry, indices=indices, guards=guards), NAME, equation)


def _name(term: Expr) -> str:
    """``a_U`` for a product of a and U, in the layer of the last."""
    names = [tensor_of(entry) for entry in operands(term)]
    layer, dot, _ = names[-1].rpartition(".")
    return layer + dot + "_".join(name.rpartition(".")[2] for name in names)
