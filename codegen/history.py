"""Histories that nobody needs are not kept: a tensor that a loop alone reads, a few steps back, gets as many slots (law 24).

    for t: h[t] = tanh(a[t] + U h[t-1])    and nothing else reads h:    one slot for h

Entry ``e`` of the axis of the loop lives in slot ``e mod slots``. With one slot more than the longest lag no entry that is still
read shares its slot with the one that is written. One slot is enough for lag 1 where each read of the last step comes before
the write of this one, or stands in the same element-wise statement at the same place.

Requires: a lowered schedule, and the names of the tensors whose every entry is assigned before anything adds to it (``covered``:
a slot holds what an earlier step left). Ensures: the same values of everything that is read. Law: 25; an entry is written at one
step alone, and a read of it comes at most ``slots - 1`` steps later, so before its slot is written again; in one slot before the
statement that writes it, or in that statement at the same instance. Cost: linear in the accesses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Ring, Storage
from codegen.schedule import Loop, Node, equations_of
from codegen.verdict import Action, Verdict, bytes_of
from symbolic.analysis import affine, at_most, index_reads, is_positive
from symbolic.program import Equation, Program, index_symbols, tensor_of

__all__ = ["histories"]


@dataclass(frozen=True)
class _Access:
    """One read or write: the position of its top-level node, and of the child of its loop, in which it stands."""

    entry: Indexed
    equation: Equation
    top: int
    child: int
    plain: bool
    """Whether it stands in a statement of the loop itself, not in a loop inside."""
    writes: bool


class _NeededError(Exception):
    """Why a tensor is kept whole."""


def histories(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], covered: Collection[str],
    kept: Collection[str], itemsize: int = 4,
) -> tuple[dict[str, Storage], tuple[Verdict, ...]]:
    """The storages with rings, and a verdict for each tensor that a loop writes. ``kept``: what is needed after all loops, or
    is read in a way that the equations do not show."""
    found = dict(storages)
    verdicts = []
    accesses = _accesses(nodes)
    for top, node in enumerate(nodes):
        if not isinstance(node, Loop):
            continue
        for name in dict.fromkeys(s.equation.name for s in equations_of([node])):
            tensor, storage = program.tensor(name), storages[name]
            if not tensor.shape:
                continue
            action, reason = Action.WHOLE, ""
            try:
                if name in kept:
                    raise _NeededError("it is returned")
                ring = _ring(accesses[name], node, top, program)
                if name not in covered:
                    raise _NeededError("not every entry is assigned before something adds to it")
                found[name], action = with_ring(storage, ring), Action.CIRCULAR
                reason = f"read at most {ring.slots - 1} steps later" if ring.slots > 1 else "its last entry alone is read"
            except _NeededError as why:
                reason = str(why)
            verdicts.append(Verdict(str(node.symbol), name, action, reason,
                                    bytes_of(tensor, found[name].extents, program, itemsize)))
    return found, tuple(verdicts)


def with_ring(storage: Storage, ring: Ring) -> Storage:
    """The storage with slots on one axis; the entries round that axis lie in slots as all others."""
    zero = sp.Integer(0)
    before = tuple(zero if axis == ring.axis else n for axis, n in enumerate(storage.before))
    after = tuple(zero if axis == ring.axis else n for axis, n in enumerate(storage.after))
    return replace(storage, before=before, after=after, ring=ring)


def _accesses(nodes: Sequence[Node]) -> dict[str, list[_Access]]:
    found: dict[str, list[_Access]] = {}

    def visit(node: Node, top: int, child: int, depth: int) -> None:
        if isinstance(node, Loop):
            for k, inner in enumerate(node.body):
                visit(inner, top, k if depth == 0 else child, depth + 1)
            return
        equation = node.equation
        for entry in (equation.target, *equation.reads):
            row = _Access(entry, equation, top, child, depth <= 1, entry is equation.target)
            found.setdefault(tensor_of(entry), []).append(row)

    for top, node in enumerate(nodes):
        visit(node, top, 0, 0)
    return found


def _ring(rows: Sequence[_Access], loop: Loop, top: int, program: Program) -> Ring:
    """The ring of a tensor that this loop writes. Raises _NeededError with the reason where it needs its history."""
    writes = [row for row in rows if row.writes and row.top == top]
    axis, offset = _written_at(writes, loop)
    shape = program.tensor(tensor_of(writes[0].entry)).shape
    first, last = sp.expand(loop.lower + offset), sp.expand(loop.upper - 1 + offset)
    if not (at_most(sp.Integer(0), first, program) and at_most(last, shape[axis] - 1, program)):
        raise _NeededError("the loop also writes entries round the axis")
    if not is_positive(loop.upper - loop.lower, program):
        raise _NeededError("the loop may have no step")
    begin, end = (last, first) if loop.descending else (first, last)  # the entries of the first and of the last step
    sign = -1 if loop.descending else 1
    oldest = 0
    exposed = False  # a read of the step before that finds this step's write already done
    early = False
    begun = min(row.child for row in writes)
    for row in rows:
        subscript = row.entry.indices[axis]
        _check_plain(row.entry, row.equation)
        if row.top == top:
            age = _integer(sign * (loop.symbol + offset - subscript), "an entry of no fixed lag is read in the loop")
            if age < 0:
                raise _NeededError("an entry of a later step is read")
            early = early or age > 0
            exposed = exposed or age > 0 and not (row.child < begun or _in_place(row, writes))
        elif index_symbols(subscript):
            raise _NeededError(f"{'written' if row.writes else 'read'} over many steps outside its loop")
        elif row.top < top:
            age = _integer(sign * (begin - subscript), "an entry before the loop is not one of the steps before the first")
            if age < 1:
                raise _NeededError("entries of the loop are written before it")
            early = True
        else:
            if row.writes:
                raise _NeededError("written after the loop")
            age = _integer(sign * (end - subscript), "another entry than one of the last steps is read after the loop")
            if not (at_most(first, subscript, program) and at_most(subscript, last, program)):
                raise _NeededError("an entry from before the loop may be read after it")
        oldest = max(oldest, age)
    return Ring(axis, 1 if oldest <= 1 and not exposed else oldest + 1, early)


def _written_at(writes: Sequence[_Access], loop: Loop) -> tuple[int, Expr]:
    """The axis of the loop, and the entry that a step writes less the loop's value."""
    places = set()
    for row in writes:
        moving = [(k, s) for k, s in enumerate(row.entry.indices) if loop.symbol in index_symbols(s)]
        if len(moving) != 1:
            raise _NeededError("not written at one entry a step")
        offset = sp.expand(moving[0][1] - loop.symbol)
        if index_symbols(offset) or offset.has(Indexed):
            raise _NeededError("not written at one entry a step")
        places.add((moving[0][0], offset))
    if len(places) != 1:
        raise _NeededError("written at several entries a step")
    return places.pop()


