"""Removes zero extension: after this pass every access is proved in bounds of its storage (law 23).

- A write outside its target's bounds is clipped from the domain.
- A loop statement that would run on a part of the loop only, because a read leaves the bounds elsewhere, runs on the whole
  loop where its term is 0 there: the read sees the zeros of a halo.
- Reads out of bounds get a halo of zeros round the tensor; for inputs, which are not ours to lay out, a padded copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from codegen.schedule import Loop, Node, Statement
from symbolic.analysis import (
    Affine,
    affine,
    are_apart,
    at_most,
    index_reads,
    is_nonnegative,
    lies_in,
    subscript_range,
)
from symbolic.program import Equation, Index, IndexName, Program, Role, Tensor, index_symbols, is_index_read, tensor_of

__all__ = ["Ring", "Storage", "clip", "lower", "plan_storage", "vanishes"]

Ranges = Mapping[IndexName, Index]


@dataclass(frozen=True)
class Ring:
    """A circular axis: entry ``e`` lies in slot ``e mod slots``. ``early``: a slot may be read before the loop writes it."""

    axis: int
    slots: int
    early: bool


@dataclass(frozen=True)
class Storage:
    """Where a tensor lives: its array, with ``before`` and ``after`` entries of zeros (or margin) round each axis."""

    tensor: Tensor
    code: str
    before: tuple[Expr, ...]
    after: tuple[Expr, ...]
    ring: Ring | None = None

    @cached_property
    def extents(self) -> tuple[Expr, ...]:
        """For each axis of the tensor how many entries there is room for."""
        found = [n + a + b for n, a, b in zip(self.tensor.shape, self.before, self.after, strict=True)]
        if self.ring is not None:
            found[self.ring.axis] = sp.Integer(self.ring.slots)
        return tuple(found)

    @property
    def absent(self) -> int | None:
        """The axis that the array does not have: one slot is no axis (but an array stays an array)."""
        return self.ring.axis if self.ring is not None and self.ring.slots == 1 and self.tensor.rank > 1 else None

    @property
    def padded(self) -> bool:
        """Whether entries are read that nothing writes: zeros."""
        return any(e != 0 for e in (*self.before, *self.after)) or self.ring is not None and self.ring.early


def lower(nodes: Iterable[Node], program: Program) -> tuple[Node, ...]:
    """The same schedule with clipped writes and whole loops."""
    return tuple(lowered for node in nodes for lowered in _lower(node, program, {}))


def _lower(node: Node, program: Program, ranges: Ranges) -> tuple[Node, ...]:
    if isinstance(node, Loop):
        inner = {**ranges, node.symbol: Index(node.symbol, node.lower, node.upper)}
        body = tuple(lowered for child in node.body for lowered in _lower(child, program, inner))
        return (replace(node, body=body),) if body else ()
    clipped = clip(_whole(node, program, ranges), program, ranges)
    return (clipped,) if clipped.equation.has_instances else ()


def _whole(statement: Statement, program: Program, ranges: Ranges) -> Statement:
    """Drop a condition on a loop value where the term is 0 outside it and everything else stays in bounds."""
    equation = statement.equation
    kept = []
    for condition in statement.when:
        symbol, lower, upper = condition
        wide = {**ranges, **{i.symbol: i for i in equation.indices}}
        narrow = {**wide, symbol: Index(symbol, lower, upper)}
        outside = []
        fine = _inside(equation.target, program, wide) and not equation.guards
        for entry in equation.reads:
            if _inside(entry, program, wide):
                continue
            fine = fine and _inside(entry, program, narrow) and not is_index_read(entry)
            outside.append(entry)
        # Outside the condition at least one vanishing read must be out of bounds, at both ends that were cut.
        if not (fine and outside and all(vanishes(equation.body, entry) for entry in outside)
                and _cut_ends_vanish(condition, ranges[symbol], outside, program)):
            kept.append(condition)
    return replace(statement, when=tuple(kept))


def _cut_ends_vanish(
    condition: tuple[IndexName, Expr, Expr], loop: Index, outside: Iterable[Indexed], program: Program
) -> bool:
    """For each loop value that was cut off, some vanishing read is wholly out of bounds."""
    symbol, lower, upper = condition
    ends = []
    if sp.expand(lower - loop.lower) != 0:
        ends.append((loop.lower, lower - 1))
    if sp.expand(loop.upper - upper) != 0:
        ends.append((upper, loop.upper - 1))
    return all(any(_wholly_outside(entry, symbol, end, program) for entry in outside) for end in ends)


def _wholly_outside(entry: Indexed, symbol: IndexName, end: tuple[Expr, Expr], program: Program) -> bool:
    tensor = program.tensor(tensor_of(entry))
    span = {symbol: Index(symbol, end[0], end[1] + 1)}
    for axis, subscript in enumerate(entry.indices):
        if index_symbols(subscript) != {symbol}:
            continue
        found = subscript_range(subscript, span, program)
        if found is None:
            continue
        lower, upper = tensor.bounds(axis)
        if are_apart(found, (lower, upper - 1), program):
            return True
    return False


def vanishes(body: Expr, entry: Indexed) -> bool:
    """Whether the body is 0 where the read is 0 (it is a factor of every term)."""
    zero = body.xreplace({entry: sp.Integer(0)})
    return bool(zero == 0)


def clip(statement: Statement, program: Program, ranges: Ranges) -> Statement:
    """Cut the instances whose write falls outside the target (law 2)."""
    equation = statement.equation
    tensor = program.tensor(equation.name)
    narrowed = {symbol: Index(symbol, lower, upper) for symbol, lower, upper in statement.when}
    every = {**ranges, **narrowed, **{i.symbol: i for i in equation.indices}}
    when = list(statement.when)
    guards: list[Expr] = []
    indices = {i.symbol: i for i in equation.indices}
    for axis, subscript in enumerate(equation.target.indices):
        lower, upper = tensor.bounds(axis)
        found = subscript_range(subscript, every, program)
        if found is None or index_reads((subscript,)):
            continue
        if lies_in(found, (lower, upper), program):
            continue
        form = affine(subscript)
        if form is None:
            continue
        vector = [s for s in form.symbols if s in indices]
        if not vector and len(form.symbols) == 1 and abs(form.coefficients[0][1]) == 1:
            symbol, _ = form.coefficients[0]
            loop, (low, high) = ranges[symbol], _solved(form, symbol, lower, upper)
            when.append((symbol, _tighter(loop.lower, low, program, True), _tighter(loop.upper, high, program, False)))
        elif not vector:  # several loops decide together
            guards += [g for g in (sp.Ge(subscript, lower), sp.Lt(subscript, upper)) if g is not sp.true]
        elif len(vector) == 1:
            index, (low, high) = indices[vector[0]], _solved(form, vector[0], lower, upper)
            indices[vector[0]] = Index(vector[0], _tighter(index.lower, low, program, True),
                                       _tighter(index.upper, high, program, False))
        # Several array indices are a window: its scatter masks what leaves the target.
    cut = replace(equation, indices=tuple(indices.values()), guards=(*equation.guards, *guards))
    return replace(statement, equation=cut, when=tuple(when))


def _solved(form: Affine, symbol: IndexName, lower: Expr, upper: Expr) -> tuple[Expr, Expr]:
    """The half-open range of one symbol in which ``lower <= form < upper``."""
    step = form.coefficient(symbol)
    rest = form.constant + sum((c * s for s, c in form.coefficients if s != symbol), start=sp.Integer(0))
    least, greatest = (lower - rest, upper - 1 - rest) if step > 0 else (rest - upper + 1, rest - lower)
    return sp.ceiling(sp.expand(least / abs(step))), sp.floor(sp.expand(greatest / abs(step))) + 1


def _tighter(a: Expr, b: Expr, program: Program, upwards: bool) -> Expr:
    least, most = (a, b) if upwards else (b, a)
    if at_most(least, most, program):
        return b
    if at_most(most, least, program):
        return a
    return (sp.Max if upwards else sp.Min)(a, b)


def _inside(entry: Indexed, program: Program, ranges: Ranges) -> bool:
    tensor = program.tensor(tensor_of(entry))
    for axis, subscript in enumerate(entry.indices):
        found = subscript_range(subscript, ranges, program)
        if found is None:
            return False
        if not lies_in(found, tensor.bounds(axis), program):
            return False
    return True


# ---- storage ---------------------------------------------------------------------------------------------------------


def plan_storage(nodes: Iterable[Node], program: Program, codes: Mapping[str, str]) -> dict[str, Storage]:
    """The storage of every tensor: margins, and halos for the reads that leave the bounds."""
    halo: dict[str, list[list[Expr]]] = {}
    for tensor in program.tensors:
        halo[tensor.name] = [[sp.Integer(a), sp.Integer(b)] for a, b in tensor.margin]
    for equation, ranges in walk(nodes, {}):
        every = {**ranges, **{i.symbol: i for i in equation.indices}}
        for entry in equation.reads:
            needed = halo[tensor_of(entry)]
            for axis, (before, after) in enumerate(out_of_bounds(entry, every, program)):
                needed[axis][0] = _larger(needed[axis][0], before, program)
                needed[axis][1] = _larger(needed[axis][1], after, program)
    result = {}
    for tensor in program.tensors:
        before = tuple(a for a, _ in halo[tensor.name])
        after = tuple(b for _, b in halo[tensor.name])
        result[tensor.name] = Storage(tensor, codes[tensor.name], before, after)
    return result


def given(tensor: Tensor) -> bool:
    """Whether the caller lays the tensor out."""
    return tensor.role in (Role.PARAMETER, Role.INPUT)


def out_of_bounds(entry: Indexed, ranges: Ranges, program: Program) -> list[tuple[Expr, Expr]]:
    """For each axis how far the read may reach before and after the bare range (0 where it stays inside, and for subscripts
    through index tensors, which are checked one by one)."""
    tensor = program.tensor(tensor_of(entry))
    widest = {symbol: _widest(i) for symbol, i in ranges.items()}
    reach = []
    zero = sp.Integer(0)
    for axis, subscript in enumerate(entry.indices):
        if index_reads((subscript,)):
            reach.append((zero, zero))
            continue
        found = subscript_range(subscript, widest, program)
        if found is None or any(map(index_symbols, found)):
            reach.append((zero, zero))
            continue
        extent = tensor.shape[axis]
        below, above = found[0], extent - 1
        before = zero if at_most(zero, below, program) else _positive_part(-below, program)
        after = zero if at_most(found[1], above, program) else _positive_part(found[1] - above, program)
        reach.append((before, after))
    return reach


def _widest(index: Index) -> Index:
    """A range cut at a loop value (``k < min(K, T - t)``) without that cut."""

    def loose(bound: Expr, kind: Any) -> Expr:
        parts: tuple[Expr, ...] = bound.args if isinstance(bound, kind) else ()
        fixed = [part for part in parts if not index_symbols(part)]
        return kind(*fixed) if fixed else bound

    return Index(index.symbol, loose(index.lower, sp.Max), loose(index.upper, sp.Min))


def _positive_part(expr: Expr, program: Program) -> Expr:
    """``max(0, expr)`` for what is not proved to be at most 0."""
    return expr if is_nonnegative(expr, program) else sp.Max(0, expr)


def _larger(a: Expr, b: Expr, program: Program) -> Expr:
    if at_most(b, a, program):
        return a
    if at_most(a, b, program):
        return sp.expand(b)
    return sp.Max(a, b)


def walk(nodes: Iterable[Node], ranges: Ranges) -> Iterable[tuple[Equation, Ranges]]:
    """Every equation with the ranges of the loops round it."""
    for node in nodes:
        if isinstance(node, Loop):
            yield from walk(node.body, {**ranges, node.symbol: Index(node.symbol, node.lower, node.upper)})
        else:
            narrowed = dict(ranges)
            for symbol, lower, upper in node.when:
                narrowed[symbol] = Index(symbol, lower, upper)
            yield node.equation, narrowed
