"""Loops over views instead of subscripts: ``for a_t, h_t in zip(a, h[1:])``; what was ``h_t`` is ``h_tm1`` in the next step.

A step of a recurrence on a small net costs as much in subscripts as in arithmetic; iterating over an array yields the same
views at a third of the price, and the names say what a step reads and writes. While a loop's body is written each access
``X[t + c, ...]`` stands in the text as a mark; when the body is complete each mark becomes a name of the loop's header, or
the plain subscript where a step may leave the array. What is left that needs ``t`` itself (a mask, an entry of a vector)
keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr

from codegen.lower import Storage
from codegen.numpy.names import Identifiers
from codegen.numpy.printer import integer_text
from codegen.schedule import Loop
from symbolic.analysis import is_equal, is_nonnegative
from symbolic.program import IndexName, Program

__all__ = ["Access", "Steps", "loop_range"]

WIDTH = 116
OPEN, READ, STORE = "\u02c0", "\u02c0", "\u02c1"
"""Marks are identifiers, so that text with them is bracketed as it will be with a name; no model has names of such letters."""
_MARK = re.compile(f"{OPEN}\\w+?{OPEN}(\\d+)([{READ}{STORE}])")


@dataclass(frozen=True)
class Access:
    """``X[t + lag, ...]``: the entries of one step of a loop over t. ``offset``: where they lie, from t on, in X's array;
    ``rest``: the text of the other subscripts, which are the same in every step and leave at least one axis."""

    storage: Storage
    lag: int
    offset: Expr
    rest: tuple[str, ...]

    @property
    def tail(self) -> str:
        return "".join(f", {part}" for part in self.rest)


class Steps:
    """The accesses of one loop, under marks until its header is written."""

    def __init__(
        self, loop: Loop, code: str, outer: Iterable[IndexName], program: Program, identifiers: Identifiers
    ) -> None:
        self.loop, self.code, self.program, self.identifiers = loop, code, program, identifiers
        self.outer = frozenset(outer)  # what stays the same while this loop runs
        self.accesses: list[Access] = []

    def mark(self, access: Access) -> tuple[str, str]:
        """What stands for the access in the text: where it is read or added to, and where it is filled."""
        if access not in self.accesses:
            self.accesses.append(access)
        head = f"{OPEN}{access.storage.code}{OPEN}{self.accesses.index(access)}"
        return head + READ, head + STORE

    def written(self, body: Sequence[str], indent: str) -> list[str]:
        """The loop: its header, and its body over named views."""
        names: dict[Access, str] = {}

        def text(match: re.Match[str]) -> str:
            access = self.accesses[int(match[1])]
            if access not in names and self._iterable(access):
                names[access] = self.identifiers.local(self._name(access), names.values())
            if access in names:
                return names[access] if match[2] == READ else f"{names[access]}[...]"
            return self._subscripted(access)

        lines = [line if line.lstrip().startswith("#") else _MARK.sub(text, line) for line in body]
        variable = re.compile(rf"(?<![\w.]){self.code}(?!\w)")
        needed = not names or any(variable.search(line) for line in lines if not line.lstrip().startswith("#"))
        handed = self._handed_on(names)
        moving = [access for access in names if access not in handed]
        targets = [*([self.code] if needed else []), *(names[access] for access in moving)]
        sources = [*([loop_range(self.loop)] if needed else []), *map(self._source, moving)]
        before = [f"{indent}{names[access]} = {self._at_first(access)}" for access in names if access in handed]
        after = [f"{indent}    {names[access]} = {names[now]}" for access, now in handed.items()]
        return [*before, *_header(targets, sources, indent), *lines, *after]

    def _handed_on(self, names: Iterable[Access]) -> dict[Access, Access]:
        """Views that a step has from the step before it: ``h_tm1`` is what ``h_t`` was, for the price of a name. The farthest
        lag comes first, so that each is handed on before it changes."""
        way = -1 if self.loop.descending else 1
        one_on = {replace(access, lag=access.lag - way, offset=sp.expand(access.offset - way)): access for access in names}
        pairs = [(access, one_on[access]) for access in names if access in one_on and is_nonnegative(
            sp.expand(access.storage.extents[0] - 1 - self._first - access.offset), self.program)]
        return dict(sorted(pairs, key=lambda pair: way * pair[0].lag))

    @property
    def _first(self) -> Expr:
        return self.loop.upper - 1 if self.loop.descending else self.loop.lower

    def _at_first(self, access: Access) -> str:
        return f"{access.storage.code}[{integer_text(sp.expand(self._first + access.offset))}{access.tail}]"

    def plain(self, body: Sequence[str]) -> list[str]:
        """The body with subscripts alone: that of a loop round others, whose entries the inner ones read."""
        return [_MARK.sub(lambda match: self._subscripted(self.accesses[int(match[1])]), line) for line in body]

    def _subscripted(self, access: Access) -> str:
        place = integer_text(sp.expand(self.loop.symbol + access.offset))
        return f"{access.storage.code}[{place}{access.tail}]"

    def _iterable(self, access: Access) -> bool:
        """Whether the access is in bounds at every step."""
        lower, upper = self.loop.lower, self.loop.upper
        return (
            is_nonnegative(upper - lower, self.program)
            and is_nonnegative(sp.expand(lower + access.offset), self.program)
            and is_nonnegative(sp.expand(access.storage.extents[0] - upper - access.offset), self.program)
        )

    def _name(self, access: Access) -> str:
        """``h_t``, ``h_tm1``, ``h_tp1`` by the subscript that the equation has; a slice by where it starts, ``a_t_2H``."""
        code, lag = access.storage.code, access.lag
        suffix = self.code if lag == 0 else f"{self.code}{'m' if lag < 0 else 'p'}{abs(lag)}"
        cuts = [(part.partition(":")[0] or "0").replace("*", "") for part in access.rest if part != ":"]
        return "_".join([code, suffix, *(cut if cut.isidentifier() or cut.isalnum() else "part" for cut in cuts)])

    def _source(self, access: Access) -> str:
        """The array whose items are the views of all steps, in the order of the loop."""
        loop, code, tail = self.loop, access.storage.code, access.tail
        first, last = sp.expand(loop.lower + access.offset), sp.expand(loop.upper + access.offset)
        whole = is_equal(last, access.storage.extents[0], self.program)
        if loop.descending and is_nonnegative(loop.upper - loop.lower - 1, self.program) and (
            first == 0 or is_nonnegative(first - 1, self.program)
        ):
            start = "" if whole else integer_text(sp.expand(last - 1))
            stop = "" if first == 0 else integer_text(sp.expand(first - 1))
            return f"{code}[{start}:{stop}:-1{tail}]"
        start, stop = "" if first == 0 else integer_text(first), "" if whole else integer_text(last)
        turned = "[::-1]" if loop.descending else ""  # there may be no step: T-2::-1 would be the last one where T is 1
        if not (start or stop or tail):
            return f"{code}{turned}"
        return f"{code}[{start}:{stop}{tail}]{turned}"


def loop_range(loop: Loop) -> str:
    """The ``range`` that a loop's variable runs over."""
    start, stop = integer_text(loop.lower), integer_text(loop.upper)
    if loop.descending:
        last = integer_text(sp.expand(loop.lower - 1))
        return f"range({integer_text(sp.expand(loop.upper - 1))}, {last}, -1)"
    return f"range({stop})" if start == "0" else f"range({start}, {stop})"


def _header(names: Sequence[str], sources: Sequence[str], indent: str) -> list[str]:
    if len(names) == 1:
        return [f"{indent}for {names[0]} in {sources[0]}:"]
    head = f"{indent}for {', '.join(names)} in zip({', '.join(sources)}):"
    if len(head) <= WIDTH:
        return [head]
    lines = [f"{indent}for ("]
    lines += _wrapped(names, indent + "    ")
    lines.append(f"{indent}) in zip(")
    lines += _wrapped(sources, indent + "    ")
    lines.append(f"{indent}):")
    return lines


def _wrapped(parts: Sequence[str], indent: str) -> list[str]:
    lines, line = [], indent
    for part in parts:
        if len(line) + len(part) + 2 > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{part}, "
    lines.append(line.rstrip())
    return lines
