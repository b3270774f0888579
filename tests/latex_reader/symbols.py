r"""Which letters are which tensor: the table of symbols, and the readings of a letter with what stands below and above it.

``W_{i,k}^{(\mathrm{rnn})}`` is an entry of the tensor that the table calls ``W^{(\mathrm{rnn})}``, ``(W_{h})_{i,j}`` one of
``W_{h}``, and ``h_{i}^{2}`` a square. Where the table allows two readings there is an error: a reader of the page would
stumble too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tests.latex_reader.grammar import (
    Accent,
    Big,
    Fence,
    Fraction,
    Name,
    Node,
    Partial,
    Quotient,
    Script,
    below_of,
    formula,
)
from tests.latex_reader.tokens import LatexError

__all__ = ["Entry", "Symbol", "Symbols"]

DELTA = Name(r"\delta")


@dataclass(frozen=True)
class Symbol:
    """A row of the table: the symbol, the tensor's name, its extents, and what is said of it."""

    letter: Node
    name: str
    shape: tuple[Node, ...]
    about: str


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
        self.entries: dict[Node, Entry | None] = {}
        for row in rows:
            if row.letter in self.known:
                raise LatexError(f"{row.name} and {self.known[row.letter].name} have one symbol")
            self.known[row.letter] = row

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

    # ---- what stands in a formula ----------------------------------------------------------------------------------

    def entries_in(self, node: Node, hidden: str = "") -> Iterator[Entry]:
        """Every entry in a formula, those in subscripts too; not under a sum over an index called ``hidden``."""
        if isinstance(node, Big) and hidden and hidden in self.bound(node):
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
            for part, extent in zip(entry.subscripts, self.shape(entry.name), strict=True) if part == Name(index)
        ))


def symbol(letter: str, name: str, shape: str, about: str) -> Symbol:
    """A row of the table from its four columns: extents have a times sign between them, and 1 is a number."""
    extents = tuple(formula(part) for part in shape.split(r"\times")) if shape.strip() != "1" else ()
    return Symbol(formula(letter), name, extents, about)
