"""Views with overlapping windows, whose axes may be asked for in any order, and the order that an array has in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sympy import Indexed

from symbolic.program import IndexName

__all__ = ["Window", "back"]


@dataclass(frozen=True)
class Window:
    """A read with overlapping windows. ``walks``: for each label the axis of ``base`` along which it goes, its step there and
    its extent; ``memory``: the axes of the array as they lie in memory, outermost first, where that is not their own order."""

    entry: Indexed
    base: str
    rank: int
    walks: tuple[tuple[IndexName, int, str, str], ...]
    memory: tuple[int, ...] = ()

    def text(self, labels: Sequence[IndexName], base: str = "") -> str:
        """The view with its axes in the order of the labels, of ``base`` or of a copy of it."""
        by_label = {label: rest for label, *rest in self.walks}
        rows = [by_label[label] for label in labels]
        shape = ", ".join(str(extent) for _, _, extent in rows)
        steps = ", ".join(f"({axis}, {step})" for axis, step, _ in rows)
        return f"_windows({base or self.base}, ({shape}), ({steps}))"

    @property
    def content(self) -> object:
        """What is read, in whatever order: a backward pass may read more of an array than the forward pass did."""
        return self.entry, self.base, frozenset(self.walks)

    def walked_alone(self, label: IndexName) -> bool:
        """Whether no other label goes along the axis of this one."""
        axes = [axis for _, axis, _, _ in self.walks]
        return any(other == label and axes.count(axis) == 1 for other, axis, _, _ in self.walks)

    def axes(self, labels: Sequence[IndexName]) -> tuple[int, ...]:
        """The axes of ``base`` in the order in which these labels come to them; those of no label first."""
        by_label = {label: axis for label, axis, _, _ in self.walks}
        met = tuple(dict.fromkeys(by_label[label] for label in labels))
        return (*(axis for axis in range(self.rank) if axis not in met), *met)


def back(axes: Sequence[int]) -> str:
    """The arguments of the transposition that undoes ``transpose(*axes)``."""
    return ", ".join(str(axes.index(axis)) for axis in range(len(axes)))
