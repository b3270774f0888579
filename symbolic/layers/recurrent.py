"""What the recurrent layers share: levels, directions, masks by length, initial states, and what is put out.

A cell writes the equations of one level in one direction with the names a :class:`Cell` hands it; the rest is here.
Time is the first axis (never N, which is the batch), the last one holds the features, any axes between are a batch.
Names: W, U, b and h; for the reverse direction Wr, Ur, br and h_r; for level 2 W_2 and h_2, Wr_2 and h_r_2. Two
directions lie side by side on the last axis, forward first. Matrices are [out, in]; with ``weights: in_out`` they are [in, out],
so that packed gates lie along the last axis.

With ``lengths: len`` step t of sequence n exists while t < len[n]: what x holds there is not read, h is 0 after the end,
the last output is that of step len[n]-1, and the reverse direction starts there, as torch's packed sequences have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field
from sympy import Expr

from symbolic.layers.base import (
    Block,
    Context,
    Extent,
    Inits,
    LayerOptions,
    Matrix,
    Parameter,
    State,
    Weights,
    at,
    batch,
    final_name,
    initial_name,
    parameters,
)
from symbolic.program import Tensor, size

__all__ = ["Cell", "RecurrentOptions", "assemble"]


class RecurrentOptions(LayerOptions):
    """The options of every recurrent layer."""

    units: Extent = Field(description="extent H of the state")
    bias: bool = Field(True, description="whether there are biases")
    state: Literal["zero", "given", "carry", "learned"] = Field(
        "zero", description="initial state: zero, an input, an input fed by the window before, or a parameter")
    direction: Literal["forward", "reverse", "both"] = Field(
        "forward", description="of time; both lays the two states side by side, with parameters of their own")
    output: Literal["all", "last"] = Field("all", description="the state at every step, or after the last one")
    lengths: str | None = Field(None, description="name of an index input: how many steps of each sequence exist")
    weights: Weights = Field("out_in", description="whether W and U are stored [out, in], as torch does, or [in, out]")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="how many levels stand on one another")
    init: Inits = Field(default_factory=dict, description="initialiser, or a mapping from parameter to initialiser")


@dataclass
class Cell:
    """One level in one direction, while its equations are written.

    ``mask`` stands before every state's right-hand side (empty without lengths). ``now(name, i)`` is an entry of this
    step, ``before(name, j)`` that of the state one step back.
    """

    level: int
    reverse: bool
    source: str
    features: Expr
    units: Expr
    others: tuple[str, ...]
    mask: str = ""
    through: bool = False
    weights: Weights = "out_in"
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def name(self, stem: str) -> str:
        """The tensor of this level and direction: a, a_r, a_2, a_r_2."""
        return f"{stem}{'_r' * self.reverse}{self._mark}"

    @property
    def _mark(self) -> str:
        return f"_{self.level}" if self.level > 1 else ""

    def now(self, stem: str, *last: str) -> str:
        """``a[t,n,i]``."""
        return at(self.name(stem), "t", *self.others, *last)

    def x(self, last: str) -> str:
        """The input of this step: ``x[t,n,k]``."""
        return at(self.source, "t", *self.others, last)

    def before(self, stem: str, last: str) -> str:
        """The state one step back: ``h[t-1,n,j]``."""
        if self.through:
            return at(self.previous(stem), "t", *self.others, last)
        return at(self.name(stem), "t+1" if self.reverse else "t-1", *self.others, last)

    def previous(self, stem: str) -> str:
        """The tensor that holds the state before each step, where it cannot be read at a fixed distance."""
        return self.name(f"{stem}p")

    def parameter(self, stem: str, *shape: Expr) -> str:
        """Declare a parameter, torch's uniform distribution over one over the root of the units, and give its name."""
        name = self._parameter(stem)
        self.parameters[name] = Parameter(shape, f"fan_uniform({self.units})")
        return name

    def weight(self, stem: str, out: Expr, into: Expr) -> Matrix:
        """Declare a matrix from an axis of extent ``into`` to one of extent ``out``, with the same distribution."""
        matrix = Matrix(self._parameter(stem), self.weights)
        self.parameters[matrix.name] = matrix.parameter(out, into, f"fan_uniform({self.units})")
        return matrix

    def _parameter(self, stem: str) -> str:
        return f"{stem}{'r' * self.reverse}{self._mark}"


@dataclass
class _Parts:
    """What the levels have put together so far."""

    texts: list[str] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    shapes: dict[str, tuple[Expr, ...]] = field(default_factory=dict)


_REVERSED = {"forward": (False,), "reverse": (True,), "both": (False, True)}


