"""A derivation from Python: ``codegen.derive`` gives a value that prints, shows itself in a notebook, and can be saved."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.choices import FORMATS
from codegen.derivation.formats import Style, document_of, show
from codegen.derivation.provenance import Derivation, derivation_of
from symbolic.errors import SpecError, nearest

if TYPE_CHECKING:
    from codegen.pipeline import Options, Stages
    from symbolic.model import Model

__all__ = ["Derived", "derive"]

SUFFIXES = {suffix: name for name, suffix in FORMATS.items()}


@dataclass(frozen=True, repr=False)
class Derived:
    """The derivation of a model's gradient in a style.

    ``print`` shows it as text, a notebook as a page. ``derivation`` holds its steps: the paths to each tensor, the forms of each
    adjoint, the equations of every stage.
    """

    model: Model
    style: Style
    options: Options = field(repr=False)
    done: Stages = field(repr=False)

    @cached_property
    def derivation(self) -> Derivation:
        """What was derived, without words."""
        return derivation_of(self.done)

    def to_text(self) -> str:
        """As ``chainrule derive`` prints it."""
        return show(self.derivation, "text", self.style)

    def to_latex(self, fragment: bool = False) -> str:
        """A LaTeX document; ``fragment``: without a preamble, to be read with ``\\input`` by a document that loads amsmath."""
        return show(self.derivation, "latex", self.style, fragment=fragment)

    def to_markdown(self) -> str:
        """Markdown with LaTeX between dollars."""
        return show(self.derivation, "markdown", self.style)

    def to_html(self) -> str:
        """A page of its own, with the drawing of the graph and the generated code beside the formulas."""
        return str(self._in("html"))

    def to_svg(self) -> str:
        """The drawing of the graph alone, layers as nodes. Raises MachineError where Graphviz is missing."""
        return str(self._in("svg"))

    def _in(self, format: str) -> str | bytes:
        """As ``chainrule derive`` writes it to a file."""
        from codegen.pipeline import derivation

        return derivation(self.model, format, self.style, self.options, self.done)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file in the format that its name ends in: .txt, .tex, .md, .html, .pdf, or .svg for the drawing.

        Raises SpecError for another ending, MachineError for a PDF where there is no TeX engine.
        """
        from codegen.files import write_all

        path = Path(path)
        if (kind := SUFFIXES.get(path.suffix.lower())) is None:
            raise SpecError(f"save: expected a name that ends in {', '.join(SUFFIXES)}, found '{path.name}'"
                            f"{nearest(path.suffix, SUFFIXES)}")
        write_all({path: self._in(kind)}, folders=False)
        return path

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<derivation of {self.model.name} by {', '.join(self.done.wrt)}>"

    def _repr_html_(self) -> str:
        from codegen.html.emit import fragment

        return fragment(document_of(self.derivation, self.style))

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_latex_(self) -> str:
        return self.to_latex(fragment=True)


def derive(
    model: Model | str | os.PathLike[str], *, wrt: str | tuple[str, ...] = "params", unroll: int | None = None,
    notation: str = "index", adjoint: str = "frac",
) -> Derived:
    """The derivation of a model's gradient (or of a spec's, by its path); docs/derivations.md has the keywords by example.

    Raises ChainruleError for a notation or a tensor that there is not.
    """
    from codegen.pipeline import Options, model_of, stages

    style = Style(notation, adjoint)
    given, options = model_of("derive", model), Options(wrt=wrt, unroll=unroll)
    return Derived(given, style, options, stages(given, options))
