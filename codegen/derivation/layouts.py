"""Which axes of a tensor make a matrix: the last two, once the axes that are stepped along are set aside as subscripts.

An axis is stepped along where an entry is read at another place on it than the one that is written (``h[t-1]``, a window
``x[u+p]``), or at a fixed one (``h[0]``); and so is every axis that shares an index with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from symbolic.analysis import index_reads
from symbolic.program import Equation, IndexName, Program, index_symbols, tensor_of

__all__ = ["Layout", "layouts"]

Axis = tuple[str, int]


@dataclass(frozen=True)
class Layout:
    """The first ``scripts`` axes are subscripts; the others, at most two, are those of a matrix or a vector."""

    scripts: int
    rank: int


def layouts(program: Program, equations: Iterable[Equation], vectors: bool = False) -> Mapping[str, Layout]:
    """The layout of each tensor: its stepped axes, and what stands before them, are subscripts, and at most two axes are left.

    An adjoint is laid out as its tensor. ``vectors``: of what is stepped along only the last axis is left, so that a step is one
    of vectors.
    """
    primal = program.primals
    classes = _Classes()
    for equation in equations:
        met: dict[IndexName, Axis] = {}
        for entry in (equation.target, *equation.reads):
            name = primal.get(tensor_of(entry), tensor_of(entry))
            for axis, part in enumerate(entry.indices):
                here = (name, axis)
                symbols = index_symbols(part)
                if _is_step(part):
                    classes.step(here)
                for symbol in symbols if not index_reads((part,)) else ():
                    if len(symbols) == 1 or _is_step(part):
                        classes.join(here, met.setdefault(symbol, here))
    found: dict[str, Layout] = {}
    for tensor in program.tensors:
        name = primal.get(tensor.name, tensor.name)
        stepped = [classes.is_step((name, axis)) for axis in range(tensor.rank)]
        count = max((k + 1 for k, step in enumerate(stepped) if step), default=0)
        count = max(count, tensor.rank - (1 if vectors and count else 2))
        found[tensor.name] = Layout(count, tensor.rank - count)
    return found


def _is_step(part: Any) -> bool:
    """Whether a subscript is shifted by an integer, fixed, or of a window; a slice ``H + k`` is none."""
    if part.is_Integer:
        return True
    symbols = index_symbols(part)
    if isinstance(part, IndexName) or index_reads((part,)):
        return False
    if len(symbols) > 1:
        return True
    (symbol,) = symbols or (None,)
    return symbol is not None and (part.coeff(symbol) != 1 or bool((part - symbol).is_Integer))


class _Classes:
    """Axes that share an index, and which of these classes are stepped along."""

    def __init__(self) -> None:
        self.above: dict[Axis, Axis] = {}
        self.steps: set[Axis] = set()

    def root(self, axis: Axis) -> Axis:
        while (above := self.above.get(axis, axis)) != axis:
            axis = above
        return axis

    def join(self, one: Axis, other: Axis) -> None:
        first, second = self.root(one), self.root(other)
        if first != second:
            self.above[first] = second
            if first in self.steps:
                self.steps.add(second)

    def step(self, axis: Axis) -> None:
        self.steps.add(self.root(axis))

    def is_step(self, axis: Axis) -> bool:
        return self.root(axis) in self.steps