def assemble(options: RecurrentOptions, inputs: tuple[Tensor, ...], context: Context, write: Callable[[Cell], str],
             states: tuple[str, ...], reference: str, **ranges: Expr) -> Block:
    """All levels and directions of a recurrent layer.

    ``write(cell)`` gives the equations of one level in one direction, ``states`` names its states (the first is put
    out), ``ranges`` its own indices.
    """
    (x,) = inputs
    context.real(x, 2)
    _time_first(x, context)
    if options.state == "carry" and options.direction != "forward":
        raise context.error("expected direction: forward with state: carry (the reverse direction starts at the end of "
                            f"the window), found direction: {options.direction}", "direction")
    units = context.extent(options.units, "units")
    existing = {"x": x}
    mask = _mask(options, x, context, existing)
    parts = _Parts()
    source, features = "x", x.shape[-1]
    if mask:  # the input of a step that does not exist may be anything: padding with infinity or NaN is not read
        source = "x_valid"
        parts.texts.append(f"{at(source, 't', *batch(x.rank - 2), 'd')} = {mask}{at('x', 't', *batch(x.rank - 2), 'd')}")
    for level in range(1, options.layers + 1):
        cells = []
        for reverse in _REVERSED[options.direction]:
            through = reverse and bool(mask) and options.state != "zero"
            cell = Cell(level, reverse, source, features, units, batch(x.rank - 2), mask, through, options.weights)
            parts.texts.append(write(cell))
            parts.parameters.update(cell.parameters)
            for stem in states:
                _state(cell, stem, (*x.shape[:-1], units), options, parts)
            cells.append(cell)
        source = _put_out(cells, x, level == options.layers, options, parts)
        features = units * len(cells)
    every = {"i": units, **dict(zip(("t", *batch(x.rank - 2)), x.shape, strict=False)), **ranges}
    return Block("\n".join(parts.texts), source, existing, parameters(parts.parameters, options.init, context),
                 parts.states, parts.shapes, {"T": x.shape[0], "H": units}, every, reference)


def _time_first(x: Tensor, context: Context) -> None:
    """Require another first axis than the batch. Raises SpecError: a recurrence over the samples is never what was meant."""
    if x.shape[0] != size("N"):
        return
    turned = ("T", "N", x.shape[1]) if x.rank == 2 else (x.shape[1], "N", *x.shape[2:])
    raise context.error(
        f"expected time as the first axis, found '{x.name}' of shape [{', '.join(map(str, x.shape))}], which begins with the "
        f"batch N; give it as [{', '.join(map(str, turned))}] (a layer of type transpose turns axes), as [T, {x.shape[-1]}] for "
        "one sequence without a batch, or call the size of time other than N")


def _put_out(cells: list[Cell], x: Tensor, final: bool, options: RecurrentOptions, parts: _Parts) -> str:
    """What a level hands on: its state, two states side by side, or their last steps; the name of that tensor."""
    last, others = final and options.output == "last", cells[0].others
    if len(cells) == 1 and not last:
        return cells[0].name("h")
    name = "y" if final else f"y_{cells[0].level}"
    steps = () if last else ("t",)
    parts.shapes[name] = (*x.shape[last:-1], cells[0].units * len(cells))
    for offset, cell in zip(("i+0", "H+i"), cells, strict=False):
        entry = _last(cell) if last else cell.now("h", "i")
        sign, place = ("+=", offset) if len(cells) == 2 else ("=", "i")
        parts.texts.append(f"{at(name, *steps, *others, place)} {sign} {entry}")
    return name


def _mask(options: RecurrentOptions, x: Tensor, context: Context, existing: dict[str, Tensor]) -> str:
    """The guard ``(t < len[n])*`` and its tensor, where lengths are given. Raises SpecError where they do not fit."""
    if options.lengths is None:
        return ""
    lengths = context.tensor(options.lengths, "lengths")
    if not lengths.is_index:
        raise context.error(f"expected an input of kind index, found the real tensor '{lengths.name}'", "lengths")
    if lengths.shape != x.shape[1:-1]:
        raise context.error(f"expected lengths of shape [{', '.join(map(str, x.shape[1:-1]))}] for "
                            f"'{x.name}' of shape [{', '.join(map(str, x.shape))}], found '{lengths.name}' of shape "
                            f"[{', '.join(map(str, lengths.shape))}]", "lengths")
    context.lengths(lengths, x.shape[0])
    existing["len"] = lengths
    return f"(t < {at('len', *batch(x.rank - 2))})*"


def _state(cell: Cell, stem: str, shape: tuple[Expr, ...], options: RecurrentOptions, parts: _Parts) -> None:
    """Declare one state, and the places where it starts and ends where lengths decide about them."""
    name = cell.name(stem)
    start = final = ""
    if cell.mask:
        end = f"{at('len', *cell.others)}-1"
        if cell.through:
            before = cell.previous(stem)
            parts.shapes[before] = shape
            parts.texts.append(f"{at(before, 't', *cell.others, 'i')} = {at(name, 't+1', *cell.others, 'i')}")
            initial = ("i",) if options.state == "learned" else (*cell.others, "i")
            start = f"{at(before, end, *cell.others, 'i')} += {at(initial_name(name), *initial)}"
        elif not cell.reverse:
            final = f"{at(final_name(name), *cell.others, 'i')} = {at(name, end, *cell.others, 'i')}"
    parts.states[name] = State(shape, options.state, reverse=cell.reverse, start=start, final=final)


def _last(cell: Cell) -> str:
    """The state after the last step of a direction: ``h[T-1,n,i]``, ``h[len[n]-1,n,i]``, in reverse ``h[0,n,i]``."""
    end = "0" if cell.reverse else f"{at('len', *cell.others)}-1" if cell.mask else "T-1"
    return at(cell.name("h"), end, *cell.others, "i")
