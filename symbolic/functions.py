"""The table of scalar functions: value, derivative, behaviour at kinks, LaTeX, NumPy and C, side by side.

This is the one place in Chainrule where a derivative is written down. Smooth functions are SymPy's own classes; kinked
ones are ours, with ordered arguments and a stated value at each kink (SymPy's ``Max(a, b) == Max(b, a)`` forgets which
came first, and its ``Heaviside(0)`` is 1/2). Comparisons inside a function argument are the 0/1-valued ``gt, ge, lt,
le, eq, ne`` of this table, with derivative 0.

Conventions at kinks, as torch's: relu'(0) = 0, absolute'(0) = 0, clip' = 1 on the closed interval, hard_tanh' = 0 at its
corners; ties of ``max2`` and ``min2`` go to the first argument.

A spec may leave functions unspecified (``functions: [f]``). Of these nothing is known but that they are smooth: f has the
derivative f', that has f'', and so on; no value, no bound, no sign, and f(0) may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

import sympy as sp
from sympy import Expr
from sympy.printing.latex import greek_letters_set, translate

from symbolic.errors import ProgramError


class ScalarFunction(sp.Function):  # type: ignore[misc]
    """A function of this table: unevaluated, real, differentiated by the table alone."""

    @classmethod
    def eval(cls, *args: Expr) -> Expr | None:
        """Never simplify on construction: the text of a program keeps the words of its author."""
        return None

    def fdiff(self, argindex: int = 1) -> Expr:
        row = FUNCTIONS[type(self).__name__]
        return sp.sympify(row.derivatives[argindex - 1](*self.args))


def _own(name: str, arity: int) -> Any:
    return type(name, (ScalarFunction,), {"nargs": arity, "__module__": __name__})


sigmoid = _own("sigmoid", 1)
softplus = _own("softplus", 1)
log_sigmoid = _own("log_sigmoid", 1)
expm1 = _own("expm1", 1)
log1p = _own("log1p", 1)
relu = _own("relu", 1)
absolute = _own("absolute", 1)
sign = _own("sign", 1)
square = _own("square", 1)
max2 = _own("max2", 2)
min2 = _own("min2", 2)
clip = _own("clip", 3)


class where(ScalarFunction):  # noqa: N801 - the name that it has in equation text
    """``where(c, a, b)``: a where c is not 0, else b; its slope is chosen likewise, so that the other branch is not computed."""

    nargs = 3

    def _eval_derivative(self, s: Expr) -> Expr:
        condition, yes, no = self.args
        slopes = yes.diff(s), no.diff(s)
        return sp.S.Zero if slopes == (0, 0) else where(condition, *slopes)


gt = _own("gt", 2)
ge = _own("ge", 2)
lt = _own("lt", 2)
le = _own("le", 2)
eq = _own("eq", 2)
ne = _own("ne", 2)


class Unspecified(ScalarFunction):
    """A smooth function of one argument that has a name and no formula: ``base`` is the name, ``order`` counts derivatives.

    f has the derivative f', by :func:`unspecified`. An application is never a number, whatever it is applied to: f(0) stands
    as it is.
    """

    nargs = 1
    base: ClassVar[str]
    order: ClassVar[int]
    is_number = False

    def fdiff(self, argindex: int = 1) -> Expr:
        return unspecified(self.base, self.order + 1)(*self.args)

    # Printers are asked by name: SymPy looks for a method called as the class is, and has some for words such as gamma and beta.

    def _sympystr(self, printer: Any, *_: Any) -> str:
        return f"{type(self).__name__}({printer._print(self.args[0])})"

    _chainrule_text = _sympystr

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        """The power stands behind: f'^2(x) could be the second derivative, or f' of f'(x)."""
        applied = rf"{unspecified_row(self.base, self.order).latex}\left({printer._print(self.args[0])}\right)"
        return f"{applied}^{{{exp}}}" if exp else applied

    _chainrule_latex = _latex


