"""What a Program costs: floating point operations and bytes, from extents alone, symbolic in the sizes.

An operation is one +, -, *, / or comparison of an instance; a sign is free; a function costs what the table of
``symbolic.functions`` says. Summing n terms into an entry counts n additions, so that a product of matrices counts
2*M*N*K, as everybody counts it. Guards are not evaluated: an instance whose guard may be false counts as any other.

The count is of the equations as they stand, before a backend splits contractions or moves work out of loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.functions import row_of
from symbolic.program import Equation, IndexName, Program, Role, Tensor, index_symbols, size, tensor_of

__all__ = ["Cost", "cost", "equation_bytes", "equation_flops", "operations", "readable", "volume"]

TRANSCENDENTAL = 8
"""What a power with a general exponent costs; the same as a function of the table."""


@dataclass(frozen=True)
class Cost:
    """What a set of equations costs.

    ``flops``: operations of all equations. ``memory``: bytes of all tensors, each held once. ``traffic``: bytes that
    the equations read and write, each as if nothing stayed in a cache.
    """

    flops: Expr
    memory: Expr
    traffic: Expr

    def at(self, sizes: Mapping[str, int]) -> Cost:
        """The cost where these sizes have values."""
        rule = {size(name): sp.Integer(value) for name, value in sizes.items()}
        return Cost(self.flops.xreplace(rule), self.memory.xreplace(rule), self.traffic.xreplace(rule))

    def __str__(self) -> str:
        return f"{readable(self.flops)} FLOPs, {readable(self.memory)} bytes"


def cost(program: Program, itemsize: int = 4, equations: Iterable[Equation] | None = None) -> Cost:
    """The cost of a program (or of some of its equations), with the sizes that have a value put in.

    ``itemsize``: bytes of a real number; an index counts eight.
    """
    chosen = program.equations if equations is None else tuple(equations)
    rule = program.fixed
    flops: dict[Expr, int] = {}
    traffic: dict[Expr, int] = {}
    written: set[str] = set()
    for equation in chosen:
        count = _per_instance(equation, further=equation.name in written)
        written.add(equation.name)
        domain = volume(i.extent for i in equation.indices).xreplace(rule)
        flops[domain] = flops.get(domain, 0) + count
        for name, entries in _touched(equation, program):
            entries = entries.xreplace(rule)
            width = 8 if program.tensor(name).is_index else itemsize
            traffic[entries] = traffic.get(entries, 0) + width
    used = {name for e in chosen for name in (e.name, *map(tensor_of, e.reads))}
    held: dict[Expr, int] = {}
    for tensor in program.tensors:
        if tensor.name in used or (equations is None and tensor.role in (Role.PARAMETER, Role.INPUT)):
            entries = volume(tensor.shape).xreplace(rule)
            held[entries] = held.get(entries, 0) + (8 if tensor.is_index else itemsize)
    return Cost(_total(flops), _total(held), _total(traffic))


def equation_flops(equation: Equation, further: bool = False) -> Expr:
    """Operations of one equation; ``further``: another equation writes its target before it."""
    return _per_instance(equation, further) * volume(i.extent for i in equation.indices)


def equation_bytes(equation: Equation, program: Program, itemsize: int = 4) -> Expr:
    """Bytes that one equation reads and writes."""
    return sp.Add(
        *((8 if program.tensor(name).is_index else itemsize) * entries for name, entries in _touched(equation, program))
    )


def volume(extents: Iterable[Any]) -> Expr:
    """The number of points of a domain with these extents."""
    return sp.Mul(*extents)


def operations(expr: Any) -> int:
    """Operations to compute an expression once, its reads being at hand and what has only sizes in it being a number."""
    if _is_number(expr) or isinstance(expr, Indexed) or not expr.args:
        return 0
    inner = sum(map(operations, expr.args))
    if expr.is_Add or expr.is_Mul:
        numbers = [part for part in expr.args if _is_number(part)]
        free = expr.is_Mul and numbers == [-1]
        return inner + len(expr.args) - len(numbers) + bool(numbers and not free) - 1
    if expr.is_Pow:
        return inner + _power(expr.exp)
    if isinstance(expr, Relational):
        return inner + 1
    row = row_of(expr)
    return inner + (row.cost if row else 1)


def _is_number(expr: Any) -> bool:
    """Whether nothing in it varies from instance to instance."""
    return not expr.has(Indexed) and not expr.atoms(IndexName)


def _power(exponent: Expr) -> int:
    """Multiplications of a small integer power by squaring, one division for a negative one."""
    if exponent.is_Integer and abs(int(exponent)) <= 64:
        n = abs(int(exponent))
        return max(n.bit_length() - 1 + n.bit_count() - 1, 0) + (1 if exponent < 0 else 0)
    return TRANSCENDENTAL + (1 if exponent.is_negative else 0)


def _per_instance(equation: Equation, further: bool) -> int:
    return operations(equation.body) + (1 if equation.reduced or further else 0)


def _touched(equation: Equation, program: Program) -> list[tuple[str, Expr]]:
    """For the target and each read: the tensor and how many of its entries the equation touches (at most)."""
    extents = {i.symbol: i.extent for i in equation.indices}
    return [
        (tensor_of(entry), _entries(entry, program.tensor(tensor_of(entry)), extents))
        for entry in (equation.target, *equation.reads)
    ]


def _entries(entry: Indexed, tensor: Tensor, extents: Mapping[IndexName, Expr]) -> Expr:
    factors: list[Expr] = []
    seen: set[IndexName] = set()
    for subscript, extent in zip(entry.indices, tensor.shape, strict=True):
        symbols = sorted(index_symbols(subscript) - seen, key=sp.default_sort_key)
        seen.update(symbols)
        if not symbols:
            continue
        if subscript in extents or subscript.has(Indexed):
            factors += [extents[s] for s in symbols if s in extents]
        else:  # a window or a shift stays within its axis
            factors.append(extent)
    return volume(factors)


def _total(parts: Mapping[Expr, int]) -> Expr:
    # Products of extents, so the expansion has as many terms as the extents have; floors are atoms.
    return sp.expand(sp.Add(*(count * points for points, count in parts.items())))


def readable(expr: Any) -> str:
    """A count for people: ``1.31 M``, ``2.6 k*T*N + 340``; exact below 10,000."""
    terms = sorted(sp.Add.make_args(sp.sympify(expr)), key=lambda t: (-len(t.free_symbols), sp.default_sort_key(t)))
    shown = []
    for term in terms:
        factor, rest = term.as_coeff_Mul()
        number = _short(factor)
        shown.append(number if rest == 1 else f"{rest}" if factor == 1 else f"{number}*{rest}")
    return " + ".join(shown).replace("+ -", "- ")


def _short(number: Any) -> str:
    value = float(number)
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(scale, 1e4):
            return f"{value / scale:.3g}{unit}"
    return f"{value:g}"
