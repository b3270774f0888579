"""A document as one HTML page: MathML, the code beside it, no network, readable without its script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from codegen.derivation.document import (
    Block,
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
    Strong,
    SymbolTable,
    Words,
    anchored,
    plain,
)
from codegen.html.printer import broken, line_head, line_pieces, math
from codegen.html.source import Source

__all__ = ["emit", "fragment"]


@dataclass(frozen=True)
class Formula:
    """A displayed line for the template."""

    numbers: tuple[int, ...]
    anchors: tuple[int, ...]
    head: str
    terms: list[list[str]]
    reason: str
    more: bool


def emit(document: Document, sources: Sequence[Source] = (), drawing: str = "", header: str = "") -> str:
    """The page. ``sources``: code to stand beside the derivation; ``drawing``: an SVG of the graph; ``header``: what the page was
    generated from, as a comment."""
    return _rendered("page.html.jinja", document, "", sources=sources, drawing=drawing, header=header,
                     title=plain(document.title))


def fragment(document: Document) -> str:
    """The derivation alone, to stand in another page such as a notebook: its styles reach nothing else, its ids begin with the
    name of the model."""
    return _rendered("fragment.html.jinja", document, f"{document.name}-")


def _rendered(template: str, document: Document, prefix: str, **context: Any) -> str:
    writer = _Writer(prefix, anchored(document))
    return str(_template(template).render(
        document=document, prefix=prefix, html=writer.html, kind=_kind, formula=writer.formula, math=math, chained=_chained,
        anchors=writer.anchors, escape=escape, **context,
    ))


@lru_cache(maxsize=4)
def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - every text is escaped where it is made
    )
    return environment.get_template(name)


class _Writer:
    """Pieces of a page; each equation gets its anchor where it is first displayed."""

    def __init__(self, prefix: str, anchored: frozenset[int]) -> None:
        self.prefix, self.anchored = prefix, anchored
        self.placed: set[int] = set()

    def html(self, words: Words) -> str:
        """Running text."""
        return "".join(map(self._inline, words))

    def _inline(self, piece: Inline) -> str:
        match piece:
            case str():
                return escape(piece, quote=False)
            case Math(formula):
                return broken(formula)
            case Ref(number):
                return f'<a href="#{self.prefix}eq-{number}">({number})</a>' if number in self.anchored else f"({number})"
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
        numbers = display.numbers
        return Formula(numbers, self.anchors(numbers), line_head(line), line_pieces(line), self.html(display.reason),
                       line.head is None)


def _chained(blocks: Sequence[Block]) -> list[Block | tuple[Display, ...]]:
    """The blocks with displayed lines that follow one another together: their relations are to stand under one another."""
    found: list[Block | tuple[Display, ...]] = []
    for block in blocks:
        if not isinstance(block, Display):
            found.append(block)
        elif found and isinstance(found[-1], tuple):
            found[-1] = (*found[-1], block)
        else:
            found.append((block,))
    return found


def _kind(block: object) -> str:
    return {Paragraph: "paragraph", Bullets: "bullets", tuple: "chain", Box: "box", SymbolTable: "symbols",
            LikeTable: "like"}[type(block)]

