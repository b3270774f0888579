"""The checker of the loop IR: what every routine must satisfy, whatever passes it went through.

- Every index stands inside a loop of its own, every scalar after its declaration.
- Every access is proved in bounds: by the ranges of its loops, or by the conditions round it where it goes through index buffers.
- Every buffer of the workspace is written before it is read; nothing that is the caller's is written.
- Two buffers that are needed at once have no byte of the workspace in common.
- No two shares of a range touch an entry that one of them writes, and all is computed in one share or another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp
from sympy import Expr, Indexed

from codegen.loops.ir import (
    SCRATCH,
    Blocks,
    Buffer,
    For,
    If,
    Local,
    Matrix,
    Nest,
    Node,
    Pack,
    Product,
    Routine,
    Set,
    Shares,
    Store,
    Zero,
    walk,
)
from codegen.loops.memory import Slot
from codegen.loops.nests import Inside
from codegen.loops.shares import meeting
from codegen.loops.uses import touched, written
from symbolic.analysis import affine, index_reads, is_nonnegative, lies_in, subscript_range
from symbolic.errors import ProgramError
from symbolic.program import Index, IndexName, index_symbols, operands, tensor_of

__all__ = ["check", "check_memory"]


def check(routine: Routine) -> Routine:
    """The routine itself, if it is sound. Raises ProgramError with the node and what it breaks."""
    _Checker(routine).run()
    return routine


def check_memory(slots: Sequence[Slot]) -> None:
    """Raise ProgramError where two slots that are needed at once may share a byte."""
    below: dict[str, set[str]] = {}
    for slot in slots:
        name = slot.buffer.name
        below[name] = {name}.union(*(below[other] for other in slot.above))
        for other in slots:
            if other.buffer.name == name:
                break
            meets = slot.life[0] <= other.life[1] and other.life[0] <= slot.life[1]
            if meets and other.buffer.name not in below[name]:
                raise ProgramError(f"{name} and {other.buffer.name} are needed at once, and neither lies above the other")


class _Checker:
    def __init__(self, routine: Routine) -> None:
        self.routine, self.program = routine, routine.program
        self.extents = {loop.extent: loop.steps for _, loops in walk(routine.body) for loop in loops if isinstance(loop, Blocks)}
        self.ready: set[str] = {SCRATCH, *(n for n, b in routine.buffers.items() if b.place.is_given)}

    def run(self) -> None:
        for node in self.routine.body:
            for name in written((node,)):
                if self._buffer(name).place.is_given:
                    self._fail(node, f"'{name}' is the caller's and is written to")
            self._order(node)
            self._visit(node, {}, (), set())

    def _fail(self, node: Node, message: str) -> None:
        head = str(node).splitlines()[:3]
        raise ProgramError(f"{self.program.name}, {self.routine.kind}: {message} in\n  " + "\n  ".join(head))

    def _buffer(self, name: str) -> Buffer:
        if name not in self.routine.buffers:
            raise ProgramError(f"{self.program.name}, {self.routine.kind}: no buffer '{name}'")
        return self.routine.buffers[name]

    def _order(self, node: Node) -> None:
        """What a top-level node reads is there, or is written by the node itself (its loops run in their order)."""
        mine = set(written((node,)))
        for name in touched((node,)):
            if name not in self.ready and name not in mine and name in self.routine.buffers:
                self._fail(node, f"'{name}' is read before anything is written to it")
        self.ready |= mine

    def _visit(
        self, node: Node, ranges: Mapping[IndexName, Index], known: tuple[Expr, ...], scalars: set[Local]
    ) -> None:
        match node:
            case Nest():
                inner = set(scalars)
                for child in node.body:
                    self._visit(child, ranges, known, inner)
                if isinstance(node, Shares):
                    self._shares(node)
            case For():
                if node.index.symbol in ranges:
                    self._fail(node, f"the index '{node.index.symbol}' is taken by a loop round it")
                for bound in (node.index.lower, node.index.upper):
                    self._indices(node, bound, ranges)
                inner = set(scalars)
                for child in node.body:
                    self._visit(child, {**ranges, node.index.symbol: node.index}, known, inner)
            case If():
                so_far = known
                for condition in node.conditions:
                    self._value(node, condition, ranges, so_far, scalars)
                    so_far = (*so_far, condition)
                for body, holds in ((node.body, so_far), (node.otherwise, known)):
                    inner = set(scalars)
                    for child in body:
                        self._visit(child, ranges, holds, inner)
            case Store():
                self._value(node, node.value, ranges, known, scalars)
                self._entry(node, node.target, ranges, known)
            case Set():
                self._value(node, node.value, ranges, known, scalars)
                if node.declares:
                    scalars.add(node.local)
                elif node.local not in scalars:
                    self._fail(node, f"the scalar '{node.local}' is used before it is declared")
            case Product():
                for matrix, rows, columns in ((node.a, node.rows, node.inner), (node.c, node.rows, node.columns)):
                    self._matrix(node, matrix, rows, columns, ranges, known)
                if not node.packed:
                    self._matrix(node, node.b, node.inner, node.columns, ranges, known)
            case Pack():
                self._matrix(node, node.b, node.inner, node.columns, ranges, known)
            case Zero():
                self._buffer(node.buffer)

    def _shares(self, node: Shares) -> None:
        for child in node.body:
            if found := meeting(child, self.routine.buffers):
                self._fail(node, f"shares meet at {found}")
        for leaf, loops in walk(node.body):
            marks = [loop.index for loop in loops if isinstance(loop, For) and loop.shared]
            if isinstance(leaf, Product) and leaf.shared:
                marks.append(Index(node.over.symbol, sp.S.Zero, leaf.rows if leaf.shared == "rows" else leaf.columns))
            once = len(marks) == 1 or isinstance(leaf, Set) and leaf.declares and not marks
            ends = {(sp.expand(i.lower), sp.expand(i.upper)) for i in (node.over, *marks)}
            if not once or len(ends) > 1:
                self._fail(node, f"not in one share alone: {leaf}")

    def _value(
        self, node: Node, value: Expr, ranges: Mapping[IndexName, Index], known: tuple[Expr, ...], scalars: set[Local]
    ) -> None:
        self._indices(node, value, ranges)
        for local in value.atoms(Local):
            if local not in scalars:
                self._fail(node, f"the scalar '{local}' is used before it is declared")
        for inside in value.atoms(Inside):
            self._entry(node, inside.entry, ranges, (*known, *inside.conditions))
            value = value.xreplace({inside: sp.S.Zero})
        for entry in operands(value):
            self._entry(node, entry, ranges, known)

    def _indices(self, node: Node, expr: Expr, ranges: Mapping[IndexName, Index]) -> None:
        for symbol in index_symbols(expr):
            if symbol not in ranges:
                self._fail(node, f"the index '{symbol}' stands in no loop over it")

    def _entry(self, node: Node, entry: Indexed, ranges: Mapping[IndexName, Index], known: tuple[Expr, ...]) -> None:
        buffer = self._buffer(tensor_of(entry))
        self._indices(node, entry, ranges)
        for position in index_reads(entry.indices):
            self._entry(node, position, ranges, known)
        for axis, (where, extent) in enumerate(zip(buffer.positions(entry.indices), buffer.extents, strict=True)):
            if where.has(sp.Mod):
                continue  # a slot
            if not self._proved(where, extent, ranges, known):
                self._fail(node, f"{entry} is not proved to stay in axis {axis} of {buffer}")

    def _proved(self, where: Expr, extent: Expr, ranges: Mapping[IndexName, Index], known: tuple[Expr, ...]) -> bool:
        span = subscript_range(where, ranges, self.program)
        if span is not None and (lies_in(span, (sp.S.Zero, extent), self.program) or lies_in(
            (span[0], self._at_most(span[1])), (sp.S.Zero, extent), self.program
        )):
            return True
        # A condition that bounds the very subscript, up to a number, from below and from above.
        low = high = False
        if span is not None:
            low = is_nonnegative(span[0], self.program)
            high = is_nonnegative(extent - 1 - span[1], self.program)
        for condition in known:
            low = low or isinstance(condition, sp.Ge) and self._follows(where - (condition.lhs - condition.rhs), ranges)
            low = low or isinstance(condition, sp.Le) and self._follows(where - (condition.rhs - condition.lhs), ranges)
            high = high or isinstance(condition, sp.Lt) and self._follows(
                extent - 1 - where - (condition.rhs - condition.lhs - 1), ranges)
            high = high or isinstance(condition, sp.Gt) and self._follows(
                extent - 1 - where - (condition.lhs - condition.rhs - 1), ranges)
        return low and high

    def _at_most(self, expr: Expr) -> Expr:
        """What an expression that grows with the steps of blocks is at most."""
        expr = sp.expand(expr)
        grows = {extent: sp.Integer(steps) for extent, steps in self.extents.items()
                 if is_nonnegative(expr.coeff(extent), self.program)}
        return sp.expand(expr.xreplace(grows))

    def _follows(self, slack: Expr, ranges: Mapping[IndexName, Index]) -> bool:
        """Whether what is left over of a condition is at least 0."""
        span = subscript_range(sp.expand(slack), ranges, self.program)
        return span is not None and is_nonnegative(span[0], self.program)

    def _matrix(
        self, node: Node, matrix: Matrix, rows: Expr, columns: Expr, ranges: Mapping[IndexName, Index], known: tuple[Expr, ...]
    ) -> None:
        """The first and the last entry lie in the buffer, where the steps are even."""
        buffer = self._buffer(tensor_of(matrix.entry))
        for name in (matrix.row_offsets, matrix.column_offsets):
            if name:
                self._buffer(name)
        self._indices(node, matrix.entry, ranges)
        if matrix.row_offsets:
            return
        place: Expr = sp.S.Zero
        for where, extent in zip(buffer.positions(matrix.entry.indices), buffer.extents, strict=True):
            if where.has(sp.Mod):
                return
            place = place * extent + where
        last = sp.expand(place + matrix.rows * (rows - 1) + matrix.columns * (columns - 1))
        if affine(place) is None or affine(last) is None:
            self._fail(node, f"{matrix} steps in no even way")
        first_span, last_span = (subscript_range(sp.expand(e), ranges, self.program) for e in (place, last))
        ends = (last_span[1], self._at_most(last_span[1])) if last_span is not None else ()
        inside = any(lies_in((first_span[0], end), (sp.S.Zero, buffer.entries), self.program) for end in ends if first_span)
        if not inside:
            self._fail(node, f"{matrix} is not proved to stay in {buffer}")


