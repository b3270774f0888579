"""The lines of a program and what flows between them: the finest graph, of which every drawing is a quotient.

A line is the equations that share a number and a target. A forward line belongs to the layer of its target (what stands before
the last dot of the tensor's name). An adjoint line is the work of the layer whose adjoint it reads: that of ``Y`` in
``X_bar += Y_bar * df/dX``, so that a gradient goes from layer to layer as its tensor does, the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Indexed

from symbolic.analysis import may_meet
from symbolic.program import Equation, Program, Reduction, Role, index_symbols, tensor_of
from symbolic.unroll import recurrent_sizes

__all__ = ["Arc", "Line", "Lines", "Terminal", "layer_of", "lines_of"]


@dataclass(frozen=True)
class Line:
    """One numbered line. ``step``: the time step it belongs to, where the program is unrolled."""

    number: int
    name: str
    equations: tuple[Equation, ...]
    layer: str
    backward: bool
    step: int | None = None


@dataclass(frozen=True)
class Terminal:
    """A parameter or an input, which no line writes; with its step where it was unrolled."""

    name: str
    step: int | None = None


@dataclass(frozen=True)
class Arc:
    """A tensor on its way from who writes it to a line that reads it. ``delay``: how many steps later (negative: earlier) it
    was written than it is read, along the axis of the recurrence."""

    source: Line | Terminal
    target: Line
    tensor: str
    delay: int = 0


@dataclass(frozen=True)
class Lines:
    """All lines in the order of the program, what flows between them, and the axis of time of each tensor that has one."""

    program: Program
    lines: tuple[Line, ...]
    arcs: tuple[Arc, ...]
    primal: Mapping[str, str]
    axes: Mapping[str, int]

    def shape(self, tensor: str, unrolled: bool) -> tuple[Expr, ...]:
        """The extents of a tensor; unrolled, those of one step."""
        shape = self.program.tensor(tensor).shape
        skipped = self.axes.get(tensor) if unrolled else None
        return tuple(extent for k, extent in enumerate(shape) if k != skipped)


def layer_of(tensor: str) -> str:
    """The layer of a tensor: what stands before the last dot; a tensor without one stands for itself."""
    return tensor.rpartition(".")[0] or tensor


def lines_of(program: Program, rolled: Program | None = None) -> Lines:
    """The lines of a program and the arcs between them; ``rolled``: what the program was before it was unrolled.

    An adjoint line is joined to the adjoints that it reads. The forward values that it reads as well (a weight, a stored
    activation) are part of its slope, not of the flow.
    """
    primal = program.primals
    axes = _axes(program, rolled, primal)
    groups: dict[tuple[int, str], list[Equation]] = {}
    for equation in program.equations:
        groups.setdefault((equation.number, equation.name), []).append(equation)
    lines: dict[tuple[int, str], Line] = {}
    by_number: dict[int, Line] = {}
    for (number, name), rows in groups.items():
        backward = program.tensor(name).role is Role.ADJOINT
        through = _adjoints_read(rows[0], program) if backward else ()
        if through:
            layer = layer_of(primal.get(tensor_of(through[0]), name))
        elif backward:
            parent = next((by_number[n] for n in rows[0].origin.parents if n in by_number), None)
            layer = parent.layer if parent else layer_of(primal.get(name, name))
        else:
            layer = layer_of(name)
        clock = _clock(rows[0], program, axes)
        step = int(clock) if rolled is not None and clock is not None and clock.is_Integer else None
        line = Line(number, name, tuple(rows), layer, backward, step)
        lines[number, name] = line
        by_number.setdefault(number, line)
    arcs: dict[Arc, None] = {}
    for line in lines.values():
        for equation in line.equations:
            for entry in _adjoints_read(equation, program) if line.backward else equation.reads:
                arcs.update(dict.fromkeys(_arcs(entry, equation, line, lines, program, axes, rolled is not None)))
    return Lines(program, tuple(lines.values()), tuple(arcs), primal, axes)


def _adjoints_read(equation: Equation, program: Program) -> tuple[Indexed, ...]:
    return tuple(e for e in equation.reads if program.tensor(tensor_of(e)).role is Role.ADJOINT)


def _arcs(
    entry: Indexed, reader: Equation, line: Line, lines: Mapping[tuple[int, str], Line], program: Program,
    axes: Mapping[str, int], unrolled: bool,
) -> list[Arc]:
    name = tensor_of(entry)
    if name not in program.writers:
        if program.tensor(name).role not in (Role.PARAMETER, Role.INPUT):
            return []  # nothing writes it: it is 0
        at = entry.indices[axes[name]] if unrolled and name in axes else None
        return [Arc(Terminal(name, int(at) if at is not None and at.is_Integer else None), line, name)]
    asked = replace(reader, target=entry, reduction=Reduction.SUM)
    writers = program.writers_near(entry)
    if len(writers) > 1:
        writers = [w for w in writers if may_meet(asked, w, program)]
    return [Arc(lines[w.number, w.name], line, name, _delay(entry, reader, w, program, axes)) for w in writers]


def _delay(entry: Indexed, reader: Equation, writer: Equation, program: Program, axes: Mapping[str, int]) -> int:
    """Written at clock + a, read at clock + b: the writer's clock is b - a steps after the reader's."""
    if tensor_of(entry) not in axes:
        return 0
    axis = axes[tensor_of(entry)]
    read = _distance(entry.indices[axis], _clock(reader, program, axes))
    written = _distance(writer.target.indices[axis], _clock(writer, program, axes))
    return read - written if read is not None and written is not None else 0


def _distance(part: Expr, clock: Expr | None) -> int | None:
    """How far a subscript is from the clock of its equation, where both move and the distance is a number."""
    if clock is None or not index_symbols(clock) or not index_symbols(part):
        return None
    distance = (part - clock).expand()
    return int(distance) if distance.is_Integer else None


def _clock(equation: Equation, program: Program, axes: Mapping[str, int]) -> Expr | None:
    """The step at which an equation works: that of its target, of an adjoint equation that of the adjoint it reads."""
    adjoint = program.tensor(equation.name).role is Role.ADJOINT
    for entry in (*(_adjoints_read(equation, program) if adjoint else ()), equation.target):
        if tensor_of(entry) in axes:
            part: Expr = entry.indices[axes[tensor_of(entry)]]
            return part
    return None


def _axes(program: Program, rolled: Program | None, primal: Mapping[str, str]) -> dict[str, int]:
    """The axis of time of each tensor that has one. Where a program is unrolled its tensors have numbers there, so the rolled
    one is asked; a tensor that a rewrite brought has it where all of its subscripts are steps."""
    times = recurrent_sizes(rolled or program)
    shapes = {tensor.name: tensor.shape for tensor in (rolled or program).tensors}
    found: dict[str, int] = {}
    for tensor in program.tensors:
        shape = shapes.get(primal.get(tensor.name, tensor.name), shapes.get(tensor.name, ()))
        axis = next((k for k, extent in enumerate(shape) if any((extent - time).is_Integer for time in times)), None)
        if axis is not None:
            found[tensor.name] = axis
    if rolled is None or not times:
        return found
    steps = program.sizes.get(str(times[0].name))
    subscripts: dict[str, list[tuple[Expr, ...]]] = {}
    for equation in program.equations:
        for entry in (equation.target, *equation.reads):
            subscripts.setdefault(tensor_of(entry), []).append(entry.indices)
    for tensor in program.tensors:
        source = primal.get(tensor.name, tensor.name)
        if tensor.name in found or source in shapes:
            continue
        for k, extent in enumerate(tensor.shape):
            if extent == steps and all(entry[k].is_Integer for entry in subscripts.get(tensor.name, ())):
                found[tensor.name] = k
                break
    return found
