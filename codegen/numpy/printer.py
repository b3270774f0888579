"""Scalar expressions as NumPy text. Subclasses SymPy's printer; reads arrive as symbols that carry their view's text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Expr
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.str import StrPrinter

from symbolic.functions import COMPARISONS, ScalarFunction, row_of

__all__ = ["Call", "NumPyPrinter", "Text", "integer_text", "ordered_terms"]

_COMPARES = tuple(COMPARISONS.values())
_MADE_ANEW = frozenset({"where", "erf", "softplus", "log_sigmoid"})
"""Functions whose call cannot store into an array that is there."""


_KEYWORD_ONLY = frozenset({"np.maximum", "np.minimum", "np.clip"})
"""Calls whose ``out`` NumPy wants named: given by its place it is deprecated, or something else."""

_OPERATORS = {"np.add": "+", "np.subtract": "-", "np.multiply": "*"}


@dataclass(frozen=True)
class Call:
    """A call that can store its result in an array that is there; ``flat``: the shape in which it sees that array, if another."""

    function: str
    arguments: tuple[str, ...]
    flat: str = ""

    def __str__(self) -> str:
        return f"{self.function}({', '.join(self.arguments)})"

    def into(self, place: str, brief: bool) -> str:
        """``np.tanh(a, out=h)``; ``brief``: ``np.tanh(a, h)``, a tenth faster, which counts in a loop."""
        named = "" if brief and self.function not in _KEYWORD_ONLY else "out="
        if self.flat:
            place = f"{place}.reshape({self.flat})"
        return f"{self.function}({', '.join((*self.arguments, named + place))})"

    def within(self, place: str) -> str | None:
        """``h *= a``, where what stands in the place is an operand: easier to read than ``np.multiply(h, a, h)``, and faster."""
        operator = _OPERATORS.get(self.function)
        if operator is None or self.flat or place not in self.arguments:
            return None
        first, second = self.arguments
        if first == place:
            return f"{place} {operator}= {second}"
        return f"{place} {operator}= {first}" if operator != "-" else None


class Text(sp.Symbol):  # type: ignore[misc]
    """A piece of finished NumPy text standing in an expression; ``Text`` is real-valued and an atom of the syntax.

    ``Text.placed(k, text)`` sorts by k, not by what it says: factors stand in the order in which their tensors were declared.
    """

    __slots__ = ()

    @classmethod
    def placed(cls, position: int, text: str) -> Text:
        return cls(f"{position:06d}\0{text}")

    @property
    def shown(self) -> str:
        return str(self.name).rpartition("\0")[2]


class NumPyPrinter(StrPrinter):  # type: ignore[misc]
    """Prints a body over ``Text`` symbols. ``dtype`` is the text of the module's floating type."""

    def __init__(self, dtype: str = "DTYPE") -> None:
        super().__init__({"order": "none", "full_prec": False})
        self.dtype = dtype

    def _print_Text(self, expr: Text) -> str:
        return expr.shown

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Integer(self, expr: Any) -> str:
        return str(int(expr))

    def _print_NumberSymbol(self, expr: Any) -> str:
        return repr(float(expr))

    _print_Pi = _print_Exp1 = _print_NumberSymbol

    def _print_Rational(self, expr: Any) -> str:
        return f"{expr.p}/{expr.q}" if expr.p > 0 else f"-{-expr.p}/{expr.q}"

    def _print_floor(self, expr: Any) -> str:
        return integer_text(expr)

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
        base, exponent = expr.args
        if not expr.atoms(Text):  # NumPy's root of a Python number would be a float64 that widens float32 arrays
            return self._scalar(expr)
        if exponent == sp.Rational(1, 2):
            return f"np.sqrt({self._print(base)})"
        if exponent == -sp.Rational(1, 2):
            return f"1/np.sqrt({self._print(base)})"
        if exponent == sp.Rational(3, 2):
            inner = self.parenthesize(base, PRECEDENCE["Mul"])
            return f"{inner}*np.sqrt({self._print(base)})"
        if exponent.is_Rational and exponent < 0:
            below = self._print(base**-exponent)
            return f"1/{below}" if exponent == -1 and base.is_Atom else f"1/({below})"
        return f"{self.parenthesize(base, PRECEDENCE['Pow'] + 1)}**{self.parenthesize(exponent, PRECEDENCE['Pow'])}"

    def _scalar(self, expr: Any) -> str:
        """A power of plain numbers and sizes, as a Python number."""
        if not expr.free_symbols and not expr.is_Rational and not expr.has(ScalarFunction):
            return repr(float(expr))
        base, exponent = expr.args
        if exponent.could_extract_minus_sign():
            below = base**-exponent
            return f"1/{self.parenthesize(below, PRECEDENCE['Mul'] + 1)}"
        power = repr(float(exponent)) if exponent.is_Rational and not exponent.is_Integer else self._print(exponent)
        return f"{self.parenthesize(base, PRECEDENCE['Pow'] + 1)}**{power if exponent.is_Atom else f'({power})'}"

    def _print_Mul(self, expr: Any) -> str:
        """Scalars first, gathered into one factor, so that an array is multiplied once."""
        scalars: list[Expr] = []
        arrays: list[Expr] = []
        for factor in expr.args:
            (arrays if factor.atoms(Text) else scalars).append(factor)
        if not arrays:
            return self._plain_product(scalars)
        sign = ""
        number = sp.Mul(*scalars)
        if number.could_extract_minus_sign():
            sign, number = "-", -number
        above = [f for f in arrays if not _is_reciprocal(f)]
        above.sort(key=lambda f: isinstance(f, _COMPARES))  # booleans last: a number times a boolean array is a float64
        below = [1 / f for f in arrays if _is_reciprocal(f)]
        texts = [self._factor(f) for f in above]
        if above and all(isinstance(f, _COMPARES) for f in above):
            texts[0] = f"{texts[0]}.astype({self.dtype})"
        parts = ""
        if number != 1:
            _, bottom = sp.fraction(number)
            if bottom != 1 and above:
                parts = f"({self._plain_product([number])})*"
            else:
                text = self._plain_product([number])
                parts = f"{text}*" if above else f"({text})" if bottom != 1 else text
        elif not above:
            parts = "1"
        body = parts + "*".join(texts)
        for factor in below:
            body += f"/{self.parenthesize(factor, PRECEDENCE['Mul'] + 1)}"
        return sign + body

    def _plain_product(self, factors: list[Expr]) -> str:
        product = sp.Mul(*factors)
        if not product.free_symbols and not product.is_Rational and not product.has(ScalarFunction):
            return repr(float(product))
        above, below = sp.fraction(product)
        top = "*".join(self.parenthesize(f, PRECEDENCE["Mul"]) for f in sp.Mul.make_args(above))
        if below == 1:
            return top
        bottom = "*".join(self.parenthesize(f, PRECEDENCE["Mul"]) for f in sp.Mul.make_args(below))
        return f"{top}/({bottom})" if "*" in bottom else f"{top}/{bottom}"

    def _factor(self, expr: Expr) -> str:
        if isinstance(expr, _COMPARES):
            return self._compare(expr)
        return str(self.parenthesize(expr, PRECEDENCE["Mul"]))

    def _print_Add(self, expr: Any, order: Any = None) -> str:
        text = ""
        for term in ordered_terms(expr):
            piece = self._print(term)
            if text and piece.startswith("-"):
                text += f" - {piece[1:]}"
            else:
                text += f" + {piece}" if text else piece
        return text

    def _compare(self, expr: Any) -> str:
        row = row_of(expr)
        assert row is not None
        return row.numpy.format(*(self.parenthesize(a, PRECEDENCE["Add"]) for a in expr.args))

    def _print_Function(self, expr: Any) -> str:
        row = row_of(expr)
        if row is None:
            raise ValueError(f"no NumPy text for {expr}")
        if not expr.atoms(Text):  # sizes alone: Python numbers in, a Python number out
            if isinstance(expr, _COMPARES):
                return f"float({self._compare(expr)})"
            if row.arity == 1:
                return f"float({row.numpy.format(f'np.float64({self._print(expr.args[0])})')})"
            return f"float({self._call(expr)})"
        if isinstance(expr, _COMPARES):
            return f"{self._compare(expr)}.astype({self.dtype})"
        if row.name == "where":
            condition, yes, no = expr.args
            test = self._condition(condition)
            branches = [self._print(b) for b in (yes, no)]
            if yes.is_number and no.is_number:
                branches = [f"{self.dtype}({b})" for b in branches]
            return f"np.where({test}, {', '.join(branches)})"
        return self._call(expr)

    def _call(self, expr: Any) -> str:
        row = row_of(expr)
        assert row is not None
        return row.numpy.format(*map(self._print, expr.args))

    def call(self, expr: Expr) -> Call | None:
        """The outermost function as a call that can store its result, where it is one."""
        row = row_of(expr)
        if row is None or isinstance(expr, _COMPARES) or row.name in _MADE_ANEW:
            return None
        function, _, arguments = row.numpy[:-1].partition("(")
        return Call(function, tuple(a.format(*map(self._print, expr.args)) for a in arguments.split(", ")))

    def _print_exp(self, expr: Any) -> str:
        return self._print_Function(expr)

    _print_log = _print_tanh = _print_exp

    def _condition(self, expr: Any) -> str:
        if isinstance(expr, _COMPARES):
            return self._compare(expr)
        if expr.is_Mul and all(isinstance(f, _COMPARES) for f in expr.args):
            return " & ".join(self._compare(f) for f in expr.args)
        return f"{self.parenthesize(expr, PRECEDENCE['Add'])} != 0"

    def _print_Relational(self, expr: Any) -> str:
        left = self.parenthesize(expr.lhs, PRECEDENCE["Relational"] + 1)
        right = self.parenthesize(expr.rhs, PRECEDENCE["Relational"] + 1)
        return f"({left} {expr.rel_op} {right})"

    def _print_Max(self, expr: Any) -> str:
        return f"max({', '.join(integer_text(a) for a in expr.args)})"

    def _print_Min(self, expr: Any) -> str:
        return f"min({', '.join(integer_text(a) for a in expr.args)})"

    def parenthesize(self, item: Expr, level: int, strict: bool = False) -> str:
        if isinstance(item, Text):
            return item.shown
        if isinstance(item, sp.Float) and item < 0 or item.is_Rational and not item.is_Integer:
            return f"({self._print(item)})"
        if item.is_Pow and item.exp.is_Rational and (item.exp < 0 or item.exp == sp.Rational(3, 2)):
            return f"({self._print(item)})"
        return str(super().parenthesize(item, level, strict)) if precedence(item) < level else self._print(item)


