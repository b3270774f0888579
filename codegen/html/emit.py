"""A document as one HTML page: MathML, the code beside it, no network, readable without its script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from codegen.derivation.document import (
    Box,
    Bullets,
    Code,
    Display,
    Document,
    Inline,
    LikeTable,
    Math,
    Paragraph,
    Ref,
    Section,
    Strong,
    SymbolTable,
    Words,
    displays,
)
from codegen.html.printer import line_pieces, math
from codegen.html.source import Source

__all__ = ["emit", "html_of"]


@dataclass(frozen=True)
class Formula:
    """A displayed line for the template."""

    numbers: tuple[int, ...]
    anchors: tuple[int, ...]
    terms: list[list[str]]
    reason: str
    more: bool


def emit(document: Document, sources: Sequence[Source] = (), drawing: str = "", header: str = "") -> str:
    """The page. ``sources``: code to stand beside the derivation; ``drawing``: an SVG of the graph; ``header``: what the page was
    generated from, as a comment."""
    writer = _Writer({n for source in sources for line in source.lines for n in line.numbers})
    anchored = {n for d in displays(document) if d.line.head is not None for n in d.line.numbers}
    writer.anchored = anchored
    return str(_template("page.html.jinja").render(
        document=document, title=_plain(document.title), html=writer.html, kind=_kind, formula=writer.formula, math=math,
        anchors=writer.anchors,
        sources=sources, drawing=drawing, header=header, escape=escape,
    ))


def html_of(words: Words) -> str:
    """Running text as HTML, without links."""
    return _Writer(set()).html(words)


@lru_cache(maxsize=4)
def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False)  # noqa: S701 - every text is escaped where it is made
    return environment.get_template(name)


class _Writer:
    """Pieces of a page; each equation gets its anchor where it is first displayed."""

    def __init__(self, traced: set[int]) -> None:
        self.traced = traced
        self.anchored: set[int] = set()
        self.placed: set[int] = set()

    def html(self, words: Words) -> str:
        """Running text."""
        return "".join(map(self._inline, words))

    def _inline(self, piece: Inline) -> str:
        match piece:
            case str():
                return escape(piece, quote=False)
            case Math(formula):
                return math(formula)
            case Ref(number):
                return f'<a href="#eq-{number}">({number})</a>' if number in self.anchored else f"({number})"
            case Code(text):
                return f"<code>{escape(text)}</code>"
            case Strong(text):
                return f"<em>{escape(text)}</em>"

    def anchors(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Those of the numbers that have no anchor yet."""
        new = tuple(n for n in numbers if n not in self.placed)
        self.placed.update(new)
        return new

    def formula(self, display: Display) -> Formula:
        """A displayed line."""
        line = display.line
        numbers = tuple(n for n in line.numbers if n) if line.head is not None else ()
        return Formula(numbers, self.anchors(numbers), line_pieces(line), self.html(display.reason), line.head is None)


def _kind(block: object) -> str:
    return {Paragraph: "paragraph", Bullets: "bullets", Display: "display", Box: "box", SymbolTable: "symbols", LikeTable: "like",
            Section: "section"}[type(block)]


def _plain(words: Words) -> str:
    return "".join(piece if isinstance(piece, str) else getattr(piece, "text", "") for piece in words)
