"""Expressions and equations as LaTeX, by SymPy's printer with words for reads, adjoints and the functions of the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sympy import Indexed, Mul
from sympy.printing.latex import LatexPrinter, translate
from sympy.printing.precedence import PRECEDENCE

from codegen.text import defines, unusual
from symbolic.functions import row_of
from symbolic.program import Equation, Program, Reduction, Role, tensor_of

__all__ = ["DerivationPrinter", "escape", "symbol_names"]

_COMPARISONS = {"gt": ">", "ge": r"\ge", "lt": "<", "le": r"\le", "eq": "=", "ne": r"\ne"}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
).split()
_SPECIAL = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}"}


def escape(text: str) -> str:
    """Text that TeX prints as it stands."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def symbol_names(program: Program) -> dict[str, str]:
    """A LaTeX symbol for each tensor: ``rnn.W`` is W, or W with the layer above it where several layers have a W."""
    names = [t.name for t in program.tensors if t.role not in (Role.ADJOINT, Role.TANGENT)]
    local: dict[str, int] = {}
    for name in names:
        local[name.rpartition(".")[2]] = local.get(name.rpartition(".")[2], 0) + 1
    found = {}
    for name in names:
        layer, _, own = name.rpartition(".")
        symbol, level = _symbol(own)
        if level or (layer and local[own] > 1):
            above = ",".join(part for part in (rf"\mathrm{{{escape(layer)}}}" if local[own] > 1 and layer else "", level) if part)
            symbol = f"{symbol}^{{({above})}}"
        found[name] = symbol
    found["loss"] = "L" if "L" not in found.values() else r"\mathcal{L}"
    return found


def _symbol(name: str) -> tuple[str, str]:
    """The symbol of a local name and, for ``h_2``, its level 2."""
    stem, _, level = name.rpartition("_")
    if stem and level.isdigit():
        return _symbol(stem)[0], level
    if len(name) == 1:
        return name, ""
    if name.lower() in _GREEK:
        return translate(name), ""
    if split := re.fullmatch(r"([A-Za-z])(\d+)", name):  # h0 is h with a 0 above it: below stand the subscripts
        return split[1], split[2]
    return rf"\mathrm{{{escape(name)}}}", ""