def ordered_terms(expr: Expr) -> list[Expr]:
    """The terms of a sum: numbers and plain reads before function values, what is added before what is subtracted.

    Large reads then cancel before something small is added: ``m - z[y] + log(s)`` keeps the digits of ``log(s)`` that
    ``m + log(s) - z[y]`` would round away.
    """

    def plain(term: Expr) -> bool:
        return term.is_number or isinstance(term.as_coeff_Mul()[1], Text)

    return sorted(expr.args, key=lambda t: (not plain(t), t.could_extract_minus_sign(), t.is_number))


def _is_reciprocal(expr: Expr) -> bool:
    return bool(expr.is_Pow and expr.exp.is_Rational and expr.exp < 0)


class _IntegerPrinter(StrPrinter):  # type: ignore[misc]
    """Extents and subscripts as Python integer expressions."""

    def _print_floor(self, expr: Any) -> str:
        return f"({self._quotient(expr.args[0])})"

    def _print_ceiling(self, expr: Any) -> str:
        return f"(-({self._quotient(-expr.args[0])}))"

    def _quotient(self, expr: Any) -> str:
        """``a//b``, which binds as a product does: the callers bracket it."""
        above, below = sp.fraction(sp.together(expr))
        parts = [self._print(part) if part.is_Atom else f"({self._print(part)})" for part in (above, below)]
        return "//".join(parts)

    def _print_Max(self, expr: Any) -> str:
        return f"max({', '.join(map(self._print, expr.args))})"

    def _print_Min(self, expr: Any) -> str:
        return f"min({', '.join(map(self._print, expr.args))})"

    def _print_Text(self, expr: Text) -> str:
        return expr.shown


_INTEGERS = _IntegerPrinter()


@lru_cache(maxsize=65536)
def integer_text(expr: Expr) -> str:
    """A subscript or an extent as Python text."""
    return str(_INTEGERS.doprint(sp.sympify(expr)))
