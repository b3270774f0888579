"""Arrays that several lines of one function use and that are written out once, at first use."""

from __future__ import annotations

from collections.abc import Callable

from codegen.numpy.windows import Window, back
from symbolic.program import IndexName, tensor_of

__all__ = ["Labels", "Stock"]

Labels = tuple[IndexName, ...]


class Stock:
    """Matrices of patches (im2col) by the read that they lay out, so that the backward pass finds the forward pass's; copies
    that lie in memory in another order; ones."""

    def __init__(self, emit: Callable[[str], None], fresh: Callable[[str], str]) -> None:
        self.emit, self.fresh = emit, fresh
        self.patches: dict[object, tuple[str, Labels, Labels, Labels]] = {}
        self.names: dict[str, str] = {}
        self.made_ones: dict[str, str] = {}

    def lay_out(self, window: Window, text: str, lead: Labels, inner: Labels, rows: Labels) -> str:
        """The name of the patches of a read, laid out [lead, inner, rows]."""
        found = self.laid_out(window)
        if found is not None and found[1:] == (lead, inner, rows):
            return found[0]
        name = self.fresh(f"{tensor_of(window.entry)}_patches")
        self.emit(f"{name} = {text}")
        self.patches[window.content] = (name, lead, inner, rows)
        return name

    def laid_out(self, window: Window) -> tuple[str, Labels, Labels, Labels] | None:
        """The patches of a read over the same ranges, and how they are laid out."""
        return self.patches.get(window.content)

    def turned(self, window: Window, labels: Labels) -> str:
        """The array behind a window, its axes in memory as these labels come to them; a copy where its innermost axis is
        another one."""
        axes = window.axes(labels)
        if (window.memory or tuple(range(window.rank)))[-1] == axes[-1]:
            return window.base
        text = f"np.ascontiguousarray({window.base}.transpose({', '.join(map(str, axes))})).transpose({back(axes)})"
        return self.named(f"{tensor_of(window.entry)}_turned", text, f"axis {axes[-1]} innermost in memory")

    def named(self, wanted: str, text: str, note: str = "") -> str:
        """The name of what an expression makes."""
        if text not in self.names:
            name = self.names[text] = self.fresh(wanted)
            self.emit(f"{name} = {text}{f'  # {note}' if note else ''}")
        return self.names[text]

    def ones(self, count: str) -> str:
        """The name of so many ones."""
        if count not in self.made_ones:
            name = self.made_ones[count] = self.fresh("ones")
            self.emit(f"{name} = np.empty({count}, DTYPE)")
            self.emit(f"{name}.fill(1)")
        return self.made_ones[count]

    def copy(self) -> Stock:
        """What there is now."""
        same = Stock(self.emit, self.fresh)
        same.patches, same.names, same.made_ones = dict(self.patches), dict(self.names), dict(self.made_ones)
        return same
