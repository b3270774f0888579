"""What a derivation says: the lines of an adjoint or of the forward pass; formulas compared up to the order of their parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codegen.derivation.document import Block, Box, Display, Document, Section
from codegen.derivation.formats import Style, document_of
from codegen.derivation.provenance import derive
from codegen.latex.printer import line_pieces
from codegen.plain.printer import line_text
from symbolic import Model, gradient
from symbolic.interpreter import evaluate

__all__ = ["adjoints", "forms", "forward", "gradient_lines", "terms"]


def forms(model: Model, name: str, notation: str = "matrix", adjoint: str = "frac") -> list[str]:
    """The right sides that a derivation gives an adjoint, one after another, as text; the adjoint of X is d_X."""
    found = _section(document_of(derive(model), Style(notation, adjoint), names=True), f"d-{name}")
    assert found is not None, f"no adjoint of {name}"
    return [line_text(block.line).partition("= ")[2] for block in found.blocks if isinstance(block, Display)]


def forward(model: Model, notation: str = "matrix") -> list[str]:
    """The forward equations in LaTeX, without what is there for breaking lines."""
    found = _section(document_of(derive(model), Style(notation)), "forward")
    assert found is not None
    return [_tex(block) for section in (found, *found.sections) for block in section.blocks if isinstance(block, Display)]


def gradient_lines(model: Model, notation: str = "matrix") -> list[str]:
    """The gradients in their boxes, in LaTeX."""
    found = _section(document_of(derive(model), Style(notation)), "results")
    assert found is not None
    return [_tex(shown) for block in found.blocks if isinstance(block, Box) for shown in block.displays]


def _section(part: Document | Section, anchor: str) -> Section | None:
    for section in part.sections:
        if section.anchor == anchor:
            return section
        if (inner := _section(section, anchor)) is not None:
            return inner
    return None


def _tex(display: Block) -> str:
    assert isinstance(display, Display)
    text = " ".join("".join(piece) for piece in line_pieces(display.line))
    return re.sub(r" - 1\b", "-1", re.sub(r" \+ 1\b", "+1", text.replace("{}+", "+").replace("{}-", "-")))


def terms(formula: str) -> frozenset[tuple[str, ...]]:
    """A sum as the set of its terms, each a sorted list of factors. Products of matrices, whose order matters, stay whole."""
    found, depth, start, sign = [], 0, 0, ""
    text = f"{formula} + "
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and text[place : place + 3] in (" + ", " - "):
            found.append((sign, *sorted(re.split(r" o |\*", text[start:place]))))
            start, sign = place + 3, "-" if text[place + 1] == "-" else ""
    return frozenset(found)


def adjoints(
    model: Model, values: Mapping[str, Any], functions: Mapping[str, Sequence[Any]] | None = None, **sizes: int
) -> dict[str, np.ndarray[Any, Any]]:
    """The adjoint of every tensor by the meaning of the program: no rewrite, no generated code."""
    program = gradient(model.program())
    found = evaluate(program, values, sizes, list(program.gradients.values()), functions or {})
    return {name: found[adjoint] for name, adjoint in program.gradients.items()}
