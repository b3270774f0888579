"""What was decided about the memory of a tensor that a loop runs along: kept whole, in blocks of steps, or in a few slots."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sympy as sp
from sympy import Expr

from symbolic.program import Program, Tensor

__all__ = ["Action", "Verdict", "bytes_of"]


class Action(StrEnum):
    """``WHOLE``: every entry is kept; ``BLOCK``: those of one block of steps; ``CIRCULAR``: those of the last few steps."""

    WHOLE = "whole"
    BLOCK = "block"
    CIRCULAR = "circular"


@dataclass(frozen=True)
class Verdict:
    """The memory verdict of one tensor at one loop (law 24). ``bytes``: what the tensor takes under this verdict, in the sizes
    that are not fixed."""

    loop: str
    tensor: str
    action: Action
    reason: str
    bytes: Expr

    def __str__(self) -> str:
        return f"{self.loop}: {self.tensor} {self.action} ({self.bytes} bytes): {self.reason}"


def bytes_of(tensor: Tensor, extents: tuple[Expr, ...], program: Program, itemsize: int) -> Expr:
    """The bytes of an array with these extents that holds entries of the tensor; indices are of 8 bytes."""
    entries = sp.Mul(*extents, sp.Integer(8 if tensor.is_index else itemsize))
    return sp.expand(entries.xreplace(dict(program.fixed)))
