"""Maxima over windows, recognised by their equations: which need no argument tensors, because comparing again is cheaper."""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Indexed

from symbolic.analysis import affine, in_bounds, index_reads
from symbolic.program import Equation, IndexName, Program, Reduction, tensor_of

__all__ = ["argument_key", "is_window_maximum", "window_maxima"]

SMALL = 64
"""Offsets up to which a window is walked offset by offset."""


def is_window_maximum(equation: Equation) -> bool:
    """Whether this is a plain maximum of one read over few offsets that are added to positions (``x[2*u + p]``)."""
    if equation.reduction is Reduction.SUM or equation.guards or not isinstance(equation.body, Indexed):
        return False
    count = 1
    for index in equation.reduced:
        if not index.extent.is_Integer:
            return False
        count *= int(index.extent)
    if not 1 < count <= SMALL or index_reads(equation.body.indices):
        return False
    reduced = {i.symbol for i in equation.reduced}
    composite = {s for part in equation.body.indices if part not in reduced and (form := affine(part)) is not None
                 for s, _ in form.coefficients if s in reduced}
    return composite == reduced


def argument_key(equation: Equation) -> frozenset[str]:
    """The index tensors in the subscripts of a target."""
    return frozenset(tensor_of(r) for s in equation.target.indices for r in index_reads((s,)))


def window_maxima(
    program: Program,
) -> tuple[Mapping[frozenset[str], tuple[Equation, Mapping[str, IndexName]]], frozenset[str]]:
    """For each set of argument tensors the maximum that they belong to and the offset that each holds; and those argument
    tensors that no equation reads but as the place of a window's adjoint, so that they need not exist."""
    maxima = {
        (e.body, e.indices): e for e in program.equations
        if e.reduction is Reduction.MAX and is_window_maximum(e) and in_bounds(e.body, e, program)
    }
    groups: dict[object, dict[str, IndexName]] = {}
    for equation in program.equations:
        if equation.reduction is Reduction.ARGMAX and (equation.body, equation.indices) in maxima:
            assert equation.component is not None
            groups.setdefault((equation.body, equation.indices), {})[equation.name] = equation.component
    found = {frozenset(names): (maxima[key], names) for key, names in groups.items()  # type: ignore[index]
             if set(names.values()) == {i.symbol for i in maxima[key].reduced}}  # type: ignore[index]
    blocked: set[str] = set()
    for equation in program.equations:
        targets = {r for s in equation.target.indices for r in index_reads((s,))}
        places = {r.indices for r in targets}
        plain = argument_key(equation) in found and len(places) == 1 and not equation.reduced and not equation.guards and all(
            p in {i.symbol for i in equation.indices} for p in next(iter(places))
        )
        for entry in equation.reads:
            if not (plain and entry in targets):
                blocked.add(tensor_of(entry))
    usable = {key: value for key, value in found.items() if not key & blocked}
    return usable, frozenset(name for key in usable for name in key)
