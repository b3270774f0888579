"""Blocks of steps: what is computed for all steps of a loop at once is computed for one block of steps at a time (law 24).

    a[t] = W x[t] for all t;  for t: h[t] = tanh(a[t] + U h[t-1]);  y[t] = V h[t] for all t
    ->  for start = 0, steps, ..: a[t] = W x[t] for t in the block;  for t in the block: ..;  y[t] = V h[t] likewise

so that ``a`` and ``h`` need room for one block. The statements before and after the loop join it where every dependence allows
it; sums over the steps add up over the blocks. What lives in blocks alone is *local*; entries that a later block reads are
*carried*. What is needed over all steps stays whole, and the block works on a *window* of it.

Requires: a lowered schedule. Ensures: the same values of everything that is not local, up to the order of sums over the steps.
Law: blocks run in the direction of the loop, the members of a block in their order. A read at step t of what a member writes is
of an entry that was written at step t or at an earlier one, so in this block before it, or in an earlier block. Nothing that a
member reads depends on a member that is not done; a sum over the steps is read after the last block. Cost: quadratic in the
statements round one loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from codegen.block import Block, Carry, Window, statements_of
from codegen.joining import Joining, KeptWholeError, axis_of
from codegen.lower import Storage, given
from codegen.schedule import Loop, Node, Statement, equations_of
from codegen.verdict import Action, Verdict, bytes_of
from symbolic.analysis import is_nonnegative, is_positive
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Names,
    Program,
    Role,
    Tensor,
    index,
    size,
    tensor_of,
)

__all__ = ["LIMIT", "Blocked", "block"]

LIMIT = 2**30
"""Bytes from which on one tensor of all steps is too large where its size is known."""
SHARE = 16
"""The largest local tensor of an automatic block takes at most this part of the limit."""


@dataclass(frozen=True)
class Blocked:
    """The nodes with blocks; the program and the storages with what lives in them; what stands for what."""

    nodes: tuple[Node | Block, ...]
    program: Program
    storages: Mapping[str, Storage]
    standing: Mapping[str, str]
    """Local or window -> the tensor that it stands for."""
    verdicts: tuple[Verdict, ...]


def block(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], kept: Collection[str], steps: int | None = None,
    itemsize: int = 4, verdicts: Sequence[Verdict] = (), avoided: Collection[str] = (), taken: Collection[str] = (),
    limit: int = LIMIT,
) -> Blocked:
    """Block the loops that need it, or, with ``steps``, every loop that gains by it. ``kept``: what is returned;
    ``avoided``: what is also read in a way that the equations do not show; ``taken``: names that mean something else."""
    work = _Work(program, dict(storages), frozenset(kept), itemsize, frozenset(avoided), frozenset(taken))
    items: list[Node | Block] = list(nodes)
    found = {(v.loop, v.tensor): v for v in verdicts}
    for seed in [node for node in nodes if isinstance(node, Loop)]:
        place = next((k for k, item in enumerate(items) if item is seed), None)
        if place is None:  # it joined the block of a loop before it
            continue
        try:
            items, told = _Blocking(work, items, place, steps, limit).run()
        except KeptWholeError as why:
            told = _told_whole(seed, work, str(why))
        for verdict in told:
            key = (verdict.loop, verdict.tensor)
            if verdict.action is Action.BLOCK or key not in found:
                found[key] = verdict
    return Blocked(tuple(items), work.finished(), work.storages, work.standing, tuple(found.values()))


def _told_whole(loop: Loop, work: _Work, why: str) -> list[Verdict]:
    told = []
    names = [tensor_of(e) for s in equations_of([loop]) for e in s.equation.reads if loop.symbol in e.free_symbols]
    for name in dict.fromkeys(names):
        tensor, storage = work.program.tensor(name), work.storages[name]
        if not given(tensor) and storage.ring is None:
            told.append(Verdict(str(loop.symbol), name, Action.WHOLE, why,
                                bytes_of(tensor, storage.extents, work.program, work.itemsize)))
    return told


@dataclass
class _Work:
    """What all blocks of one function share."""

    program: Program
    storages: dict[str, Storage]
    kept: frozenset[str]
    itemsize: int
    avoided: frozenset[str]
    taken: frozenset[str]
    tensors: list[Tensor] = field(default_factory=list)
    standing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names.of(self.program)
        taken = {*self.taken, *self.program.sizes, *(i.name for e in self.program.equations for i in e.indices)}
        self.start = index(next(n for n in _spellings("start") if n not in taken))
        self.extent = size(next(n for n in _spellings("steps") if n not in taken))

    def add(self, tensor: Tensor, storage: Storage, stands_for: str) -> None:
        self.tensors.append(tensor)
        self.storages[tensor.name] = storage
        self.standing[tensor.name] = stands_for

    def finished(self) -> Program:
        """The program with the tensors of all blocks, each with the writers of what it stands for."""
        if not self.tensors:
            return self.program
        more = [replace(e, target=tensor.at(e.target.indices)) for tensor in self.tensors
                for e in self.program.writers.get(self.standing[tensor.name], ())]
        return replace(self.program, tensors=(*self.program.tensors, *self.tensors), equations=(*self.program.equations, *more),
                       sizes={**self.program.sizes, str(self.extent): None})


def _spellings(word: str) -> Iterator[str]:
    while True:
        yield word
        word += "_"


@dataclass(frozen=True)
class _Use:
    """One access by a member: its subscript on the axis of the steps is the step plus ``offset``, or it has none (``None``)."""

    entry: Indexed
    offset: Expr | None
    writes: bool
    sometimes: bool


class _Blocking(Joining):
    """One loop with what joins it, and where what they touch lives."""

    def __init__(self, work: _Work, items: list[Node | Block], seed: int, steps: int | None, limit: int) -> None:
        super().__init__(items, seed, work.program, work.storages, work.kept, work.avoided)
        self.work, self.steps, self.limit = work, steps, limit

    def run(self) -> tuple[list[Node | Block], list[Verdict]]:
        loop, program = self.loop, self.program
        if not is_positive(loop.upper - loop.lower, program):
            raise KeptWholeError("the loop may have no step")
        number = sp.sympify(loop.upper - loop.lower).xreplace(dict(program.fixed))
        if self.steps is None:
            self._reason_to(number)
        elif number.is_Integer and number <= self.steps:
            raise KeptWholeError("it has no more steps than one block")
        if {n for s in equations_of([loop]) for n in (s.equation.name, *map(tensor_of, s.equation.reads))} & self.avoided:
            raise KeptWholeError("a maximum over windows is compared again in it")
        members = self.members()
        locals_ = {name: count for name in self.axes if self._may_be_local(name, members)
                   and (count := self._local(name, members)) is not None}
        if not locals_:
            raise KeptWholeError("nothing would live in one block alone")
        each = {name: bytes_of(program.tensor(name), self._extents(name, sp.Integer(1)), program, self.work.itemsize)
                for name in locals_}
        steps = self.steps
        if steps is None:
            known = [e for e in each.values() if e.is_Integer]
            most = max((int(e) for e in known), default=0)
            if most*int(number) <= self.limit:
                raise KeptWholeError(f"no tensor of one block alone is beyond {self.limit} bytes over all steps")
            steps = max(1, self.limit // SHARE // most)
        return self._built(members, locals_, steps), [
            Verdict(str(loop.symbol), name, Action.BLOCK, f"{steps} steps at a time"
                    + (f", {count} carried" if count else ""),
                    sp.expand(each[name]*steps + each[name]*count))
            for name, count in locals_.items()]

    def _reason_to(self, number: Expr) -> None:
        """Raise KeptWholeError where no tensor at all can be proved too large."""
        if not number.is_Integer:
            raise KeptWholeError(f"its size is not known: {number} is free")
        sizes = [bytes_of(t, self.work.storages[t.name].extents, self.program, self.work.itemsize)
                 for t in self.program.tensors if not given(t)]
        if not any(e.is_Integer and e > self.limit for e in sizes):
            free = any(not e.is_Integer for e in sizes)
            raise KeptWholeError("its size is not known" if free else f"no tensor is beyond {self.limit} bytes")

    def _uses(self, name: str, members: Mapping[int, IndexName]) -> list[_Use]:
        found = []
        for k, symbol in members.items():
            for statement in statements_of(self.items[k]):
                for entry in (statement.equation.target, *statement.equation.reads):
                    if tensor_of(entry) == name:
                        offset = self.offset(entry, symbol)
                        if offset is not None and axis_of(entry, symbol) != self.axes.get(name):
                            offset = None
                        found.append(_Use(entry, offset, entry is statement.equation.target, bool(statement.when)))
        return found

    def _may_be_local(self, name: str, members: Mapping[int, IndexName]) -> bool:
        return (name not in self.work.kept and not given(self.program.tensor(name)) and name not in self.work.avoided
                and self.work.storages[name].ring is None and name not in self.work.standing
                and any(use.writes for use in self._uses(name, members)))

    def _local(self, name: str, members: Mapping[int, IndexName]) -> int | None:
        """How many entries of a tensor are carried from block to block where it may live in blocks; else ``None``."""
        uses = self._uses(name, members)
        written = {use.offset for use in uses if use.writes}
        if len(written) != 1 or any(use.offset is None for use in uses):
            return None
        (newest,) = written
        if newest is None or not newest.is_Integer:
            return None
        ages = [sp.expand(self.sign*(newest - use.offset)) for use in uses if use.offset is not None]
        if any(not age.is_Integer or age < 0 for age in ages):
            return None
        carried = max(map(int, ages))
        later, axis = self.later(members), self.axes[name]
        for k, item in enumerate(self.items):
            if k in members:
                continue
            for statement in statements_of(item):
                for entry in (statement.equation.target, *statement.equation.reads):
                    if tensor_of(entry) != name:
                        continue
                    writes = entry is statement.equation.target
                    if isinstance(item, Block | Loop) or writes and k in later:
                        return None
                    age = (self.late if k in later else self.early)(entry.indices[axis], newest)
                    if age is None:
                        return None
                    if k in later and not is_nonnegative(self.loop.upper - self.loop.lower - age, self.program):
                        return None
                    carried = max(carried, age)
        return carried

    def _extents(self, name: str, steps: Expr) -> tuple[Expr, ...]:
        storage, axis = self.work.storages[name], self.axes[name]
        return tuple(steps if k == axis else extent for k, extent in enumerate(storage.extents))

    # ---- the block ---------------------------------------------------------------------------------------------------

    def _built(self, members: dict[int, IndexName], locals_: Mapping[str, int], steps: int) -> list[Node | Block]:
        work = self.work
        later = self.later(members)
        before = [k for k in range(len(self.items)) if k not in members and k not in later]
        moved: dict[str, tuple[Tensor, int]] = {}
        windows: list[Window] = []
        carries: list[Carry] = []
        kept_of: dict[str, tuple[Tensor, int, tuple[Expr, Expr]]] = {}
        names = dict.fromkeys(tensor_of(e) for k in members for s in statements_of(self.items[k])
                              for e in (s.equation.target, *s.equation.reads))
        for name in names:
            axis = self.axes.get(name)
            storage = work.storages[name]
            if axis is None or storage.ring is not None:
                continue
            uses = [u for u in self._uses(name, members) if u.offset is not None]
            if name in locals_:
                count = locals_[name]
                newest = next(u.offset for u in uses if u.writes and u.offset is not None)
                span = (newest - count, newest) if self.sign > 0 else (newest, newest + count)
                made = self._part(name, axis, span)
                moved[name] = made, axis
                if count:
                    shape = list(storage.tensor.shape)
                    shape[axis] = sp.Integer(count)
                    kept = replace(storage.tensor, name=work.names.fresh(f"{name}_last"), shape=tuple(shape),
                                   role=Role.INTERMEDIATE, margin=(), note=f"{name}, for the next block")
                    before_, after_ = (tuple(sp.Integer(0) if k == axis else n for k, n in enumerate(side))
                                       for side in (storage.before, storage.after))
                    work.add(kept, Storage(kept, f"{storage.code}_last", before_, after_), name)
                    carries.append(Carry(made.name, kept.name, axis, count))
                    kept_of[name] = (kept, axis, span)
                continue
            found = _span([u.offset for u in uses if u.offset is not None and not u.sometimes])
            if found is None or not self._inside(storage, axis, found):
                continue
            span = found
            made = self._part(name, axis, span, window=True)
            moved[name] = made, axis
            first = sp.expand(span[0] + storage.before[axis])
            windows.append(Window(made.name, name, axis, first, sp.expand(work.extent + span[1] - span[0])))
        body = tuple(self._moved(self.items[k], symbol, moved, windows) for k, symbol in members.items())
        loop = self.loop
        made_block = Block(
            work.start, work.extent, loop.lower, loop.upper, steps, loop.descending, body,
            tuple(_node(self.items[k]) for k in members), tuple(windows), tuple(carries),
            tuple(moved[name][0].name for name in locals_))
        return [*(self._fixed(self.items[k], kept_of, False) for k in before), made_block,
                *(self._fixed(self.items[k], kept_of, True) for k in sorted(later))]

    def _inside(self, storage: Storage, axis: int, span: tuple[Expr, Expr]) -> bool:
        """Whether every block's window lies in the array."""
        low = sp.expand(self.loop.lower + span[0] + storage.before[axis])
        high = sp.expand(storage.extents[axis] - (self.loop.upper + span[1] + storage.before[axis]))
        return is_nonnegative(low, self.program) and is_nonnegative(high, self.program)

    def _part(self, name: str, axis: int, span: tuple[Expr, Expr], window: bool = False) -> Tensor:
        """A tensor of one block's entries: of all steps of the block, and of those that an offset reaches."""
        work, storage = self.work, self.work.storages[name]
        shape = list(storage.tensor.shape)
        shape[axis] = work.extent
        margin = list(storage.tensor.margin)
        margin[axis] = (-int(span[0]), int(span[1]))
        tensor = replace(storage.tensor, name=work.names.fresh(f"{name}_block"), shape=tuple(shape), role=Role.INTERMEDIATE,
                         margin=tuple(margin), note="" if window else storage.tensor.note)
        before, after = list(storage.before), list(storage.after)
        before[axis], after[axis] = -span[0], span[1]
        code = f"{storage.code}_block" if window else storage.code
        work.add(tensor, Storage(tensor, code, tuple(before), tuple(after)), name)
        return tensor

    def _moved(self, item: Node | Block, symbol: IndexName, moved: Mapping[str, tuple[Tensor, int]],
               windows: Sequence[Window]) -> Node:
        """A member over one block: its index counts from the start, its tensors are the block's."""
        assert not isinstance(item, Block)
        step = symbol + self.work.start
        viewed = {w.tensor for w in windows}

        def expression(expr: Any, sometimes: bool) -> Any:
            if isinstance(expr, Indexed):
                name = tensor_of(expr)
                parts = [expression(part, sometimes) for part in expr.indices]
                steps = name in moved and self.offset(expr, symbol) is not None and axis_of(expr, symbol) == moved[name][1]
                # At a step at which the statement does not run a view may end before what it would read.
                if steps and not (sometimes and moved[name][0].name in viewed):
                    tensor, axis = moved[name]
                    parts[axis] = expr.indices[axis]
                    return tensor.at(tuple(parts))
                return expr.func(expr.base, *(sp.expand(p) if isinstance(p, Expr) else p for p in parts))
            if expr == symbol:
                return step
            if not getattr(expr, "args", ()):
                return expr
            return expr.func(*(expression(part, sometimes) for part in expr.args))

        def ranged(i: Index) -> Index:
            if i.symbol == symbol:
                return Index(symbol, sp.Integer(0), self.work.extent)
            return Index(i.symbol, sp.expand(expression(i.lower, False)), sp.expand(expression(i.upper, False)))

        def node(inner: Node) -> Node:
            if isinstance(inner, Loop):
                lower, upper = (sp.Integer(0), self.work.extent) if inner.symbol == symbol else (
                    expression(inner.lower, False), expression(inner.upper, False))
                return replace(inner, lower=lower, upper=upper, body=tuple(map(node, inner.body)))
            equation, sometimes = inner.equation, bool(inner.when)
            cut = replace(
                equation, target=expression(equation.target, sometimes), body=expression(equation.body, sometimes),
                indices=tuple(map(ranged, equation.indices)), guards=tuple(expression(g, sometimes) for g in equation.guards))
            when = tuple((s, sp.expand(low - self.work.start), sp.expand(high - self.work.start)) if s == symbol
                         else (s, expression(low, True), expression(high, True)) for s, low, high in inner.when)
            return Statement(cut, when, inner)

        return node(item)

    def _fixed(self, item: Node | Block, kept: Mapping[str, tuple[Tensor, int, tuple[Expr, Expr]]], after: bool) -> Node | Block:
        """A statement outside the block, its entries of the first or the last steps those that are carried."""
        if not isinstance(item, Statement) or not kept:
            return item
        origin = self.loop.upper if after == (self.sign > 0) else self.loop.lower
        rule = {}
        for entry in (item.equation.target, *item.equation.reads):
            if tensor_of(entry) in kept:
                tensor, axis, (low, high) = kept[tensor_of(entry)]
                parts = list(entry.indices)
                shift = low if self.sign > 0 else high - int(tensor.shape[axis])
                parts[axis] = sp.expand(parts[axis] - origin - shift)
                rule[entry] = tensor.at(tuple(parts))
        if not rule:
            return item
        equation: Equation = item.equation.xreplace(rule)
        return Statement(equation, item.when, item)


def _node(item: Node | Block) -> Node:
    assert not isinstance(item, Block)
    return item


def _span(offsets: Sequence[Expr]) -> tuple[Expr, Expr] | None:
    """The least and the greatest of some numbers."""
    if not offsets or not all(offset.is_Integer for offset in offsets):
        return None
    return min(offsets, key=int), max(offsets, key=int)
