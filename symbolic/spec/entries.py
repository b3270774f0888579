"""The parts of a validated spec; each keeps its place in the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from symbolic.layers.base import LayerOptions
from symbolic.spec.reading import Document, Place

__all__ = ["Input", "InputOptions", "LayerEntry", "LossEntry", "Rule", "Spec"]

MAX_RANK = 12


class InputOptions(BaseModel):
    """An input: a real tensor, or an index tensor with ``low <= entry < below`` (or ``ignore``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    shape: list[Annotated[int, Field(ge=1)] | str] = Field(max_length=MAX_RANK)
    kind: Literal["real", "index"] = "real"
    below: Annotated[int, Field(ge=1)] | str | None = None
    low: int | str = 0
    ignore: int | None = None


@dataclass(frozen=True)
class Input:
    """An input of the model and its place."""

    name: str
    options: InputOptions
    place: Place


@dataclass(frozen=True)
class LayerEntry:
    """A layer: ``sources`` as ``from:`` has them (``None``: the layer before), ``aliases`` their names in equations."""

    name: str
    kind: str
    options: LayerOptions
    sources: tuple[str, ...] | None
    aliases: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class LossEntry:
    """One loss: of a type from the catalogue, or (``type`` empty) the rank-0 tensor ``prediction`` itself."""

    kind: str
    options: LayerOptions | None
    prediction: str | None
    target: str | None
    weight: float
    name: str
    place: Place


@dataclass(frozen=True)
class Rule:
    """An optimiser or a clipping rule: its type and its options."""

    kind: str
    options: Any
    place: Place


@dataclass(frozen=True)
class Spec:
    """A validated spec. ``sizes``: name -> value, ``None`` where free. ``init``: parameter or default -> its text.
    ``functions``: the names of those that are left unspecified."""

    name: str
    dtype: str
    sizes: Mapping[str, int | None]
    inputs: tuple[Input, ...]
    layers: tuple[LayerEntry, ...]
    losses: tuple[LossEntry, ...]
    optimizer: Rule | None
    clip: Rule | None
    init: Mapping[str, str]
    seed: int
    outputs: tuple[str, ...]
    functions: tuple[str, ...]
    document: Document = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("sizes", "init"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
