"""Fancy indexing: reads and writes through index tensors, diagonals, and subscripts that no slice can say."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from codegen.numpy.operands import Operand, aligned, outside
from codegen.numpy.printer import integer_text
from codegen.numpy.subscripts import Subscripts
from symbolic.analysis import affine, index_reads, lies_in, subscript_range
from symbolic.errors import ScheduleError
from symbolic.program import IndexName, index_symbols, is_index_read, tensor_of

__all__ = ["Gathers"]


class Gathers(Subscripts):
    """Subscripts as arrays of integers."""

    def _gather(self, entry: Indexed, storage: Storage, writing: bool) -> Operand:
        """Advanced indexing; entries that are nowhere or out of bounds read 0 (``writing`` leaves the mask to the caller)."""
        single = self._single_fancy(entry, storage)
        if single is not None:
            return single
        parts, order, masks = self.subscript_arrays(entry)
        flat = self.flat(entry) if not (masks or writing) else None
        text = f"{storage.code}[{self.chosen(entry, parts, masks)}]" if flat is None else f"{storage.code}.take({flat})"
        if masks and not writing:
            return Operand(f"np.where({' & '.join(masks)}, {text}, {outside(storage.tensor)})", order, True, True)
        return Operand(text, order, True, not writing)

    def chosen(self, entry: Indexed, parts: Sequence[str], masks: Sequence[str]) -> str:
        """The subscript of advanced indexing; the tuple of its arrays has a name, for the adjoint writes where this reads."""
        text = ", ".join(parts)
        if self.stock is None or masks or len(parts) < 2:
            return text
        inner = index_reads(entry.indices)
        return self.stock.named(f"at_{self.storages[tensor_of(inner[0])].code}" if inner else "at", text)

    def flat(self, entry: Indexed) -> str | None:
        """The name of where ``z[t,n,y[t,n]]`` lies for all t and n, counted through the array: to take one entry of each row so
        is four times as fast as with a tuple of subscripts."""
        storage, (*rows, last) = self.storages[tensor_of(entry)], entry.indices
        if self.stock is None or storage.padded or storage.ring is not None or not rows:
            return None
        if not isinstance(last, Indexed) or not is_index_read(last):
            return None
        labels = tuple(s for s in rows if s in self.vector)
        whole = all(self._plain(storage, axis, s) == (":", False) for axis, s in enumerate(rows) if s in self.vector)
        if len(set(labels)) != len(rows) or not whole or {*index_symbols(last)} - {*labels}:
            return None
        extents = storage.tensor.shape[:-1]
        step = integer_text(storage.tensor.shape[-1])
        count = integer_text(sp.expand(sp.Mul(*storage.tensor.shape)))
        shape = f".reshape({', '.join(map(integer_text, extents))})" if len(extents) > 1 else ""
        text = f"np.arange(0, {count}, {step}){shape} + {self.index_array(last, labels)}"
        wanted = f"at_{self.storages[tensor_of(last)].code}"
        return self.stock.named(wanted, text, "one place of each row, counted through the array")

    def _single_fancy(self, entry: Indexed, storage: Storage) -> Operand | None:
        """``E[tok]`` and ``W[:, tok]``: one axis through an index tensor proved in range, slices on the others."""
        fancy = [axis for axis, s in enumerate(entry.indices) if index_reads((s,))]
        if len(fancy) != 1:
            return None
        (axis,) = fancy
        subscript = entry.indices[axis]
        if not is_index_read(subscript) if isinstance(subscript, Indexed) else True:
            return None
        others = [self._labels(s) for k, s in enumerate(entry.indices) if k != axis]
        inner = self.view(subscript)
        flat = [label for part in others for label in part]
        if any(len(part) > 1 for part in others) or len(set(flat)) != len(flat) or set(flat) & set(inner.labels):
            return None
        if self.mask_of(entry, axis) is not None:
            return None
        offset = storage.before[axis]
        index = inner.text if offset == 0 else f"{inner.wrapped()} + {integer_text(offset)}"
        scalars = [k for k, s in enumerate(entry.indices) if k != axis and not self._labels(s)]
        if not inner.labels:
            scalars = []
        base = storage.code
        if scalars:
            picks = [integer_text(sp.expand(s + storage.before[k])) if k in scalars else ":"
                     for k, s in enumerate(entry.indices)]
            while picks[-1] == ":":
                picks.pop()
            base = f"{base}[{', '.join(picks)}]"
        if axis == 1 and len(entry.indices) == 2 and self._plain(storage, 0, entry.indices[0]) == (":", False):
            # Rows of the transpose come out contiguous, columns would not.
            return Operand(f"{base}.T[{index}]", (*inner.labels, *self._labels(entry.indices[0])), True, bool(inner.labels))
        parts = []
        for k, s in enumerate(entry.indices):
            if k in scalars:
                continue
            text, turned = (index, False) if k == axis else self._plain(storage, k, s)
            if turned:
                return None
            parts.append(text)
        while parts and parts[-1] == ":":
            parts.pop()
        labels: list[IndexName] = []
        for k, s in enumerate(entry.indices):
            labels += inner.labels if k == axis else self._labels(s)
        return Operand(f"{base}[{', '.join(parts)}]", tuple(labels), True, bool(inner.labels))

    def subscript_arrays(self, entry: Indexed) -> tuple[list[str], tuple[IndexName, ...], list[str]]:
        """Broadcastable index arrays for every axis, the labels of the result, and the masks of what is in bounds."""
        storage = self.storages[tensor_of(entry)]
        order: dict[IndexName, None] = {}
        for subscript in entry.indices:
            for label in self._labels(subscript):
                order.setdefault(label)
            for inner in index_reads((subscript,)):
                for part in inner.indices:
                    for label in self._labels(part):
                        order.setdefault(label)
        labels = tuple(order)
        parts, masks = [], []
        for axis, subscript in enumerate(entry.indices):
            text = self.index_array(sp.expand(subscript + storage.before[axis]), labels)
            mask = self.mask_of(entry, axis, labels)
            if mask is not None:
                masks.append(mask)
                text = f"np.where({mask}, {text}, 0)"
            parts.append(text)
        return parts, labels, masks

    def index_array(self, subscript: Expr, labels: Sequence[IndexName]) -> str:
        """An integer expression over the labels, as broadcastable text."""
        form = affine(subscript)
        if form is None:
            raise ScheduleError(f"{self.program.name}: the subscript {subscript} is not affine")
        pieces: list[str] = []
        for symbol, coefficient in form.coefficients:
            if isinstance(symbol, Indexed):
                inner = aligned(self.view(symbol), labels) if self.view(symbol).labels else self.view(symbol)
                text = inner.wrapped()
            elif symbol in self.vector:
                text = aligned(self.arange(symbol), labels).text
            else:
                text = integer_text(symbol)
            negative = coefficient.could_extract_minus_sign()
            size = -coefficient if negative else coefficient
            factor = f"({integer_text(size)})" if size.is_Add else integer_text(size)
            term = text if size == 1 else f"{factor}*{text}"
            pieces.append(f"- {term}" if negative else f"+ {term}")
        if form.constant != 0 or not pieces:
            constant = integer_text(form.constant)
            pieces.append(f"- {constant[1:]}" if constant.startswith("-") else f"+ {constant}")
        joined = " ".join(pieces)
        return joined[2:] if joined.startswith("+ ") else f"-{joined[2:]}"

    def arange(self, label: IndexName) -> Operand:
        index = self.vector[label]
        lower = "" if index.lower == 0 else f"{integer_text(index.lower)}, "
        return Operand(f"np.arange({lower}{integer_text(index.upper)})", (label,))

    def mask_of(self, entry: Indexed, axis: int, labels: Sequence[IndexName] | None = None) -> str | None:
        """The text that says where one subscript is in bounds, or ``None`` where that is proved."""
        subscript = entry.indices[axis]
        tensor = self.program.tensor(tensor_of(entry))
        tests = []
        found = subscript_range(subscript, self.ranges, self.program)
        lower, upper = tensor.bounds(axis)
        proved = found is not None and lies_in(found, (lower, upper), self.program)
        order = labels if labels is not None else tuple(self.vector)
        for inner in index_reads((subscript,)):
            tests += self.somewhere(inner, order)
        if not proved:
            text = self.index_array(sp.expand(subscript), order)
            tests.append(f"({text} >= {integer_text(lower)})")
            tests.append(f"({text} < {integer_text(upper)})")
        return " & ".join(tests) if tests else None

    def somewhere(self, entry: Indexed, order: Sequence[IndexName]) -> list[str]:
        """The texts that say where an index read gives a place; none where that is proved (law 8)."""
        if not self._may_be_nowhere(entry):
            return []
        source = self.program.tensor(tensor_of(entry))
        text = aligned(self.view(entry), order).wrapped()
        tests = [f"({text} >= {integer_text(source.low)})"]
        if source.ignore is not None and source.ignore >= 0 and source.below is not None:
            tests.append(f"({text} < {integer_text(source.below)})")
        return tests

    def _may_be_nowhere(self, entry: Indexed) -> bool:
        """Whether an index read may meet an ignored value, the argument of no maximum, or no entry at all."""
        source = self.program.tensor(tensor_of(entry))
        if source.ignore is not None or source.note and source.role == "intermediate":
            return True
        found = [subscript_range(s, self.ranges, self.program) for s in entry.indices]
        inside = all(f is not None and lies_in(f, source.bounds(axis), self.program) for axis, f in enumerate(found))
        return not inside or any(map(self._may_be_nowhere, index_reads(entry.indices)))
