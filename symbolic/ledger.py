"""What a model has so far while it is elaborated: sizes, tensors, equations, and the place each came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

import sympy as sp
from sympy import Expr

from symbolic.errors import EquationError, SpecError
from symbolic.layers.base import Context
from symbolic.parser import Scope, parse, parse_extent
from symbolic.program import Equation, Size, Tensor, size
from symbolic.spec import Document, Place, check_extent, identifiers, spell, tables

__all__ = ["Ledger", "Start", "show_shape"]


@dataclass(frozen=True)
class Start:
    """Text of a parameter's initialiser and the place that chose it; ``transposed`` as of ``symbolic.layers.base.Parameter``."""

    text: str
    place: Place
    transposed: bool = False


@dataclass
class Ledger:
    """The tables that grow while layers are added; ``number`` is the next equation's."""

    document: Document
    sizes: dict[str, Size]
    fixed: dict[Size, sp.Integer]
    functions: tuple[str, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, Place] = field(default_factory=dict)
    """Free sizes that an option brought up (``units: H``), and where: a slip of the pen, perhaps."""
    number: int = 1

    def fail(self, message: str, place: Place, key: bool = False) -> SpecError:
        """An error at a place (at its key, where the name itself is wrong)."""
        return self.document.error(message, place, key)

    def add(self, tensor: Tensor, place: Place) -> Tensor:
        """Enter a tensor. Raises SpecError where its name is taken."""
        if tensor.name in self.tensors:
            raise self.fail(
                f"expected each tensor to be defined once, found '{tensor.name}' again"
                f"{self.seen_at([tensor.name])}; rename one",
                place,
            )
        self.tensors[tensor.name] = tensor
        self.places[tensor.name] = place
        return tensor

    def bound(self, name: str, below: Expr) -> None:
        """Hold the entries of an index input below one more bound, which the door checks with its own."""
        tensor = self.tensors[name]
        self.tensors[name] = replace(tensor, below=below if tensor.below is None else sp.Min(tensor.below, below))

    def seen_at(self, names: Iterable[str]) -> str:
        """`` ('x' is at spec.yaml:4:3)`` for each tensor whose place has a line."""
        known = [(n, self.document.where(self.places[n])) for n in dict.fromkeys(names) if n in self.places]
        shown = [f"'{name}' is at {where}" for name, where in known if where is not None]
        return f" ({', '.join(shown)})" if shown else ""

    def placed(self, place: Place, foreign: bool = False) -> _Placed:
        """A ``with`` that gives errors a place; ``foreign``: the text at fault is not the user's."""
        return _Placed(self, place, foreign)

    # ---- extents ---------------------------------------------------------------------------------------------------

    def extent(self, value: int | str, place: Place, option: bool = False) -> Expr:
        """An extent of the spec, over known sizes and new ones, which are free.

        ``option``: a new name that looks like a known one is taken for a slip of the pen. Raises SpecError.
        """
        if wrong := check_extent(value):
            raise self.fail(wrong, place)
        for name in identifiers(value):
            if name in self.sizes:
                continue
            if wrong := tables.is_function(name, self.functions):
                raise self.fail(wrong, place)
            if option and (near := _slip(name, self.sizes)):
                raise self.fail(
                    f"expected a known size, found '{name}'; did you mean '{near}'? If it is another one, declare "
                    f"it: sizes: {{{name}: null}}",
                    place,
                )
            self.sizes[name] = size(name)
            if option:
                self.assumed[name] = place
        where = self.document.where_text(place)
        try:
            found: Expr = parse_extent(value, self.sizes, where)
        except EquationError as error:
            raise error.at(where, spell(place)) from None
        number = found.xreplace(self.fixed)
        if any(e.has(sp.zoo, sp.nan, sp.oo) for e in (found, number)) or number.is_integer is False:
            raise self.fail(f"expected an integer extent, found '{value}' = {number}", place)
        return found

    def shape(self, extents: Iterable[int | str], places: Iterable[Place]) -> tuple[Expr, ...]:
        """The extents of a shape, each at least 1."""
        places = list(places)
        made = tuple(self.extent(value, place) for value, place in zip(extents, places, strict=True))
        for extent, place in zip(made, places, strict=True):
            self.positive(extent, place)
        return made

    def positive(self, extent: Expr, place: Place) -> None:
        """Require an extent of at least 1, as far as its sizes are known."""
        number = extent.xreplace(self.fixed)
        if number.is_nonpositive or (number.is_number and not number.is_Integer):
            shown = f"{extent}" if extent == number else f"{extent} = {number}"
            raise self.fail(f"expected an extent of at least 1, found {shown}", place)

    def same(self, first: tuple[Expr, ...], second: tuple[Expr, ...]) -> bool:
        """Whether two shapes are equal, with known sizes put in."""
        return len(first) == len(second) and all(
            sp.expand((a - b).xreplace(self.fixed)) == 0 for a, b in zip(first, second, strict=True)
        )

    def context(self, name: str, place: Place, tensors: Mapping[str, Tensor]) -> Context:
        """What a layer or a loss at a place may ask."""
        return _Context(
            name=name,
            sizes=self.sizes,
            tensors=tensors,
            fixed=self.fixed,
            functions=self.functions,
            path=spell(place),
            locate=lambda key: self.document.where((*place, *_steps(key))),
            owner=self,
            place=place,
        )

    # ---- equations -------------------------------------------------------------------------------------------------

    def text(
        self, text: str, scope: Scope, place: Place, targets: Mapping[str, Tensor], own: bool = False
    ) -> tuple[Tensor, ...]:
        """Parse equation text and keep its equations; the tensors that it defines itself, for the caller to enter.

        ``targets``: existing tensors that the text may define. ``own``: the text stands in the spec at ``place``.
        Raises SpecError, and EquationError with the line.
        """
        here = self.document.where(place)
        with self.placed(place, not own):
            try:
                parsed = parse(text, scope, self.document.where_text(place) if own else None, self.number)
            except EquationError as error:
                if own and place in self.document.joined and error.bare_message.startswith("not an equation"):
                    raise error.add(f"; YAML joined the lines into one: write '{place[-1]}: |' to keep them") from None
                raise
        allowed = {tensor.name for tensor in (*parsed.tensors, *targets.values())}
        for equation in parsed.equations:
            # A layer of the catalogue may well have a tensor f: its f[t,n,k] is another thing than f(...), and nobody reads both.
            if own and (name := equation.name.removeprefix(scope.prefix)) in self.functions:
                raise SpecError(tables.is_function(name, self.functions), where=equation.origin.where, path=spell(place))
            if equation.name not in allowed:
                raise SpecError(
                    f"expected each tensor to be defined once, found an equation for '{equation.name}', which "
                    f"exists already{self.seen_at([equation.name])}; choose another name",
                    where=equation.origin.where if own else here,
                    path=spell(place),
                )
        self.equations += (
            equation if own else replace(equation, origin=replace(equation.origin, where=here))
            for equation in parsed.equations
        )
        self.number = max((e.number for e in parsed.equations), default=self.number - 1) + 1
        return parsed.tensors

    def line(self, text: str, tensors: Mapping[str, Tensor], target: Tensor, place: Place) -> None:
        """One equation of our own over existing tensors."""
        self.text(text, Scope("", {**tensors, target.name: target}), place, {target.name: target})