@cache
def unspecified(name: str, order: int = 0) -> Any:
    """The class of an unspecified function's derivative of this order, one for each name and order: f, f', f'', ...

    >>> x = sp.Symbol("x")
    >>> unspecified("f")(x**2).diff(x), unspecified("f")(x).diff(x, 2), unspecified("f")(0)
    (2*x*f'(x**2), f''(x), f(0))
    """
    members = {"nargs": 1, "base": name, "order": order, "__module__": __name__}
    return type(name + "'" * order, (Unspecified,), members)


@dataclass(frozen=True)
class Row:
    """One scalar function.

    ``derivatives[k]`` maps the arguments to the partial derivative by argument k (``None`` entries never occur: a function
    without a derivative is refused by the parser). ``value`` computes in Python floats or complex numbers; ``analytic`` says
    whether the complex step may pass through it. ``numpy`` and ``c`` are format strings over the printed arguments.
    ``kinks`` lists, for messages, where the derivative jumps and the value taken there.
    ``cost`` counts floating point operations, a transcendental as eight. ``rises``: a function of one argument with f(0) = 0
    that never falls, and that has slope 0 at two places where it has one value, in floating point too. ``slope``: the least and
    greatest derivative by any argument, where that is bounded on one side at least; ``span``: the least and greatest value.
    """

    name: str
    symbol: Any
    arity: int
    derivatives: tuple[Callable[..., Expr], ...]
    value: Callable[..., Any]
    numpy: str
    c: str
    latex: str
    analytic: bool = True
    kinks: str = ""
    slope: tuple[float, float] | None = None
    cost: int = 8
    rises: bool = False
    span: tuple[float, float] = (-math.inf, math.inf)


def _stable_sigmoid(x: Any) -> Any:
    if isinstance(x, complex):
        import cmath

        return 1 / (1 + cmath.exp(-x)) if x.real > -700 else cmath.exp(x)
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _c(name: str) -> Callable[..., Any]:
    """The function of ``math``, or of ``cmath`` for a complex argument (complex-step derivatives)."""

    def call(x: Any) -> Any:
        if isinstance(x, complex):
            import cmath

            return getattr(cmath, name)(x)
        try:
            return getattr(math, name)(x)
        except OverflowError:
            return math.inf if x > 0 or name == "cosh" else -math.inf
        except ValueError:
            return math.nan

    return call


def _log(x: Any) -> Any:
    if isinstance(x, complex):
        import cmath

        return cmath.log(x)
    return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)


def _exp(x: Any) -> Any:
    if isinstance(x, complex):
        import cmath

        return cmath.exp(x)
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _softplus(x: Any) -> Any:
    if isinstance(x, complex):
        return x + _log(1 + _exp(-x)) if x.real > 0 else _log(1 + _exp(x))
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _real(x: Any) -> float:
    return x.real if isinstance(x, complex) else x


def _zero2(*_: Expr) -> Expr:
    return sp.Integer(0)


