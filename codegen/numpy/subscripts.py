"""One subscript as text: a slice, a number, a slot of a circular axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from types import MappingProxyType

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from codegen.numpy.operands import Operand
from codegen.numpy.printer import integer_text
from codegen.numpy.steps import Steps
from codegen.numpy.stock import Stock
from symbolic.analysis import affine, is_equal, is_nonnegative
from symbolic.program import Index, IndexName, Program, index_symbols

__all__ = ["Subscripts"]


class Subscripts(ABC):
    """What the subscripts of one statement are made of: ``vector`` indices are array axes, the others numbers at run time."""

    def __init__(
        self, program: Program, storages: Mapping[str, Storage], vector: Mapping[IndexName, Index],
        loops: Mapping[IndexName, Index], written: frozenset[str] = frozenset(), steps: Steps | None = None,
    ) -> None:
        self.program, self.storages, self.vector, self.loops = program, storages, vector, loops
        self.written, self.steps = written, steps
        self.ranges = {**loops, **vector}

    first: frozenset[IndexName] = frozenset()
    memory: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    """The axes of tensors as they lie in memory, outermost first, where that is known not to be their order."""
    parted: Container[str] = frozenset()
    """Tensors whose array is a part of another one along an axis that is not its first."""
    stock: Stock | None = None
    """Where arrays that several lines use get their names; none inside loops."""

    def extent(self, label: IndexName) -> Expr:
        return self.vector[label].extent

    @abstractmethod
    def view(self, entry: Indexed, writing: bool = False) -> Operand:
        """The read (or, for plain subscripts, the target) as an operand."""

    def _labels(self, subscript: Expr) -> tuple[IndexName, ...]:
        found = [s for s in index_symbols(subscript) if s in self.vector]
        return tuple(sorted(found, key=str))

    def _fancy(self, subscript: Expr) -> bool:
        form = affine(subscript)
        if form is None:
            return True
        if any(isinstance(s, Indexed) for s in form.symbols):
            return True
        return any(not c.is_Integer for s, c in form.coefficients if s in self.vector)

    def _plain(self, storage: Storage, axis: int, subscript: Expr) -> tuple[str, bool]:
        """One subscript as a slice or a number, and whether the axis that it leaves must be turned round after that."""
        offset = storage.before[axis]
        labels = self._labels(subscript)
        if storage.ring is not None and axis == storage.ring.axis:
            return _slot(sp.expand(subscript), storage.ring.slots), False
        if not labels:
            return integer_text(sp.expand(subscript + offset)), False
        (label,) = labels
        form = affine(subscript)
        assert form is not None
        step = int(form.coefficient(label))
        rest = subscript - step * label + offset
        index = self.vector[label]
        first, last = sp.expand(step * index.lower + rest), sp.expand(step * (index.upper - 1) + rest)
        turned = step < 0 and last != 0 and not is_nonnegative(last - 1, self.program)
        if turned:  # the end of x[first:last-1:-1] may be -1, which NumPy takes for the other end
            first, last, step = last, first, -step
        start = "" if first == 0 else integer_text(first)
        if step > 0:
            stop = "" if is_equal(last + 1, storage.extents[axis], self.program) else integer_text(sp.expand(last + 1))
            return f"{start}:{stop}" + (f":{step}" if step != 1 else ""), turned
        start = "" if is_equal(first + 1, storage.extents[axis], self.program) else integer_text(first)
        stop = "" if last == 0 else integer_text(sp.expand(last - 1))
        return f"{start}:{stop}:{step}", False


def _slot(entry: Expr, slots: int) -> str:
    """Where an entry of a circular axis lies."""
    if slots == 1 or entry.is_Integer:
        return str(int(entry) % slots if entry.is_Integer else 0)
    text = integer_text(entry)
    return f"{text} % {slots}" if text.isidentifier() else f"({text}) % {slots}"
