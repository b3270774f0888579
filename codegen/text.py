"""Equations as plain text, in the notation that a spec is written in, with the sums spelled out.

    rnn.a[t,n,i] = sum_k rnn.W[i,k]*x[t,n,k] + sum_j rnn.U[i,j]*rnn.h[t-1,n,j] + rnn.b[i]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Indexed
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from symbolic.program import Equation, Index, Program, Reduction, index_symbols, operands, tensor_of

__all__ = ["TextPrinter", "defines", "equation_text", "ranges", "text", "unusual"]

_OPERATORS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}


class TextPrinter(StrPrinter):  # type: ignore[misc]
    """SymPy's text printer with subscripts in brackets, no spaces inside them, and a rank-0 read as the bare name."""

    printmethod = "_chainrule_text"  # else SymPy would ask Indexed itself, which puts spaces between subscripts

    def _print_Indexed(self, expr: Any) -> str:
        inside = ",".join(self._print(part).replace(" ", "") for part in expr.indices)
        name = tensor_of(expr)
        return f"{name}[{inside}]" if inside else name

    _print_Scalar = _print_Indexed

    def _print_Add(self, expr: Any, order: Any = None) -> str:
        """What is added before what is subtracted."""
        terms = sorted(self._as_ordered_terms(expr, order=order), key=lambda term: bool(term.could_extract_minus_sign()))
        shown = ""
        for term in terms:
            piece = self._print(term)
            shown += (f" - {piece[1:]}" if piece.startswith("-") else f" + {piece}") if shown else piece
        return shown

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: Any) -> str:
        return f"{expr.p}/{expr.q}"

    def _print_Function(self, expr: Any) -> str:
        name = type(expr).__name__
        if name in _OPERATORS:
            left, right = (self.parenthesize(part, PRECEDENCE["Relational"]) for part in expr.args)
            return f"[{left} {_OPERATORS[name]} {right}]"
        inside = ", ".join(self._print(part) for part in expr.args)
        return f"{name}({inside})"


    def _print__Placed(self, expr: Any) -> str:
        return str(expr.name).partition("|")[2]


class _Placed(sp.Symbol):  # type: ignore[misc]
    """A finished read that sorts by where its tensor was declared."""

    __slots__ = ()


_PRINTER = TextPrinter()


@lru_cache(maxsize=65536)
def text(expr: Any) -> str:
    """An expression as text."""
    return str(_PRINTER.doprint(expr))


def text_in_order(expr: Any, program: Program) -> str:
    """An expression as text, its factors in the order in which their tensors were declared."""
    rule = {entry: _Placed(f"{program.position(entry):06d}|{text(entry)}") for entry in operands(expr)}
    return str(_PRINTER.doprint(expr.xreplace(rule)))


def equation_text(terms: Sequence[Equation], program: Program) -> str:
    """The equations of one line of a spec (one target, one number) as that line.

    ``=`` where they are all that writes the target, ``+=`` where others add to it.
    """
    first = terms[0]
    shown = ""
    for equation in terms:
        body, sign = equation.body, "+"
        if body.as_coeff_Mul()[0].is_negative and equation.reduction is Reduction.SUM:
            body, sign = -body, "-"
        term = _term(equation, body, program, alone=len(terms) == 1)
        shown = f"{shown} {sign} {term}" if shown else (term if sign == "+" else f"-{term}")
    return f"{text(first.target)} {'=' if defines(terms, program) else '+='} {shown}"


def defines(terms: Sequence[Equation], program: Program) -> bool:
    """Whether these equations are all that writes their target, each entry written by one instance of each."""
    near = list({id(e): e for term in terms for e in program.writers_near(term.target)}.values())
    others = [e for e in near if e.number != terms[0].number]
    if len(terms) < len(near) - len(others):
        return False
    return all(map(_meets_once, terms)) and all(_apart(a, b) for a in terms for b in others)


def _apart(one: Equation, other: Equation) -> bool:
    """Whether two equations plainly write different entries: a different number on some axis, or one below all of an index's."""
    for a, b in zip(one.target.indices, other.target.indices, strict=True):
        if a.is_Integer and b.is_Integer:
            if a != b:
                return True
        elif _below(a, b, other) or _below(b, a, one):
            return True
    return False


def _below(number: Any, subscript: Any, equation: Equation) -> bool:
    ranges = {i.symbol: i.lower for i in equation.indices}
    return bool(number.is_Integer and subscript in ranges and (ranges[subscript] - number).is_positive)


def _meets_once(equation: Equation) -> bool:
    """Whether each index of the target can be told from its subscripts: one of them has that index alone."""
    alone = {s for part in equation.target.indices if not part.has(Indexed) and len(s := index_symbols(part)) == 1}
    return all(frozenset({i.symbol}) in alone for i in equation.free)


def _term(equation: Equation, body: Any, program: Program, alone: bool) -> str:
    shown = text_in_order(body, program)
    guards = "".join(f"[{text(g)}] " for g in equation.guards)
    if not equation.reduced:
        return guards + (shown if alone or not body.is_Add else f"({shown})")
    over = ",".join(i.name for i in equation.reduced)
    if equation.reduction is Reduction.SUM:
        return f"sum_{over} {guards}{f'({shown})' if body.is_Add else shown}"
    what = "max" if equation.reduction is Reduction.MAX else f"first maximising {equation.component}"
    return f"{what} over {over} of {guards}{f'({shown})' if body.is_Add else shown}"


def ranges(indices: Iterable[Index]) -> str:
    """``p = 0..4, t = 1..T-1``."""
    return ", ".join(f"{i.name} = {text(i.lower)}..{text(i.upper - 1).replace(' ', '')}" for i in indices)


def unusual(equation: Equation, program: Program) -> tuple[Index, ...]:
    """The indices whose range is not that of an axis that they subscript bare."""
    usual: set[tuple[Any, Any]] = set()
    for entry in (equation.target, *equation.reads):
        if tensor_of(entry) in program:
            shape = program.tensor(tensor_of(entry)).shape
            usual.update((part, extent) for part, extent in zip(entry.indices, shape, strict=True))
    return tuple(i for i in equation.indices if i.lower != 0 or (sp.sympify(i.symbol), i.upper) not in usual)