def _rows() -> list[Row]:
    smooth = [
        Row("exp", sp.exp, 1, (sp.exp,), _exp, "np.exp({0})", "exp({0})", r"\exp", slope=(0.0, math.inf),
            span=(0.0, math.inf)),
        Row("log", sp.log, 1, (lambda x: 1 / x,), _log, "np.log({0})", "log({0})", r"\log"),
        Row("sqrt", sp.sqrt, 1, (lambda x: 1 / (2 * sp.sqrt(x)),), _c("sqrt"), "np.sqrt({0})", "sqrt({0})", r"\sqrt",
            span=(0.0, math.inf)),
        Row("tanh", sp.tanh, 1, (lambda x: 1 - sp.tanh(x) ** 2,), _c("tanh"), "np.tanh({0})", "tanh({0})", r"\tanh",
            slope=(0.0, 1.0), span=(-1.0, 1.0)),
        Row("sin", sp.sin, 1, (sp.cos,), _c("sin"), "np.sin({0})", "sin({0})", r"\sin", slope=(-1.0, 1.0),
            span=(-1.0, 1.0)),
        Row("cos", sp.cos, 1, (lambda x: -sp.sin(x),), _c("cos"), "np.cos({0})", "cos({0})", r"\cos", slope=(-1.0, 1.0),
            span=(-1.0, 1.0)),
        Row("tan", sp.tan, 1, (lambda x: 1 + sp.tan(x) ** 2,), _c("tan"), "np.tan({0})", "tan({0})", r"\tan"),
        Row("sinh", sp.sinh, 1, (sp.cosh,), _c("sinh"), "np.sinh({0})", "sinh({0})", r"\sinh"),
        Row("cosh", sp.cosh, 1, (sp.sinh,), _c("cosh"), "np.cosh({0})", "cosh({0})", r"\cosh", span=(1.0, math.inf)),
        Row("atan", sp.atan, 1, (lambda x: 1 / (1 + x**2),), _c("atan"), "np.arctan({0})", "atan({0})", r"\arctan",
            slope=(0.0, 1.0), span=(-math.pi / 2, math.pi / 2)),
        Row("erf", sp.erf, 1, (lambda x: 2 * sp.exp(-(x**2)) / sp.sqrt(sp.pi),), lambda x: math.erf(x), "_erf({0})",
            "erf({0})", r"\operatorname{erf}", analytic=False, slope=(0.0, 1.1283791670955126),
            span=(-1.0, 1.0)),
        Row("sigmoid", sigmoid, 1, (lambda x: sigmoid(x) * (1 - sigmoid(x)),), _stable_sigmoid, "_sigmoid({0})",
            "sigmoid({0})", r"\sigma", slope=(0.0, 0.25), span=(0.0, 1.0)),
        Row("softplus", softplus, 1, (sigmoid,), _softplus, "_softplus({0})", "softplus({0})",
            r"\operatorname{softplus}", slope=(0.0, 1.0), span=(0.0, math.inf)),
        Row("log_sigmoid", log_sigmoid, 1, (lambda x: sigmoid(-x),), lambda x: -_softplus(-x), "_log_sigmoid({0})",
            "log_sigmoid({0})", r"\log\sigma", slope=(0.0, 1.0), span=(-math.inf, 0.0)),
        Row("expm1", expm1, 1, (sp.exp,), lambda x: _exp(x) - 1 if isinstance(x, complex) or x > 700 else math.expm1(x),
            "np.expm1({0})", "expm1({0})", r"\operatorname{expm1}", slope=(0.0, math.inf), span=(-1.0, math.inf)),
        Row("log1p", log1p, 1, (lambda x: 1 / (1 + x),), lambda x: _log(1 + x) if isinstance(x, complex) else math.log1p(x),
            "np.log1p({0})", "log1p({0})", r"\operatorname{log1p}"),
        Row("square", square, 1, (lambda x: 2 * x,), lambda x: x * x, "np.square({0})", "square({0})",
            r"\operatorname{square}", cost=1, span=(0.0, math.inf)),
    ]
    kinked = [
        Row("relu", relu, 1, (lambda x: gt(x, 0),), lambda x: x if _real(x) > 0 else 0 * x, "np.maximum({0}, 0)",
            "relu({0})", r"\operatorname{relu}", True, "relu'(0) = 0", (0.0, 1.0), 1, rises=True, span=(0.0, math.inf)),
        Row("absolute", absolute, 1, (lambda x: sign(x),), lambda x: x if _real(x) >= 0 else -x, "np.abs({0})",
            "fabs({0})", r"\operatorname{abs}", True, "|x|'(0) = 0", (-1.0, 1.0), 1, span=(0.0, math.inf)),
        Row("sign", sign, 1, (_zero2,), lambda x: float((_real(x) > 0) - (_real(x) < 0)), "np.sign({0})", "sign({0})",
            r"\operatorname{sign}", True, "sign(0) = 0", (0.0, 0.0), 1, span=(-1.0, 1.0)),
        Row("max2", max2, 2, (lambda a, b: ge(a, b), lambda a, b: lt(a, b)),
            lambda a, b: a if _real(a) >= _real(b) else b, "np.maximum({0}, {1})", "max2({0}, {1})", r"\max", True,
            "ties go to the first argument", (0.0, 1.0), 1),
        Row("min2", min2, 2, (lambda a, b: le(a, b), lambda a, b: gt(a, b)),
            lambda a, b: a if _real(a) <= _real(b) else b, "np.minimum({0}, {1})", "min2({0}, {1})", r"\min", True,
            "ties go to the first argument", (0.0, 1.0), 1),
        Row("clip", clip, 3,
            (lambda x, a, b: ge(x, a) * le(x, b), lambda x, a, b: lt(x, a), lambda x, a, b: gt(x, b)),
            lambda x, a, b: b if _real(x) > _real(b) or _real(a) > _real(b) else a if _real(x) < _real(a) else x,
            "np.clip({0}, {1}, {2})", "clip({0}, {1}, {2})", r"\operatorname{clip}", True,
            "slope 1 at both ends", (0.0, 1.0), 2),
        Row("where", where, 3, (_zero2, lambda c, a, b: where(c, 1, 0), lambda c, a, b: where(c, 0, 1)),
            lambda c, a, b: a if _real(c) != 0 else b, "np.where({0}, {1}, {2})", "({0} ? {1} : {2})",
            r"\operatorname{where}", True, "", None, 1),
    ]
    compare = [
        Row(name, symbol, 2, (_zero2, _zero2), value, f"({{0}} {op} {{1}})", f"({{0}} {op} {{1}})", tex, True,
            f"jumps where both sides are equal; {name} itself has derivative 0", (0.0, 0.0), 1, span=(0.0, 1.0))
        for name, symbol, op, tex, value in (
            ("gt", gt, ">", ">", lambda a, b: float(_real(a) > _real(b))),
            ("ge", ge, ">=", r"\ge", lambda a, b: float(_real(a) >= _real(b))),
            ("lt", lt, "<", "<", lambda a, b: float(_real(a) < _real(b))),
            ("le", le, "<=", r"\le", lambda a, b: float(_real(a) <= _real(b))),
            ("eq", eq, "==", "=", lambda a, b: float(_real(a) == _real(b))),
            ("ne", ne, "!=", r"\ne", lambda a, b: float(_real(a) != _real(b))),
        )
    ]
    return smooth + kinked + compare


