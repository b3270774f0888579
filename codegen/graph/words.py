"""What stands in a drawing: short texts of shapes, operations, numbers and tensors. The equations in full are in the tooltips."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sympy import Expr

from codegen.graph.lines import Line
from codegen.text import TextPrinter, equation_text, text
from symbolic.program import IndexName, Program, Reduction, tensor_of

__all__ = ["MOST_LETTERS", "adjoint_name", "full_text", "numbers_text", "operation", "shape_text", "shortened", "step_text"]

MOST_LETTERS = 40
"""Letters of an operation at most; the rest is in the tooltip."""


def shape_text(shape: Iterable[Expr]) -> str:
    """``[T, N, 4H]``; an empty text for a scalar."""
    inside = ", ".join(_mathematics(text(extent)) for extent in shape)
    return f"[{inside}]" if inside else ""


def adjoint_name(tensor: str) -> str:
    """The name of an adjoint in a drawing."""
    return f"∂L/∂{tensor}"


def step_text(delay: int) -> str:
    """``t−1``, ``t+2``."""
    return f"t{'−' if delay < 0 else '+'}{abs(delay)}"


def numbers_text(numbers: Iterable[int]) -> str:
    """``(2)–(5), (7)``: runs of three and more are shortened."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts: list[str] = []
    for run in runs:
        parts += [f"({run[0]})–({run[-1]})"] if len(run) > 2 else [f"({n})" for n in run]
    return ", ".join(parts)


def shortened(shown: str, most: int = MOST_LETTERS) -> str:
    """At most so many letters, the last an ellipsis where there were more."""
    return shown if len(shown) <= most else f"{shown[: most - 1].rstrip()}…"


def operation(line: Line, primal: Mapping[str, str]) -> tuple[str, str]:
    """The target of a line and what is added to it: names without their own layer, subscripts only where they say something
    (``h[t-1]``, ``a[k+H]``), a sum as ``Σ``."""
    printer = _ShortPrinter(line.layer, primal)
    terms: list[str] = []
    for equation in line.equations:
        body, sign = equation.body, "+"
        if body.as_coeff_Mul()[0].is_negative and equation.reduction is Reduction.SUM:
            body, sign = -body, "−"
        shown = _mathematics(str(printer.doprint(body)))
        if equation.reduced:
            word = {Reduction.SUM: "Σ ", Reduction.MAX: "max ", Reduction.ARGMAX: "argmax "}[equation.reduction]
            shown = word + (f"({shown})" if body.is_Add else shown)
        elif body.is_Add and len(line.equations) > 1:
            shown = f"({shown})"
        terms.append(f"{sign} {shown}" if terms else (shown if sign == "+" else f"−{shown}"))
    target = _ShortPrinter("", primal).doprint(line.equations[0].target)
    return _mathematics(str(target)), " ".join(terms)


def full_text(line: Line, program: Program, primal: Mapping[str, str]) -> str:
    """The line as it stands in the derivation, adjoints as ``∂L/∂X``."""
    shown = equation_text(line.equations, program)
    if line.backward:
        names = {adjoint: adjoint_name(name) for adjoint, name in primal.items()}
        shown = re.sub(r"[A-Za-z_][\w.]*", lambda m: names.get(m[0], m[0]), shown)
    return f"({line.number}) {shown}" if line.number else shown


class _ShortPrinter(TextPrinter):
    """Reads by name, with the subscripts that are more than an index."""

    def __init__(self, layer: str, primal: Mapping[str, str]) -> None:
        super().__init__()
        self.layer, self.primal = layer, primal

    def _print_Indexed(self, expr: Any) -> str:
        name = tensor_of(expr)
        shown = self.primal.get(name, name)
        if self.layer and shown.startswith(f"{self.layer}."):
            shown = shown[len(self.layer) + 1 :]
        if name in self.primal:
            shown = adjoint_name(shown)
        parts = [self._print(part).replace(" ", "") for part in self._telling(expr.indices)]
        return f"{shown}[{','.join(parts)}]" if parts else shown

    _print_Scalar = _print_Indexed

    @staticmethod
    def _telling(subscripts: Sequence[Expr]) -> list[Expr]:
        return [part for part in subscripts if not isinstance(part, IndexName)]


def _mathematics(shown: str) -> str:
    """Powers, products and signs as they are written by hand."""
    shown = re.sub(r"\*\*2(?!\d)", "²", shown).replace("**", "^")
    shown = re.sub(r"(?<![\w.])(\d+)\*(?=[A-Za-z])", r"\1", shown)
    return shown.replace("*", "·").replace(" - ", " − ")
