"""Initialisers: plain NumPy functions, kept as source text because a generated module must stand alone.

A spec names one as ``glorot_uniform`` or with arguments, ``normal(0, 0.02)``, ``fan_uniform(2*H)``: numbers, or extents
over the spec's sizes. Each function is ``f(rng, shape, fan_in, fan_out, *arguments) -> array``; fan_in is the product
of all axes but the first and fan_out that of all but the second, as weights are [out, in, kernel...].
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from types import MappingProxyType
from typing import Any

import sympy as sp
from sympy import Expr

from symbolic.errors import Location, SpecError, nearest

__all__ = ["INITIALISERS", "Init", "Initialiser", "fans", "parse_init"]


@dataclass(frozen=True)
class Initialiser:
    """A row of the table: name, names and defaults of its arguments (``None``: must be given), source, reference."""

    name: str
    arguments: Mapping[str, float | None]
    source: str
    reference: str

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return self.source.split('"""')[1].splitlines()[0]


@dataclass(frozen=True)
class Init:
    """The initialiser of one parameter: the row, and its arguments (numbers or extents).

    ``transposed``: a matrix stored [in, out]. The function makes the one that is [out, in], so that fans, orthonormal blocks
    and the very numbers are the same, and its transpose is stored.
    """

    initialiser: Initialiser
    arguments: tuple[Expr, ...] = ()
    transposed: bool = False

    def __str__(self) -> str:
        return f"{self.initialiser.name}({', '.join(map(str, self.arguments))})"


def fans(shape: Sequence[Expr]) -> tuple[Expr, Expr]:
    """(fan_in, fan_out) of a weight [out, in, kernel...]; a vector counts as one column, a rank-0 parameter as 1."""
    if len(shape) < 2:
        extent = sp.sympify(shape[0]) if shape else sp.Integer(1)
        return extent, extent
    kernel = sp.prod(shape[2:])
    return sp.sympify(shape[1] * kernel), sp.sympify(shape[0] * kernel)


def parse_init(text: str, sizes: Mapping[str, Expr] | None = None, where: Location | None = None, path: str = "",
               shape: Sequence[Expr] = (), transposed: bool = False) -> Init:
    """Read ``name`` or ``name(arguments)``; nothing in the text is evaluated.

    ``default`` is the uniform distribution that torch gives to linear layers for a weight, and zeros for anything of
    rank below 2. ``shape`` is as stored, ``transposed`` as of Init. Raises SpecError for an unknown name, or arguments of
    the wrong number or kind.
    """
    try:
        tree: Any = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(f"expected an initialiser such as glorot_uniform or normal(0, 0.1), found {text[:60]!r}",
                        where=where, path=path) from None
    name, nodes = (tree.func, tree.args) if isinstance(tree, ast.Call) else (tree, [])
    if not isinstance(name, ast.Name) or getattr(tree, "keywords", None):
        raise SpecError(f"expected an initialiser such as glorot_uniform or normal(0, 0.1), found {text[:60]!r}",
                        where=where, path=path)
    if name.id == "default" and not nodes:
        if len(shape) < 2:
            return Init(INITIALISERS["zeros"])
        return Init(INITIALISERS["fan_uniform"], (fans(shape[::-1] if transposed else shape)[0],), transposed)
    row = INITIALISERS.get(name.id)
    if row is None:
        known = f"{nearest(name.id, INITIALISERS)}; known: {', '.join(INITIALISERS)}"
        raise SpecError(f"unknown initialiser '{name.id}'{known}", where=where, path=path)
    given = [_argument(node, text, sizes or {}, where, path) for node in nodes]
    least = sum(default is None for default in row.arguments.values())
    if not least <= len(given) <= len(row.arguments):
        raise SpecError(f"expected {row.name}({', '.join(row.arguments)}), found {len(given)} arguments",
                        where=where, path=path)
    rest = list(row.arguments.values())[len(given) :]
    return Init(row, (*given, *(sp.sympify(value) for value in rest)), transposed)


def _argument(node: ast.AST, text: str, sizes: Mapping[str, Expr], where: Location | None, path: str) -> Expr:
    from symbolic.parser import parse_extent

    sign, inner = (-1, node.operand) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else (1, node)
    if isinstance(inner, ast.Constant) and isinstance(inner.value, float):
        if inner.value != inner.value or abs(inner.value) == float("inf"):
            raise SpecError(f"expected a finite number, found {text[:60]!r}", where=where, path=path)
        return sp.Float(sign * inner.value)
    try:
        return sp.sympify(parse_extent(ast.unparse(node), sizes, where))
    except SpecError as error:
        raise error.at(where, path) from None


