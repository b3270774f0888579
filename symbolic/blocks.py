"""Adds a Block (what a layer is: text and declarations) to a model: names, tensors, states, equations.

Its names get the layer's name before them, its text goes through the one parser, its states get the equations that
start them; nothing else is known about layers here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sympy as sp
from sympy import Expr

from symbolic.errors import SpecError, listed, nearest
from symbolic.layers.base import Block, State, final_name, final_text, initial_name, initial_text
from symbolic.ledger import Ledger, Start, show_shape
from symbolic.parser import Scope
from symbolic.program import IndexName, Role, Tensor, tensor_of
from symbolic.spec import Place, check_name, spell, tables

__all__ = ["BlockAdder"]


@dataclass
class BlockAdder:
    """One block on its way into the ledger.

    ``prefix``: what stands before its names (``rnn.``). ``own``: the text is the user's, so errors show its lines.
    ``targets``: local name -> tensor that exists and that the text must define.
    """

    ledger: Ledger
    block: Block
    prefix: str
    place: Place
    own: bool
    targets: dict[str, Tensor] = field(default_factory=dict)
    scope: dict[str, Tensor] = field(default_factory=dict)

    def add(self) -> Tensor:
        """Add the block's tensors and equations; the tensor it puts out.

        Raises SpecError where the block defines what is not its own, or leaves out what it declares.
        """
        ledger, block, first = self.ledger, self.block, len(self.ledger.equations)
        self._declarations()
        for name, state in block.states.items():
            if state.initial != "zero":
                ledger.text(
                    initial_text(name, state), self._around(name, state), self._at("states", name), self.targets
                )
        here = self._at("equations")
        inner = Scope(self.prefix, self.scope, block.sizes, block.ranges, ledger.fixed, ledger.functions)
        made = ledger.text(block.equations, inner, here, self.targets, self.own)
        for tensor in made:
            local = tensor.name[len(self.prefix) :]
            self._check(local, "a tensor", here)
            self.scope[local] = ledger.add(tensor, here)
        self._complete(first, [*self.targets, *(tensor.name[len(self.prefix) :] for tensor in made)])
        for name, state in block.states.items():
            if state.initial == "carry":
                self._carry(name, state)
        if self.own:
            self._lags(first, here)
        return self.scope[block.output]

    def _at(self, *steps: str) -> Place:
        """The place of a part of the user's own layer; a layer of the catalogue has no parts in the spec."""
        return (*self.place, *steps) if self.own else self.place

    def _declarations(self) -> None:
        ledger, block, prefix = self.ledger, self.block, self.prefix
        self.scope.update(block.inputs)
        for name in block.ranges:
            if self.own and (wrong := check_name(name, "an index", reserved=False)):
                raise ledger.fail(wrong, self._at("ranges", name), key=True)
        for name, parameter in block.parameters.items():
            here = self._at("parameters", name)
            self._declare(name, "a parameter", parameter.shape, here)
            self.scope[name] = ledger.add(Tensor(prefix + name, parameter.shape, Role.PARAMETER), here)
            ledger.starts[prefix + name] = Start(parameter.init, (*here, "init"), parameter.transposed)
        for name, shape in block.shapes.items():
            here = self._at("shapes", name)
            self._declare(name, "a tensor", shape, here)
            self.targets[name] = ledger.add(Tensor(prefix + name, shape), here)
        for name, state in block.states.items():
            here = self._at("states", name)
            self._declare(name, "a state", state.shape, here)
            self.scope.update(self._initial(name, state, here))
            state_tensor = Tensor(prefix + name, state.shape, Role.STATE, margin=_margin(state))
            self.targets[name] = ledger.add(state_tensor, here)
        self.scope.update(self.targets)

    def _declare(self, name: str, what: str, shape: Iterable[Expr], place: Place) -> None:
        self._check(name, what, place)
        for extent in shape:
            self.ledger.positive(extent, place)

    def _check(self, name: str, what: str, place: Place) -> None:
        """Names of a layer stand behind its own; in a model of bare equations they stand alone."""
        alone = not self.prefix
        wrong = check_name(name, what, reserved=alone and name != "loss", adjoint=alone)
        wrong = wrong or tables.is_function(name, self.ledger.functions if self.own else ())
        if not wrong and alone and name in self.ledger.sizes:
            wrong = f"expected the name of {what}, found '{name}', which is a size; rename one"
        if wrong:
            raise self.ledger.fail(wrong, place, key=True)

    def _complete(self, first: int, known: list[str]) -> None:
        """Everything declared is defined, and the output is among it."""
        written = {equation.name for equation in self.ledger.equations[first:]}
        for name, tensor in self.targets.items():
            if tensor.name not in written:
                raise self.ledger.fail(
                    f"expected an equation that defines '{name}', found none; write '{name}[...] = ...'",
                    self.ledger.places[tensor.name],
                )
        output = self.block.output
        if output not in known:
            raise self.ledger.fail(
                f"expected the name of a tensor that the equations define, found '{output}'"
                f"{nearest(output, known)}{listed(known)}",
                self._at("output"),
            )

    # ---- states ------------------------------------------------------------------------------------------------

    def _initial(self, name: str, state: State, place: Place) -> Mapping[str, Tensor]:
        """The tensor that a state starts from, by its local name."""
        if state.initial == "zero":
            return {}
        ledger, prefix = self.ledger, self.prefix
        local, note = initial_name(name), f"initial state of {prefix}{name}"
        others = tuple(extent for axis, extent in enumerate(state.shape) if axis != state.axis)
        front = (sp.Integer(state.lag),) if state.lag > 1 else ()
        if state.initial == "learned":
            tensor = ledger.add(Tensor(prefix + local, (*front, *others[-1:]), Role.PARAMETER, note=note), place)
            ledger.starts[tensor.name] = Start("zeros", place)
            return {local: tensor}
        wanted = (*front, *others)
        if state.initial in ("given", "carry"):
            return {local: ledger.add(Tensor(prefix + local, wanted, Role.INPUT, note=note), place)}
        place = (*place, "initial")
        inputs = {n: t for n, t in ledger.tensors.items() if t.role is Role.INPUT and "." not in n}
        given = inputs.get(state.initial)
        if given is None:
            known = ["zero", "given", "carry", "learned", *inputs]
            raise ledger.fail(
                f"expected zero, given, carry, learned or the name of an input, found '{state.initial}'"
                f"{nearest(state.initial, known)}",
                place,
            )
        if given.is_index or not ledger.same(given.shape, wanted):
            raise ledger.fail(
                f"expected a real input of shape {show_shape(wanted)} to start '{prefix}{name}' of shape "
                f"{show_shape(state.shape)}, found '{given.name}' of shape {show_shape(given.shape)}"
                f"{ledger.seen_at([given.name])}",
                place,
            )
        return {local: given}

    def _around(self, name: str, state: State) -> Scope:
        """The scope of a state's first and last equations. Beside a user's own names ours could be mistaken: only the
        state itself is seen there."""
        steps = {"T": state.shape[state.axis]}
        if not self.own:
            return Scope(self.prefix, self.scope, {**self.block.sizes, **steps}, self.block.ranges, self.ledger.fixed)
        seen = {n: self.scope[n] for n in (name, initial_name(name), final_name(name)) if n in self.scope}
        return Scope(self.prefix, seen, steps, {}, self.ledger.fixed)

    def _carry(self, name: str, state: State) -> None:
        """The final state: an output, and the initial state of the next window."""
        ledger, full = self.ledger, self.prefix + name
        local, start, place = final_name(name), self.scope[initial_name(name)], ledger.places[full]
        tensor = Tensor(self.prefix + local, start.shape, Role.OUTPUT, note=f"final state of {full}")
        self.scope[local] = ledger.add(tensor, place)
        ledger.text(final_text(name, state), self._around(name, state), place, {local: tensor})
        ledger.links[tensor.name] = start.name

    def _lags(self, first: int, place: Place) -> None:
        """A state with a start that is not zero must declare how far back it is read: its start has that many steps."""
        states = self.block.states.items()
        kept = {self.targets[name].name: (name, state) for name, state in states if state.initial != "zero"}
        for equation in self.ledger.equations[first:] if kept else ():
            for entry in equation.reads:
                name, state = kept.get(tensor_of(entry), ("", None))
                if state is None or not entry.indices[state.axis].atoms(IndexName):
                    continue
                step = entry.indices[state.axis].as_coeff_Add()[0]
                depth = step if state.reverse else -step
                if depth.is_Integer and depth > state.lag:
                    raise SpecError(
                        f"expected reads of '{name}' at most {state.lag} steps away (its lag), found {entry}; write "
                        f"lag: {depth} for it, and a start of {depth} steps",
                        where=equation.origin.where,
                        path=spell(place),
                    )


def _margin(state: State) -> tuple[tuple[int, int], ...]:
    """A state that starts from a tensor has entries before (or after) its steps."""
    margin = [(0, 0)] * len(state.shape)
    if state.initial != "zero" and not state.start:
        margin[state.axis] = (0, state.lag) if state.reverse else (state.lag, 0)
    return tuple(margin)
