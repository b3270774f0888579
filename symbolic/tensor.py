"""Tensors: what a named array is, and what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sympy as sp
from sympy import Expr, Indexed, IndexedBase

from symbolic.entries import base_of, read

__all__ = ["Kind", "Role", "Tensor"]


class Role(StrEnum):
    """What a tensor is for."""

    PARAMETER = "parameter"
    INPUT = "input"
    STATE = "state"
    INTERMEDIATE = "intermediate"
    ADJOINT = "adjoint"
    TANGENT = "tangent"
    OUTPUT = "output"


class Kind(StrEnum):
    """What a tensor's entries are: real numbers, or integers used in subscripts and guards."""

    REAL = "real"
    INDEX = "index"


@dataclass(frozen=True)
class Tensor:
    """A named array.

    ``shape``: the extents of its axes, bare indices run over 0 <= i < extent. ``margin``: entries before and after that
    range on each axis (``((1, 0), (0, 0), (0, 0))`` for a state that has an entry h[-1]); inside the margin is in bounds.
    For ``kind`` index, the entries are integers ``low <= v < below`` or ``ignore``; anything else is refused at the door.
    ``constant`` names the law by which the tensor is taken as constant by differentiation, for all its reads.
    """

    name: str
    shape: tuple[Expr, ...] = ()
    role: Role = Role.INTERMEDIATE
    kind: Kind = Kind.REAL
    margin: tuple[tuple[int, int], ...] = ()
    low: Expr = sp.S.Zero
    below: Expr | None = None
    ignore: int | None = None
    constant: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(sp.sympify(extent) for extent in self.shape))
        if not self.margin:
            object.__setattr__(self, "margin", ((0, 0),) * len(self.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_index(self) -> bool:
        return self.kind is Kind.INDEX

    @property
    def base(self) -> IndexedBase:
        """The SymPy base whose ``Indexed`` reads this tensor."""
        return base_of(self.name, self.is_index)

    def bounds(self, axis: int) -> tuple[Expr, Expr]:
        """The half-open range ``[lower, upper)`` of subscripts in bounds on an axis."""
        before, after = self.margin[axis]
        return sp.Integer(-before), self.shape[axis] + after if after else self.shape[axis]

    def __getitem__(self, subscripts: Any) -> Indexed:
        return self.at(subscripts if isinstance(subscripts, tuple) else (subscripts,))

    def at(self, subscripts: Sequence[Expr]) -> Indexed:
        """The read at these subscripts (also for rank 0, where ``[]`` has no Python spelling)."""
        return read(self.name, subscripts, self.is_index)

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        below = f" below {self.below}" if self.below is not None else ""
        margin = f" margin {self.margin}" if any(map(any, self.margin)) else ""
        constant = f" constant ({self.constant})" if self.constant else ""
        return f"{self.name}[{shape}] {self.role} {self.kind}{below}{margin}{constant}"
