"""A document as LaTeX: a whole one, for pdflatex and the packages of every distribution, or a fragment to \\input."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
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
    Strong,
    SymbolTable,
    Words,
    anchored,
    plain,
)
from codegen.derivation.formula import LONG, Line, groups, width
from codegen.latex.printer import BREAK, BREAK_AFTER_HEAD, broken, escape, joined, latex, line_pieces

__all__ = ["emit"]


def emit(document: Document, fragment: bool = False, header: str = "") -> str:
    """The text of the document. ``fragment``: without a preamble, to be read into another document, which needs amsmath;
    ``header``: what it was generated from, as a comment."""
    writer = _Writer(document)
    return str(_template().render(
        document=document, fragment=fragment, header=header, tex=writer.tex, plain=_plain, kind=_kind, label=writer.label,
        formula=_formula, latex=latex, escape=escape, breakable=_breakable,
    ))


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.latex"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        block_start_string="<%", block_end_string="%>", variable_start_string="<<", variable_end_string=">>",
        comment_start_string="<#", comment_end_string="#>", keep_trailing_newline=True, autoescape=False,  # noqa: S701 - TeX
    )
    return environment.get_template("derivation.tex.jinja")


class _Writer:
    """Pieces of a document; each equation gets its anchor where it is first displayed."""

    def __init__(self, document: Document) -> None:
        self.anchored = anchored(document)
        self.placed: set[int] = set()

    def tex(self, words: Words) -> str:
        """Running text."""
        return "".join(map(self._inline, words))

    def _inline(self, piece: Inline) -> str:
        match piece:
            case str():
                return escape(piece)
            case Math(formula):
                return broken(formula)
            case Ref(number):
                return rf"\eqnumber{{{number}}}" if number in self.anchored else f"({number})"
            case Code(text):
                return rf"\texttt{{{_breakable(text)}}}"
            case Strong(text):
                return rf"\emph{{{escape(text)}}}"

    def label(self, display: Display) -> tuple[str, str]:
        """The number of a displayed line as it is printed, and its anchors."""
        new = [n for n in display.numbers if n not in self.placed]
        self.placed.update(new)
        return ", ".join(map(str, display.numbers)), "".join(rf"\eqanchor{{{n}}}" for n in new)


def _formula(line: Line) -> str:
    shown = f" {BREAK}\n  ".join(map(joined, line_pieces(replace(line, head=None))))
    if line.head is None:
        return shown
    wide = width(line.head) + sum(map(width, groups(line.terms[0])[0])) > LONG
    return f"{latex(line.head)} {f'{BREAK_AFTER_HEAD} ' if wide else ''}{shown}"


def _kind(block: object) -> str:
    return {Paragraph: "paragraph", Bullets: "bullets", Display: "display", Box: "box", SymbolTable: "symbols",
            LikeTable: "like"}[type(block)]


def _breakable(name: str) -> str:
    """A name that may be parted after its dots and underscores, for narrow columns."""
    return escape(name).replace(".", r".\allowbreak{}").replace(r"\_", r"\_\allowbreak{}")


def _plain(words: Words) -> str:
    """A title for the bookmarks of a PDF."""
    return escape(" ".join(plain(words).split()))
