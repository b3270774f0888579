"""A derivation in any format, from one document: text, Markdown, LaTeX, HTML; a PDF is LaTeX through a TeX engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen.choices import ADJOINTS, NOTATIONS, TOLD
from codegen.derivation.formula import Word
from codegen.derivation.index_form import IndexForm
from codegen.derivation.narrative import narrate
from codegen.derivation.notation import Notation
from codegen.derivation.symbols import Symbol, symbols
from symbolic.errors import SpecError, nearest

if TYPE_CHECKING:
    from codegen.derivation.document import Document
    from codegen.derivation.provenance import Derivation
    from codegen.html.source import Source

__all__ = ["Style", "document_of", "show"]


@dataclass(frozen=True)
class Style:
    """How a derivation is shown. ``adjoint``: ``frac``, ``bar`` or ``delta``; ``notation``: ``index`` or ``matrix``."""

    notation: str = "index"
    adjoint: str = "frac"

    def __post_init__(self) -> None:
        for name, value, known in (("notation", self.notation, NOTATIONS), ("adjoint", self.adjoint, ADJOINTS)):
            if value not in known:
                raise SpecError(f"{name}: expected {' or '.join(known)}, found '{value}'{nearest(value, known)}")


def document_of(derivation: Derivation, style: Style, names: bool = False) -> Document:
    """The document of a derivation. ``names``: tensors by their names in the spec, as text has them, not by symbols."""
    return narrate(derivation, notation_of(derivation, style, names))


def notation_of(derivation: Derivation, style: Style, names: bool = False) -> Notation:
    """What writes the equations of a derivation."""
    known: Mapping[str, Symbol] = symbols(derivation.known)
    adjoint = style.adjoint
    if names:
        known = {name: Symbol(Word(name)) for name in known}
        adjoint = "code" if adjoint == "frac" else adjoint
    form = IndexForm(derivation.known, known, adjoint)
    if style.notation == "index":
        return Notation(form)
    from codegen.derivation.layouts import layouts
    from codegen.derivation.matrix_form import MatrixForm

    programs = derivation.given, derivation.stable, derivation.derived, derivation.computed
    return Notation(form, MatrixForm(form, layouts(derivation.known, [e for p in programs for e in p.equations])))


def show(
    derivation: Derivation, format: str = "text", style: Style | None = None, *, sources: Sequence[Source] = (),
    drawing: str = "", header: str = "", fragment: bool = False,
) -> str:
    """The text of a derivation in a format. ``sources``, ``drawing``: what an HTML page has beside it; ``header``: what it was
    generated from; ``fragment``: LaTeX for ``\\input``.

    Raises SpecError for an unknown format.
    """
    style = style or Style()
    document = document_of(derivation, style, names=format == "text")
    if format == "text":
        from codegen.plain.emit import emit as plain

        return plain(document)
    if format == "markdown":
        from codegen.markdown.emit import emit as markdown

        return markdown(document, header)
    if format == "html":
        from codegen.html.emit import emit as html

        return html(document, sources, drawing, header)
    if format in ("latex", "pdf"):
        from codegen.latex.emit import emit as latex

        return latex(document, fragment, header)
    raise SpecError(f"format: expected {', '.join(TOLD)}, found '{format}'{nearest(format, TOLD)}")
