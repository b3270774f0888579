"""Maxima, their arguments, and the adjoint of a maximum over a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import given
from codegen.numpy.buffers import Mode
from codegen.numpy.maxima import argument_key, is_window_maximum
from codegen.numpy.operands import Operand, aligned
from codegen.numpy.pieces import place
from codegen.numpy.printer import integer_text
from codegen.numpy.storing import Storing
from codegen.numpy.views import Viewer
from codegen.schedule import Statement
from codegen.separate import unseparated
from codegen.writes import may_be_empty
from symbolic.analysis import affine, index_reads, is_equal, is_nonnegative, subscript_range
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Reduction,
    index_symbols,
    tensor_of,
)

__all__ = ["Extremes"]


class Extremes(Storing):
    """Writes maxima: array-wide, or offset by offset where a window has few."""

    def _maximum(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        target = viewer.view(equation.target, writing=True)
        kept = target.labels
        over = tuple(i.symbol for i in equation.reduced)
        if mode is Mode.ADD:
            raise unseparated(equation, self.program)
        if equation.reduction is Reduction.MAX and self._by_offsets(equation, viewer, target, mode):
            return
        if equation.reduction is Reduction.ARGMAX and equation.name in self.plan.implied:
            self.lines.pop()  # its comment: the adjoint finds the first maximum again, offset by offset
            return
        order = (*kept, *over)
        body = self._elementwise(equation.body, viewer, order)
        full = aligned(body, order)
        text, tests = full.text, [self._relation(g, viewer, order) for g in equation.guards]
        if set(body.labels) != set(order) or tests:
            shape = ", ".join(integer_text(viewer.extent(label)) for label in order)
            if tests:
                text = f"np.where({' & '.join(tests)}, {text}, -np.inf)"
            if set(body.labels) != set(order):
                text = f"np.broadcast_to({text}, ({shape},))"
            full = Operand(text, order, True, True)
        axes = tuple(range(len(kept), len(order)))
        axis = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
        empty = any(self._may_have_none(viewer.vector[label]) for label in over)
        if equation.reduction is Reduction.MAX:
            value = f"{full.wrapped()}.max(axis={axis}{', initial=-np.inf' if empty else ''})"
            if tests or empty:
                value = f"_finite({value})"
        else:
            value = self._argument(equation, viewer, full, kept, over, bool(tests) or empty)
        self._put(target, Operand(value, kept, True, True), mode, equation, viewer)

    def _may_have_none(self, index: Index) -> bool:
        """Whether the range of a reduced index may be empty: cut at a loop's value, as ``k < t`` at ``t = 0``."""
        pairs = product(index.upper.args if isinstance(index.upper, sp.Min) else (index.upper,),
                        index.lower.args if isinstance(index.lower, sp.Max) else (index.lower,))
        extents = [subscript_range(sp.expand(upper - lower), self.loops, self.program) for upper, lower in pairs]
        return any(extent is None or not is_nonnegative(extent[0] - 1, self.program) for extent in extents)

    def _by_offsets(self, equation: Equation, viewer: Viewer, target: Operand, mode: Mode) -> bool:
        """A maximum over the few offsets of a window: one strided slice against another, no windows copied."""
        if not is_window_maximum(equation) or mode is Mode.ASSIGN and not (target.labels and viewer.is_view(equation.target)):
            return False
        kept, code = target.labels, target.text
        inner, first = self._at_offsets(equation, {i.symbol: i.lower for i in equation.reduced})
        corner = aligned(inner.view(first), kept)
        if mode is Mode.BIND:
            self.emit(f"{code} = {self._copied(corner)}")
            self._remember(equation.name, target, corner.memory)
        else:
            self.emit(f"{place(target)} = {corner.text}")
        offsets = tuple(equation.reduced)
        depth = self.depth
        self._offset_loops(offsets)
        inner, entry = self._at_offsets(equation, {})
        self.emit(f"np.maximum({code}, {aligned(inner.view(entry), kept).text}, out={code})")
        self.depth = depth
        return True

    def _at_offsets(self, equation: Equation, values: Mapping[IndexName, Expr]) -> tuple[Viewer, Indexed]:
        """The window's read with its offsets as numbers or as the variables of Python loops."""
        vector = {i.symbol: i for i in equation.free}
        scalars = {i.symbol: i for i in equation.reduced}
        viewer = Viewer(self.program, self.storages, vector, {**self.loops, **scalars}, self.written, self.steps)
        viewer.memory = self.memory
        return viewer, equation.body.xreplace(dict(values))

    @staticmethod
    def _copied(operand: Operand) -> str:
        """A copy with its axes in memory as they are: the function keeps their order, the method makes it C's."""
        return f"np.copy({operand.text})" if operand.memory else f"{operand.wrapped()}.copy()"

    def _offset_loops(self, offsets: Sequence[Index]) -> None:
        for index in offsets:
            lower = "" if index.lower == 0 else f"{integer_text(index.lower)}, "
            self.emit(f"for {index.symbol} in range({lower}{integer_text(index.upper)}):")
            self.depth += 1

    def _scatter_maximum(self, equation: Equation) -> bool:
        """The adjoint of a window maximum: at each offset, what is left goes where the entry equals the maximum.

        What was handed out is taken from what is left, so that ties go to the first offset alone.
        """
        source = self.plan.window_maxima.get(argument_key(equation))
        if source is None:
            return False
        maximum, names = source
        viewer = self._viewer(equation)
        free = {i.symbol for i in maximum.free}
        components = {names[tensor_of(r)]: r for s in equation.target.indices for r in index_reads((s,))}
        places = next(iter(components.values())).indices
        moved = dict(zip(maximum.target.indices, places, strict=True))
        if not all(p in viewer.vector for p in places) or not free or len(set(places)) != len(places):
            return False
        storage, order = self.storages[equation.name], tuple(places)
        value = self._elementwise(equation.body, viewer, order)
        left = self.plan.fresh(f"{storage.code}_left")
        full = aligned(value, order)
        if set(value.labels) != set(order):
            return False
        taken = self.storages[tensor_of(maximum.body)]
        if equation.name in self.over:
            self.emit(f"{storage.code} = {taken.code}  # nobody reads it after this: written over, entry by entry")
            self._remember_as(equation.name, taken.tensor.name)
        top = aligned(viewer.view(maximum.target.xreplace(moved)), order)
        if top.memory not in ((), full.memory):
            self.emit(f"{left} = np.empty_like({top.text})")
            self.emit(f"{left}[...] = {full.text}")
        else:
            self.emit(f"{left} = {full.text if value.fresh else self._copied(full)}")
        depth = self.depth
        self._offset_loops(maximum.reduced)
        scalars = {i.symbol: i for i in maximum.reduced}
        inner = Viewer(self.program, self.storages, viewer.vector, {**self.loops, **scalars}, self.written, self.steps)
        read = aligned(inner.view(maximum.body.xreplace(moved)), order).text
        target = inner.view(equation.target.xreplace({r: s for s, r in components.items()}))
        if self._apart(equation, components, maximum) and target.labels == order:
            self.emit(f"np.multiply({left}, {read} == {top.text}, out={target.text})")
            self.emit(f"{left} -= {target.text}")
            self.depth = depth
            return True
        share = self.plan.fresh(f"{storage.code}_share")
        self.emit(f"{share} = {left}*({read} == {top.text})")
        self.emit(f"{place(target, adding=True)} += {aligned(Operand(share, order), target.labels).text}")
        self.emit(f"{left} -= {share}")
        self.depth = depth
        return True

    def _takes_over(self, statement: Statement) -> bool:
        """Whether the adjoint of a window maximum is written over what the maximum was taken of: nobody reads that after it,
        and the windows are tiles, so that each entry is read, and then written, at one offset."""
        equation = statement.equation
        found = self.plan.window_maxima.get(argument_key(equation))
        if found is None or statement.when or equation.guards or may_be_empty(equation, {}, self.program):
            return False
        maximum, names = found
        storage, source = self.storages[equation.name], self.storages[tensor_of(maximum.body)]
        dead = self.plan.last_use.get(source.tensor.name) == self.top and not given(source.tensor)
        components = {names[tensor_of(r)]: r for s in equation.target.indices for r in index_reads((s,))}
        if (not dead or source.padded or storage.padded or source.extents != storage.extents
                or not self._apart(equation, components, maximum) or not self._tiles(equation, components, maximum)):
            return False
        self.over.add(equation.name)
        return True

    def _tiles(self, equation: Equation, components: Mapping[IndexName, Indexed], maximum: Equation) -> bool:
        """Whether windows that do not overlap leave nothing of their array out, and have a place for each index."""
        offsets = {r: maximum.index(symbol) for symbol, r in components.items()}
        ranges = {i.symbol: i for i in equation.indices}
        places = next(iter(components.values())).indices
        if set(places) != set(ranges) or len(set(places)) != len(places) or set(places) != index_symbols(equation.body):
            return False
        for subscript, extent in zip(equation.target.indices, self.program.tensor(equation.name).shape, strict=True):
            form = affine(subscript)
            if form is None or form.constant != 0 or sum(s in ranges for s in form.symbols) != 1:
                return False
            position = next(s for s in form.symbols if s in ranges)
            window = [offsets[s] for s in form.symbols if s in offsets]
            width = window[0].extent if window else sp.Integer(1)
            if (len(form.symbols) != 1 + len(window) or any(w.lower != 0 for w in window) or ranges[position].lower != 0
                    or form.coefficient(position) != width
                    or not is_equal(width * ranges[position].upper, extent, self.program)):
                return False
        return True

    def _apart(self, equation: Equation, components: Mapping[IndexName, Indexed], maximum: Equation) -> bool:
        """Whether windows do not overlap and nothing else writes the target: each entry is written once at most."""
        if len(self.program.writers[equation.name]) != 1:
            return False
        offsets = {r: maximum.index(symbol).extent for symbol, r in components.items()}
        for subscript in equation.target.indices:
            form = affine(subscript)
            if form is None:
                return False
            mine = [s for s in form.symbols if s in offsets]
            steps = [c for s, c in form.coefficients if s not in offsets]
            if mine and (len(mine) != 1 or len(steps) > 1 or form.coefficient(mine[0]) != 1
                         or steps and not is_nonnegative(steps[0] - offsets[mine[0]], self.program)):
                return False
        return True

    def _argument(
        self, equation: Equation, viewer: Viewer, full: Operand, kept: tuple[IndexName, ...],
        over: tuple[IndexName, ...], masked: bool,
    ) -> str:
        """One component of the first maximiser; the flat position is computed once for all components."""
        key = (equation.body, equation.guards, over, tuple(sorted(self.loops, key=str)))
        sizes = [integer_text(viewer.extent(label)) for label in over]
        flat = full.wrapped()
        if len(over) > 1:
            kept_sizes = [integer_text(viewer.extent(label)) for label in kept]
            # Beside an extent that may be 0, -1 would have no value.
            plain = all(viewer.extent(label).is_positive for label in kept)
            whole = "-1" if plain else integer_text(sp.Mul(*map(viewer.extent, over)))
            flat = f"{flat}.reshape({', '.join([*kept_sizes, whole])})"
        if key not in self.arguments:
            call = f"_first_maximum({flat})" if masked else f"{flat}.argmax(axis=-1)"
            if len(over) == 1 and equation.component == over[0]:
                lower = viewer.vector[over[0]].lower
                return call if lower == 0 else f"{call} + {integer_text(lower)}"
            name = self.plan.fresh(f"{self.storages[equation.name].code}_flat")
            self.emit(f"{name} = {call}")
            if not self.loops:
                self.arguments[key] = name
        else:
            name = self.arguments[key]
        position = over.index(equation.component)
        inner = "*".join(sizes[position + 1:])
        value = name if position == len(over) - 1 else f"{name} // ({inner})" if "*" in inner else f"{name} // {inner}"
        if position > 0:
            value = f"{value} % {sizes[position]}"
        lower = viewer.vector[over[position]].lower
        value = value if lower == 0 else f"{value} + {integer_text(lower)}"
        return f"np.where({name} < 0, -1, {value})" if masked else value
