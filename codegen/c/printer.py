"""Expressions as C99: numbers of type ``real``, integers of type ``ptrdiff_t``, entries as subscripts of flat arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr, Indexed
from sympy.printing.precedence import PRECEDENCE, precedence

from codegen.loops.ir import Buffer, Local
from codegen.loops.nests import Better, Inside
from symbolic.functions import COMPARISONS, row_of
from symbolic.program import IndexName, Program, Size, is_index_read, operands, tensor_of

__all__ = ["CPrinter", "count_text", "integer_text"]

_COMPARES = tuple(COMPARISONS.values())
_FUNCTIONS = {"absolute": "real_abs"}
"""Functions whose name in functions.c is not ``real_`` and their own."""


class CPrinter:
    """Prints bodies over the buffers of one routine."""

    def __init__(self, program: Program, buffers: Mapping[str, Buffer]) -> None:
        self.program, self.buffers = program, buffers

    # ---- entries and integers ----------------------------------------------------------------------------------------

    def entry(self, entry: Indexed) -> str:
        """``a[(t*N + n)*H + k]``; a scalar is the first of its array."""
        buffer = self.buffers[tensor_of(entry)]
        positions = buffer.positions(entry.indices)
        text = ""
        for axis, position in enumerate(positions):
            here = self.integer(position)
            if not text or text == "0":
                text = here
            elif buffer.extents[axis] == 1:
                text += "" if here == "0" else f" + {here}"
            else:
                extent = self.integer(buffer.extents[axis], PRECEDENCE["Mul"] + 1)
                head = "" if text == "1" else f"({text})*" if _is_sum(text) else f"{text}*"
                text = f"{head}{extent}" + ("" if here == "0" else f" - {here[1:]}" if here.startswith("-") else f" + {here}")
        return f"{buffer.code}[{text or '0'}]"

    def integer(self, expr: Expr, level: int = 0) -> str:
        """An extent, a bound or a subscript."""
        return integer_text(expr, self.entry, level)

    def test(self, condition: Expr) -> str:
        """A condition, in brackets where it is more than a comparison."""
        if isinstance(condition, Better):
            value, best, found = (argument.name for argument in condition.args)
            return f"{found} == 0 || {value} > {best} || ({value} != {value} && {best} == {best})"
        reads = [e for e in operands(condition) if not is_index_read(e)]
        side = self.real if reads or condition.atoms(Local) and not condition.has(sp.Eq) else self.integer
        return f"{side(condition.lhs)} {condition.rel_op} {side(condition.rhs)}"

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def real(self, expr: Expr, level: int = 0) -> str:
        """A number, bracketed where its outermost operation binds less than ``level``."""
        text, binds = self._real(expr)
        return f"({text})" if binds < level else text

    def _real(self, expr: Expr) -> tuple[str, int]:
        atom = PRECEDENCE["Atom"]
        if isinstance(expr, Indexed):
            return (f"(real){self.entry(expr)}", PRECEDENCE["Pow"]) if is_index_read(expr) else (self.entry(expr), atom)
        if isinstance(expr, Inside):
            tests = " && ".join(map(self.test, expr.conditions))
            return f"({tests} ? {self.entry(expr.entry)} : 0)", atom
        if isinstance(expr, Local):
            return str(expr.name), atom
        if isinstance(expr, Size | IndexName):
            return f"(real){expr.name}", PRECEDENCE["Pow"]
        if expr is sp.S.NegativeInfinity:
            return "-INFINITY", PRECEDENCE["Add"]
        if expr.is_Integer:
            return str(int(expr)), atom if expr >= 0 else PRECEDENCE["Add"]
        if expr.is_number and not expr.has(Indexed):
            return f"(real){float(expr)!r}" if expr >= 0 else f"-(real){-float(expr)!r}", \
                PRECEDENCE["Pow"] if expr >= 0 else PRECEDENCE["Add"]
        if expr.is_Add:
            return self._sum(expr), PRECEDENCE["Add"]
        if expr.is_Mul:
            return self._product(expr)
        if expr.is_Pow:
            return self._power(expr)
        if isinstance(expr, sp.floor | sp.ceiling | sp.Max | sp.Min):
            return f"(real){self.integer(expr, atom)}", PRECEDENCE["Pow"]
        return self._call(expr)

    def _sum(self, expr: Expr) -> str:
        text = ""
        for term in sorted(expr.args, key=self._rank_of_term):
            piece = self.real(term, PRECEDENCE["Add"])
            text += (f" - {piece[1:]}" if piece.startswith("-") else f" + {piece}") if text else piece
        return text

    def _rank_of_term(self, term: Expr) -> Any:
        """Numbers and plain reads before function values, what is added before what is subtracted: large reads then cancel
        before something small is added."""
        number, rest = term.as_coeff_Mul()
        plain = term.is_number or isinstance(rest, Indexed | Inside | Local)
        return not plain, term.could_extract_minus_sign(), term.is_number and number != 1, self._rank(term)

    def _rank(self, expr: Expr) -> Any:
        """As declared: nothing in the text hangs on names."""
        entries = operands(expr)
        return (min(map(self.program.position, entries)) if entries else -1), sp.default_sort_key(expr)

    def _product(self, expr: Expr) -> tuple[str, int]:
        above: list[Expr] = []
        below: list[Expr] = []
        for factor in expr.args:
            inverse = factor.is_Pow and factor.exp.is_Rational and factor.exp < 0
            (below if inverse else above).append(1 / factor if inverse else factor)
        number = sp.Mul(*(f for f in above if f.is_number))
        sign = "-" if number.could_extract_minus_sign() else ""
        number = -number if sign else number
        factors = sorted((f for f in above if not f.is_number and not _is_size(f)), key=self._rank)
        under = sorted((f for f in below if not _is_size(f)), key=self._rank)
        # What is the same in every instance stands together, in front: it is computed once.
        fixed = self._fixed(number, [f for f in above if not f.is_number and _is_size(f)], [f for f in below if _is_size(f)])
        parts = [self.real(f, PRECEDENCE["Mul"] + 1) for f in factors]
        if fixed != "1" or not parts:
            parts = [f"({fixed})" if "/" in fixed and (factors or under) else fixed, *parts]
        text = "*".join(parts)
        for factor in under:
            text += f"/{self.real(factor, PRECEDENCE['Mul'] + 1)}"
        return sign + text, PRECEDENCE["Add"] if sign else PRECEDENCE["Mul"]

    def _fixed(self, number: Expr, above: Sequence[Expr], below: Sequence[Expr]) -> str:
        """A number times sizes over sizes."""
        parts = [] if number == 1 and above else [self.real(number, PRECEDENCE["Mul"])]
        text = "*".join([*parts, *([self._size(sp.Mul(*above))] if above else [])])
        return f"{text}/{self._size(sp.Mul(*below))}" if below else text

    def _size(self, product: Expr) -> str:
        """A product of sizes, an integer, as a number."""
        return f"(real){self.integer(product)}" if product.is_Atom else f"(real)({self.integer(product)})"

    def _power(self, expr: Expr) -> tuple[str, int]:
        base, exponent = expr.args
        times, atom = PRECEDENCE["Mul"], PRECEDENCE["Atom"]
        if exponent.is_Rational and exponent < 0:
            return f"1/{self.real(base ** -exponent, times + 1)}", times
        if exponent == 2:
            if isinstance(base, Indexed | Local) and not (isinstance(base, Indexed) and is_index_read(base)):
                return f"{self.real(base)}*{self.real(base)}", times
            return f"real_square({self.real(base)})", atom
        if exponent == 3:
            return f"{self.real(base**2, times)}*{self.real(base, times + 1)}", times
        if exponent == sp.Rational(1, 2):
            return f"real_sqrt({self.real(base)})", atom
        if exponent == sp.Rational(3, 2):
            return f"{self.real(base, times)}*real_sqrt({self.real(base)})", times
        return f"real_pow({self.real(base)}, {self.real(exponent)})", atom

    def _call(self, expr: Expr) -> tuple[str, int]:
        row = row_of(expr)
        if row is None:
            raise ValueError(f"no C text for {expr}")
        if isinstance(expr, _COMPARES):
            return f"(real)({self._comparison(expr)})", PRECEDENCE["Pow"]
        if row.name == "where":
            condition, yes, no = expr.args
            return f"({self._condition(condition)} ? {self.real(yes)} : {self.real(no)})", PRECEDENCE["Atom"]
        arguments = ", ".join(map(self.real, expr.args))
        return f"{_FUNCTIONS.get(row.name, f'real_{row.name}')}({arguments})", PRECEDENCE["Atom"]

    def _comparison(self, expr: Expr) -> str:
        row = row_of(expr)
        assert row is not None
        sign = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}[row.name]
        left, right = (self.real(a, PRECEDENCE["Add"]) for a in expr.args)
        return f"{left} {sign} {right}"

    def _condition(self, expr: Expr) -> str:
        if isinstance(expr, _COMPARES):
            return self._comparison(expr)
        if expr.is_Mul and all(isinstance(f, _COMPARES) for f in expr.args):
            return " && ".join(self._comparison(f) for f in sorted(expr.args, key=self._rank))
        return f"{self.real(expr, PRECEDENCE['Add'])} != 0"


def _is_size(expr: Expr) -> bool:
    """Whether a factor is an integer of sizes alone."""
    return bool(expr.is_Integer or expr.free_symbols and all(isinstance(s, Size) for s in expr.free_symbols)
                and expr.is_integer and (expr.is_polynomial() or expr.has(sp.floor, sp.ceiling, sp.Max, sp.Min)))


def _is_sum(text: str) -> bool:
    depth = 0
    for k, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if not depth and char in "+-" and k and text[k - 1] == " ":
            return True
    return text.startswith("-")


def count_text(expr: Expr) -> str:
    """A size as a ``size_t``."""
    text = integer_text(expr)
    return text if text.isdigit() else f"(size_t){text}" if text.isidentifier() else f"(size_t)({text})"


def integer_text(expr: Expr, entry: Any = None, level: int = 0) -> str:
    """An integer expression of sizes, indices and entries of index tensors (printed by ``entry``)."""
    text, binds = _integer(sp.sympify(expr), entry)
    return f"({text})" if binds < level else text


def _integer(expr: Expr, entry: Any) -> tuple[str, int]:
    atom, plus, times = PRECEDENCE["Atom"], PRECEDENCE["Add"], PRECEDENCE["Mul"]

    def inner(part: Expr, level: int = 0) -> str:
        return integer_text(part, entry, level)

    if isinstance(expr, Indexed):
        return entry(expr), atom
    if expr.is_Symbol:
        return str(expr.name), atom
    if expr.is_Integer:
        return str(int(expr)), atom if expr >= 0 else plus
    if (expr.is_Add or expr.is_Mul) and sp.fraction(sp.together(expr))[1] != 1:
        above, below = sp.fraction(sp.together(expr))
        return f"floor_div({inner(above)}, {inner(below)})", atom
    if expr.is_Add:
        text = ""
        terms = sorted(expr.args, key=lambda t: (t.could_extract_minus_sign(), t.is_number, sp.default_sort_key(t)))
        for term in terms:
            piece = inner(term, plus)
            text += (f" - {piece[1:]}" if piece.startswith("-") else f" + {piece}") if text else piece
        return text, plus
    if expr.is_Mul:
        number, rest = expr.as_coeff_Mul()
        sign = "-" if number < 0 else ""
        factors = [inner(f, times + 1) for f in sp.Mul.make_args(rest)]
        return sign + "*".join([*([] if abs(number) == 1 else [str(abs(int(number)))]), *factors]), plus if sign else times
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        return "*".join([inner(expr.base, times + 1)] * int(expr.exp)), times
    if isinstance(expr, sp.floor | sp.ceiling):
        above, below = sp.fraction(sp.together(expr.args[0]))
        name = "floor_div" if isinstance(expr, sp.floor) else "ceil_div"
        return f"{name}({inner(above)}, {inner(below)})", atom
    if isinstance(expr, sp.Max | sp.Min):
        name = "greater" if isinstance(expr, sp.Max) else "lesser"
        parts = sorted(map(inner, expr.args))
        text = parts[0]
        for part in parts[1:]:
            text = f"{name}({text}, {part})"
        return text, atom
    if isinstance(expr, sp.Mod):
        return f"modulo({inner(expr.args[0])}, {inner(expr.args[1])})", atom
    raise ValueError(f"no C integer for {expr} ({precedence(expr)})")
