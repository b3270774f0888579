"""Spec -> Program: inputs, layers and losses in turn, each fault shown at its place in the spec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp

from symbolic.blocks import BlockAdder
from symbolic.errors import EquationError, SpecError, listed, nearest
from symbolic.initialisers import Init, parse_init
from symbolic.layers.base import scalar
from symbolic.ledger import Ledger, show_shape
from symbolic.program import Kind, Program, Role, Tensor, size
from symbolic.spec import Input, LayerEntry, LossEntry, Place, Spec, spell, tables
from symbolic.wellformed import check_laws, check_names, used_sizes

__all__ = ["Elaborated", "elaborate"]


@dataclass(frozen=True)
class Elaborated:
    """What a spec means: its forward program, the output tensor of each layer, the prediction, the initialisers."""

    program: Program
    layers: Mapping[str, str]
    prediction: str
    initialisers: Mapping[str, Init]


def elaborate(spec: Spec) -> Elaborated:
    """The program of a spec. Raises SpecError at the place of the first fault."""
    made = _Elaborator(spec)
    try:
        return made.run()
    except SpecError as error:
        raise _with_sizes(error, made.ledger) from None


def _with_sizes(error: SpecError, ledger: Ledger) -> SpecError:
    """The error; of each size in it that an option brought up, it says that nobody declared it."""
    message = error.bare_message if isinstance(error, EquationError) else error.message
    notes = ""
    counted = re.search(r"\baxes\b", message)  # too many axes or too few, whatever their extents
    for name, place in ledger.assumed.items() if not counted else ():
        if re.search(rf"(?<![\w.]){name}(?![\w.])", message):
            at = ledger.document.where(place) or spell(place)
            notes += f"; '{name}' (at {at}) was taken as a free size, because no size has that name"
    if not notes:
        return error
    if isinstance(error, EquationError):
        return EquationError(
            message + notes, where=error.where, path=error.path, line=error.line, offset=error.offset
        )
    return SpecError(message + notes, where=error.where, path=error.path)


class _Elaborator:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.ledger = Ledger(
            spec.document,
            {name: size(name) for name in spec.sizes},
            {size(n): sp.Integer(v) for n, v in spec.sizes.items() if v is not None},
            spec.functions,
        )
        self.layers: dict[str, str] = {}
        self.chosen: set[str] = set()

    def run(self) -> Elaborated:
        ledger, spec = self.ledger, self.spec
        for item in spec.inputs:
            self.input(item)
        for k, entry in enumerate(spec.layers):
            self.layer(entry, spec.layers[k - 1] if k else None)
        prediction = self.losses()
        outputs = dict.fromkeys((prediction, *ledger.links, *self.named_outputs()))
        program = Program(
            spec.name,
            tuple(ledger.tensors.values()),
            tuple(ledger.equations),
            used_sizes(ledger, spec.sizes),
            "loss",
            tuple(outputs),
            ledger.links,
        )
        check_names(ledger)
        check_laws(program, ledger)
        return Elaborated(program, self.layers, prediction, self.initialisers())

    # ---- inputs and layers -----------------------------------------------------------------------------------------

    def input(self, item: Input) -> None:
        options, place, ledger = item.options, item.place, self.ledger
        base = (*place, "shape") if isinstance(self.spec.document.get(place), dict) else place
        shape = ledger.shape(options.shape, [(*base, axis) for axis in range(len(options.shape))])
        if options.kind == "real" or options.below is None:
            ledger.add(Tensor(item.name, shape, Role.INPUT), place)
            return
        below, low = ledger.extent(options.below, (*place, "below")), ledger.extent(options.low, (*place, "low"))
        if (below - low).xreplace(ledger.fixed).is_nonpositive:
            raise ledger.fail(
                f"expected 'below' above 'low', found below {options.below} and low {options.low}", (*place, "below")
            )
        ledger.add(Tensor(item.name, shape, Role.INPUT, Kind.INDEX, low=low, below=below, ignore=options.ignore), place)

    def source(self, name: str, place: Place, what: str = "an input or of an earlier layer") -> Tensor:
        """An input, a layer's output or a tensor by its dotted name. Raises SpecError where there is none."""
        found = self.ledger.tensors.get(self.layers.get(name, name))
        if found is None:
            later = any(layer.name == name for layer in self.spec.layers)
            hint = (
                "; it comes later: layers follow one another"
                if later
                else nearest(name, [*self.ledger.tensors, *self.layers]) + listed(self.known(what))
            )
            raise self.ledger.fail(f"expected the name of {what}, found '{name}'{hint}", place)
        return found

    def known(self, what: str) -> Iterable[str]:
        """The names that could stand for ``what``: inputs where it says so, and the layers so far."""
        return (*(i.name for i in self.spec.inputs if "input" in what), *self.layers)

    def sources(self, entry: LayerEntry, previous: LayerEntry | None) -> tuple[Tensor, ...]:
        """What goes into a layer: what ``from:`` names, else the layer before, else the first input that is no target.

        A target is taken where there is nothing else (a model that predicts its own input).
        """
        if entry.sources is not None:
            base: Place = (*entry.place, "from")
            value = self.spec.document.get(base)
            keys: Iterable[Place] = (
                [base]
                if isinstance(value, str)
                else [(*base, key) for key in (value if isinstance(value, dict) else range(len(entry.sources)))]
            )
            return tuple(self.source(name, key) for name, key in zip(entry.sources, keys, strict=True))
        if previous is not None:
            return (self.ledger.tensors[self.layers[previous.name]],)
        targets = {loss.target for loss in self.spec.losses}
        names = sorted((i.name for i in self.spec.inputs), key=lambda name: name in targets)
        return (self.ledger.tensors[names[0]],) if names else ()

    def visible(self, entry: LayerEntry, sources: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """What a layer's options and equations may name: inputs, earlier layers, dotted names, its own input as x."""
        tensors = self.ledger.tensors
        found = {i.name: tensors[i.name] for i in self.spec.inputs}
        found.update({name: tensors[output] for name, output in self.layers.items()})
        text = getattr(entry.options, "equations", None)
        if not isinstance(text, str):
            return found
        found.update({name: tensors[name] for name in re.findall(r"[A-Za-z]\w*\.\w+", text) if name in tensors})
        for alias, source in zip(entry.aliases, sources, strict=False):
            if found.get(alias, source) != source:
                raise self.ledger.fail(
                    f"expected a name that means nothing else, found '{alias}', which is also "
                    f"'{found[alias].name}'; choose another",
                    (*entry.place, "from", alias),
                )
            found[alias] = source
        if not entry.aliases and len(sources) == 1:
            if entry.sources is not None or found.get("x", sources[0]) == sources[0]:
                found["x"] = sources[0]
            else:
                del found["x"]  # the layer before, or the input x? Reading it is an error that asks.
        return found

    def layer(self, entry: LayerEntry, previous: LayerEntry | None) -> None:
        ledger, sources = self.ledger, self.sources(entry, previous)
        row = tables.layers()[entry.kind].load()
        least, most = row.inputs
        if len(sources) < least or (most is not None and len(sources) > most):
            count = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
            raise ledger.fail(
                f"expected {count} inputs for a layer of type {entry.kind}, found {len(sources)}; say from: ...",
                (*entry.place, "from"),
            )
        with ledger.placed(entry.place):
            block = row.build(
                entry.options, sources, ledger.context(entry.name, entry.place, self.visible(entry, sources))
            )
        own = isinstance(getattr(entry.options, "equations", None), str)
        prefix = f"{entry.name}." if entry.name else ""
        self.layers[entry.name] = BlockAdder(ledger, block, prefix, entry.place, own).add().name
        named = getattr(entry.options, "init", {})
        self.chosen.update(
            prefix + name
            for name, parameter in block.parameters.items()
            if isinstance(named, str) or name in named or (own and parameter.init != "default")
        )

    # ---- loss and outputs ------------------------------------------------------------------------------------------

    def losses(self) -> str:
        """Add the losses and, where there are several, their weighted sum ``loss``; the name of the prediction."""
        ledger, entries = self.ledger, self.spec.losses
        prediction = last = self.layers[self.spec.layers[-1].name]
        alone = len(entries) == 1 and entries[0].weight == 1
        parts: dict[str, Tensor] = {}
        for k, entry in enumerate(entries):
            if entry.kind:
                given = entry.prediction
                x = self.source(given, (*entry.place, "prediction"), "a layer") if given else ledger.tensors[last]
                prediction = x.name if k == 0 else prediction
                parts[f"part_{k}"] = self.loss(entry, x, "loss" if alone else f"{entry.name}.loss")
            else:
                parts[f"part_{k}"] = self.value(entry)
        if alone and parts["part_0"].name == "loss":
            return prediction
        total = ledger.add(Tensor("loss"), ("loss",))
        terms = [
            name if e.weight == 1 else f"{scalar(e.weight)}*{name}" for name, e in zip(parts, entries, strict=True)
        ]
        ledger.line(f"loss = {' + '.join(terms)}", parts, total, ("loss",))
        return prediction

    def loss(self, entry: LossEntry, x: Tensor, name: str) -> Tensor:
        """One loss of the catalogue, as the rank-0 tensor ``name``."""
        ledger = self.ledger
        inputs = {i.name: ledger.tensors[i.name] for i in self.spec.inputs}
        target = inputs.get(str(entry.target))
        if target is None:
            hint = ", which is a layer" if entry.target in self.layers else nearest(str(entry.target), inputs)
            hint += listed(inputs)
            raise ledger.fail(f"expected the name of an input, found '{entry.target}'{hint}", (*entry.place, "target"))
        with ledger.placed(entry.place):
            block = tables.losses()[entry.kind].build(
                entry.options, x, target, ledger.context(entry.name, entry.place, inputs)
            )
        for label, bound in block.below.items():
            ledger.bound(label, bound)
        tensor = ledger.add(Tensor(name), entry.place)
        return BlockAdder(ledger, block, f"{entry.name}.", entry.place, False, {block.output: tensor}).add()

    def value(self, entry: LossEntry) -> Tensor:
        """A loss that the user's equations compute."""
        ledger = self.ledger
        given = isinstance(self.spec.document.get(entry.place), dict)
        place: Place = (*entry.place, "prediction") if given else entry.place
        found = self.source(str(entry.prediction), place, "a tensor without axes")
        if found.rank or found.is_index or found.role in (Role.INPUT, Role.PARAMETER):
            raise ledger.fail(
                f"expected a computed tensor without axes as the loss, found the {found.role} '{found.name}' of "
                f"shape {show_shape(found.shape)}{ledger.seen_at([found.name])}; reduce it, or give the loss a "
                "type",
                place,
            )
        return found

    def named_outputs(self) -> Iterable[str]:
        for k, name in enumerate(self.spec.outputs):
            place: Place = ("outputs", k) if isinstance(self.spec.document.get(("outputs",)), list) else ("outputs",)
            found = self.source(name, place, "a layer or a tensor")
            if found.role in (Role.INPUT, Role.PARAMETER):
                raise self.ledger.fail(
                    f"expected a computed tensor as an output, found the {found.role} '{found.name}'", place
                )
            yield found.name

    def initialisers(self) -> dict[str, Init]:
        """Each parameter's initialiser: the spec's ``init:`` by name, what the layer's own options say, the spec's
        default for weights (rank 2 and more), the layer type's default."""
        ledger, starts = self.ledger, dict(self.ledger.starts)
        for name, text in self.spec.init.items():
            place: Place = ("init", name) if isinstance(self.spec.document.get(("init",)), dict) else ("init",)
            if name in starts:
                starts[name] = replace(starts[name], text=text, place=place)
            elif name != "default":
                raise ledger.fail(
                    f"expected the name of a parameter, found '{name}'{nearest(name, starts)}{listed(starts)}", place
                )
            else:
                starts.update(
                    {
                        n: replace(start, text=text, place=place)
                        for n, start in starts.items()
                        if n not in self.chosen and n not in self.spec.init and ledger.tensors[n].rank > 1
                    }
                )
        return {
            name: parse_init(
                start.text,
                ledger.sizes,
                self.spec.document.where(start.place),
                spell(start.place),
                ledger.tensors[name].shape,
                start.transposed,
            )
            for name, start in starts.items()
        }
