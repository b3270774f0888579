"""Loops over entries of buffers: what is left of a Program when every instance has its place in time and in memory.

A body is a SymPy expression over ``Indexed`` reads and ``Local`` scalars; the subscripts of an entry are affine in the indices of
the loops round it, or read from index buffers. Everything is frozen and prints as the text that it will become, nearly.
There are no pointers, no types beside real and index, no calls but products, and no loop whose bounds its body changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from symbolic.program import Equation, Index, Program, Size, Tensor

__all__ = [
    "SCRATCH", "Blocks", "Buffer", "Call", "For", "How", "If", "Leaf", "Local", "Matrix", "Nest", "Node", "Pack", "Place",
    "Product", "Routine", "Set", "Shares", "Store", "Zero", "walk",
]


class Local(sp.Symbol):  # type: ignore[misc]
    """A scalar of one nest: a running sum, a maximum so far, its position."""

    __slots__ = ()


class How(Enum):
    """How a value meets what stands in its place: it replaces it, is added, or replaces it where it is greater."""

    SET = "="
    ADD = "+="
    MAX = "max="


class Place(Enum):
    """Where a buffer lies: the caller's (read only, or a result), or the workspace."""

    PARAMETER = "params"
    INPUT = "inputs"
    DIRECTION = "direction"
    GRADIENT = "grads"
    OUTPUT = "outputs"
    SCALAR = "scalar"
    WORKSPACE = "workspace"
    OFFSETS = "offsets"
    PACKED = "packed"

    @property
    def is_scratch(self) -> bool:
        """Whether the workspace holds it."""
        return self in (Place.WORKSPACE, Place.OFFSETS, Place.PACKED)

    @property
    def is_given(self) -> bool:
        """Whether it is the caller's, to be read alone."""
        return self in (Place.PARAMETER, Place.INPUT, Place.DIRECTION)


