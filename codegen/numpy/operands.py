"""Pieces of text that stand for arrays, with an index name for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codegen.numpy.printer import Call, integer_text
from codegen.numpy.windows import Window
from symbolic.program import IndexName, Tensor

__all__ = ["Operand", "aligned", "outside", "transposed"]


@dataclass(frozen=True)
class Operand:
    """NumPy text for an array whose axes are the given indices.

    ``atom``: may be subscripted as it stands; ``fresh``: an array that nothing else refers to; ``fixed``: the same in every
    step of the loops round it; ``window``: the read behind a view with overlapping windows, whose matrix of patches is worth
    keeping; ``call``: the call that makes it, which may store into an array that is there; ``filled``: the text of a place
    that is filled, where it is not the subscripted text; ``memory``: the labels as they lie in memory, outermost first, where
    that is known not to be their order.
    """

    text: str
    labels: tuple[IndexName, ...] = ()
    atom: bool = True
    fresh: bool = False
    fixed: bool = False
    window: Window | None = None
    call: Call | None = None
    filled: str = ""
    memory: tuple[IndexName, ...] = ()

    def wrapped(self) -> str:
        return self.text if self.atom else f"({self.text})"


def aligned(operand: Operand, order: Sequence[IndexName]) -> Operand:
    """The operand with its axes in the given order, axes it lacks of length 1 (leading ones left out)."""
    present = tuple(label for label in order if label in operand.labels)
    text, atom, fresh = operand.text, operand.atom, operand.fresh
    call = operand.call if tuple(order) == operand.labels else None
    if present != operand.labels:
        text = transposed(operand, present).text
        atom, fresh = True, False
    missing = [label not in present for label in order]
    first = missing.index(False) if False in missing else len(order)
    tail = missing[first:]
    if any(tail):
        parts = ["None" if gone else ":" for gone in tail]
        while parts and parts[-1] == ":":
            parts.pop()
        text = f"{text if atom else f'({text})'}[{', '.join(parts)}]"
        atom = True
    return replace(operand, text=text, labels=tuple(order), atom=atom, fresh=fresh, call=call, filled="")


def transposed(operand: Operand, order: Sequence[IndexName]) -> Operand:
    """The operand with its axes in this order (the same axes)."""
    if tuple(order) == operand.labels:
        return operand
    if tuple(order) == operand.labels[::-1]:
        return replace(operand, text=f"{operand.wrapped()}.T", labels=tuple(order), atom=True, call=None, filled="")
    axes = ", ".join(str(operand.labels.index(label)) for label in order)
    text = f"{operand.wrapped()}.transpose({axes})"
    return replace(operand, text=text, labels=tuple(order), atom=True, call=None, filled="")


def outside(tensor: Tensor) -> str:
    """What stands for an entry out of bounds: 0, and for an index tensor what is nowhere (law 8)."""
    if tensor.is_index:
        return integer_text(tensor.low - 1) if tensor.ignore is None else str(tensor.ignore)
    return "0"
