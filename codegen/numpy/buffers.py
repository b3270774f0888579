"""Which write makes an array, which fills it, and which adds to it.

The contributions to a tensor are unordered (law 2), the text is not: the first write that fills a whole tensor binds it
(``a = x @ W.T``), writes to parts of a tensor of their own assign, all others add. Where what is assigned is not proved to
cover the tensor it starts as zeros.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product

import sympy as sp
from sympy import Expr

from codegen.lower import Storage, given
from codegen.numpy.maxima import argument_key, window_maxima
from codegen.numpy.names import Identifiers
from codegen.numpy.rows import row_axis
from codegen.schedule import Loop, Node, Statement, equations_of
from symbolic.analysis import affine, are_apart, index_reads, is_equal, is_nonnegative, subscript_range
from symbolic.places import Shelf
from symbolic.program import Equation, Index, IndexName, Program, index_symbols, reads, tensor_of

__all__ = ["Mode", "Plan", "compared", "last_uses", "plan_buffers"]


class Mode(Enum):
    """How a statement stores its value."""

    BIND = "bind"
    ASSIGN = "assign"
    ADD = "add"


@dataclass
class Plan:
    """The verdicts for one function. ``allocate_before``: top-level position -> tensors allocated there; ``blocks``: the plan of
    the body of each block of steps."""

    codes: Mapping[str, str]
    names: Identifiers
    modes: dict[int, Mode] = field(default_factory=dict)
    covered: dict[str, bool] = field(default_factory=dict)
    allocate_before: dict[int, list[str]] = field(default_factory=dict)
    unwritten: tuple[str, ...] = ()
    window_maxima: Mapping[frozenset[str], tuple[Equation, Mapping[str, IndexName]]] = field(default_factory=dict)
    implied: frozenset[str] = frozenset()
    last_use: dict[str, int] = field(default_factory=dict)
    blocks: dict[int, Plan] = field(default_factory=dict)

    def mode(self, statement: Statement) -> Mode:
        return self.modes[id(statement)]

    def fresh(self, wanted: str) -> str:
        return self.names.fresh(wanted)


@dataclass(frozen=True)
class _Write:
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


def plan_buffers(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], codes: Mapping[str, str], names: Identifiers,
    returned: frozenset[str] = frozenset(),
) -> Plan:
    """The plan for a lowered schedule."""
    writes: dict[str, list[_Write]] = {}
    counter = 0

    def visit(node: Node, top: int, loops: tuple[Index, ...]) -> None:
        nonlocal counter
        if isinstance(node, Loop):
            for child in node.body:
                visit(child, top, (*loops, Index(node.symbol, node.lower, node.upper)))
            return
        counter += 1
        writes.setdefault(node.equation.name, []).append(_Write(node, top, counter, loops))

    for top, node in enumerate(nodes):
        visit(node, top, ())
    plan = Plan(codes, names)
    used: dict[str, int] = {}  # an entry that nothing writes may be read before others are written: it is 0
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            for entry in statement.equation.reads:
                used.setdefault(tensor_of(entry), top)
    for name, rows in writes.items():
        _decide(name, rows, plan, program, storages[name], min(rows[0].top, used.get(name, rows[0].top)))
    plan.window_maxima, plan.implied = window_maxima(program)
    plan.last_use = last_uses(nodes, plan, returned)
    plan.unwritten = tuple(
        t.name for t in program.tensors if t.name not in writes and not given(t) and t.name not in plan.implied
    )
    return plan


def compared(plan: Plan) -> frozenset[str]:
    """What the adjoints of window maxima read besides what their equations say, and what they do without."""
    read = {name for maximum, _ in plan.window_maxima.values() for name in (maximum.name, *map(tensor_of, maximum.reads))}
    return frozenset(read).union(*plan.window_maxima)


def last_uses(nodes: Sequence[Node], plan: Plan, returned: frozenset[str]) -> dict[str, int]:
    """For each tensor the last top-level position that reads or writes it; what is returned lives on."""
    last: dict[str, int] = {}
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            equation = statement.equation
            names = {equation.name, *(tensor_of(entry) for entry in equation.reads)}
            maximum = plan.window_maxima.get(argument_key(equation))
            if maximum is not None:  # its adjoint compares again
                names |= {maximum[0].name, *(tensor_of(entry) for entry in maximum[0].reads)}
            last.update(dict.fromkeys(names, top))
    last.update(dict.fromkeys(returned, len(nodes)))
    return last


def _decide(name: str, rows: list[_Write], plan: Plan, program: Program, storage: Storage, begin: int) -> None:
    first = rows[0]
    fills = _fills(first, storage, program) or row_axis(first.statement.equation, program, first.ranges) is not None
    if begin == first.top and not first.loops and not first.statement.when and not storage.padded and fills \
            and _always(first, program):
        plan.modes[id(first.statement)] = Mode.BIND
        for other in rows[1:]:
            plan.modes[id(other.statement)] = Mode.ADD
        return
    plan.allocate_before.setdefault(begin, []).append(name)
    assigning = []
    shelf = Shelf(rows, lambda row: row.statement.equation.target)
    for row in rows:
        others = shelf.near(row.statement.equation.target)
        alone = all(_later(row, other, program) for other in others if other is not row)
        if alone and _once_each(row) and not _special(row, program):
            plan.modes[id(row.statement)] = Mode.ASSIGN
            assigning.append(row)
        else:
            plan.modes[id(row.statement)] = Mode.ADD
    plan.covered[name] = _covers(assigning, storage, program)


def _special(row: _Write, program: Program) -> bool:
    """Scatters add by nature."""
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if form is None or index_reads((subscript,)):
            return True
        if _is_mixed_radix(row, subscript, program):
            continue
        if sum(s in {i.symbol for i in row.statement.equation.indices} for s, _ in form.coefficients) > 1:
            return True
    return False


def _is_mixed_radix(row: _Write, subscript: Expr, program: Program) -> bool:
    """Whether a subscript counts through an axis digit by digit: every entry is written once (law 15)."""
    form = affine(subscript)
    ranges = {i.symbol: i for i in row.statement.equation.indices}
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


def _always(row: _Write, program: Program) -> bool:
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


def _fills(row: _Write, storage: Storage, program: Program) -> bool:
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


def _once_each(row: _Write) -> bool:
    """Whether no two iterations of the loops round it write the same entry: each loop has an axis of its own."""
    alone: set[Expr] = set()
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if form is not None and len(form.symbols) == 1:
            alone.update(form.symbols)
    return all(index.symbol in alone for index in row.loops)


def _later(row: _Write, other: _Write, program: Program) -> bool:
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


def _disjoint(row: _Write, other: _Write, program: Program) -> bool:
    for a, b in zip(row.statement.equation.target.indices, other.statement.equation.target.indices, strict=True):
        first, second = subscript_range(a, row.ranges, program), subscript_range(b, other.ranges, program)
        if first is None or second is None:
            continue
        if are_apart(first, second, program):
            return True
    return False


def _covers(rows: Sequence[_Write], storage: Storage, program: Program) -> bool:
    """Whether the assigned regions cover the tensor: one does, or they tile one axis and fill the others."""
    usable = [r for r in rows if not r.statement.when and _always(r, program)]
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


def _box(row: _Write, program: Program) -> list[tuple[Expr, Expr]] | None:
    """The half-open box that a statement writes over all its loops, where it is one without gaps."""
    ranges = row.ranges
    box = []
    symbols = [s for subscript in row.statement.equation.target.indices for s in index_symbols(subscript)]
    if len(set(symbols)) != len(symbols):
        return None  # a diagonal leaves the rest of its square
    for subscript in row.statement.equation.target.indices:
        form = affine(subscript)
        if _is_mixed_radix(row, subscript, program):
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