@dataclass(frozen=True)
class Buffer:
    """One array: a tensor with its margins, where it lies, and the field of the caller's struct that it is. ``optional``: where
    the caller has none there is none."""

    storage: Storage
    place: Place
    field: str = ""
    optional: bool = False

    @property
    def tensor(self) -> Tensor:
        return self.storage.tensor

    @property
    def name(self) -> str:
        return self.storage.tensor.name

    @property
    def code(self) -> str:
        return self.storage.code

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that the array has: one slot is no axis."""
        return tuple(axis for axis in range(self.tensor.rank) if axis != self.storage.absent)

    @property
    def extents(self) -> tuple[Expr, ...]:
        """How many entries there is room for on each axis of the array."""
        return tuple(self.storage.extents[axis] for axis in self.axes)

    @property
    def entries(self) -> Expr:
        """How many entries there is room for."""
        return sp.expand(sp.Mul(*self.extents))

    def positions(self, subscripts: Sequence[Expr]) -> tuple[Expr, ...]:
        """Where an entry lies on each axis of the array."""
        found = []
        ring = self.storage.ring
        for axis in self.axes:
            position = sp.expand(subscripts[axis] + self.storage.before[axis])
            if ring is not None and axis == ring.axis:
                position = sp.Mod(position, ring.slots) if ring.slots > 1 else sp.Integer(0)
            found.append(position)
        return tuple(found)

    def __str__(self) -> str:
        extents = ", ".join(map(str, self.extents))
        return f"{self.code}[{extents}] in {self.place.value}"


@dataclass(frozen=True)
class For:
    """``for symbol = lower..upper-1``, upwards or down. ``independent``: no iteration reads or writes what another one writes;
    ``in_parts``: its one running scalar may be kept in several, put together in the end. ``shared``: of its iterations those of
    the share round it run."""

    index: Index
    body: tuple[Node, ...]
    descending: bool = False
    independent: bool = False
    in_parts: bool = False
    shared: bool = False

    def __str__(self) -> str:
        arrow = " down" if self.descending else ""
        note = " independent" if self.independent else " in parts" if self.in_parts else ""
        note += " shared" if self.shared else ""
        return f"for {self.index.symbol} = {self.index.lower}..{self.index.upper - 1}{arrow}{note}:\n{_indented(self.body)}"


@dataclass(frozen=True)
class Blocks(For):
    """A loop over blocks of steps: the index is the first step of a block of ``extent`` steps, which is ``steps`` or, in the last
    one, what is left. The range of the index says so: it ends ``extent`` before the last step of all."""

    steps: int = field(kw_only=True)
    extent: Size = field(kw_only=True)

    @property
    def end(self) -> Expr:
        """Behind the last step of all."""
        return sp.expand(self.index.upper + self.extent - 1)

    def __str__(self) -> str:
        arrow = " down" if self.descending else ""
        return f"for {self.index.symbol} = {self.index.lower}..{self.end - 1}{arrow} by {self.steps}:\n{_indented(self.body)}"


@dataclass(frozen=True)
class If:
    """The body runs where every condition holds (an Iverson bracket of a domain), ``otherwise`` where one does not."""

    conditions: tuple[Expr, ...]
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...] = ()

    def __str__(self) -> str:
        text = f"if {' and '.join(map(str, self.conditions))}:\n{_indented(self.body)}"
        return f"{text}\nelse:\n{_indented(self.otherwise)}" if self.otherwise else text

    @property
    def parts(self) -> tuple[Node, ...]:
        """What runs in either case."""
        return (*self.body, *self.otherwise)


@dataclass(frozen=True)
class Store:
    """``target = value`` or ``target += value``, one entry."""

    target: Indexed
    value: Expr
    how: How

    def __str__(self) -> str:
        return f"{self.target} {self.how.value} {self.value}"


@dataclass(frozen=True)
class Set:
    """``local = value`` or ``local += value``; ``declares``: it is new here; ``constant``: and stays as it is. ``integer``: a
    position, not a number."""

    local: Local
    value: Expr
    how: How = How.SET
    declares: bool = False
    integer: bool = False
    constant: bool = False

    def __str__(self) -> str:
        return f"{'let ' if self.declares else ''}{self.local} {self.how.value} {self.value}"


@dataclass(frozen=True)
class Zero:
    """All of a buffer, margins included, becomes 0 (or, for positions, nowhere: -1). ``margins``: they alone, along the first
    axis, for all else is stored."""

    buffer: str
    value: int = 0
    margins: bool = False

    def __str__(self) -> str:
        return f"{self.buffer}[{'margins' if self.margins else '...'}] = {self.value}"


SCRATCH = " scratch"
"""The buffer that products may use as they like; no tensor has a name with a space, nor with one before it."""


class Call(sp.Function):  # type: ignore[misc]
    """``Call(name, size, ...)``: a number of entries that a helper of the emitted file computes; about the product of sizes."""

    is_integer = is_nonnegative = is_real = True

    @property
    def name(self) -> str:
        return str(self.args[0].name)

    @property
    def sizes(self) -> tuple[Expr, ...]:
        return tuple(self.args[1:])


@dataclass(frozen=True)
class Matrix:
    """Entries as a matrix: ``[i, k]`` lies ``i*rows + k*columns`` entries after ``entry``, or, where there are lists of offsets
    (buffers), ``row_offsets[i] + column_offsets[k]`` entries after it. ``each``: the entry of every row and column, by the
    indices that they stand for."""

    entry: Indexed
    rows: Expr = sp.S.Zero
    columns: Expr = sp.S.One
    row_offsets: str = ""
    column_offsets: str = ""
    each: Indexed | None = field(default=None, compare=False)

    def __str__(self) -> str:
        steps = (self.row_offsets or self.rows, self.column_offsets or self.columns)
        return f"{self.entry}({steps[0]}, {steps[1]})"


@dataclass(frozen=True)
class Product:
    """``c = a b`` or ``c += a b`` for a of rows x inner, b of inner x columns. ``packed``: a buffer that holds b in the order of
    its use. Where c has offsets it is added to entry by entry: places may coincide. ``over``: the indices that are rows, and
    those that are columns. ``shared``: of its rows, or of its columns, those of the share round it are computed."""

    rows: Expr
    columns: Expr
    inner: Expr
    a: Matrix
    b: Matrix
    c: Matrix
    how: How
    packed: str = ""
    over: tuple[tuple[Index, ...], tuple[Index, ...]] = ((), ())
    shared: Literal["", "rows", "columns"] = ""

    def __str__(self) -> str:
        note = f" shared by {self.shared}" if self.shared else ""
        b = f"{self.b} packed in {self.packed}" if self.packed else str(self.b)
        return f"{self.c} {self.how.value} {self.a} {b}    [{self.rows}, {self.inner}] [{self.inner}, {self.columns}]{note}"


@dataclass(frozen=True)
class Pack:
    """The matrix b of products into the order of its use, once for all of them."""

    inner: Expr
    columns: Expr
    b: Matrix
    packed: str

    def __str__(self) -> str:
        return f"{self.packed} holds {self.b}    [{self.inner}, {self.columns}]"


@dataclass(frozen=True)
class Nest:
    """The loops that compute some equations, in the order in which their instances run. ``reason``: the verdict that made it.
    ``optional``: a copy for the caller, who may not want it."""

    equations: tuple[Equation, ...]
    body: tuple[Node, ...]
    reason: str = ""
    optional: bool = False

    def __str__(self) -> str:
        numbers = "; ".join(", ".join(map(str, e.numbers)) for e in self.equations)
        return f"# ({numbers}) {self.reason}\n" + "\n".join(map(str, self.body))


@dataclass(frozen=True)
class Shares(Nest):
    """What may be computed in shares of a range, side by side: each share runs its part of the loops, and computes its part of
    the products, that are marked as shared. It is worth it where ``work``, a product of sizes, is more than ``least``.
    ``grain``: a share begins at a multiple."""

    over: Index = field(kw_only=True)
    work: Expr = field(kw_only=True)
    least: int = field(kw_only=True)
    grain: int = field(kw_only=True)

    def __str__(self) -> str:
        return f"in shares of {self.over.symbol} = {self.over.lower}..{self.over.upper - 1}:\n{_indented(self.body)}"


Node = For | If | Store | Set | Zero | Product | Pack | Nest
Leaf = Store | Set | Zero | Product | Pack


@dataclass(frozen=True)
class Routine:
    """One function: its buffers by tensor name, its loops. ``kind``: as in ``Unit``; ``program``: what the loops were made of,
    with the tensors of its blocks."""

    kind: str
    buffers: dict[str, Buffer]
    body: tuple[Node, ...]
    program: Program

    def __str__(self) -> str:
        head = [f"{self.kind}:", *(f"  {b}" for b in self.buffers.values())]
        return "\n".join([*head, _indented(self.body)])


def _indented(body: Sequence[Node]) -> str:
    return "\n".join(f"  {line}" for node in body for line in str(node).splitlines())


def walk(nodes: Sequence[Node], loops: tuple[For | If, ...] = ()) -> Iterator[tuple[Leaf, tuple[For | If, ...]]]:
    """Every leaf with the loops and conditions round it, outermost first."""
    for node in nodes:
        match node:
            case For():
                yield from walk(node.body, (*loops, node))
            case If():
                yield from walk(node.parts, (*loops, node))
            case Nest():
                yield from walk(node.body, loops)
            case _:
                yield node, loops