class DerivationPrinter(LatexPrinter):  # type: ignore[misc]
    """Prints reads as symbols with subscripts; a read of an adjoint as dL/dX (``frac``), X with a bar, or delta.

    Requires the program that holds every tensor that is printed.
    """

    printmethod = "_chainrule_latex"

    def __init__(self, program: Program, adjoint: str = "frac") -> None:
        super().__init__()
        self.program, self.adjoint = program, adjoint
        self.symbols = symbol_names(program)
        self.adjoint_of = {adjoint_name: name for name, adjoint_name in program.gradients.items()}

    def doprint(self, expr: Any) -> str:
        return str(super().doprint(expr))

    # ---- reads -----------------------------------------------------------------------------------------------------

    def _print_Indexed(self, expr: Indexed) -> str:
        below = ",".join(self._print(part) for part in expr.indices)
        name = tensor_of(expr)
        if name not in self.adjoint_of:
            return self._entry(self.symbols.get(name) or _symbol(name.rpartition(".")[2])[0], below)
        primal = self.adjoint_of[name]
        symbol = self.symbols[primal]
        if self.adjoint == "bar":
            return self._entry(_over(r"\bar", symbol), below)
        if self.adjoint == "delta":
            return rf"\delta^{{{symbol}}}" + (f"_{{{below}}}" if below else "")
        return rf"\frac{{\partial {self.symbols[self.program.loss]}}}{{\partial {self._entry(symbol, below)}}}"

    _print_Scalar = _print_Indexed

    def _entry(self, symbol: str, below: str) -> str:
        return f"{symbol}_{{{below}}}" if below else symbol

    def _helper_print_standard_power(self, expr: Any, template: str) -> str:
        if isinstance(expr.base, Indexed):
            base = self._print(expr.base)
            if "^" in base or r"\frac" in base or r"\bar" in base:
                base = rf"\left({base}\right)"
            return template % (base, self._print(expr.exp))
        return str(super()._helper_print_standard_power(expr, template))

    def _print_Mul(self, expr: Any) -> str:
        """The adjoint first, then what it is multiplied by: a fraction would otherwise swallow it."""
        adjoints = [part for part in expr.args if isinstance(part, Indexed) and tensor_of(part) in self.adjoint_of]
        if not adjoints:
            return str(super()._print_Mul(expr))
        rest = Mul(*(part for part in expr.args if part not in adjoints))
        sign = ""
        if rest.as_coeff_Mul()[0].is_negative:
            rest, sign = -rest, "- "
        shown = [self._print(part) for part in adjoints]
        if rest != 1:
            factor = self._print(rest)
            shown.append(rf"\left({factor}\right)" if rest.is_Add else factor)
        return sign + r"\,".join(shown)

    # ---- functions and relations -----------------------------------------------------------------------------------

    def _print_Function(self, expr: Any, exp: str | None = None) -> str:
        name = type(expr).__name__
        if name in _COMPARISONS:
            left, right = map(self._print, expr.args)
            shown = rf"\left[{left} {_COMPARISONS[name]} {right}\right]"
            return rf"{shown}^{{{exp}}}" if exp else shown
        if name == "where":
            condition, yes, no = map(self._print, expr.args)
            condition = condition.removeprefix(r"\left[").removesuffix(r"\right]")
            shown = rf"\begin{{cases}} {yes} & {condition} \\ {no} & \text{{otherwise}} \end{{cases}}"
            return rf"\left({shown}\right)^{{{exp}}}" if exp else shown
        if name == "square":
            inner = self.parenthesize(expr.args[0], PRECEDENCE["Pow"])
            return f"{inner}^{{2}}" if not exp else rf"\left({inner}^{{2}}\right)^{{{exp}}}"
        if name == "absolute":
            shown = rf"\left|{self._print(expr.args[0])}\right|"
            return f"{shown}^{{{exp}}}" if exp else shown
        row = row_of(expr)
        head = row.latex if row else rf"\operatorname{{{escape(name)}}}"
        inside = ", ".join(map(self._print, expr.args))
        return f"{head}{f'^{{{exp}}}' if exp else ''}\\left({inside}\\right)"

    _print_tanh = _print_sinh = _print_cosh = _print_sin = _print_cos = _print_tan = _print_atan = _print_erf = _print_Function

    def _print_log(self, expr: Any, exp: str | None = None) -> str:
        return self._print_Function(expr, exp)

    def _print_ExpBase(self, expr: Any, exp: str | None = None) -> str:
        inner = self._print(expr.args[0])
        power = f"e^{{{inner}}}" if r"\frac" not in inner and len(inner) < 40 else rf"\exp\left({inner}\right)"
        return rf"\left({power}\right)^{{{exp}}}" if exp else power

    def _print_Relational(self, expr: Any) -> str:
        sign = {"<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "==": "=", "!=": r"\ne"}[expr.rel_op]
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"

    # ---- equations -------------------------------------------------------------------------------------------------

    def terms(self, equations: Sequence[Equation]) -> list[str]:
        """The terms of one line, each with its sign and its sum."""
        found = []
        for equation in equations:
            body, sign = equation.body, "+"
            if body.as_coeff_Mul()[0].is_negative and equation.reduction is Reduction.SUM:
                body, sign = -body, "-"
            found.append(f"{sign} {self._term(equation, body, alone=len(equations) == 1)}")
        if found:
            found[0] = found[0].removeprefix("+ ")
        return found

    def _term(self, equation: Equation, body: Any, alone: bool) -> str:
        shown = str(self._print(body))
        guards = "".join(rf"\left[{self._print(g)}\right]\," for g in equation.guards)
        if body.is_Add and (equation.reduced or guards or not alone):
            shown = rf"\left({shown}\right)"
        if not equation.reduced:
            return guards + shown
        if equation.reduction is Reduction.SUM:
            return rf"\sum_{{{self._over(equation)}}} {guards}{shown}"
        if equation.reduction is Reduction.MAX:
            return rf"\max_{{{self._over(equation)}}} {guards}{shown}"
        return (rf"\Bigl(\operatorname*{{arg\,max}}_{{{self._over(equation)}}} {guards}{shown}\Bigr)"
                rf"_{{{self._print(equation.component)}}}")

    def _over(self, equation: Equation) -> str:
        odd = set(unusual(equation, self.program))
        return ",\\, ".join(
            f"{self._print(i.lower)} \\le {self._print(i.symbol)} < {self._print(i.upper)}" if i in odd else self._print(i.symbol)
            for i in equation.reduced
        )

    def relation(self, equations: Sequence[Equation]) -> str:
        """``=``, or ``+=`` where further lines add to the target."""
        return "=" if defines(equations, self.program) else r"\mathrel{+}="


def _over(accent: str, symbol: str) -> str:
    """An accent over a symbol, the superscript left outside."""
    base, mark, above = symbol.partition("^")
    return f"{accent}{{{base}}}{mark}{above}"