def _row(source: str, reference: str, **arguments: float | None) -> Initialiser:
    text = dedent(source).strip() + "\n"
    name = text.partition("(")[0].removeprefix("def ")
    return Initialiser(name, MappingProxyType(arguments), text, reference)


_ROWS = (
    _row('''
        def zeros(rng, shape, fan_in, fan_out):
            """All 0."""
            return np.zeros(shape)
        ''', "usual for biases"),
    _row('''
        def constant(rng, shape, fan_in, fan_out, value):
            """All the same value."""
            return np.full(shape, value, dtype=float)
        ''', "", value=None),
    _row('''
        def uniform(rng, shape, fan_in, fan_out, low, high):
            """Uniform between low and high."""
            return rng.uniform(low, high, shape)
        ''', "", low=-0.05, high=0.05),
    _row('''
        def normal(rng, shape, fan_in, fan_out, mean, deviation):
            """Normal with a mean and a standard deviation."""
            return rng.normal(mean, deviation, shape)
        ''', "", mean=0.0, deviation=0.05),
    _row('''
        def fan_uniform(rng, shape, fan_in, fan_out, fan):
            """Uniform within one over the root of ``fan`` on either side of 0 (torch's default)."""
            return rng.uniform(-1.0, 1.0, shape) / np.sqrt(fan)
        ''', "LeCun, Bottou, Orr, Mueller 1998; torch.nn.Linear, Conv2d (fan in), LSTM (units)", fan=None),
    _row('''
        def glorot_uniform(rng, shape, fan_in, fan_out):
            """Uniform with variance 2/(fan_in + fan_out)."""
            return rng.uniform(-1.0, 1.0, shape) * np.sqrt(6.0 / (fan_in + fan_out))
        ''', "Glorot, Bengio 2010, eq. 16"),
    _row('''
        def glorot_normal(rng, shape, fan_in, fan_out):
            """Normal with variance 2/(fan_in + fan_out)."""
            return rng.normal(0.0, 1.0, shape) * np.sqrt(2.0 / (fan_in + fan_out))
        ''', "Glorot, Bengio 2010, eq. 12"),
    _row('''
        def he_uniform(rng, shape, fan_in, fan_out):
            """Uniform with variance 2/fan_in."""
            return rng.uniform(-1.0, 1.0, shape) * np.sqrt(6.0 / fan_in)
        ''', "He, Zhang, Ren, Sun 2015, eq. 10"),
    _row('''
        def he_normal(rng, shape, fan_in, fan_out):
            """Normal with variance 2/fan_in."""
            return rng.normal(0.0, 1.0, shape) * np.sqrt(2.0 / fan_in)
        ''', "He, Zhang, Ren, Sun 2015, eq. 10"),
    _row('''
        def lecun_uniform(rng, shape, fan_in, fan_out):
            """Uniform with variance 1/fan_in."""
            return rng.uniform(-1.0, 1.0, shape) * np.sqrt(3.0 / fan_in)
        ''', "LeCun, Bottou, Orr, Mueller 1998, eq. 16"),
    _row('''
        def lecun_normal(rng, shape, fan_in, fan_out):
            """Normal with variance 1/fan_in."""
            return rng.normal(0.0, 1.0, shape) / np.sqrt(fan_in)
        ''', "LeCun, Bottou, Orr, Mueller 1998, eq. 16"),
    _row('''
        def orthogonal(rng, shape, fan_in, fan_out, gain, blocks):
            """Columns (or rows, if fewer) orthonormal, in each of ``blocks`` parts of the first axis."""
            rows, columns = shape[0] // int(blocks), int(np.prod(shape[1:]))
            parts = []
            for _ in range(int(blocks)):
                q, r = np.linalg.qr(rng.normal(0.0, 1.0, (max(rows, columns), min(rows, columns))))
                q = q * np.sign(np.diag(r))
                parts.append(q if rows >= columns else q.T)
            return gain * np.concatenate(parts).reshape(shape)
        ''', "Saxe, McClelland, Ganguli 2014; orthogonal(1, 4) for the U of an LSTM", gain=1.0, blocks=1.0),
    _row('''
        def identity(rng, shape, fan_in, fan_out, gain):
            """``gain`` on the diagonal, 0 elsewhere."""
            return gain * np.eye(*shape)
        ''', "Le, Jaitly, Hinton 2015 (recurrent weights of a relu network)", gain=1.0),
    _row('''
        def forget_gate(rng, shape, fan_in, fan_out, value):
            """0, but ``value`` for the second of four gates."""
            bias = np.zeros(shape)
            bias[shape[0] // 4 : shape[0] // 2] = value
            return bias
        ''', "Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015", value=1.0),
)

INITIALISERS: Mapping[str, Initialiser] = MappingProxyType({row.name: row for row in _ROWS})
"""Name -> initialiser."""