@dataclass(frozen=True)
class _Context(Context):
    """A layer's context that knows new sizes as soon as an extent names them."""

    owner: Any = None
    place: Place = ()

    def extent(self, value: int | str, key: str) -> Expr:
        extent: Expr = self.owner.extent(value, (*self.place, *_steps(key)), option=True)
        return extent


class _Placed:
    """Gives errors that leave it a place in the spec, and says of the tensors they name where each is and its shape."""

    def __init__(self, ledger: Ledger, place: Place, foreign: bool) -> None:
        self.ledger, self.place, self.foreign = ledger, place, foreign

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, SpecError):
            return
        where, path = self.ledger.document.where(self.place), spell(self.place)
        if isinstance(error, EquationError):
            message = error.bare_message + self._shapes(error.bare_message)
            spot = where if self.foreign else error.where or where
            raise EquationError(message, where=spot, path=path, line=error.line, offset=error.offset) from None
        message = error.message + self._shapes(error.message)
        raise SpecError(message, where=error.where or where, path=error.path or path) from None

    def _shapes(self, message: str) -> str:
        if not re.search(r"\b(extents?|shape|axis|axes)\b", message):
            return ""
        ledger, found = self.ledger, []
        for name in dict.fromkeys(re.findall(r"[A-Za-z][\w.]*\w|[A-Za-z]", message)):
            tensor = ledger.tensors.get(name)
            if tensor is not None and (f"{name}[" in message or f"'{name}'" in message):
                place = ledger.places[name]
                found.append(
                    f"{name} has shape {show_shape(tensor.shape)} (at {ledger.document.where(place) or spell(place)})"
                )
        return f"; {', '.join(found)}" if found else ""


def show_shape(shape: Iterable[Expr]) -> str:
    """``[T, N, 2*H]``."""
    return f"[{', '.join(map(str, shape))}]"


def _steps(key: str) -> Place:
    """``parameters.W.shape[0]`` as a place."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", key) if part)


def _slip(name: str, known: Iterable[str]) -> str:
    """A known size that ``name`` was probably meant to be: other case, or a letter (no digit) off in a long word."""
    for other in known:
        if other.lower() == name.lower():
            return other
        letters, others = re.sub(r"[\d_]", "", name), re.sub(r"[\d_]", "", other)
        if (
            min(len(letters), len(others)) >= 4
            and letters != others
            and SequenceMatcher(None, name, other).ratio() >= 0.85
        ):
            return other
    return ""
