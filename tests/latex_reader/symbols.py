r"""Which letters are which tensor: the table of symbols, and the readings of a letter with what stands below and above it.

``W_{i,k}^{(\mathrm{rnn})}`` is an entry of the tensor that the table calls ``W^{(\mathrm{rnn})}``, ``(W_{h})_{i,j}`` one of
``W_{h}``, and ``h_{i}^{2}`` a square. Where the table allows two readings there is an error: a reader of the page would
stumble too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tests.latex_reader.grammar import formula
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import (
    Accent,
    Big,
    Bold,
    Fence,
    Fraction,
    Name,
    Node,
    Partial,
    Quotient,
    Script,
    Slice,
    below_of,
    is_bold,
)

__all__ = ["Entry", "MatrixEntry", "Symbol", "Symbols"]

DELTA = Name(r"\delta")


@dataclass(frozen=True)
class Symbol:
    """A row of the table: the symbol, the tensor's name, its extents, and what is said of it; ``bold``: the symbol of its
    matrices without subscripts, of which it has ``scripts``."""

    letter: Node
    name: str
    shape: tuple[Node, ...]
    about: str
    bold: Node | None = None
    scripts: int = 0

    def like(self, layer: str) -> Symbol:
        """The symbol of the tensor that is called so in another layer, whose name stands above the letter."""
        own, _, local = self.name.rpartition(".")

        def moved(node: Node) -> Node:
            match node:
                case Script(base, below, Fence("(", (Name(name), *rest))) if name == own:
                    return Script(base, below, Fence("(", (Name(layer), *rest)))
            raise LatexError(f"the symbol of {self.name} does not say its layer")

        bold = moved(self.bold) if self.bold is not None else None
        return replace(self, letter=moved(self.letter), name=f"{layer}.{local}", bold=bold)


@dataclass(frozen=True)
class MatrixEntry:
    """A matrix or a vector of a tensor or of its adjoint: the subscripts of the first axes, a slice of each other one."""

    name: str
    scripts: tuple[Node, ...]
    slices: tuple[Slice, ...]
    adjoint: bool = False


@dataclass(frozen=True)
class Entry:
    """An entry of a tensor or of its adjoint (the derivative of the loss by it), perhaps to a power."""

    name: str
    subscripts: tuple[Node, ...]
    adjoint: bool = False
    power: Node | None = None


class Symbols:
    """The table, and the meaning of letters by it."""

    def __init__(self, rows: Sequence[Symbol]) -> None:
        self.rows = tuple(rows)
        self.known: dict[Node, Symbol] = {}
        self.bold: dict[Node, Symbol] = {}
        self.entries: dict[Node, Entry | None] = {}
        for row in rows:
            if row.letter in self.known:
                raise LatexError(f"{row.name} and {self.known[row.letter].name} have one symbol")
            self.known[row.letter] = row
            if row.bold is not None:
                if row.bold in self.bold:
                    raise LatexError(f"{row.name} and {self.bold[row.bold].name} have one matrix symbol")
                self.bold[row.bold] = row

    @cached_property
    def by_name(self) -> Mapping[str, Symbol]:
        return {row.name: row for row in self.rows}

    @cached_property
    def loss(self) -> Symbol:
        return next(row for row in self.rows if row.about == "the loss")

    def shape(self, name: str) -> tuple[Node, ...]:
        return self.by_name[name].shape

    def entry(self, node: Node) -> Entry | None:
        """The entry that a piece of a formula is, with all subscripts; ``None`` where it is none. Raises LatexError where it is
        a symbol without its subscripts, or could be two entries."""
        if node not in self.entries:
            self.entries[node] = self._entry(node)
        return self.entries[node]

    def _entry(self, node: Node) -> Entry | None:
        readings = list(dict.fromkeys(self._readings(node)))
        full = [r for r in readings if len(r.subscripts) == len(self.shape(r.name))]
        if len(full) > 1:
            raise LatexError(f"two readings: {full[0]} and {full[1]}")
        if readings and not full and any(r.subscripts or r.adjoint for r in readings):
            first = readings[0]
            raise LatexError(f"{first.name} has {len(self.shape(first.name))} axes, not {len(first.subscripts)}")
        return full[0] if full else None

    def whole(self, node: Node) -> Entry | None:
        """A tensor or an adjoint that is named without subscripts."""
        readings = [r for r in dict.fromkeys(self._readings(node)) if not r.subscripts and r.power is None]
        if len(readings) > 1:
            raise LatexError(f"two readings: {readings[0]} and {readings[1]}")
        return readings[0] if readings else None

    def _readings(self, node: Node) -> Iterator[Entry]:
        match node:
            case Name() if node in self.known:
                yield Entry(self.known[node].name, ())
            case Accent(base):
                for inner in self._readings(base):
                    yield replace(inner, adjoint=True)
            case Fraction(Partial(top), Partial(bottom)) | Quotient(Partial(top), Partial(bottom)):
                if self.loss.letter == top:
                    for inner in self._readings(bottom):
                        yield replace(inner, adjoint=True)
            case Script(base, below, above):
                yield from self._scripted(base, below, above)

    def _scripted(self, base: Node, below: tuple[Node, ...] | None, above: Node | None) -> Iterator[Entry]:
        label = above if isinstance(above, Fence) and above.kind == "(" else None
        power = None if label is not None else above
        if base == DELTA and label is not None and len(label.inner) == 1 and (of := self.whole(label.inner[0])):
            yield Entry(of.name, below or (), True)
        if isinstance(base, Fence) and base.kind == "(" and len(base.inner) == 1 and below is not None:
            if label is None and (of := self.whole(base.inner[0])):
                yield Entry(of.name, below, of.adjoint, power)
            return
        letter, adjoint = (base.base, True) if isinstance(base, Accent) else (base, False)
        named = letter if label is None else Script(letter, None, label)
        if named in self.known:
            yield Entry(self.known[named].name, below or (), adjoint, power)
        if below is not None and (named := Script(letter, below, label)) in self.known:
            yield Entry(self.known[named].name, (), adjoint, power)

    # ---- matrices --------------------------------------------------------------------------------------------------

    @cached_property
    def loose(self) -> Symbols:
        """The table where a capital and a small bold letter stand for the matrices and the vectors of any tensor: the one that
        the table gives, or that of the tensor with the letter."""
        found = Symbols(self.rows)
        found.bold = {}
        for own in (True, False):  # first the tensors whose letter is of that size
            for row in self.rows:
                for change, rank in ((str.upper, 2), (str.lower, 1)):
                    bold = _in_bold(row.letter, change)
                    if len(row.shape) >= rank and bold is not None and own == (bold == _in_bold(row.letter, str)):
                        found.bold.setdefault(bold, replace(row, bold=bold, scripts=len(row.shape) - rank))
        found.bold.update(self.bold)
        return found

    def matrix(self, node: Node) -> MatrixEntry | None:
        """The matrix or vector that a piece of a formula is. Raises LatexError where subscripts are missing or too many."""
        found = self.bold_of(node)
        if found is None:
            return None
        row, below, adjoint = found
        slices = tuple(part for part in below if isinstance(part, Slice))
        scripts = below[: row.scripts]
        if len(scripts) != row.scripts or any(isinstance(part, Slice) for part in scripts):
            raise LatexError(f"{row.name} has {row.scripts} subscripts")
        left = len(row.shape) - row.scripts
        if below[row.scripts :] != slices or len(slices) not in (0, left):
            raise LatexError(f"{row.name} has {left} axes to take slices of")
        return MatrixEntry(row.name, scripts, slices or (Slice(),) * left, adjoint)

    def bold_of(self, node: Node) -> tuple[Symbol, tuple[Node, ...], bool] | None:
        """The row of a matrix symbol, what stands below it, and whether it is the adjoint."""
        match node:
            case Fraction(Partial(top), Partial(bottom)) | Quotient(Partial(top), Partial(bottom)):
                inner = self.bold_of(bottom) if top == self.loss.letter else None
                return (inner[0], inner[1], True) if inner is not None else None
            case Script(Bold(r"\delta"), below, Fence("(", (symbol,))) if symbol in self.bold:
                return self.bold[symbol], below or (), True
        plain, adjoint = _without_bar(node)
        if plain in self.bold:
            return self.bold[plain], (), adjoint
        match plain:
            case Script(Fence("(", (symbol,)), below, None) if symbol in self.bold and below:
                return self.bold[symbol], below, adjoint
            case Script(base, below, label) if below:
                named = base if label is None else Script(base, None, label)
                return (self.bold[named], below, adjoint) if named in self.bold else None
        return None

    # ---- what stands in a formula ----------------------------------------------------------------------------------

    def entries_in(self, node: Node, hidden: str = "") -> Iterator[Entry]:
        """Every entry in a formula, those in subscripts too; not under a sum over an index called ``hidden``. Of a matrix the
        subscripts are those of the first axes."""
        if isinstance(node, Big) and hidden and hidden in self.bound(node):
            return
        if is_bold(node) and (matrix := self.matrix(node)) is not None:
            yield Entry(matrix.name, matrix.scripts, matrix.adjoint)
            for part in matrix.scripts:
                yield from self.entries_in(part, hidden)
            return
        found = self.entry(node)
        if found is not None:
            yield found
            for part in (*found.subscripts, *((found.power,) if found.power is not None else ())):
                yield from self.entries_in(part, hidden)
            return
        for part in below_of(node):
            yield from self.entries_in(part, hidden)

    def bound(self, big: Big) -> list[str]:
        """The names of the indices that a sum runs over."""
        found = []
        for item in big.over:
            match item:
                case Name(name):
                    found.append(name)
                case _ if (sides := getattr(item, "sides", ())) and any(isinstance(s, Name) for s in sides):
                    middle = sides[1] if len(sides) == 3 else sides[0]
                    if not isinstance(middle, Name):
                        raise LatexError(f"no index in {item}")
                    found.append(middle.text)
                case _:
                    raise LatexError(f"no index in {item}")
        return found

    def extents(self, index: str, nodes: Sequence[Node]) -> list[Node]:
        """The extents of the axes that an index subscripts alone."""
        return list(dict.fromkeys(
            extent
            for node in nodes for entry in self.entries_in(node, index)
            for part, extent in zip(entry.subscripts, self.shape(entry.name), strict=False) if part == Name(index)
        ))


def symbol(letter: str, name: str, shape: str, about: str) -> Symbol:
    r"""A row of the table from its four columns: extents have a times sign between them, and 1 is a number; after the symbol of
    the entries, and ``,\ ``, may stand the one of the matrices."""
    extents = tuple(formula(part) for part in shape.split(r"\times")) if shape.strip() != "1" else ()
    plain, _, bold = letter.partition(r",\ ")
    own = formula(plain)
    return Symbol(own, name, extents, about, *(_parted(formula(bold), own) if bold else ()))


def _parted(bold: Node, letter: Node) -> tuple[Node, int]:
    """The symbol of a matrix without its subscripts, and their number: it is built like the symbol of the entries."""
    if _like(bold, letter):
        return bold, 0
    match bold:
        case Script(Fence("(", (inner,)), below, None) if below and _like(inner, letter):
            return inner, len(below)
        case Script(base, below, label) if below:
            inner = base if label is None else Script(base, None, label)
            if _like(inner, letter):
                return inner, len(below)
    raise LatexError(f"the symbols {letter} and {bold} do not go together")


def _in_bold(letter: Node, change: Callable[[str], str]) -> Node | None:
    match letter:
        case Name(text):
            return Bold(change(text) if len(text) == 1 else text)
        case Script(Name() as base, below, above) if (bold := _in_bold(base, change)) is not None:
            return Script(bold, below, above)
    return None


def _like(bold: Node, letter: Node) -> bool:
    match bold, letter:
        case Bold(), Name():
            return True
        case Script(Bold(), below, above), Script(Name(), other_below, other_above):
            return below == other_below and above == other_above
    return False


def _without_bar(node: Node) -> tuple[Node, bool]:
    """A symbol without the bar on its letter, and whether there was one."""
    match node:
        case Accent(base):
            return base, True
        case Script(base, below, above):
            inner, barred = _without_bar(base)
            return Script(inner, below, above), barred
        case Fence("(", (single,)):
            inner, barred = _without_bar(single)
            return Fence("(", (inner,)), barred
    return node, False
