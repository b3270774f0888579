"""Proofs by numbers: a displayed line holds at every entry of its left side, a partial derivative is the slope it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.latex_reader.evaluation import Bump, Evaluator, Grid, Scope
from tests.latex_reader.matrices import Matrices, agreeing
from tests.latex_reader.symbols import Entry, Symbol
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import Compare, Fraction, Name, Node, Number, Partial, Statement, below_of, is_bold

__all__ = ["SLOPE", "Refuted", "check_line", "check_partial", "compared", "defined", "indices_of", "partial_of", "scope_for"]

RELATIVE, ABSOLUTE = 1e-9, 1e-11
"""Sums of a few hundred numbers of size 1, in another order than the interpreter's."""

STEP, SLOPE = 1e-5, 1e-7
"""Central differences are off by STEP**2 times a third derivative, and by eps / STEP."""


class Refuted(LatexError):
    """A line that has a meaning and is not true."""


def check_line(left: Node, line: Statement, evaluator: Evaluator, wanted: Grid | None = None) -> int:
    """Proves a line at every entry of its left side; ``wanted``: the values of the left side, where they are not those of the
    tensor. Returns how many entries were compared; raises Refuted or LatexError."""
    whole = evaluator.world.symbols.whole(left)
    if whole is not None and isinstance(line.right, Number):  # all entries are one number
        known = evaluator.world.adjoints if whole.adjoint else evaluator.world.grids
        return compared(line.right.value, known[whole.name].values, np.asarray(True), RELATIVE, ABSOLUTE)
    if is_bold(left) or is_bold(line.right):
        return _check_matrices(left, line, evaluator, wanted)
    entry = evaluator.world.symbols.entry(left)
    if entry is None or entry.power is not None:
        raise LatexError("the left side is no entry")
    scope = scope_for(entry.subscripts, line.where, (left, line.right), evaluator)
    known = np.asarray(evaluator.read(entry, scope)) if wanted is None else _read(wanted, entry, evaluator, scope)
    found = evaluator.value(line.right, scope)
    there = evaluator.inside(entry, scope)
    for condition in line.where:
        there = there & evaluator.holds(condition, scope)
    return compared(found, known, there, RELATIVE, ABSOLUTE)


def _check_matrices(left: Node, line: Statement, evaluator: Evaluator, wanted: Grid | None) -> int:
    """Proves a line of matrices, or a number that is made of them."""
    symbols = evaluator.world.symbols
    if line.right == Number(0) and (named := symbols.bold_of(left)) is not None:
        known = evaluator.world.adjoints if named[2] else evaluator.world.grids
        return compared(0, known[named[0].name].values, np.asarray(True), RELATIVE, ABSOLUTE)
    matrix = symbols.matrix(left)
    entry = symbols.entry(left) if matrix is None else Entry(matrix.name, matrix.scripts, matrix.adjoint)
    if entry is None:
        raise LatexError("the left side is no matrix and no entry")
    scope = scope_for(entry.subscripts, line.where, (left, line.right), evaluator)
    there = np.asarray(True)
    for condition in line.where:
        there = there & evaluator.holds(condition, scope)
    grid = (evaluator.world.adjoints if entry.adjoint else evaluator.world.grids)[entry.name]
    marked = _changed(Grid(np.ones(grid.values.shape), grid.lower), entry, evaluator)
    inside = Matrices(marked).value(left, scope).values == 1  # the entries that the tensor has
    found = Matrices(evaluator).value(line.right, scope)
    known_as = Matrices(evaluator if wanted is None else _changed(wanted, entry, evaluator)).value(left, scope)
    return compared(*agreeing(found, known_as), inside & there[..., None, None], RELATIVE, ABSOLUTE)


def _changed(grid: Grid, entry: Entry, evaluator: Evaluator) -> Evaluator:
    """The evaluator of a world where a tensor, or its adjoint, has other values."""
    world = evaluator.world
    known = world.adjoints if entry.adjoint else world.grids
    changed = {**known, entry.name: grid}
    grids, adjoints = (world.grids, changed) if entry.adjoint else (changed, world.adjoints)
    return Evaluator(type(world)(world.symbols, world.sizes, grids, adjoints))


def _read(grid: Grid, entry: Entry, evaluator: Evaluator, scope: Scope) -> Any:
    return _changed(grid, entry, evaluator).read(entry, scope)


def compared(found: Any, known: Any, there: Any, relative: float, absolute: float) -> int:
    found, known, there = map(np.atleast_1d, np.broadcast_arrays(found, known, there))
    if not there.any():
        raise LatexError("the line says nothing about any entry")
    off = there & ~np.isclose(found, known, rtol=relative, atol=absolute)
    if off.any():
        first = tuple(int(part[0]) for part in np.nonzero(off))
        raise Refuted(f"at {first}: the right side is {found[off][0]!r}, the left side {known[off][0]!r} "
                      f"({int(off.sum())} of {int(there.sum())} entries)")
    return int(there.sum())


