"""What a model has so far while it is elaborated: sizes, tensors, equations, and the place in the spec each came from.

A Block enters through :meth:`Ledger.block`: its names get the layer's name before them, its text goes through the one parser,
its states get their initial equations. Nothing else is known about layers here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

import sympy as sp
from sympy import Expr

from symbolic.errors import EquationError, Location, SpecError, nearest
from symbolic.layers.base import Block, Context, State, final_name, final_text, initial_name, initial_text
from symbolic.parser import Scope, parse, parse_extent
from symbolic.program import Equation, IndexName, Role, Size, Tensor, size, tensor_of
from symbolic.spec import Document, Place, check_extent, check_name, identifiers, spell, tables

__all__ = ["Ledger", "Start", "show_shape"]


@dataclass(frozen=True)
class Start:
    """Text of a parameter's initialiser and the place that chose it."""

    text: str
    place: Place


@dataclass
class Ledger:
    """The tables that grow while layers are added; ``number`` is the next equation's."""

    document: Document
    sizes: dict[str, Size]
    fixed: dict[Size, sp.Integer]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
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
        """An extent of the spec. In a shape a new name is a new free size; in an option one that looks like a known size is
        taken for a slip of the pen."""
        if wrong := check_extent(value):
            raise self.fail(wrong, place)
        for name in identifiers(value):
            if name in self.sizes:
                continue
            if wrong := tables.is_function(name):
                raise self.fail(wrong, place)
            if option and (near := _slip(name, self.sizes)):
                raise self.fail(
                    f"expected a known size, found '{name}'; did you mean '{near}'? If it is another one, declare "
                    f"it: sizes: {{{name}: null}}",
                    place,
                )
            self.sizes[name] = size(name)
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
            path=spell(place),
            locate=lambda key: self.document.where((*place, *_steps(key))),
            owner=self,
            place=place,
        )

    # ---- blocks ----------------------------------------------------------------------------------------------------

    def block(
        self, block: Block, prefix: str, place: Place, own: bool, declared: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Add a block's tensors and equations; the tensor it puts out.

        ``own``: the text is the user's, so errors show its lines. ``declared``: targets that exist already.
        Raises SpecError where the block defines what is not its own, or leaves out what it declares.
        """
        scope, targets = dict(block.inputs), dict(declared or {})
        for name in block.ranges:
            if own and (wrong := check_name(name, "an index", reserved=False)):
                raise self.fail(wrong, (*place, "ranges", name), key=True)

        def at(section: str, name: str) -> Place:
            return (*place, section, name) if own else place

        for name, parameter in block.parameters.items():
            here = at("parameters", name)
            self._declare(name, prefix, "a parameter", parameter.shape, here)
            scope[name] = self.add(Tensor(prefix + name, parameter.shape, Role.PARAMETER), here)
            self.starts[prefix + name] = Start(parameter.init, (*here, "init"))
        for name, shape in block.shapes.items():
            self._declare(name, prefix, "a tensor", shape, at("shapes", name))
            targets[name] = self.add(Tensor(prefix + name, shape), at("shapes", name))
        for name, state in block.states.items():
            here = at("states", name)
            self._declare(name, prefix, "a state", state.shape, here)
            scope.update(self._initial(name, state, prefix, here))
            targets[name] = self.add(Tensor(prefix + name, state.shape, Role.STATE, margin=_margin(state)), here)
        scope.update(targets)
        for name, state in block.states.items():
            if state.initial != "zero":
                self._text(
                    initial_text(name, state),
                    self._around(name, state, prefix, block, scope, own),
                    at("states", name),
                    None,
                    targets,
                )
        here = (*place, "equations") if own else place
        inner = Scope(prefix, scope, block.sizes, block.ranges, self.fixed)
        made = self._text(block.equations, inner, here, self.document.where_text(here) if own else None, targets, own)
        for tensor in made:
            local = tensor.name[len(prefix) :]
            self._check(local, prefix, "a tensor", here)
            scope[local] = self.add(tensor, here)
        self._complete(block, targets, made, prefix, place, own)
        for name, state in block.states.items():
            if state.initial == "carry":
                self._carry(name, state, prefix, block, scope, own)
        if own:
            self._lags(block, targets, here)
        return scope[block.output]

    def _declare(self, name: str, prefix: str, what: str, shape: Iterable[Expr], place: Place) -> None:
        self._check(name, prefix, what, place)
        for extent in shape:
            self.positive(extent, place)

    def _check(self, name: str, prefix: str, what: str, place: Place) -> None:
        """Names of a layer stand behind its own; in a model of bare equations they stand alone."""
        alone = not prefix
        if wrong := check_name(name, what, reserved=alone and name != "loss", adjoint=alone) or tables.is_function(
            name
        ):
            raise self.fail(wrong, place, key=True)
        if alone and name in self.sizes:
            raise self.fail(
                f"expected the name of {what}, found '{name}', which is a size; rename one", place, key=True
            )

    def _complete(
        self, block: Block, targets: Mapping[str, Tensor], made: Iterable[Tensor], prefix: str, place: Place, own: bool
    ) -> None:
        """Everything declared is defined, and the output is among it."""
        written = {equation.name for equation in self.equations}
        for name, tensor in targets.items():
            if tensor.name not in written:
                raise self.fail(
                    f"expected an equation that defines '{name}', found none; write '{name}[...] = ...'",
                    self.places[tensor.name],
                )
        known = [*targets, *(tensor.name[len(prefix) :] for tensor in made)]
        if block.output not in known:
            raise self.fail(
                f"expected the name of a tensor that the equations define, found '{block.output}'"
                f"{nearest(block.output, known)}",
                (*place, "output") if own else place,
            )

    def _text(
        self,
        text: str,
        scope: Scope,
        place: Place,
        where: Location | None,
        targets: Mapping[str, Tensor],
        own: bool = False,
    ) -> tuple[Tensor, ...]:
        """Parse one text and keep its equations. ``where``: its first character, where a person wrote it."""
        with self.placed(place, not own):
            parsed = parse(text, scope, where, self.number)
        allowed = {tensor.name for tensor in (*parsed.tensors, *targets.values())}
        here = self.document.where(place)
        for equation in parsed.equations:
            if equation.name not in allowed:
                raise SpecError(
                    f"expected each tensor to be defined once, found an equation for '{equation.name}', which "
                    f"exists already{self.seen_at([equation.name])}; choose another name",
                    where=equation.origin.where if where else here,
                    path=spell(place),
                )
        self.equations += (
            parsed.equations
            if where is not None
            else (replace(equation, origin=replace(equation.origin, where=here)) for equation in parsed.equations)
        )
        self.number = max((e.number for e in parsed.equations), default=self.number - 1) + 1
        return parsed.tensors

    def line(self, text: str, tensors: Mapping[str, Tensor], target: Tensor, place: Place) -> None:
        """One equation of our own over existing tensors."""
        self._text(text, Scope("", {**tensors, target.name: target}), place, None, {target.name: target})

    # ---- states ----------------------------------------------------------------------------------------------------

    def _initial(self, name: str, state: State, prefix: str, place: Place) -> dict[str, Tensor]:
        """The tensor that a state starts from, by its local name."""
        if state.initial == "zero":
            return {}
        local, note = initial_name(name), f"initial state of {prefix}{name}"
        others = tuple(extent for axis, extent in enumerate(state.shape) if axis != state.axis)
        front = (sp.Integer(state.lag),) if state.lag > 1 else ()
        if state.initial == "learned":
            tensor = self.add(Tensor(prefix + local, (*front, *others[-1:]), Role.PARAMETER, note=note), place)
            self.starts[tensor.name] = Start("zeros", place)
            return {local: tensor}
        wanted = (*front, *others)
        if state.initial in ("given", "carry"):
            return {local: self.add(Tensor(prefix + local, wanted, Role.INPUT, note=note), place)}
        place = (*place, "initial")
        inputs = {n: t for n, t in self.tensors.items() if t.role is Role.INPUT and "." not in n}
        if state.initial not in inputs:
            known = ["zero", "given", "carry", "learned", *inputs]
            raise self.fail(
                f"expected zero, given, carry, learned or the name of an input, found '{state.initial}'"
                f"{nearest(state.initial, known)}",
                place,
            )
        given = inputs[state.initial]
        if given.is_index or not self.same(given.shape, wanted):
            raise self.fail(
                f"expected a real input of shape {show_shape(wanted)} to start '{prefix}{name}' of shape "
                f"{show_shape(state.shape)}, found '{given.name}' of shape {show_shape(given.shape)}"
                f"{self.seen_at([given.name])}",
                place,
            )
        return {local: given}

    def _around(
        self, name: str, state: State, prefix: str, block: Block, scope: Mapping[str, Tensor], own: bool
    ) -> Scope:
        """The scope of a state's first and last equations. Beside a user's own names ours could be mistaken: only the
        state itself is seen there."""
        steps = {"T": state.shape[state.axis]}
        if not own:
            return Scope(prefix, scope, {**block.sizes, **steps}, block.ranges, self.fixed)
        seen = {n: scope[n] for n in (name, initial_name(name), final_name(name)) if n in scope}
        return Scope(prefix, seen, steps, {}, self.fixed)

    def _carry(self, name: str, state: State, prefix: str, block: Block, scope: dict[str, Tensor], own: bool) -> None:
        """The final state: an output, and the initial state of the next window."""
        local, start = final_name(name), scope[initial_name(name)]
        place = self.places[prefix + name]
        note = f"final state of {prefix}{name}"
        scope[local] = self.add(Tensor(prefix + local, start.shape, Role.OUTPUT, note=note), place)
        self._text(
            final_text(name, state),
            self._around(name, state, prefix, block, scope, own),
            place,
            None,
            {local: scope[local]},
        )
        self.links[prefix + local] = start.name

    def _lags(self, block: Block, targets: Mapping[str, Tensor], place: Place) -> None:
        """A state with a start that is not zero must declare how far back it is read: its start has that many steps."""
        kept = {targets[n].name: (n, s) for n, s in block.states.items() if s.initial != "zero"}
        for equation in self.equations if kept else ():
            for entry in equation.reads:
                name, state = kept.get(tensor_of(entry), ("", None))
                if state is None or not entry.indices[state.axis].atoms(IndexName):
                    continue
                step = entry.indices[state.axis].as_coeff_Add()[0]
                depth = step if state.reverse else -step
                if depth.is_Integer and depth > state.lag:
                    raise SpecError(
                        f"expected reads of '{name}' at most {state.lag} steps away (its lag), found {entry}; write lag: "
                        f"{depth} for it, and a start of {depth} steps",
                        where=equation.origin.where,
                        path=spell(place),
                    )


@dataclass(frozen=True)
class _Context(Context):
    """A layer's context that knows new sizes as soon as an extent names them."""

    owner: Any = None
    place: Place = ()

    def extent(self, value: int | str, key: str) -> Expr:
        extent: Expr = self.owner.extent(value, (*self.place, *_steps(key)), option=True)
        return extent


class _Placed:
    """Gives errors that leave it a place in the spec, and says of every tensor they name where it is and what shape it has."""

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


def _margin(state: State) -> tuple[tuple[int, int], ...]:
    """A state that starts from a tensor has entries before (or after) its steps."""
    margin = [(0, 0)] * len(state.shape)
    if state.initial != "zero" and not state.start:
        margin[state.axis] = (0, state.lag) if state.reverse else (state.lag, 0)
    return tuple(margin)


def _steps(key: str) -> Place:
    """``parameters.W.shape[0]`` as a place."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", key) if part)


def _slip(name: str, known: Iterable[str]) -> str:
    """A known size that ``name`` was probably meant to be: other case, or a letter off in a long word (but not a digit)."""
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