FUNCTIONS: Mapping[str, Row] = MappingProxyType({row.name: row for row in _rows()})
"""Every scalar function by the name it has in equation text."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"abs": "absolute", "arctan": "atan", "maximum": "max2", "minimum": "min2", "ln": "log"}
)
"""Other spellings that equation text may use."""

COMPARISONS: Mapping[str, Any] = MappingProxyType({">": gt, ">=": ge, "<": lt, "<=": le, "==": eq, "!=": ne})


def lookup(name: str) -> Row | None:
    """The row of a function by its name or alias in equation text, or ``None``."""
    return FUNCTIONS.get(ALIASES.get(name, name))


@cache
def unspecified_row(name: str, order: int = 0) -> Row:
    """What is known of an unspecified function: its derivative and how it is written; ``Row.name`` is a word, df for f'."""
    prefix = "" if order == 0 else "d" if order == 1 else f"d{order}"
    word = name.replace("_", r"\_")
    head = translate(name) if name in greek_letters_set else name if len(name) == 1 else rf"\operatorname{{{word}}}"

    def value(*_: Any) -> Any:
        raise ProgramError(f"no value is known of the unspecified function '{name}'")

    slopes = (unspecified(name, order + 1),)
    return Row(prefix + name, unspecified(name, order), 1, slopes, value, "", "", head + "'" * order, analytic=False)


def row_of(expr: Expr) -> Row | None:
    """The row of an applied function (``tanh(x)`` gives the row of ``tanh``), or ``None`` for anything else.

    An unspecified function has a row of its own, without a value and without words of NumPy or C.
    """
    if isinstance(expr, Unspecified):
        return unspecified_row(expr.base, expr.order)
    return FUNCTIONS.get(type(expr).__name__) if isinstance(expr, sp.Function) else None
