r"""Numbers for formulas of matrices, by what the page says of them and nothing else.

Bold symbols are matrices and column vectors, the rows of others by ``^{\top}``; products are written side by side, ``\odot``,
functions and fractions work on each entry, and a vector that meets a matrix so stands in every row. The length of a ``\mathbf{1}`` is what its neighbours make it. What has no meaning by these rules is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.latex_reader.evaluation import Evaluator, Scope, at_places, function
from tests.latex_reader.symbols import MatrixEntry
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import (
    Apply,
    Big,
    Bold,
    Compare,
    Entrywise,
    Fence,
    Fraction,
    Hadamard,
    Negative,
    Node,
    Product,
    Quotient,
    Root,
    Slice,
    Sum,
    Transpose,
    is_bold,
)

__all__ = ["Matrices", "Matrix", "agreeing"]

Array = np.ndarray[Any, Any]
Lengths = tuple[int | None, int | None]
ONES = Bold("1")


@dataclass(frozen=True)
class Matrix:
    """``kind``: scalar, vector, row or matrix; the last two axes of ``values`` are its rows and columns, those before them the
    indices in scope. A length that is ``None`` is open: the values are the same along it."""

    values: Array
    kind: str
    lengths: Lengths = (1, 1)

    @property
    def transposed(self) -> Matrix:
        kind = {"vector": "row", "row": "vector"}.get(self.kind, self.kind)
        return Matrix(self.values.swapaxes(-1, -2), kind, self.lengths[::-1])


class Matrices:
    """Values of formulas with matrices; what has none in it is read by ``plain``."""

    def __init__(self, plain: Evaluator) -> None:
        self.plain = plain
        self.symbols = plain.world.symbols

    def value(self, node: Node, scope: Scope) -> Matrix:
        """The value at every combination of the indices in scope. Raises LatexError."""
        if not is_bold(node):
            return _scalar(self.plain.value(node, scope), scope)
        entry = self.symbols.matrix(node)
        if entry is not None:
            return self.read(entry, scope)
        match node:
            case Bold():
                if node != ONES:
                    raise LatexError(f"nothing says what {node.text} is")
                return Matrix(np.ones((1,) * (scope.depth + 2)), "vector", (None, 1))
            case Transpose(inner):
                return self.value(inner, scope).transposed
            case Fence("(", (inner,)):
                return self.value(inner, scope)
            case Fence("|", (inner,)):
                return _each(np.abs, self.value(inner, scope))
            case Negative(inner):
                return _each(np.negative, self.value(inner, scope))
            case Root(inner):
                return _each(np.sqrt, self.value(inner, scope))
            case Sum(terms):
                return _together(lambda *parts: sum(sign * part for (sign, _), part in zip(terms, parts, strict=True)),
                                 [self.value(term, scope) for _, term in terms])
            case Product(factors):
                return self.product(factors, scope)
            case Hadamard(parts):
                return self.hadamard(parts, scope)
            case Fraction(top, bottom) | Quotient(top, bottom):
                return _together(np.divide, [self.value(top, scope), self.value(bottom, scope)])
            case Entrywise(base, exponent):
                power = self.plain.value(exponent, scope)
                return _each(lambda values: values ** power[..., None, None], self.value(base, scope))
            case Apply():
                return self.applied(node, scope)
            case Big("sum"):
                return self.sum(node, scope)
            case Fence("[", (Compare(),)):
                return _each(lambda values: values.astype(float), self.condition(node, scope))
        raise LatexError(f"no meaning as a matrix: {node}")

    # ---- symbols ---------------------------------------------------------------------------------------------------

    def read(self, entry: MatrixEntry, scope: Scope) -> Matrix:
        """A matrix or a vector, or a slice of it, 0 outside the tensor."""
        world = self.plain.world
        known = world.adjoints if entry.adjoint else world.grids
        if entry.name not in known:
            raise LatexError(f"no value of {'the adjoint of ' if entry.adjoint else ''}{entry.name}")
        extents = [self.plain.size(extent) for extent in self.symbols.shape(entry.name)[len(entry.scripts):]]
        ranges = [self.range(part, extent) for part, extent in zip(entry.slices, extents, strict=True)]
        axes: list[Array] = [np.arange(*r).reshape(-1, 1) for r in ranges]
        if len(axes) == 2:
            axes[1] = axes[1].reshape(1, -1)
        place = (*(self.plain.value(part, scope)[..., None, None] for part in entry.scripts), *axes)
        values = _lifted(at_places(known[entry.name], place), scope)
        first, *second = (high - low for low, high in ranges)
        return Matrix(values, "matrix" if second else "vector", (first, second[0] if second else 1))

    def range(self, part: Slice, extent: int) -> tuple[int, int]:
        """From where to where a slice goes, perhaps beyond the axis. Raises LatexError for an empty one."""
        low = 0 if part.low is None else self.plain.size(part.low)
        high = extent if part.high is None else self.plain.size(part.high)
        if not low < high:
            raise LatexError(f"a slice from {low} to {high}")
        return low, high

    # ---- products and sums -----------------------------------------------------------------------------------------

    def product(self, factors: Sequence[Node], scope: Scope) -> Matrix:
        """What stands side by side: numbers, conditions and matrices, from the left."""
        found, exists = _scalar(np.asarray(1.0), scope), np.asarray(True)
        for factor in factors:
            match factor:
                case Fence("[", conditions) if not is_bold(factor):
                    for condition in conditions:
                        exists = exists & self.plain.holds(condition, scope)
                case _:
                    found = _times(found, self.value(factor, scope))
        return _each(lambda values: np.where(exists[..., None, None], values, 0), found) if not exists.all() else found

    def hadamard(self, parts: Sequence[Node], scope: Scope) -> Matrix:
        r"""A product entry by entry. Raises LatexError where ``A \odot B C`` could be two things."""
        values, holds = [], []
        for part in parts:
            if isinstance(part, Product) and sum(self.value(f, scope).kind != "scalar" for f in part.factors) > 1:
                raise LatexError("a product beside an entrywise one, without brackets")
            if isinstance(part, Fence) and part.kind == "[":
                holds.append(self.condition(part, scope) if is_bold(part) else self.value(part, scope))
            else:
                values.append(self.value(part, scope))
        found = _together(lambda *those: np.prod(np.broadcast_arrays(*those), axis=0), values)
        return _together(lambda *those: np.where(np.logical_and.reduce(np.broadcast_arrays(*those[1:])), those[0], 0),
                         [found, *holds]) if holds else found

    def condition(self, fence: Fence, scope: Scope) -> Matrix:
        """Where a comparison holds, entry by entry."""
        (compared,) = fence.inner
        assert isinstance(compared, Compare)
        sides = [self.value(side, scope) for side in compared.sides]
        return _together(lambda *those: np.logical_and.reduce(
            [self.plain.compared(sign, *pair) for sign, *pair in zip(compared.signs, those, those[1:], strict=False)]), sides)

    def applied(self, node: Apply, scope: Scope) -> Matrix:
        """A function entry by entry, or the diagonal matrix of a vector."""
        arguments = [self.value(part, scope) for part in node.arguments]
        if node.function == "diag":
            (vector,) = arguments
            if vector.kind != "vector" or vector.lengths[0] is None or node.power is not None:
                raise LatexError("a diagonal matrix of what is no vector of some length")
            length = vector.lengths[0]
            return Matrix(np.where(np.eye(length, dtype=bool), vector.values, 0), "matrix", (length, length))
        found = _together(function(node.function), arguments)
        if node.power is None:
            return found
        power = self.plain.value(node.power, scope)
        return _each(lambda values: values ** power[..., None, None], found)

    def sum(self, big: Big, scope: Scope) -> Matrix:
        """A sum over subscripts."""
        inner, within = scope, np.asarray(True)
        for item in big.over:
            index, low, high = self.plain.limits(item, big, inner)
            inner = inner.over(index, int(np.min(low)), int(np.max(high)))
            within = within & (inner.values[index] >= low) & (inner.values[index] < high)
        found = self.value(big.body, inner)
        axes = tuple(range(len(big.over)))
        lead = [len(inner.values[index]) for index in self.symbols.bound(big)][::-1]
        shape = (*lead, *(1,) * (scope.depth + 2))
        values = np.broadcast_to(found.values, np.broadcast_shapes(found.values.shape, shape))
        return replace(found, values=np.where(within[..., None, None], values, 0).sum(axis=axes))


def agreeing(found: Matrix, known: Matrix) -> tuple[Array, Array]:
    """The values of two that are said to be equal. Raises LatexError where they are not of one kind and shape."""
    if known.kind != found.kind:
        raise LatexError(f"a {known.kind} is said to be a {found.kind}")
    for one, other in zip(known.lengths, found.lengths, strict=True):
        _one([one, other])
    return found.values, known.values


def _lifted(values: Array, scope: Scope) -> Array:
    return values.reshape((1,) * (scope.depth + 2 - values.ndim) + values.shape)


def _scalar(values: Array, scope: Scope) -> Matrix:
    return Matrix(_lifted(np.asarray(values)[..., None, None], scope), "scalar")


def _each(what: Any, matrix: Matrix) -> Matrix:
    return replace(matrix, values=np.asarray(what(matrix.values)))


def _together(what: Any, parts: Sequence[Matrix]) -> Matrix:
    """Entry by entry; a vector beside a matrix stands in each row. Raises LatexError for shapes that do not agree."""
    kinds = {part.kind for part in parts} - {"scalar"}
    if kinds == {"matrix", "vector"}:
        parts = [replace(part.transposed, lengths=(None, part.lengths[0])) if part.kind == "vector" else part for part in parts]
        kinds = {"matrix"}
    if len(kinds) > 1:
        raise LatexError(f"entry by entry: {' and '.join(sorted(kinds))}")
    shaped = [part.lengths for part in parts if part.kind != "scalar"]
    lengths: Lengths = (1, 1) if not shaped else (_one([s[0] for s in shaped]), _one([s[1] for s in shaped]))
    return Matrix(np.asarray(what(*(part.values for part in parts))), next(iter(kinds), "scalar"), lengths)


def _one(lengths: Sequence[int | None]) -> int | None:
    known = {length for length in lengths if length is not None}
    if len(known) > 1:
        raise LatexError(f"lengths of {sorted(known)} meet")
    return next(iter(known), None)


_KINDS = {("matrix", "matrix"): "matrix", ("matrix", "vector"): "vector", ("row", "matrix"): "row", ("row", "vector"): "scalar",
          ("vector", "row"): "matrix"}


def _times(left: Matrix, right: Matrix) -> Matrix:
    """The product of two matrices, or of a number and a matrix."""
    if "scalar" in (left.kind, right.kind):
        whole = left if right.kind == "scalar" else right
        return Matrix(left.values * right.values, whole.kind, whole.lengths)
    kind = _KINDS.get((left.kind, right.kind))
    if kind is None:
        raise LatexError(f"no product of a {left.kind} and a {right.kind}")
    between = _one([left.lengths[1], right.lengths[0]])
    if between is None:
        raise LatexError("nothing says how long a vector of ones is")
    ahead = np.broadcast_to(left.values, (*left.values.shape[:-1], between))
    after = np.broadcast_to(right.values, (*right.values.shape[:-2], between, right.values.shape[-1]))
    return Matrix(ahead @ after, kind, (left.lengths[0], right.lengths[1]))
