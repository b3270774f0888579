"""Writes through composite subscripts: windows offset by offset, index tensors by fancy indexing or rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sympy import Indexed

from codegen.lower import clip
from codegen.numpy.buffers import Mode
from codegen.numpy.extremes import Extremes
from codegen.numpy.operands import Operand, aligned
from codegen.numpy.pieces import negated, part, place
from codegen.numpy.printer import integer_text
from codegen.numpy.rows import row_axis
from codegen.numpy.views import Viewer
from codegen.schedule import Statement
from codegen.writes import may_be_empty
from symbolic.analysis import affine, index_reads, lies_in, subscript_range
from symbolic.program import Equation, IndexName, index_symbols, tensor_of

__all__ = ["Scatters"]


class Scatters(Extremes):
    """Adds where a target's subscript is more than a slice."""

    def _window_symbols(self, equation: Equation) -> tuple[IndexName, ...]:
        """The offsets to loop over where a target subscript holds two indices (``2*u + p``): one index stays in each."""
        vector = {i.symbol: i for i in equation.indices}
        chosen: list[IndexName] = []
        viewer = self._viewer(equation)
        storage = self.storages[equation.name]
        for axis, subscript in enumerate(equation.target.indices):
            form = affine(subscript)
            if form is None or index_reads((subscript,)) or viewer._digits(storage, axis, subscript):
                continue
            mine = [s for s, _ in form.coefficients if s in vector]
            if len(mine) > 1:
                mine.sort(key=lambda s: (self._estimate(vector[s].extent), str(s)))
                chosen += mine[:-1]
        return tuple(dict.fromkeys(chosen))  # one index may stand in two subscripts

    def _scatter_windows(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        """Add window by window: a loop over the few offsets of a kernel, each a strided slice."""
        offsets = self._window_symbols(equation)
        storage = self.storages[equation.name]
        cut = None
        if self._may_leave(equation, viewer):
            cut = self._cut_to_target(equation, offsets)
            if cut is None:
                self._scatter(equation, viewer, mode)
                return
        free = tuple(i.symbol for i in equation.free)
        # An offset may stand bare on another axis (U[i,i+k]), and one index on two: each has one axis in the values.
        bare = tuple(dict.fromkeys(s for s in equation.target.indices if s in viewer.vector and s not in offsets))
        order = (*bare, *offsets, *(s for s in self._target_order(equation, viewer) if s not in (*offsets, *bare)))
        value = self._contraction(equation, viewer, order) if equation.reduced else (
            self._masked(equation, viewer, self._elementwise(equation.body, viewer, order), order)
            if equation.guards else self._elementwise(equation.body, viewer, order))
        present = [s for s in offsets if s in value.labels]
        assert set(value.labels) <= set(free)
        name = value.text
        if present:
            name = self.plan.fresh(f"{storage.code}_parts")
            self.emit(f"{name} = {aligned(value, tuple(s for s in order if s in value.labels)).text}")
            value = Operand(name, tuple(s for s in order if s in value.labels))
        depth = self.depth
        for symbol in offsets:
            index = viewer.vector[symbol]
            lower = "" if index.lower == 0 else f"{integer_text(index.lower)}, "
            self.emit(f"for {symbol} in range({lower}{integer_text(index.upper)}):")
            self.depth += 1
        rest = {s: i for s, i in viewer.vector.items() if s not in offsets}
        moving = {**self.loops, **{s: viewer.vector[s] for s in offsets}}
        if cut is not None:
            rest = {i.symbol: i for i in cut.indices}
            empty = [f"{integer_text(i.lower)} < {integer_text(i.upper)}" for i, _ in may_be_empty(cut, moving, self.program)]
            if empty:
                self.emit(f"if {' and '.join(empty)}:")
                self.depth += 1
        target = Viewer(self.program, self.storages, rest, moving).view(equation.target, writing=True)
        slots = [integer_text(s - viewer.vector[s].lower) if s in present else part(viewer.vector[s], rest[s])
                 for s in value.labels]
        while slots and slots[-1] == ":":
            slots.pop()
        picks = ", ".join(slots)
        piece = Operand(f"{value.wrapped()}[{picks}]" if picks else value.wrapped(),
                        tuple(s for s in value.labels if s not in offsets), True)
        self.emit(f"{place(target, adding=True)} += {aligned(piece, target.labels).text}")
        self.depth = depth

    def _cut_to_target(self, equation: Equation, offsets: Sequence[IndexName]) -> Equation | None:
        """The equation at one offset of its window, its ranges cut to what lies in the target; ``None`` where a number of the
        offsets alone decides."""
        moving = {**self.loops, **{s: equation.index(s) for s in offsets}}
        inner = replace(equation, indices=tuple(i for i in equation.free if i.symbol not in offsets), guards=())
        cut = clip(Statement(inner), self.program, moving)
        return None if cut.when or cut.equation.guards else cut.equation

    def _target_order(self, equation: Equation, viewer: Viewer) -> list[IndexName]:
        order: dict[IndexName, None] = {}
        for subscript in equation.target.indices:
            for s in sorted(index_symbols(subscript), key=str):
                if s in viewer.vector:
                    order.setdefault(s)
        return list(order)

    def _may_leave(self, equation: Equation, viewer: Viewer) -> bool:
        """Whether a window may write outside its target's bounds; what lies round them is zeros that others read (law 23)."""
        tensor = self.program.tensor(equation.name)
        for axis, subscript in enumerate(equation.target.indices):
            found = subscript_range(subscript, viewer.ranges, self.program)
            if found is None or not lies_in(found, tensor.bounds(axis), self.program):
                return True
        return False

    def _scatter(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        """Add through index arrays: plainly where no two instances meet, else with ``np.add.at``."""
        if self._scatter_maximum(equation):
            return
        target = equation.target
        storage = self.storages[equation.name]
        parts, labels, masks = viewer.subscript_arrays(target)
        apart = set(labels) <= {s for s in target.indices if s in viewer.vector}
        negative = negated(equation.body) if apart and not (masks or equation.guards or equation.reduced) else None
        if equation.reduced and not {i.symbol for i in equation.reduced} & set(labels):
            value = self._contraction(equation, viewer, labels)
        else:
            value = self._elementwise(equation.body if negative is None else negative, viewer, labels)
            if equation.guards:
                value = self._masked(equation, viewer, value, labels)
        added = aligned(value, labels)
        if masks:
            added = Operand(f"np.where({' & '.join(masks)}, {added.text}, 0)", labels)
        if apart:
            self._add_apart(target, added, "+" if negative is None else "-", viewer, parts, masks)
            return
        if self._row_sums(equation, viewer, value, mode):
            return
        at = viewer.chosen(target, parts, masks)
        self.emit(f"np.add.at({storage.code}, {at if at.isidentifier() else f'({at},)'}, {added.text})")

    def _add_apart(
        self, target: Indexed, added: Operand, sign: str, viewer: Viewer, parts: Sequence[str], masks: Sequence[str]
    ) -> None:
        """Add to places no two of which are the same."""
        code = self.storages[tensor_of(target)].code
        at = viewer.flat(target) if not masks else None
        if at is not None:
            self.emit(f"{code}.put({at}, {code}.take({at}) {sign} {added.wrapped()})")
        else:
            self.emit(f"{code}[{viewer.chosen(target, parts, masks)}] {sign}= {added.text}")

    def _row_sums(self, equation: Equation, viewer: Viewer, value: Operand, mode: Mode) -> bool:
        """``d_E[tok[t,n], k] += d_x[t,n,k]``: the sum of the rows of each token, in one call."""
        axis = row_axis(equation, self.program, viewer.ranges)
        if axis is None or self.storages[equation.name].padded:
            return False
        subscripts = equation.target.indices
        inner = viewer.view(subscripts[axis])
        others = tuple(s for s in subscripts if s in viewer.vector)
        assert set(value.labels) == {*inner.labels, *others}
        storage = self.storages[equation.name]
        count, *rest = (integer_text(storage.tensor.shape[k]) for k in (axis, *(k for k in range(len(subscripts)) if k != axis)))
        text = f"_sum_rows({inner.text}, {aligned(value, (*inner.labels, *others)).text}, {count})"
        if len(rest) != 1:
            text = f"{text}.reshape({', '.join((count, *rest))})"
        if axis:
            text = f"{text}.T" if len(subscripts) == 2 else f"np.moveaxis({text}, 0, {axis})"
        self.emit(f"{storage.code} {'=' if mode is Mode.BIND else '+='} {text}")
        return True
