"""Reads and writes as NumPy views whose axes carry index names.

A subscript that is one index (with a step and an offset) is a slice; a constant or a loop value picks one entry; two indices in
one subscript (``2*u + p``) are a strided window; anything else, and whatever goes through an index tensor, is fancy indexing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from codegen.numpy.gathers import Gathers
from codegen.numpy.operands import Operand
from codegen.numpy.printer import integer_text
from codegen.numpy.steps import Access
from codegen.numpy.windows import Window
from symbolic.analysis import affine, is_equal
from symbolic.program import IndexName, index_symbols, tensor_of

__all__ = ["Viewer"]


def _bracketed(parts: Sequence[str]) -> str:
    """A subscript without the whole axes at its end."""
    kept = _trimmed(parts)
    return f"[{', '.join(kept)}]" if kept else ""


def _trimmed(parts: Sequence[str]) -> list[str]:
    kept = list(parts)
    while kept and kept[-1] == ":":
        kept.pop()
    return kept


class Viewer(Gathers):
    """Makes views for one statement: ``vector`` indices are array axes, everything else is a scalar at run time."""

    def view(self, entry: Indexed, writing: bool = False) -> Operand:
        """The read (or, for plain subscripts, the target) as an operand."""
        storage = self.storages[tensor_of(entry)]
        if not entry.indices:
            return Operand(storage.code)
        labels = [self._labels(subscript) for subscript in entry.indices]
        flat = [label for part in labels for label in part]
        if len(set(flat)) != len(flat) or any(self._fancy(s) for s in entry.indices):
            return self._gather(entry, storage, writing)
        split = [self._digits(storage, axis, s) if len(part) > 1 else None
                 for axis, (s, part) in enumerate(zip(entry.indices, labels, strict=True))]
        if any(split):
            return self._split_axes(entry, storage, split)
        if any(len(part) > 1 for part in labels):
            return self._window(entry, storage)
        slices = [self._plain(storage, axis, s) for axis, s in enumerate(entry.indices)]
        read = f"{storage.code}{_bracketed([text for axis, (text, _) in enumerate(slices) if axis != storage.absent])}"
        access = self._access(entry, storage, _trimmed([text for text, _ in slices[1:]])) if flat else None
        filled = ""
        if access is not None and self.steps is not None:
            read, filled = self.steps.mark(access)
        turned = _bracketed(["::-1" if back else ":" for (_, back), part in zip(slices, labels, strict=True) if part])
        memory = tuple(label for axis in self.memory.get(tensor_of(entry), ()) for label in labels[axis])
        return Operand(f"{read}{turned}", tuple(flat), fixed=self._fixed(entry), filled="" if turned else filled, memory=memory)

    def _access(self, entry: Indexed, storage: Storage, rest: Sequence[str]) -> Access | None:
        """The read as an entry of one step of the innermost loop, where only its first subscript moves in that loop."""
        if self.steps is None or storage.ring is not None:
            return None
        symbol = self.steps.loop.symbol
        lag = sp.expand(entry.indices[0] - symbol)
        moving = {s for subscript in entry.indices[1:] for s in index_symbols(subscript)}
        ranges = [self.vector[s] for s in moving if s in self.vector]  # h[t, :t] moves with t too
        moving = moving.difference(self.vector).union(*(index_symbols(i.lower + i.upper) for i in ranges))
        if not lag.is_Integer or moving - self.steps.outer:
            return None
        return Access(storage, int(lag), sp.expand(lag + storage.before[0]), tuple(rest))

    def is_view(self, entry: Indexed) -> bool:
        """Whether the view of an entry is one, so that it may take results; fancy indexing makes a copy."""
        labels = [label for subscript in entry.indices for label in self._labels(subscript)]
        return len(set(labels)) == len(labels) and not any(self._fancy(s) for s in entry.indices) and all(
            len(self._labels(s)) < 2 or self._digits(self.storages[tensor_of(entry)], axis, s)
            for axis, s in enumerate(entry.indices)
        )

    def in_one_piece(self, entry: Indexed) -> bool:
        """Whether the view of an entry is contiguous: after its first axis every axis is whole (``ndarray.dot`` wants it so)."""
        storage = self.storages[tensor_of(entry)]
        if storage.tensor.name in self.memory or storage.tensor.name in self.parted:
            return False
        parts: list[tuple[str, bool]] = []
        for axis, subscript in enumerate(entry.indices):
            if parts or self._labels(subscript):
                parts.append(self._plain(storage, axis, subscript) if len(self._labels(subscript)) < 2 else ("", True))
        return not parts or not parts[0][1] and parts[0][0].count(":") < 2 and all(part == (":", False) for part in parts[1:])

    def _fixed(self, entry: Indexed) -> bool:
        """Whether the loops round the statement neither write the tensor nor move the view, its ends included."""
        symbols = {symbol for part in entry.indices for symbol in index_symbols(part)}
        ends = {symbol for s in symbols if s in self.vector
                for end in (self.vector[s].lower, self.vector[s].upper) for symbol in index_symbols(end)}
        return tensor_of(entry) not in self.written and not (symbols | ends) & set(self.loops)

    def _digits(self, storage: Storage, axis: int, subscript: Expr) -> tuple[IndexName, ...] | None:
        """The indices of a mixed-radix subscript (``16*c + 4*u + v``) that runs once over a whole axis, or ``None``."""
        form = affine(subscript)
        if form is None or form.constant != 0 or storage.before[axis] != 0 or storage.after[axis] != 0:
            return None
        left = dict(form.coefficients)
        if any(s not in self.vector or self.vector[s].lower != 0 for s in left):
            return None
        digits: list[IndexName] = []
        weight: Expr = sp.Integer(1)
        while left:
            found = next((s for s in sorted(left, key=str) if is_equal(left[s], weight, self.program)), None)
            if found is None:
                return None
            del left[found]
            digits.insert(0, found)
            weight = weight * self.extent(found)
        return tuple(digits) if is_equal(weight, storage.tensor.shape[axis], self.program) else None

    def _split_axes(
        self, entry: Indexed, storage: Storage, split: Sequence[tuple[IndexName, ...] | None]
    ) -> Operand:
        """Axes that are read digit by digit are reshaped apart: a view however the array lies in memory, without div and mod."""
        shape: list[str] = []
        subscripts: list[Expr] = []
        extents: list[Expr] = []
        for axis, subscript in enumerate(entry.indices):
            digits = split[axis]
            if digits is None:
                shape.append(integer_text(storage.extents[axis]))
                extents.append(storage.tensor.shape[axis])
                subscripts.append(subscript)
            else:
                shape += [integer_text(self.extent(d)) for d in digits]
                extents += [self.extent(d) for d in digits]
                subscripts += digits
        before = [b for axis, b in enumerate(storage.before) for _ in (split[axis] or (None,))]
        after = [b for axis, b in enumerate(storage.after) for _ in (split[axis] or (None,))]
        tensor = replace(storage.tensor, shape=tuple(extents), margin=((0, 0),) * len(extents))
        apart = Storage(tensor, f"{storage.code}.reshape({', '.join(shape)})", tuple(before), tuple(after))
        inner = Viewer(self.program, {**self.storages, tensor.name: apart}, self.vector, self.loops, self.written)
        inner.first = self.first
        return inner.view(tensor.at(tuple(subscripts)))

    def _window(self, entry: Indexed, storage: Storage) -> Operand:
        """``x[n, c, 2*u + p]`` as a strided view with an axis for each of n, c, u, p."""
        starts: list[str] = []
        walks: list[tuple[IndexName, int, str, str]] = []
        for axis, subscript in enumerate(entry.indices):
            form = affine(subscript)
            assert form is not None
            rest = form.constant + sum(
                (c * s for s, c in form.coefficients if s not in self.vector), start=sp.Integer(0)
            )
            start = sp.expand(rest + storage.before[axis])
            mine = sorted((s for s in form.symbols if s in self.vector), key=lambda s: -abs(int(form.coefficient(s))))
            for label in self._window_order(mine, form):
                coefficient = form.coefficient(label)
                start = sp.expand(start + coefficient * self.vector[label].lower)
                walks.append((label, axis, integer_text(coefficient), integer_text(self.extent(label))))
            if not mine:
                starts.append(f"{integer_text(start)}:{integer_text(sp.expand(start + 1))}")
            else:
                starts.append(":" if start == 0 else f"{integer_text(start)}:")
        while starts and starts[-1] == ":":
            starts.pop()
        base = f"{storage.code}[{', '.join(starts)}]" if starts else storage.code
        labels = tuple(label for label, *_ in walks)
        window = Window(entry, base, len(entry.indices), tuple(walks), self.memory.get(tensor_of(entry), ()))
        return Operand(window.text(labels), labels, window=window)

    def _window_order(self, labels: Iterable[IndexName], form: object) -> list[IndexName]:
        """Positions before offsets: the index that also stands on the target comes first (kept stable by name)."""
        return sorted(labels, key=lambda s: (s not in self.first, str(s)))