# ---- indices -----------------------------------------------------------------------------------------------------------


def indices_of(nodes: Sequence[Node], evaluator: Evaluator) -> list[str]:
    """The letters in subscripts that are neither sizes nor tensors: the free indices, in order."""
    found: dict[str, None] = {}
    for node in nodes:
        for name in _letters(node, evaluator):
            found[name] = None
    return list(found)


def _letters(node: Node, evaluator: Evaluator) -> Iterator[str]:
    world = evaluator.world
    entry = world.symbols.entry(node)
    if entry is not None:
        for part in entry.subscripts:
            yield from _letters(part, evaluator)
    elif isinstance(node, Name):
        if node.text not in world.sizes:
            yield node.text
    else:
        for part in below_of(node):
            yield from _letters(part, evaluator)


def scope_for(subscripts: Sequence[Node], where: Sequence[Node], nodes: Sequence[Node], evaluator: Evaluator) -> Scope:
    """The free indices with their ranges: what a condition beside the line says, else the axis that the index subscripts on the
    left, else the one on the right."""
    ranges: dict[str, tuple[int, int]] = {}
    for condition in where:
        match condition:
            case Compare((low, Name(index), high), (first, last)):
                lower, upper = (int(evaluator.value(side, Scope())) for side in (low, high))
                ranges[index] = lower + (first == "<"), upper + (last == "<=")
    scope = Scope()
    for index in indices_of(subscripts, evaluator):
        if index in ranges:
            scope = scope.over(index, *ranges[index])
            continue
        known = next((node for node in nodes if evaluator.world.symbols.extents(index, (node,))), nodes[-1])
        scope = scope.over(index, 0, evaluator.extent(index, known))
    return scope


# ---- definitions -------------------------------------------------------------------------------------------------------


def defined(row: Symbol, said: Node, evaluator: Evaluator) -> Grid:
    """The values that an equation gives to the tensor of a row, every entry of it."""
    match said:
        case Compare((left, right), ("=",)):
            entry = evaluator.world.symbols.entry(left)
        case _:
            entry = None
    if entry is None or entry != Entry(row.name, tuple(Name(name) for name in indices_of(entry.subscripts, evaluator))):
        raise LatexError(f"this does not define {row.name}")
    scope = scope_for(entry.subscripts, (), (left, right), evaluator)
    shape = tuple(evaluator.size(extent) for extent in row.shape)
    value = np.broadcast_to(evaluator.value(right, scope), shape[::-1])  # the first index is the last axis
    return Grid(np.ascontiguousarray(value.transpose()), (0,) * len(shape))


# ---- partial derivatives -----------------------------------------------------------------------------------------------


def partial_of(node: Node) -> tuple[Node, Node, Node] | None:
    """``(Y, X, slope)`` where a formula says that the derivative of Y by X is the slope."""
    match node:
        case Compare((Fraction(Partial(of), Partial(by)), slope), ("=",)):
            return of, by, slope
    return None


def check_partial(of: Node, by: Node, slope: Node, equation: Statement, evaluator: Evaluator) -> int:
    """Proves a partial derivative of an equation's right side by central differences: the read entry is moved, all else stays."""
    symbols = evaluator.world.symbols
    head, target, read = (symbols.entry(node) for node in (equation.left or of, of, by))
    if head is None or target is None or read is None or head.name != target.name:
        raise LatexError("this is no derivative of the equation named")
    scope = scope_for((*target.subscripts, *read.subscripts), equation.where, (of, by, slope, equation.right), evaluator)
    inner, there = _instance(head, target, scope, evaluator)
    words = read.subscripts if any(
        (e.name, e.subscripts) == (read.name, read.subscripts) for e in symbols.entries_in(equation.right)) else None
    place = tuple(evaluator.value(part, scope) for part in read.subscripts)
    ahead, back = (
        Evaluator(evaluator.world, Bump(read.name, place, step, words)).value(equation.right, inner) for step in (STEP, -STEP))
    there = there & evaluator.inside(read, scope) & evaluator.inside(target, scope)
    return compared(evaluator.value(slope, scope), (ahead - back) / (2 * STEP), there, SLOPE, SLOPE)


def _instance(head: Entry, target: Entry, scope: Scope, evaluator: Evaluator) -> tuple[Scope, Any]:
    """The indices of an equation at the entry ``target``, and where the equation speaks of it."""
    values, there = {}, np.asarray(True)
    for own, wanted in zip(head.subscripts, target.subscripts, strict=True):
        if isinstance(own, Name):
            values[own.text] = evaluator.value(wanted, scope)
        elif own == wanted:
            values.update({index: scope.values[index] for index in indices_of((own,), evaluator)})
        else:
            raise LatexError(f"the equation is about the entries {head}, not {target}")
    return Scope(values, scope.depth), there