def _check_plain(entry: Indexed, equation: Equation) -> None:
    """Every subscript is a plain one: no index tensor, at most one array index, none of them twice."""
    vector = {i.symbol for i in equation.indices}
    seen: list[Expr] = []
    for subscript in entry.indices:
        mine = index_symbols(subscript) & vector
        if affine(subscript) is None or index_reads((subscript,)) or len(mine) > 1:
            raise _NeededError("read or written through an index tensor or a window")
        seen += mine
    if len(set(seen)) != len(seen):
        raise _NeededError("read or written along a diagonal")


def _in_place(row: _Access, writes: Sequence[_Access]) -> bool:
    """Whether a read of the last step is of the very instance that its statement is about to write, element by element."""
    first = min(writes, key=lambda w: w.child)
    if len([w for w in writes if w.child == first.child]) != 1 or row.child != first.child or not row.plain:
        return False
    equation = row.equation
    if row.equation is not first.equation or equation.reduced or index_reads(equation.target.indices):
        return False
    moved = [(a, b) for a, b in zip(equation.target.indices, row.entry.indices, strict=True) if a != b]
    return len(moved) == 1  # the step alone


def _integer(expr: Expr, otherwise: str) -> int:
    found = sp.expand(expr)
    if not found.is_Integer:
        raise _NeededError(otherwise)
    return int(found)
