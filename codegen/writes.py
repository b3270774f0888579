"""What is known of the writes to one tensor: which come first, which meet, which fill it.

The contributions to a tensor are unordered (law 2), the text is not: a write to entries that no earlier one has touched stores,
all others add, and where what is stored is not proved to cover the tensor it starts as zeros.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import sympy as sp
from sympy import Expr

from codegen.lower import Storage
from codegen.schedule import Loop, Node, Statement
from symbolic.analysis import affine, are_apart, index_reads, is_equal, is_nonnegative, subscript_range
from symbolic.places import Shelf
from symbolic.program import Equation, Index, IndexName, Program, index_symbols, reads

__all__ = [
    "Write", "covers", "fills", "is_always", "is_mixed_radix", "is_scatter", "may_be_empty", "narrows", "slack_of", "stores",
    "writes_of",
]


@dataclass(frozen=True)
class Write:
    """One writing statement: its place in the text and the loops round it."""

    statement: Statement
    top: int
    position: int
    loops: tuple[Index, ...]

    @property
    def ranges(self) -> dict[IndexName, Index]:
        found = {i.symbol: i for i in (*self.loops, *self.statement.equation.indices)}
        for symbol, lower, upper in self.statement.when:
            found[symbol] = Index(symbol, lower, upper)
        return found


def writes_of(nodes: Sequence[Node]) -> dict[str, list[Write]]:
    """The writes to each tensor, in the order of the text."""
    found: dict[str, list[Write]] = {}
    counter = 0

    def visit(node: Node, top: int, loops: tuple[Index, ...]) -> None:
        nonlocal counter
        if isinstance(node, Loop):
            for child in node.body:
                visit(child, top, (*loops, Index(node.symbol, node.lower, node.upper)))
            return
        counter += 1
        found.setdefault(node.equation.name, []).append(Write(node, top, counter, loops))

    for top, node in enumerate(nodes):
        visit(node, top, ())
    return found


def stores(rows: Sequence[Write], program: Program) -> list[Write]:
    """Those of the writes to one tensor that find nothing in their place; all others add."""
    shelf = Shelf(rows, lambda row: row.statement.equation.target)
    found = []
    for row in rows:
        others = shelf.near(row.statement.equation.target)
        alone = all(_later(row, other, program) for other in others if other is not row)
        if alone and _once_each(row) and not is_scatter(row, program):
            found.append(row)
    return found


def is_scatter(row: Write, program: Program) -> bool:
    """Scatters add by nature."""
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if form is None or index_reads((subscript,)):
            return True
        if is_mixed_radix(row.statement.equation, subscript, program):
            continue
        if sum(s in {i.symbol for i in row.statement.equation.indices} for s, _ in form.coefficients) > 1:
            return True
    return False


def is_mixed_radix(equation: Equation, subscript: Expr, program: Program) -> bool:
    """Whether a subscript counts through an axis digit by digit: every entry is written once (law 15)."""
    form = affine(subscript)
    ranges = {i.symbol: i for i in equation.indices}
    if form is None or form.constant != 0 or any(s not in ranges for s, _ in form.coefficients):
        return False
    left, weight = dict(form.coefficients), sp.Integer(1)
    while left:
        found = next((s for s, c in left.items() if is_equal(c, weight, program) and ranges[s].lower == 0), None)
        if found is None:
            return False
        del left[found]
        weight = weight * ranges[found].extent
    return True


def is_always(row: Write, program: Program) -> bool:
    """Whether the statement stores every entry of its domain: no guard keeps it from running or narrows a range, and no range
    may be empty."""
    equation = row.statement.equation
    vector = {i.symbol for i in equation.indices}
    loops = {i.symbol: i for i in row.loops}
    return not any(not index_symbols(g) & vector or narrows(g, vector) for g in equation.guards) and not may_be_empty(
        equation, loops, program
    )


def may_be_empty(equation: Equation, loops: Mapping[IndexName, Index], program: Program) -> list[tuple[Index, int]]:
    """The indices of an array statement whose range may be too short for the slices over it, each with the least extent that
    they need: 0 for a plain slice, 1 where a step or a direction computes its end (``x[T-2::-1]`` is no empty slice at T=1)."""
    plain: dict[IndexName, bool] = {}
    for entry in (equation.target, *equation.reads):
        for subscript in entry.indices:
            form = affine(subscript)
            symbols = [s for s in index_symbols(subscript) if s not in loops]
            for symbol in symbols:
                fine = form is not None and len(symbols) == 1 and form.coefficient(symbol) == 1
                plain[symbol] = plain.get(symbol, True) and fine
    found = []
    for index in equation.indices:
        least = 0 if plain.get(index.symbol, True) else 1
        # The upper end of a cut range is the least of several, the lower one the greatest: each pair must be far enough apart.
        pairs = product(index.upper.args if isinstance(index.upper, sp.Min) else (index.upper,),
                        index.lower.args if isinstance(index.lower, sp.Max) else (index.lower,))
        extents = [subscript_range(sp.expand(upper - lower), loops, program) for upper, lower in pairs]
        if any(extent is None or not is_nonnegative(extent[0] - least, program) for extent in extents):
            found.append((index, least))
    return found


def narrows(guard: Expr, vector: Container[IndexName]) -> bool:
    """Whether a guard bounds one index of an array statement by what is a number there: it then narrows a slice."""
    moving = {s for s in index_symbols(guard) if s in vector}
    if len(moving) != 1 or reads(guard) or not isinstance(guard, sp.Lt | sp.Le | sp.Gt | sp.Ge):
        return False
    form = affine(slack_of(guard))
    return form is not None and abs(form.coefficient(*moving)) == 1


def slack_of(guard: Expr) -> Expr:
    """What is at least 0 where an inequality holds."""
    return sp.expand({sp.Lt: guard.rhs - guard.lhs - 1, sp.Le: guard.rhs - guard.lhs,
                      sp.Gt: guard.lhs - guard.rhs - 1, sp.Ge: guard.lhs - guard.rhs}[type(guard)])


def fills(row: Write, storage: Storage, program: Program) -> bool:
    """Whether the statement writes every entry, each subscript a whole axis."""
    ranges = row.ranges
    seen: set[Expr] = set()
    for axis, subscript in enumerate(row.statement.equation.target.indices):
        if subscript not in ranges or subscript in seen:
            return False
        seen.add(subscript)
        index = ranges[subscript]
        if not is_equal(index.lower, sp.Integer(0), program) or not is_equal(
            index.upper, storage.tensor.shape[axis], program
        ):
            return False
    return True


def _once_each(row: Write) -> bool:
    """Whether no two iterations of the loops round it write the same entry: each loop has an axis of its own."""
    alone: set[Expr] = set()
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if form is not None and len(form.symbols) == 1:
            alone.update(form.symbols)
    return all(index.symbol in alone for index in row.loops)


def _later(row: Write, other: Write, program: Program) -> bool:
    """Whether the other write cannot have happened at an entry when this one stores there."""
    if _disjoint(row, other, program):
        return True
    if other.position < row.position:
        return False
    if other.top != row.top or not row.loops:
        return True
    shared = [a.symbol for a, b in zip(row.loops, other.loops, strict=False) if a.symbol == b.symbol]
    for a, b in zip(row.statement.equation.target.indices, other.statement.equation.target.indices, strict=True):
        if any(s in index_symbols(a) | index_symbols(b) for s in shared):
            mine = {s for s in shared if s in index_symbols(a)}
            if {s for s in shared if s in index_symbols(b)} != mine:
                return False
            first, second = affine(a), affine(b)
            if first is None or second is None or (mine and sp.expand(a - b) != 0):
                return False
    return True


def _disjoint(row: Write, other: Write, program: Program) -> bool:
    for a, b in zip(row.statement.equation.target.indices, other.statement.equation.target.indices, strict=True):
        first, second = subscript_range(a, row.ranges, program), subscript_range(b, other.ranges, program)
        if first is None or second is None:
            continue
        if are_apart(first, second, program):
            return True
    return False


def covers(rows: Sequence[Write], storage: Storage, program: Program, loops: bool = False) -> bool:
    """Whether the assigned regions cover the tensor: one does, or they tile one axis and fill the others. ``loops``: each
    write stores in its whole region, 0 where there is no instance, and what is empty needs no store."""
    usable = [r for r in rows if not r.statement.when and (loops or is_always(r, program))]
    boxes = [box for r in usable if (box := _box(r, program)) is not None]
    rank = storage.tensor.rank
    whole = [(sp.Integer(0), extent) for extent in storage.tensor.shape]

    def fills(box: list[tuple[Expr, Expr]], axis: int) -> bool:
        return is_equal(box[axis][0], whole[axis][0], program) and is_equal(box[axis][1], whole[axis][1], program)

    for box in boxes:
        if all(fills(box, axis) for axis in range(rank)):
            return True
    for axis in range(rank):
        pieces = [b for b in boxes if all(fills(b, other) for other in range(rank) if other != axis)]
        reached: Expr = sp.Integer(0)
        starting: dict[Expr, list[list[tuple[Expr, Expr]]]] = {}
        for piece in pieces:
            starting.setdefault(piece[axis][0], []).append(piece)
        while True:
            following = starting.pop(reached) if reached in starting else next(
                (starting.pop(start) for start in list(starting) if is_equal(start, reached, program)), None)
            if following is None:
                break
            reached = following[0][axis][1]
            if is_equal(reached, whole[axis][1], program):
                return True
    return False


def _box(row: Write, program: Program) -> list[tuple[Expr, Expr]] | None:
    """The half-open box that a statement writes over all its loops, where it is one without gaps."""
    ranges = row.ranges
    box = []
    symbols = [s for subscript in row.statement.equation.target.indices for s in index_symbols(subscript)]
    if len(set(symbols)) != len(symbols):
        return None  # a diagonal leaves the rest of its square
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if is_mixed_radix(row.statement.equation, subscript, program):
            found = subscript_range(subscript, ranges, program)
            assert found is not None
            box.append((found[0], found[1] + 1))
            continue
        if form is None or len(form.coefficients) > 1 or any(abs(c) != 1 for _, c in form.coefficients):
            return None
        found = subscript_range(subscript, ranges, program)
        if found is None or index_symbols(found[0] + found[1]):
            return None
        box.append((found[0], found[1] + 1))
    return box
