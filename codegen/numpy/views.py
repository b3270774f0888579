"""Reads and writes as NumPy views whose axes carry index names.

A subscript that is one index (with a step and an offset) is a slice; a constant or a loop value picks one entry; two indices in
one subscript (``2*u + p``) are a strided window; anything else, and whatever goes through an index tensor, is fancy indexing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from codegen.numpy.printer import Call, integer_text
from codegen.numpy.steps import Access, Steps
from codegen.numpy.stock import Stock
from codegen.numpy.windows import Window
from symbolic.analysis import affine, index_reads, is_equal, is_nonnegative, lies_in, subscript_range
from symbolic.errors import ScheduleError
from symbolic.program import Index, IndexName, Program, Tensor, index_symbols, is_index_read, tensor_of

__all__ = ["Operand", "Viewer", "aligned", "outside"]


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


def _bracketed(parts: Sequence[str]) -> str:
    """A subscript without the whole axes at its end."""
    kept = _trimmed(parts)
    return f"[{', '.join(kept)}]" if kept else ""


def _trimmed(parts: Sequence[str]) -> list[str]:
    kept = list(parts)
    while kept and kept[-1] == ":":
        kept.pop()
    return kept


def _slot(entry: Expr, slots: int) -> str:
    """Where an entry of a circular axis lies."""
    if slots == 1 or entry.is_Integer:
        return str(int(entry) % slots if entry.is_Integer else 0)
    text = integer_text(entry)
    return f"{text} % {slots}" if text.isidentifier() else f"({text}) % {slots}"


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


class Viewer:
    """Makes views for one statement: ``vector`` indices are array axes, everything else is a scalar at run time."""

    def __init__(
        self, program: Program, storages: Mapping[str, Storage], vector: Mapping[IndexName, Index],
        loops: Mapping[IndexName, Index], written: frozenset[str] = frozenset(), steps: Steps | None = None,
    ) -> None:
        self.program, self.storages, self.vector, self.loops = program, storages, vector, loops
        self.written, self.steps = written, steps
        self.ranges = {**loops, **vector}

    def extent(self, label: IndexName) -> Expr:
        return self.vector[label].extent

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
        """Whether the loops round the statement neither write the tensor nor move the view."""
        return tensor_of(entry) not in self.written and not any(
            index_symbols(s) & set(self.loops) for s in entry.indices
        )

    def _labels(self, subscript: Expr) -> tuple[IndexName, ...]:
        found = [s for s in index_symbols(subscript) if s in self.vector]
        return tuple(sorted(found, key=str))

    def _fancy(self, subscript: Expr) -> bool:
        form = affine(subscript)
        if form is None:
            return True
        if any(isinstance(s, Indexed) for s in form.symbols):
            return True
        return any(not c.is_Integer for s, c in form.coefficients if s in self.vector)

    def _plain(self, storage: Storage, axis: int, subscript: Expr) -> tuple[str, bool]:
        """One subscript as a slice or a number, and whether the axis that it leaves must be turned round after that."""
        offset = storage.before[axis]
        labels = self._labels(subscript)
        if storage.ring is not None and axis == storage.ring.axis:
            return _slot(sp.expand(subscript), storage.ring.slots), False
        if not labels:
            return integer_text(sp.expand(subscript + offset)), False
        (label,) = labels
        form = affine(subscript)
        assert form is not None
        step = int(form.coefficient(label))
        rest = subscript - step * label + offset
        index = self.vector[label]
        first, last = sp.expand(step * index.lower + rest), sp.expand(step * (index.upper - 1) + rest)
        turned = step < 0 and last != 0 and not is_nonnegative(last - 1, self.program)
        if turned:  # the end of x[first:last-1:-1] may be -1, which NumPy takes for the other end
            first, last, step = last, first, -step
        start = "" if first == 0 else integer_text(first)
        if step > 0:
            stop = "" if is_equal(last + 1, storage.extents[axis], self.program) else integer_text(sp.expand(last + 1))
            return f"{start}:{stop}" + (f":{step}" if step != 1 else ""), turned
        start = "" if is_equal(first + 1, storage.extents[axis], self.program) else integer_text(first)
        stop = "" if last == 0 else integer_text(sp.expand(last - 1))
        return f"{start}:{stop}:{step}", False

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

    first: frozenset[IndexName] = frozenset()
    memory: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    parted: Container[str] = frozenset()
    """The axes of tensors as they lie in memory, outermost first, where that is known not to be their order."""
    stock: Stock | None = None
    """Where arrays that several lines use get their names; none inside loops."""

    # ---- fancy indexing --------------------------------------------------------------------------------------------

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
            term = text if size == 1 else f"{integer_text(size)}*{text}"
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
