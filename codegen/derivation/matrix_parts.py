"""The parts of a matrix formula: transposes, diagonals, vectors of ones, products; brackets where they are needed."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.derivation.formula import (
    Call,
    Fence,
    Formula,
    Letter,
    Matrices,
    Number,
    Product,
    Row,
    Script,
    Sign,
    Term,
    Terms,
    Word,
    brackets,
)
from symbolic.program import IndexName

__all__ = ["ONES", "Axes", "NoMatrixForm", "bare", "diagonal", "hadamard", "line_up", "on_ones", "operand", "spread",
           "transposed"]

Axes = tuple[IndexName, ...]
ONES = Letter("one", bold=True)


class NoMatrixForm(Exception):  # noqa: N818 - nothing is wrong
    """A term has no matrix form."""


def transposed(shown: Formula) -> Formula:
    """The transpose of a matrix, or the row of a vector; the mark stands after a superscript that belongs to the name."""
    top = Letter("top")
    if isinstance(shown, Letter | Word):
        return Script(shown, None, top)
    if isinstance(shown, Script) and not isinstance(shown.base, Fence):
        return Script(shown.base, shown.below, top if shown.above is None else Row((shown.above, top)))
    return Script(shown if isinstance(shown, Fence) else brackets(shown), None, top)


def operand(shown: Formula, scalar: bool = False) -> Formula:
    """A factor: brackets round sums and entrywise products."""
    entrywise = isinstance(shown, Row) and any(isinstance(p, Sign) and p.name == "odot" for p in shown.parts)
    loose = isinstance(shown, Terms) or entrywise
    return brackets(shown) if loose or isinstance(shown, Product) and not scalar else shown


def bare(shown: Formula) -> Formula:
    """An argument of a function needs no brackets of its own."""
    return shown.inner if isinstance(shown, Fence) and shown.kind == "()" else shown


def diagonal(shown: Formula) -> Formula:
    """The diagonal matrix of a vector."""
    return Call(Word("diag"), (bare(shown),))


def on_ones(term: Term, rank: int) -> Term:
    """A number that all entries of a vector or a matrix are."""
    ones = ONES if rank == 1 else Matrices((ONES, transposed(ONES)))
    return Term(term.sign, (ones,) if term.factors == (Number("1"),) else (*term.factors, ones))


def spread(shown: Formula, ends: Axes, frame: Axes) -> Formula:
    """A vector over the rows or the columns of the frame as a matrix."""
    if ends == frame:
        return shown
    return Matrices((shown, transposed(ONES)) if ends == frame[:1] else (ONES, transposed(shown)))


def hadamard(parts: Sequence[Formula]) -> Formula:
    """Factors multiplied entry by entry."""
    found: list[Formula] = []
    for part in parts:
        found += [Sign("odot"), part] if found else [part]
    return found[0] if len(found) == 1 else Row(tuple(found))


def line_up(factors: Sequence[Formula]) -> Formula:
    """Matrices one after another as one product."""
    flat: list[Formula] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else (factor,)
    return flat[0] if len(flat) == 1 else Matrices(tuple(flat))
