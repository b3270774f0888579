"""Numbers for formulas: every index is an axis of NumPy arrays, so a formula is evaluated at all its entries at once.

An index that comes into scope gets a new first axis; broadcasting does the rest. What a condition leaves out is left out,
whatever its value: it may be infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.latex_reader.symbols import Entry, Symbols
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import (
    Apply,
    Big,
    Cases,
    Compare,
    Fence,
    Fraction,
    Name,
    Negative,
    Node,
    Number,
    Product,
    Quotient,
    Root,
    Script,
    Sum,
)

__all__ = ["NOWHERE", "Bump", "Evaluator", "Grid", "Scope", "World", "at_places", "function"]

Array = np.ndarray[Any, Any]
NOWHERE = -(10**12)
"""A subscript that is in no axis, whatever is added to it."""

_RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[float])(x)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in "tanh sinh cosh sin cos tan exp log arctan expm1 log1p sign".split()},
    "ln": np.log, "erf": _erf, "max": np.maximum, "min": np.minimum, "relu": lambda x: np.where(x > 0, x, 0),
    r"\sigma": lambda x: 1 / (1 + np.exp(-x)), "softplus": lambda x: np.log1p(np.exp(x)),
    "clip": lambda x, a, b: np.minimum(np.maximum(x, a), b),
}


def function(name: str) -> Callable[..., Any]:
    """What a function does to numbers. Raises LatexError for one that nobody knows."""
    if name not in _FUNCTIONS:
        raise LatexError(f"nothing says what the function {name} is")
    return _FUNCTIONS[name]


@dataclass(frozen=True)
class Grid:
    """The entries of a tensor; ``lower``: the subscripts of the first one, -1 where there is one before the first step."""

    values: Array
    lower: tuple[int, ...] = ()


@dataclass(frozen=True)
class World:
    """What the letters stand for: tensors and the derivatives of the loss by them, and sizes."""

    symbols: Symbols
    sizes: Mapping[str, int]
    grids: Mapping[str, Grid]
    adjoints: Mapping[str, Grid]


@dataclass(frozen=True)
class Scope:
    """Indices with their values, each along an axis of its own, counted from the last."""

    values: Mapping[str, Array] = field(default_factory=dict)
    depth: int = 0

    def over(self, index: str, low: int, high: int) -> Scope:
        """The scope with one more index."""
        along = np.arange(low, high).reshape(-1, *(1,) * self.depth)
        return Scope({**self.values, index: along}, self.depth + 1)


@dataclass(frozen=True)
class Bump:
    """A small change of one entry, where it is read in these words (anywhere, if ``words`` is ``None``)."""

    name: str
    place: tuple[Array, ...]
    step: float
    words: tuple[Node, ...] | None


class Evaluator:
    """Values of formulas in a world."""

    def __init__(self, world: World, bump: Bump | None = None) -> None:
        self.world, self.bump = world, bump

    # ---- ranges ----------------------------------------------------------------------------------------------------

    def size(self, node: Node) -> int:
        """An extent as a number."""
        return int(self.value(node, Scope()))

    def extent(self, index: str, *nodes: Node) -> int:
        """How far an index runs: to the end of the axis that it subscripts. Raises LatexError for none, and for two lengths."""
        found = {self.size(extent) for extent in self.world.symbols.extents(index, nodes)}
        if len(found) != 1:
            raise LatexError(
                f"the index {index} " + (f"subscripts axes of lengths {sorted(found)}" if found else "has no axis of its own"))
        return found.pop()

    def limits(self, item: Node, big: Big, scope: Scope) -> tuple[str, Array, Array]:
        """An index under a sum, and its range up to below the last number."""
        match item:
            case Name(index):
                return index, np.asarray(0), np.asarray(self.extent(index, big.body))
            case Compare((Name(index), low), ("=",)) if big.upper is not None:
                return index, self.value(low, scope), self.value(big.upper, scope) + 1
            case Compare((low, Name(index), high), (first, last)) if first in ("<", "<=") and last in ("<", "<="):
                return index, self.value(low, scope) + (first == "<"), self.value(high, scope) + (last == "<=")
        raise LatexError(f"no range: {item}")

    # ---- values ----------------------------------------------------------------------------------------------------

    def value(self, node: Node, scope: Scope) -> Array:
        """The value at every combination of the indices in scope."""
        match node:
            case Number(number):
                return np.asarray(number)
            case Sum(terms):
                return np.asarray(sum(sign * self.value(term, scope) for sign, term in terms))
            case Negative(inner):
                return np.asarray(-self.value(inner, scope))
            case Product() | Fence("["):
                value, exists = self.term(node, scope)
                return np.where(exists, value, 0)
            case Big():
                return self.big(node, scope)
            case Cases(rows):
                return self.cases(rows, scope)
            case Root(inner):
                return np.asarray(np.sqrt(self.value(inner, scope)))
            case Apply(name, power, arguments):
                return self.applied(name, power, [self.value(a, scope) for a in arguments], scope)
            case Fence(kind, (inner,)):
                return self.fenced(kind, self.value(inner, scope))
            case Script(Fence("(", (Big("argmax") as big,)), (Name(component),), None):
                return self.argument(big, component, scope)
        entry = self.world.symbols.entry(node)
        if isinstance(node, Name):
            return self.letter(node.text, entry, scope)
        if entry is not None:
            return self.read(entry, scope)
        match node:
            case Fraction(top, bottom) | Quotient(top, bottom):
                return np.asarray(self.value(top, scope) / self.value(bottom, scope))
            case Script(base, None, above) if above is not None and not isinstance(above, Fence):
                return self.power(self.value(base, scope), self.value(above, scope))
        raise LatexError(f"no meaning: {node}")

    def letter(self, text: str, entry: Entry | None, scope: Scope) -> Array:
        """A letter alone: an index, a size or a number with a name; never two of them."""
        found = [known[text] for known in (scope.values, self.world.sizes) if text in known]
        found += [self.read(entry, scope)] if entry is not None else []
        constants = {r"\pi": math.pi, r"\infty": math.inf, "e": math.e}
        if len(found) > 1:
            raise LatexError(f"{text} stands for two things")
        if not found and text not in constants:
            raise LatexError(f"nothing says what {text} is")
        return np.asarray(found[0] if found else constants[text])

    def power(self, base: Array, exponent: Array) -> Array:
        return np.asarray(base ** (exponent if exponent.dtype.kind == "f" or np.all(exponent >= 0) else exponent.astype(float)))

    def applied(self, name: str, power: Node | None, arguments: list[Array], scope: Scope) -> Array:
        value = np.asarray(function(name)(*arguments))
        return value if power is None else self.power(value, self.value(power, scope))

    def fenced(self, kind: str, value: Array) -> Array:
        match kind:
            case "(":
                return value
            case "|":
                return np.abs(value)
            case "floor":
                return np.floor(value).astype(np.int64)
            case "ceil":
                return np.ceil(value).astype(np.int64)
        raise LatexError(f"no meaning: brackets {kind}")

    def cases(self, rows: tuple[tuple[Node, Node | None], ...], scope: Scope) -> Array:
        """The value of the first row whose condition holds."""
        found = np.asarray(0.0)
        for value, condition in reversed(rows):
            there = self.value(value, scope)
            found = there if condition is None else np.where(self.holds(condition, scope), there, found)
        return found

    # ---- conditions and sums ---------------------------------------------------------------------------------------

    def holds(self, node: Node, scope: Scope) -> Array:
        """Whether a condition holds; what is nowhere fulfils none. A value that is no comparison holds where it is not 0."""
        if not isinstance(node, Compare):
            return np.asarray(self.value(node, scope) != 0)
        sides = [self.value(side, scope) for side in node.sides]
        found = np.asarray(True)
        for sign, left, right in zip(node.signs, sides, sides[1:], strict=False):
            found = found & self.compared(sign, left, right)
        for side in sides:
            found = found & (np.abs(side) < -NOWHERE / 2 if side.dtype.kind == "i" else True)
        return np.asarray(found)

    def compared(self, sign: str, left: Array, right: Array) -> Array:
        return np.asarray(_RELATIONS[sign](left, right))

    def term(self, node: Node, scope: Scope) -> tuple[Array, Array]:
        """The value of a product, and where it exists: where all conditions among its factors hold."""
        value, exists = np.asarray(1), np.asarray(True)
        for factor in node.factors if isinstance(node, Product) else (node,):
            if isinstance(factor, Fence) and factor.kind == "[":
                for condition in factor.inner:
                    exists = exists & self.holds(condition, scope)
            else:
                value = value * self.value(factor, scope)
        return np.asarray(value), np.asarray(exists)

    def under(self, big: Big, scope: Scope) -> tuple[Array, Array, Scope]:
        """What stands under a sum, at every combination of its indices, and where it exists; the indices are the first axes."""
        inner, within = scope, np.asarray(True)
        for item in big.over:
            index, low, high = self.limits(item, big, inner)
            inner = inner.over(index, int(np.min(low)), int(np.max(high)))
            within = within & (inner.values[index] >= low) & (inner.values[index] < high)
        value, exists = self.term(big.body, inner)
        lead = [len(inner.values[index]) for index in self.world.symbols.bound(big)][::-1]
        shape = np.broadcast_shapes(value.shape, exists.shape, within.shape, (*lead, *(1,) * scope.depth))
        return np.broadcast_to(value, shape), np.broadcast_to(exists & within, shape), inner

    def big(self, big: Big, scope: Scope) -> Array:
        value, exists, _ = self.under(big, scope)
        axes = tuple(range(len(big.over)))
        match big.kind:
            case "sum":
                return np.asarray(np.where(exists, value, 0).sum(axis=axes))
            case "prod":
                return np.asarray(np.where(exists, value, 1).prod(axis=axes))
            case "max" | "min":
                sign = 1 if big.kind == "max" else -1
                best = np.where(exists, sign * value, -np.inf).max(axis=axes, initial=-np.inf)
                return np.where(exists.any(axis=axes), sign * best, 0)
        raise LatexError(f"no meaning: {big.kind} without a component")

    def argument(self, big: Big, component: str, scope: Scope) -> Array:
        """The index of the first greatest entry: first by the first index, then by the next."""
        value, exists, _ = self.under(big, scope)
        names = self.world.symbols.bound(big)
        count = len(names)
        order = (*reversed(range(count)), *range(count, value.ndim))
        value, exists = value.transpose(order), exists.transpose(order)
        lows = [int(self.limits(item, big, scope)[1]) for item in big.over]
        lengths = value.shape[:count]
        flat = np.where(exists, value, -np.inf).reshape(-1, *value.shape[count:])
        places = np.unravel_index(flat.argmax(axis=0), lengths)
        place = places[names.index(component)] + lows[names.index(component)]
        return np.where(exists.any(axis=tuple(range(count))), place, NOWHERE)

    # ---- entries ---------------------------------------------------------------------------------------------------

    def read(self, entry: Entry, scope: Scope) -> Array:
        """An entry, 0 outside its tensor, perhaps to a power."""
        known = self.world.adjoints if entry.adjoint else self.world.grids
        if entry.name not in known:
            raise LatexError(f"no value of {'the adjoint of ' if entry.adjoint else ''}{entry.name}")
        grid = known[entry.name]
        place = tuple(self.value(part, scope) for part in entry.subscripts)
        value = at_places(grid, place)
        bump = self.bump
        if bump is not None and not entry.adjoint and entry.name == bump.name and bump.words in (None, entry.subscripts):
            same = np.asarray(True)
            for here, there in zip(place, bump.place, strict=True):
                same = same & (here == there)
            value = value + bump.step * same
        return value if entry.power is None else self.power(value, self.value(entry.power, scope))

    def inside(self, entry: Entry, scope: Scope) -> Array:
        """Whether the entry is one of its tensor."""
        grid = (self.world.adjoints if entry.adjoint else self.world.grids)[entry.name]
        found = np.asarray(True)
        for part, low, length in zip(entry.subscripts, grid.lower, grid.values.shape, strict=True):
            at = self.value(part, scope)
            found = found & (at >= low) & (at < low + length)
        return found


def at_places(grid: Grid, place: tuple[Array, ...]) -> Array:
    """The entries at these places; an integer outside its tensor is nowhere, a number is 0."""
    if not place:
        return np.asarray(grid.values)
    if any(at.dtype.kind != "i" for at in place):
        raise LatexError("a subscript is no integer")
    inside = np.asarray(True)
    for at, low, length in zip(place, grid.lower, grid.values.shape, strict=True):
        inside = inside & (at >= low) & (at < low + length)
    if not all(grid.values.shape):
        return np.zeros(inside.shape)
    safe = tuple(np.where(inside, at - low, 0) for at, low in zip(place, grid.lower, strict=True))
    return np.where(inside, grid.values[safe], NOWHERE if grid.values.dtype.kind == "i" else 0.0)


def with_bump(evaluator: Evaluator, bump: Bump, step: float) -> Evaluator:
    """The evaluator in a world where one entry is changed by ``step``."""
    return Evaluator(evaluator.world, replace(bump, step=step))
