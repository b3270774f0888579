"""Expressions as matrices entry by entry: products are o, functions work on each entry, a column by a row is an outer product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy import Add, Expr, Indexed, Mul, Pow

from codegen.derivation.formula import (
    Call,
    Fence,
    Formula,
    Fraction,
    Letter,
    Matrices,
    Number,
    Product,
    Root,
    Row,
    Script,
    Sign,
    Terms,
    Word,
    brackets,
    summand,
)
from codegen.derivation.index_form import HEADS, RELATIONS_OF, signed_terms
from codegen.derivation.matrix_parts import ONES, Axes, NoMatrixForm, bare, hadamard, operand, transposed
from symbolic.program import Index, IndexName, index_symbols, operands

if TYPE_CHECKING:
    from codegen.derivation.matrix_form import MatrixForm

__all__ = ["Entrywise"]


class Entrywise:
    """Expressions entry by entry: products are o, functions work on each entry."""

    def __init__(self, form: MatrixForm, domain: Mapping[IndexName, Index]) -> None:
        self.form, self.domain = form, domain

    def indices(self, expr: Expr) -> frozenset[IndexName]:
        """The matrix indices of all that an expression reads."""
        if index_symbols(expr) - frozenset().union(*(index_symbols(e) for e in operands(expr))):
            raise NoMatrixForm  # an index as a number
        return frozenset().union(*(self.form.axes(e, self.domain) for e in operands(expr)))

    def grouped(self, expr: Expr) -> dict[frozenset[IndexName], Expr]:
        """The factors of a product by the matrix indices that they read."""
        found: dict[frozenset[IndexName], list[Expr]] = {}
        for factor in Mul.make_args(expr):
            found.setdefault(self.indices(factor), []).append(factor)
        return {key: Mul(*factors) for key, factors in found.items()}

    def show(self, expr: Any, frame: Axes) -> Formula:
        """The matrix of the expression's values over ``frame``."""
        match expr:
            case Indexed():
                return self._entry(expr, frame)
            case Add():
                return Terms(tuple((sign, summand(self.show(part, frame))) for sign, part in signed_terms(expr)))
            case Mul():
                return self._product(expr, frame)
            case Pow():
                return self._power(expr, frame)
        if not expr.args or not operands(expr):
            if index_symbols(expr):
                raise NoMatrixForm
            return self.form.form.show(expr)
        name = type(expr).__name__
        if name == "where":
            raise NoMatrixForm
        if name in RELATIONS_OF:
            left, right = (self.show(part, frame) for part in expr.args)
            return Fence(Row((left, Sign(RELATIONS_OF[name]), right)), "[]")
        if name == "square":
            return self._power(Pow(expr.args[0], 2, evaluate=False), frame)
        if name == "absolute":
            return Fence(self.show(expr.args[0], frame), "||")
        head = self.form.form.head(expr, HEADS)
        return Call(head, tuple(bare(self.show(part, frame)) for part in expr.args))

    def _entry(self, entry: Indexed, frame: Axes) -> Formula:
        shown, axes = self.form.read(entry, self.domain)
        if axes == frame or not axes:
            return shown
        if len(frame) == 2 and axes == frame[::-1]:
            return transposed(shown)
        if len(frame) == 2 and axes == frame[1:]:
            return shown  # the same in each row
        if len(frame) == 2 and axes == frame[:1]:
            return Matrices((shown, transposed(ONES)))  # the same in each column
        raise NoMatrixForm

    def _product(self, expr: Expr, frame: Axes) -> Formula:
        if expr.could_extract_minus_sign():
            return Terms((("-", summand(self.show(-expr, frame))),))
        if (outer := self._outer(expr, frame)) is not None:
            return outer
        above: list[Expr] = []
        numbers: list[Any] = []
        below: list[Expr] = []
        for factor in Mul.make_args(expr):
            if not operands(factor):
                numbers += [factor] if factor != 1 else []
            elif factor.is_Pow and factor.exp.is_number and factor.exp.is_negative:
                below.append(factor.base ** -factor.exp)
            else:
                above.append(factor)
        scalars: list[Formula] = []
        rest: list[Formula] = []
        for factor in sorted(above, key=self.form.form.rank):
            scalar = not self.indices(factor)
            (scalars if scalar else rest).append(operand(self.show(factor, frame), scalar))
        top = hadamard(rest) if rest else None
        above_line, below_line = Mul(*numbers).as_numer_denom()
        if below:
            bottom = self.show(Mul(below_line, *below), frame)
            whole = [*([] if above_line == 1 else self.form.numbers(above_line)), *scalars, *([top] if top else [])]
            return Fraction((whole[0] if len(whole) == 1 else Product(tuple(whole))) if whole else Number("1"), bottom)
        front = [*([] if not numbers else self.form.numbers(Mul(*numbers))), *scalars]
        if top is not None and not front:
            return top
        if top is not None:
            front.append(brackets(top) if isinstance(top, Row) else top)
        return front[0] if len(front) == 1 else Product(tuple(front))

    def _outer(self, expr: Expr, frame: Axes) -> Formula | None:
        """The product of a column and a row, ``u v^T``, where no factor has both indices of the frame."""
        if len(frame) != 2:
            return None
        parts = self.grouped(expr)
        rows, columns = (parts.pop(frozenset({symbol}), None) for symbol in frame)
        scalar = parts.pop(frozenset(), None)
        if rows is None or columns is None or parts:
            return None
        left, right = (operand(self.show(part, (symbol,))) for part, symbol in zip((rows, columns), frame, strict=True))
        shown = Matrices((left, transposed(right)))
        return shown if scalar is None else Product((operand(self.show(scalar, ())), shown))

    def _power(self, expr: Pow, frame: Axes) -> Formula:
        base, exponent = expr.base, expr.exp
        if exponent.is_number and exponent.is_negative:
            return Fraction(Number("1"), self.show(base**-exponent, frame))
        if exponent == sp.Rational(1, 2):
            return Root(self.show(base, frame))
        shown = self.show(base, frame)
        if exponent == 2 and self.indices(base):
            if isinstance(shown, Call) and isinstance(shown.head, Word | Letter):
                return Call(Script(shown.head, None, Number("2")), shown.arguments)
            one = operand(shown)
            return Row((one, Sign("odot"), one))
        above = self.form.form.show(exponent)
        return Script(brackets(shown), None, Row((Sign("odot"), above)) if self.indices(base) else above)
