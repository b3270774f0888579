"""A term as a product of matrices: its factors are edges and vectors on a path from the row of the target to its column."""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Expr

from codegen.derivation.entrywise import Entrywise
from codegen.derivation.formula import Formula, Product, Row, Sign, brackets
from codegen.derivation.matrix_parts import ONES, Axes, NoMatrixForm, diagonal, line_up, operand, transposed
from symbolic.program import IndexName, operands

__all__ = ["MatrixPath"]


class MatrixPath:
    """The factors of a term by their indices: edges and vectors, each used once."""

    def __init__(self, groups: Mapping[frozenset[IndexName], Expr], summed: frozenset[IndexName], entries: Entrywise) -> None:
        self.groups, self.summed, self.entries = dict(groups), summed, entries
        if any(len(key) > 2 for key in groups):
            raise NoMatrixForm

    def product(self, frame: Axes) -> Formula:
        """The product over the frame, all factors used."""
        if len(frame) == 2:
            found = self._matrix(frame[0], frame[1])
        elif len(frame) == 1:
            found = self._vector(frame[0])
        else:
            found = self._scalar()
        if self.groups:
            raise NoMatrixForm
        return found

    def _take(self, *key: IndexName) -> Formula | None:
        """The factor at these indices, which is used up: a matrix from the first index to the second."""
        expr = self.groups.pop(frozenset(key), None)
        if expr is None:
            return None
        own = self._axes(expr)
        if len(key) == 2 and own == key[::-1]:
            return transposed(operand(self.entries.show(expr, own)))
        return operand(self.entries.show(expr, key))

    def _axes(self, expr: Expr) -> Axes:
        """The axes of an expression as its first matrix has them."""
        return max((self.entries.form.axes(e, self.entries.domain) for e in operands(expr)), key=len)

    def _next(self, here: IndexName, end: IndexName | None) -> IndexName | None:
        """The index at the other end of the one unused edge at ``here``."""
        ends = [other for key in self.groups if len(key) == 2 and here in key for other in key - {here}]
        if len(ends) > 1:
            raise NoMatrixForm
        if ends and ends[0] != end and ends[0] not in self.summed:
            return None
        return ends[0] if ends else None

    def _walk(self, start: IndexName, end: IndexName | None) -> tuple[list[Formula], IndexName]:
        """The matrices along the edges from ``start``, to ``end`` or as far as they go."""
        factors: list[Formula] = []
        here = start
        while here != end and (other := self._next(here, end)) is not None:
            edge = self._take(here, other)
            assert edge is not None
            factors.append(edge)
            here = other
            if here in self.summed and self._next(here, end) is not None and (scale := self._take(here)) is not None:
                factors.append(diagonal(scale))
        return factors, here

    def _matrix(self, rows: IndexName, columns: IndexName) -> Formula:
        factors, last = self._walk(rows, columns)
        if last == columns:
            shown = line_up(factors)
            if (below := self._take(columns)) is not None:
                shown = line_up([shown if isinstance(shown, Product) else operand(shown), diagonal(below)])
            if (beside := self._take(rows)) is not None:
                shown = line_up([diagonal(beside), shown if isinstance(shown, Product) else operand(shown)])
            return shown
        left = self._ended(factors, last)
        right = self._vector(columns)
        return line_up([*left, transposed(right)])

    def _ended(self, factors: list[Formula], last: IndexName) -> list[Formula]:
        """A walk that ends in a vector: the one at its last index, or ones where the entries are summed."""
        vector = self._take(last)
        if vector is not None:
            return [*factors, vector]
        if last not in self.summed:
            raise NoMatrixForm
        return [*factors, ONES]

    def _vector(self, start: IndexName) -> Formula:
        scale = self._take(start) if self._next(start, None) is not None else None
        factors, last = self._walk(start, None)
        found = line_up(self._ended(factors, last))
        return found if scale is None else Row((scale, Sign("odot"), brackets(found)))

    def _scalar(self) -> Formula:
        vectors = [key for key in self.groups if len(key) == 1]
        first = next(iter(vectors or self.groups))
        alone = [s for s in self._axes(self.groups[first]) if sum(s in other for other in self.groups) == 1]
        start = next(iter(first)) if len(first) == 1 else alone[0] if alone else next(iter(first))
        front = self._take(start)
        factors, last = self._walk(start, None)
        if not factors:
            return line_up([transposed(ONES), front or ONES])
        return line_up([transposed(front or ONES), *self._ended(factors, last)])
