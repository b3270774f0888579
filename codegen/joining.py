"""Which statements round a loop join its block of steps: those whose every dependence steps with the loop or backwards.

Statements before the loop join where members alone read what they make; what reads what members make joins where each entry that
it reads was written at its own step or an earlier one. A sum over the steps may join, what reads that sum may not. See
:mod:`codegen.blocking` for the law.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

import sympy as sp
from sympy import Expr, Indexed

from codegen.block import Block, statements_of
from codegen.lower import Storage
from codegen.schedule import Loop, Node, Statement
from symbolic.program import Index, IndexName, Program, Reduction, index_symbols, tensor_of

__all__ = ["Joining", "KeptWholeError", "axis_of"]


class KeptWholeError(Exception):
    """Why a loop is not blocked."""


class Joining:
    """A loop among the nodes round it. ``axes``: for each tensor that members touch the axis that steps with the loop."""

    def __init__(
        self, items: list[Node | Block], seed: int, program: Program, storages: Mapping[str, Storage], kept: Collection[str],
        avoided: Collection[str],
    ) -> None:
        self.items, self.seed, self.program, self.storages = items, seed, program, storages
        self.kept, self.avoided = frozenset(kept), frozenset(avoided)
        loop = items[seed]
        assert isinstance(loop, Loop)
        self.loop = loop
        self.sign = -1 if loop.descending else 1
        self.axes: dict[str, int] = {}

    def members(self) -> dict[int, IndexName]:
        """The positions of the members, each with the index that counts its steps."""
        banned: set[int] = set()
        while True:
            members = {self.seed: self.loop.symbol}
            self.axes = dict(self._places(self.loop, self.loop.symbol))
            while self._join(members, banned):
                pass
            wrong = self._depends_on_later(members)
            if wrong is None:
                return dict(sorted(members.items()))
            if wrong <= self.seed:
                raise KeptWholeError("what it needs is computed from what would be computed with it")
            banned.add(wrong)

    def _join(self, members: dict[int, IndexName], banned: Collection[int]) -> bool:
        for k, item in enumerate(self.items):
            if k in members or k in banned or isinstance(item, Block):
                continue
            symbol = self._before(k, members) if k < self.seed else self._after(k, members)
            if symbol is not None:
                members[k] = symbol
                for name, axis in self._places(item, symbol):
                    self.axes.setdefault(name, axis)
                return True
        return False

    def _before(self, k: int, members: Mapping[int, IndexName]) -> IndexName | None:
        """Whether a statement before the loop may join: what it makes is read by members alone."""
        item = self.items[k]
        if not isinstance(item, Statement) or item.equation.name in self.kept:
            return None
        name = item.equation.name
        if name not in self.axes or self.storages[name].ring is not None:
            return None
        for j, other in enumerate(self.items):
            for statement in statements_of(other):
                if j not in members and any(tensor_of(e) == name for e in statement.equation.reads):
                    return None
        found = self._index(item, members)
        return found if found is not None and self.offset(item.equation.target, found) is not None else None

    def _after(self, k: int, members: Mapping[int, IndexName]) -> IndexName | None:
        """Whether a node after the loop may join: it reads or adds to what members write."""
        item = self.items[k]
        assert not isinstance(item, Block)
        made = {s.equation.name for j in members for s in statements_of(self.items[j])}
        touched = {n for s in statements_of(item) for n in (s.equation.name, *map(tensor_of, s.equation.reads))}
        return self._index(item, members) if touched & made else None

    def _index(self, item: Node, members: Mapping[int, IndexName]) -> IndexName | None:
        """The index of a node that counts the steps of the loop, where every dependence allows the node to join."""
        loop = self.loop
        if isinstance(item, Loop):
            same = item.descending == loop.descending and _same(item, loop)
            return item.symbol if same and self._fits(item, item.symbol, members) else None
        if item.when:
            return None
        for candidate in item.equation.indices:
            if _same(candidate, loop) and self._fits(item, candidate.symbol, members):
                return candidate.symbol
        return None

    def _fits(self, item: Node, symbol: IndexName, members: Mapping[int, IndexName]) -> bool:
        writes = self._writes(members)
        meets = False
        for statement in statements_of(item):
            equation = statement.equation
            target = self.offset(equation.target, symbol)
            names = {equation.name, *map(tensor_of, equation.reads)}
            if names & self.avoided:
                return False
            if isinstance(item, Statement) and target is None:
                plain = {s for part in equation.target.indices for s in _plain(part)}
                if equation.reduction is not Reduction.SUM or symbol in plain or equation.name in self.axes:
                    return False
                if any(tensor_of(e) == equation.name for j in members for s in statements_of(self.items[j])
                       for e in s.equation.reads):
                    return False
            if isinstance(item, Loop) and target is None:
                return False
            if target is not None:
                axis = self.axes.get(equation.name)
                if axis is not None and axis != axis_of(equation.target, symbol):
                    return False
                meets = meets or axis is not None
                # members that are there read what this one adds, at this step or a later one
                for j, other in members.items():
                    for inner in statements_of(self.items[j]):
                        for entry in inner.equation.reads:
                            if tensor_of(entry) != equation.name:
                                continue
                            offset = self.offset(entry, other)
                            if offset is None or not self._past(target, offset) or j < self._place(item):
                                return False
            for entry in equation.reads:
                name = tensor_of(entry)
                if name not in writes:
                    meets = meets or name in self.axes and self.offset(entry, symbol) is not None
                    continue
                offset = self.offset(entry, symbol)
                if offset is None or axis_of(entry, symbol) != self.axes.get(name):
                    return False
                if not all(w is not None and self._past(w, offset) for w in writes[name]):
                    return False
                meets = True
        return meets

    def _place(self, item: Node) -> int:
        return next(k for k, other in enumerate(self.items) if other is item)

    def _past(self, written: Expr, read: Expr) -> bool:
        """Whether an entry that is read at an offset was written at this step or an earlier one."""
        lag = sp.expand(self.sign*(written - read))
        return bool(lag.is_Integer and lag >= 0)

    def _writes(self, members: Mapping[int, IndexName]) -> dict[str, set[Expr | None]]:
        found: dict[str, set[Expr | None]] = {}
        for k, symbol in members.items():
            for statement in statements_of(self.items[k]):
                target = statement.equation.target
                found.setdefault(tensor_of(target), set()).add(self.offset(target, symbol))
        return found

    def _depends_on_later(self, members: Mapping[int, IndexName]) -> int | None:
        """A member that reads what cannot be there yet, because it is made from what members make; ``None``: there is none."""
        later = self.later(members)
        late = {s.equation.name for k in later for s in statements_of(self.items[k])}
        for k in sorted(members, reverse=True):
            if any(tensor_of(e) in late for s in statements_of(self.items[k]) for e in s.equation.reads):
                return k
        return None

    def later(self, members: Mapping[int, IndexName]) -> set[int]:
        """What is not in the block and depends on it."""
        later: set[int] = set()
        made = {s.equation.name for k in members for s in statements_of(self.items[k])}
        while True:
            # What adds to a tensor that is made later is in the order in which the schedule has them.
            added = {s.equation.name for k in later for s in statements_of(self.items[k])}
            more = {k for k, item in enumerate(self.items) if k not in members and k not in later
                    and not (k < self.seed and not self._reads_steps(item, members))
                    and any(s.equation.name in added or any(tensor_of(e) in made for e in s.equation.reads)
                            for s in statements_of(item))}
            if not more:
                return later
            later |= more
            made |= {s.equation.name for k in more for s in statements_of(self.items[k])}

    def _reads_steps(self, item: Node | Block, members: Mapping[int, IndexName]) -> bool:
        """Whether a node in front of the loop reads entries that members write: not those from before the first step."""
        written = self._writes(members)
        for statement in statements_of(item):
            for entry in statement.equation.reads:
                offsets = written.get(tensor_of(entry))
                if offsets is None:
                    continue
                axis = self.axes.get(tensor_of(entry))
                if axis is None or None in offsets:
                    return True
                for offset in offsets:
                    assert offset is not None
                    if self.early(entry.indices[axis], offset) is None:
                        return True
        return False

    def offset(self, entry: Indexed, symbol: IndexName) -> Expr | None:
        """``c`` where exactly one subscript holds the symbol, as ``symbol + c``."""
        return _offset(entry, symbol)

    def _places(self, item: Node | Block, symbol: IndexName) -> Iterable[tuple[str, int]]:
        for statement in statements_of(item):
            for entry in (statement.equation.target, *statement.equation.reads):
                axis = axis_of(entry, symbol)
                if axis is not None and self.offset(entry, symbol) is not None:
                    yield tensor_of(entry), axis

    def early(self, place: Expr, written: Expr) -> int | None:
        """How many steps before the first an entry lies that is written at an offset from the step."""
        first = self.loop.upper - 1 if self.loop.descending else self.loop.lower
        age = sp.expand(self.sign*(first + written - place))
        return int(age) if age.is_Integer and age >= 1 else None

    def late(self, place: Expr, written: Expr) -> int | None:
        """How many steps before the last but one..: 1 for the entry of the last step, 2 for the one before it."""
        last = self.loop.lower if self.loop.descending else self.loop.upper - 1
        age = sp.expand(self.sign*(last + written - place)) + 1
        return int(age) if age.is_Integer and age >= 1 else None


def _same(a: Index | Loop, b: Loop) -> bool:
    return bool(sp.expand(a.lower - b.lower) == 0 and sp.expand(a.upper - b.upper) == 0)


@lru_cache(maxsize=65536)
def _offset(entry: Indexed, symbol: IndexName) -> Expr | None:
    axis = axis_of(entry, symbol)
    if axis is None:
        return None
    offset = sp.expand(entry.indices[axis] - symbol)
    return None if index_symbols(offset) or offset.has(Indexed) else offset


@lru_cache(maxsize=65536)
def axis_of(entry: Indexed, symbol: IndexName) -> int | None:
    """The axis whose subscript alone holds the symbol (but for what is read in other subscripts: ``y[t, lab[t]]``)."""
    holding = [k for k, s in enumerate(entry.indices) if symbol in _plain(s)]
    return holding[0] if len(holding) == 1 else None


def _plain(subscript: Expr) -> frozenset[IndexName]:
    """The indices of a subscript that do not stand in an index read."""
    return index_symbols(subscript.xreplace(dict.fromkeys(subscript.atoms(Indexed), sp.S.Zero)))
