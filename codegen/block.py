"""A block of steps of a loop, as a node of a schedule."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from codegen.schedule import Loop, Node, Statement, equations_of
from symbolic.program import IndexName, Size

__all__ = ["Block", "Carry", "Window", "statements_of"]


@dataclass(frozen=True)
class Window:
    """The entries of a whole tensor that one block reads and writes; entry ``first`` after the block's start is its first."""

    tensor: str
    whole: str
    axis: int
    first: Expr
    extent: Expr


@dataclass(frozen=True)
class Carry:
    """The last entries of a local tensor, kept for the next block (and for after the last)."""

    tensor: str
    kept: str
    axis: int
    count: int


@dataclass(frozen=True)
class Block:
    """``for start in range(lower, upper, steps)``, upwards or downwards, with ``extent = min(steps, upper - start)``; in the body
    the index of the steps counts from the block's start."""

    start: IndexName
    extent: Size
    lower: Expr
    upper: Expr
    steps: int
    descending: bool
    body: tuple[Node, ...]
    members: tuple[Node, ...]
    """What the body was made of: the same statements over all steps."""
    windows: tuple[Window, ...] = ()
    carries: tuple[Carry, ...] = ()
    locals: tuple[str, ...] = ()

    @property
    def image(self) -> Loop:
        """The members as a loop over the blocks: what is read and written."""
        return Loop(self.start, self.lower, self.upper, self.descending, self.members)

    def __str__(self) -> str:
        arrow = "down" if self.descending else "up"
        lines = [f"for {self.start} = {self.lower}..{self.upper - 1} {arrow} by {self.steps}:"]
        for node in self.body:
            lines += [f"  {line}" for line in str(node).splitlines()]
        return "\n".join(lines)


def statements_of(item: Node | Block) -> list[Statement]:
    """All statements of a node; those of a block over all steps."""
    return list(equations_of(item.members if isinstance(item, Block) else [item]))
