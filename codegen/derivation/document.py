"""A derivation as a document: sections of prose and formulas, without a format. Each target prints it in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from codegen.derivation.formula import Formula, Line

__all__ = [
    "Block", "Box", "Bullets", "Code", "Display", "Document", "Inline", "LikeRow", "LikeTable", "Math", "Paragraph",
    "Ref", "Section", "Strong", "SymbolRow", "SymbolTable", "Words", "anchored", "continued", "displays", "listed",
    "plain", "words",
]


@dataclass(frozen=True)
class Math:
    """A formula in running text."""

    formula: Formula


@dataclass(frozen=True)
class Ref:
    """The number of an equation, pointing to it."""

    number: int


@dataclass(frozen=True)
class Code:
    """A name as it stands in the spec, or a command."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words that name a rule."""

    text: str


Inline = str | Math | Ref | Code | Strong
Words = tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    words: Words


@dataclass(frozen=True)
class Bullets:
    """A list of points."""

    items: tuple[Words, ...]


@dataclass(frozen=True)
class Display:
    """A displayed line, and why it holds; a line without a head goes on from the one before."""

    line: Line
    reason: Words = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers that are printed beside it."""
        return () if self.line.head is None else tuple(n for n in self.line.numbers if n)


@dataclass(frozen=True)
class Box:
    """A result: what is in a frame."""

    title: Words
    displays: tuple[Display, ...]


@dataclass(frozen=True)
class SymbolRow:
    """One row of the table of symbols: those of one tensor, ``about`` says its role, ``shape`` its extents."""

    symbols: tuple[Formula, ...]
    name: str
    shape: tuple[Formula, ...]
    about: Words


@dataclass(frozen=True)
class SymbolTable:
    """Every symbol of the document."""

    rows: tuple[SymbolRow, ...]


@dataclass(frozen=True)
class LikeRow:
    """A layer that is like another: what it reads in place of that one's, and the numbers of its equations."""

    layer: str
    reads: Words
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class LikeTable:
    """Layers that are told by another one."""

    rows: tuple[LikeRow, ...]


Block = Paragraph | Bullets | Display | Box | SymbolTable | LikeTable


@dataclass(frozen=True)
class Section:
    """A titled part; ``step``: one step of the derivation, which a page may fold away."""

    anchor: str
    title: Words
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    step: bool = False


@dataclass(frozen=True)
class Document:
    """The whole derivation of a model."""

    name: str
    title: Words
    sections: tuple[Section, ...]


def words(*parts: Inline | Words) -> Words:
    """Running text from pieces; neighbouring texts become one."""
    found: list[Inline] = []
    for part in parts:
        for piece in part if isinstance(part, tuple) else (part,):
            if isinstance(piece, str) and found and isinstance(found[-1], str):
                found[-1] += piece
            elif piece != "":
                found.append(piece)
    return tuple(found)


def listed(items: Sequence[Inline | Words]) -> Words:
    """``a, b and c``."""
    found: list[Inline | Words] = []
    for k, item in enumerate(items):
        found += ([" and "] if k == len(items) - 1 else [", "]) if k else []
        found.append(item)
    return words(*found)


def displays(document: Document) -> Iterator[Display]:
    """Every displayed line, in order."""

    def of_section(section: Section) -> Iterator[Display]:
        for block in section.blocks:
            if isinstance(block, Display):
                yield block
            elif isinstance(block, Box):
                yield from block.displays
        for inner in section.sections:
            yield from of_section(inner)

    for section in document.sections:
        yield from of_section(section)


def anchored(document: Document) -> frozenset[int]:
    """The numbers that a displayed line has: what can be pointed to."""
    return frozenset(n for display in displays(document) for n in display.numbers)


def plain(running: Words) -> str:
    """Running text without its formulas: for a title."""
    return "".join(piece if isinstance(piece, str) else getattr(piece, "text", "") for piece in running)


def continued(display: Display) -> Display:
    """The same line as the next row of a chain: without its left side and its numbers."""
    return replace(display, line=replace(display.line, head=None, numbers=()))
