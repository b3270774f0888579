"""Layers that repeat: derived once, and referred to.

Two layers are alike where the equations of one, forward and backward, become those of the other when tensors are renamed: its own
by its own, and what it reads from others by what that one reads. Nothing is asked of their types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Indexed

from codegen.derivation.provenance import Adjoint, Derivation
from symbolic.program import Equation, read, reads, tensor_of

__all__ = ["Repeats", "layer_of", "repeats"]

FEWEST = 4
"""Alike layers from which on all but the first are referred to."""


@dataclass(frozen=True)
class Repeats:
    """``like``: for each layer that is not told again, the one that it is like. ``reads``: the tensors of others that the one
    reads, each with what stands in its place."""

    like: Mapping[str, str]
    reads: Mapping[str, tuple[tuple[str, str], ...]]

    def told(self, name: str) -> bool:
        """Whether the equations of a tensor are told, not referred to."""
        return layer_of(name) not in self.like

    def of(self, layer: str) -> tuple[str, ...]:
        """The layers that are like this one."""
        return tuple(name for name, first in self.like.items() if first == layer)


def layer_of(name: str) -> str:
    """``fc1`` of ``fc1.W``."""
    return name.rpartition(".")[0]


def repeats(derivation: Derivation) -> Repeats:
    """The layers of a derivation that are like an earlier one, where there are at least ``FEWEST`` of a kind."""
    rows = _equations(derivation)
    kinds: dict[Any, list[str]] = {}
    for layer, equations in rows.items():
        if layer:
            kinds.setdefault(tuple(_shape(e, layer) for e in equations), []).append(layer)
    like: dict[str, str] = {}
    reading: dict[str, tuple[tuple[str, str], ...]] = {}
    for first, *others in kinds.values():
        alike = {other: names for other in others if (names := _names(rows[other], rows[first], other, first)) is not None}
        if len(alike) + 1 >= FEWEST:
            like.update(dict.fromkeys(alike, first))
            reading.update(alike)
    return Repeats(like, reading)


def _equations(derivation: Derivation) -> dict[str, list[Equation]]:
    """All that is told of each layer, in order."""
    found: dict[str, list[Equation]] = {}
    for program in (derivation.given, derivation.stable):
        for equation in program.equations:
            found.setdefault(layer_of(equation.name), []).append(equation)
    for name, adjoint in sorted(derivation.adjoints.items(), key=lambda pair: pair[0].rpartition(".")[2]):
        found.setdefault(layer_of(name), []).extend(_told(adjoint))
    return found


def _told(adjoint: Adjoint) -> Iterable[Equation]:
    yield from (path.adjoint for path in adjoint.paths)
    yield from (path.source for path in adjoint.paths if path.source is not None)
    yield from (equation for form in adjoint.forms for equation in form.equations)
    yield from adjoint.final


def _shape(equation: Equation, layer: str) -> Any:
    """What alike equations have in common, whatever the tensors are called: cheap, and not enough."""
    def plain(name: str) -> str:
        mark = "d_" if name.startswith("d_") else ""
        return f"{mark}{'own' if layer_of(name).removeprefix('d_') == layer else 'other'}.{name.rpartition('.')[2]}"

    return (plain(equation.name), tuple(map(str, equation.target.indices)), len(equation.guards),
            tuple(sorted((plain(tensor_of(r)), len(r.indices)) for r in equation.reads)))


def _names(
    equations: list[Equation], first: list[Equation], layer: str, kept: str
) -> tuple[tuple[str, str], ...] | None:
    """The tensors of others that the first layer reads, each with what the other reads in its place; ``None`` where they are not
    alike."""
    rule: dict[str, str] = {}
    for one, other in zip(equations, first, strict=True):
        if not _match(one, other, layer, kept, rule):
            return None
    return tuple((there, here) for here, there in rule.items()
                 if layer_of(here).removeprefix("d_") != layer and here != there and not here.startswith("d_"))


def _match(one: Equation, other: Equation, layer: str, kept: str, rule: dict[str, str]) -> bool:
    """Whether the first equation is the second one with the names changed; ``rule`` learns the names."""
    pairs = [(one.target, other.target), (one.body, other.body), *zip(one.guards, other.guards, strict=True)]
    for here, there in pairs:
        ours, theirs = _in_order(here, layer), _in_order(there, kept)
        if len(ours) != len(theirs):
            return False
        for a, b in zip(ours, theirs, strict=True):
            wanted = rule.setdefault(tensor_of(a), tensor_of(b))
            if wanted != tensor_of(b):
                return False
        changed = here.xreplace({a: read(rule[tensor_of(a)], a.indices, bool(a.base.label.is_integer)) for a in ours})
        if changed != there:
            return False
    return one.reduction is other.reduction and one.indices == other.indices


def _in_order(part: Any, layer: str) -> list[Indexed]:
    """The reads of an expression in an order that does not hang on what the layers are called."""
    def key(entry: Indexed) -> tuple[bool, str, str]:
        name = tensor_of(entry)
        own = layer_of(name).removeprefix("d_") == layer
        return own, name.rpartition(".")[2] if own else ("d_" if name.startswith("d_") else "") + name.rpartition(".")[2], \
            str(entry.indices)

    return sorted(reads(part), key=key)
