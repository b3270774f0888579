"""Small questions about emitted text and expressions, asked by several writers."""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from codegen.numpy.operands import Operand
from codegen.numpy.printer import integer_text
from symbolic.functions import row_of
from symbolic.program import Index

__all__ = ["is_atom", "negated", "part", "place", "real_factor"]


def part(whole: Index, cut: Index) -> str:
    """The slice of an axis over ``whole`` that ``cut`` leaves."""
    start, stop = sp.expand(cut.lower - whole.lower), sp.expand(cut.upper - whole.lower)
    return f"{'' if start == 0 else integer_text(start)}:{'' if cut.upper == whole.upper else integer_text(stop)}"


def negated(body: Expr) -> Expr | None:
    """The body of the opposite sign, where it is a product with a minus: what is subtracted instead of added."""
    return -body if not body.is_Add and body.could_extract_minus_sign() else None


def place(target: Operand, adding: bool = False) -> str:
    """The target as the left side of an assignment: a name is filled, not bound anew."""
    if target.filled and not adding:
        return target.filled
    return target.text if target.text.endswith("]") or adding and target.text.isidentifier() else f"{target.text}[...]"


def real_factor(expr: Expr) -> bool:
    """Whether a factor is a number and not a truth value."""
    row = row_of(expr)
    return row is None or row.name not in ("gt", "ge", "lt", "le", "eq", "ne")


def is_atom(text: str) -> bool:
    """Whether text may be subscripted or called upon as it stands: a name, or one bracketed or called piece."""
    depth = 0
    for k, char in enumerate(text):
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth == 0 and not (char.isalnum() or char in "_."):
            return False
        if depth == 0 and char == ")" and k + 1 < len(text) and text[0] == "(":
            return text[k + 1] in ".["
    return bool(text) and text[0] != "-"
