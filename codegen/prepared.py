"""What a target is given: a model's functions as Programs, and what its files say beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from symbolic.program import Program

__all__ = ["Prepared", "Unit"]


@dataclass(frozen=True)
class Unit:
    """One function of a file: its program, and what it returns.

    ``kind``: ``loss``, ``predict``, ``value_and_grad``, ``jvp`` or ``hvp``. ``directions``: parameter -> the input that carries
    its direction.
    """

    kind: str
    program: Program
    wrt: tuple[str, ...] = ()
    directions: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Prepared:
    """All that the templates of a target need to know of a model."""

    name: str
    dtype: str
    source: str
    digest: str
    command: str
    prediction: str
    program: Program
    units: tuple[Unit, ...]
    initialisers: Mapping[str, Any]
    update: Any
    seed: int = 0
    cost: str = ""
    block: int | None = None
