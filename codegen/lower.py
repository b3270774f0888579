"""Removes zero extension: after this pass every access is proved in bounds of its storage (law 23).

- A write outside its target's bounds is clipped from the domain.
- A loop statement that would run on a part of the loop only, because a read leaves the bounds elsewhere, runs on the whole
  loop where its term is 0 there: the read sees the zeros of a halo.
- Reads out of bounds get a halo of zeros round the tensor; for inputs, which are not ours to lay out, a padded copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.schedule import Loop, Node, Statement
from symbolic.analysis import affine, index_reads, is_nonnegative, subscript_range
from symbolic.program import Equation, Index, IndexName, Program, Role, Tensor, index_symbols, is_index_read, tensor_of

__all__ = ["Storage", "lower", "plan_storage", "vanishes"]

Ranges = Mapping[IndexName, Index]


@dataclass(frozen=True)
class Storage:
    """Where a tensor lives: its array, with ``before`` and ``after`` entries of zeros (or margin) round each axis."""

    tensor: Tensor
    code: str
    before: tuple[Expr, ...]
    after: tuple[Expr, ...]

    @property
    def extents(self) -> tuple[Expr, ...]:
        return tuple(n + a + b for n, a, b in zip(self.tensor.shape, self.before, self.after, strict=True))

    @property
    def padded(self) -> bool:
        return any(e != 0 for e in (*self.before, *self.after))


def lower(nodes: Iterable[Node], program: Program) -> tuple[Node, ...]:
    """The same schedule with clipped writes and whole loops."""
    return tuple(_lower(node, program, {}) for node in nodes)


def _lower(node: Node, program: Program, ranges: Ranges) -> Node:
    if isinstance(node, Loop):
        inner = {**ranges, node.symbol: Index(node.symbol, node.lower, node.upper)}
        return replace(node, body=tuple(_lower(child, program, inner) for child in node.body))
    return _clip(_whole(node, program, ranges), program, ranges)


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
        if is_nonnegative(lower - 1 - found[1], program) or is_nonnegative(found[0] - upper, program):
            return True
    return False


def vanishes(body: Expr, entry: Indexed) -> bool:
    """Whether the body is 0 where the read is 0 (it is a factor of every term)."""
    zero = body.xreplace({entry: sp.Integer(0)})
    return bool(zero == 0)


def _clip(statement: Statement, program: Program, ranges: Ranges) -> Statement:
    """Cut the instances whose write falls outside the target (law 2)."""
    equation = statement.equation
    tensor = program.tensor(equation.name)
    narrowed = {symbol: Index(symbol, lower, upper) for symbol, lower, upper in statement.when}
    every = {**ranges, **narrowed, **{i.symbol: i for i in equation.indices}}
    when = list(statement.when)
    indices = {i.symbol: i for i in equation.indices}
    for axis, subscript in enumerate(equation.target.indices):
        lower, upper = tensor.bounds(axis)
        found = subscript_range(subscript, every, program)
        if found is None or index_reads((subscript,)):
            continue
        if is_nonnegative(found[0] - lower, program) and is_nonnegative(upper - 1 - found[1], program):
            continue
        form = affine(subscript)
        moving = [s for s, _ in form.coefficients] if form is not None else []
        if form is None or len(moving) != 1 or abs(form.coefficients[0][1]) != 1:
            continue  # a window: the target gets a scratch of its own
        symbol, sign = form.coefficients[0]
        rest = form.constant
        low, high = (lower - rest, upper - rest) if sign == 1 else (rest - upper + 1, rest - lower + 1)
        if symbol in indices:
            index = indices[symbol]
            indices[symbol] = Index(symbol, _tighter(index.lower, low, program, True),
                                    _tighter(index.upper, high, program, False))
        else:
            loop = ranges[symbol]
            when.append((symbol, _tighter(loop.lower, low, program, True), _tighter(loop.upper, high, program, False)))
    return replace(statement, equation=replace(equation, indices=tuple(indices.values())), when=tuple(when))


def _tighter(a: Expr, b: Expr, program: Program, upwards: bool) -> Expr:
    difference = sp.expand(b - a) if upwards else sp.expand(a - b)
    if is_nonnegative(difference, program):
        return b
    if is_nonnegative(-difference, program):
        return a
    return (sp.Max if upwards else sp.Min)(a, b)


def _inside(entry: Indexed, program: Program, ranges: Ranges) -> bool:
    tensor = program.tensor(tensor_of(entry))
    for axis, subscript in enumerate(entry.indices):
        found = subscript_range(subscript, ranges, program)
        if found is None:
            return False
        lower, upper = tensor.bounds(axis)
        if not (is_nonnegative(found[0] - lower, program) and is_nonnegative(upper - 1 - found[1], program)):
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
    reach = []
    for axis, subscript in enumerate(entry.indices):
        zero = (sp.Integer(0), sp.Integer(0))
        if index_reads((subscript,)):
            reach.append(zero)
            continue
        found = subscript_range(subscript, ranges, program)
        if found is None or index_symbols(found[0] + found[1]):
            reach.append(zero)
            continue
        extent = tensor.shape[axis]
        below, above = -found[0], found[1] - (extent - 1)
        reach.append((_positive_part(below, program), _positive_part(above, program)))
    return reach


def _positive_part(expr: Expr, program: Program) -> Expr:
    if is_nonnegative(-expr, program):
        return sp.Integer(0)
    return expr if is_nonnegative(expr, program) else sp.Max(0, expr)


def _larger(a: Expr, b: Expr, program: Program) -> Expr:
    if is_nonnegative(a - b, program):
        return a
    if is_nonnegative(b - a, program):
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
