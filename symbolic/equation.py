"""Equations: ``target[psi(i)] += body(i)`` over a domain of indices, under guards, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from html import escape
from typing import Any

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational
from sympy.printing.latex import LatexPrinter

from symbolic.display import Shown
from symbolic.entries import IndexName, index, index_symbols, reads, tensor_of
from symbolic.errors import Location

__all__ = ["Equation", "Index", "Origin", "Reduction"]


class Reduction(StrEnum):
    """How the instances that write one entry combine. ``ARGMAX`` gives one component of the first maximiser."""

    SUM = "sum"
    MAX = "max"
    ARGMAX = "argmax"


_BIG = {Reduction.SUM: r"\sum", Reduction.MAX: r"\max", Reduction.ARGMAX: r"\operatorname*{arg\,max}"}


@dataclass(frozen=True)
class Index:
    """An iteration index with its half-open range ``lower <= symbol < upper``."""

    symbol: IndexName
    lower: Expr
    upper: Expr

    @classmethod
    def over(cls, symbol: IndexName | str, extent: Any, lower: Any = 0) -> Index:
        """The index that runs over ``lower .. extent - 1``."""
        return cls(index(symbol) if isinstance(symbol, str) else symbol, sp.sympify(lower), sp.sympify(extent))

    @property
    def extent(self) -> Expr:
        return self.upper - self.lower

    @cached_property
    def last(self) -> Expr:
        """The greatest value."""
        return self.upper - 1

    @property
    def name(self) -> str:
        return str(self.symbol.name)

    def __str__(self) -> str:
        return f"{self.symbol}={self.lower}..{self.upper - 1}"


@dataclass(frozen=True)
class Origin:
    """Where an equation came from: the derivation is printed from these, never from a second algorithm.

    ``rule``: ``spec`` for an equation of the model, ``chain rule``, ``seed``, ``tangent``, ``argument of the maximum`` or the
    name of a rewrite. ``parents``: numbers of the equations it was made from. ``read``: the read X[phi] that was
    differentiated. ``where``: the place in the user's text.
    """

    rule: str = "spec"
    parents: tuple[int, ...] = ()
    read: Indexed | None = None
    partial: Expr | None = None
    text: str = ""
    where: Location | None = None


class _LatexPrinter(LatexPrinter):  # type: ignore[misc]
    """SymPy's printer with the names of tensors upright in full."""

    printmethod = "_chainrule_latex"  # else SymPy asks Indexed itself

    def _print_Indexed(self, expr: Any) -> str:
        name = tensor_of(expr)
        base = name if len(name) == 1 else rf"\mathrm{{{name}}}".replace("_", r"\_")
        below = ", ".join(map(self._print, expr.indices))
        return f"{base}_{{{below}}}" if below else base

    _print_Scalar = _print_Indexed


def _latex(expr: Any) -> str:
    return str(_LatexPrinter().doprint(expr))


@dataclass(frozen=True)
class Equation(Shown):
    """``target += body`` over the domain ``indices`` where every guard holds; see the module for the meaning.

    ``component`` is set for ``ARGMAX`` alone: the reduced index whose value at the first maximum is the entry.
    ``numbers``: the equation's own number first, then those of all equations that a rewrite merged into it.
    """

    target: Indexed
    body: Expr
    indices: tuple[Index, ...]
    guards: tuple[Relational, ...] = ()
    reduction: Reduction = Reduction.SUM
    component: IndexName | None = None
    numbers: tuple[int, ...] = ()
    origin: Origin = field(default_factory=Origin)

    @cached_property
    def name(self) -> str:
        """The name of the target tensor."""
        return tensor_of(self.target)

    @property
    def number(self) -> int:
        return self.numbers[0] if self.numbers else 0

    @cached_property
    def reads(self) -> tuple[Indexed, ...]:
        """Every distinct read in body, guards and subscripts."""
        found: dict[Indexed, None] = {}
        for part in (self.body, *self.guards, *self.target.indices):
            found.update(dict.fromkeys(reads(part)))
        return tuple(found)

    @cached_property
    def free(self) -> tuple[Index, ...]:
        """The indices that the target carries."""
        carried = frozenset().union(*(index_symbols(part) for part in self.target.indices))
        return tuple(i for i in self.indices if i.symbol in carried)

    @cached_property
    def reduced(self) -> tuple[Index, ...]:
        """The indices that are reduced, in their declared order."""
        carried = {i.symbol for i in self.free}
        return tuple(i for i in self.indices if i.symbol not in carried)

    def index(self, symbol: IndexName) -> Index:
        """The domain of one index symbol."""
        return next(i for i in self.indices if i.symbol == symbol)

    def xreplace(self, rule: Mapping[Any, Any]) -> Equation:
        """Substitute in target, body and guards (not in the domain: the caller owns the indices). A guard that becomes true
        is dropped; one that becomes false stays, as the mark of an equation that has no instance."""
        guards = tuple(g for g in (guard.xreplace(rule) for guard in self.guards) if g is not sp.true)
        return replace(self, target=self.target.xreplace(rule), body=self.body.xreplace(rule), guards=guards)

    @cached_property
    def has_instances(self) -> bool:
        """Whether no guard is plainly false: an equation with such a guard says nothing, and a Program drops it."""
        return not any(guard is sp.false for guard in self.guards)

    def renamed(self, names: Mapping[IndexName, IndexName]) -> Equation:
        """The same equation under other index names."""
        renamed = self.xreplace(names)
        indices = tuple(
            Index(names.get(i.symbol, i.symbol), i.lower.xreplace(names), i.upper.xreplace(names)) for i in self.indices
        )
        component = names.get(self.component, self.component) if self.component is not None else None
        return replace(renamed, indices=indices, component=component)

    def __str__(self) -> str:
        domain = ", ".join(map(str, self.indices))
        guards = "".join(f" [{guard}]" for guard in self.guards)
        over = ",".join(i.name for i in self.reduced)
        body = f"{self.body}"
        if self.reduction is not Reduction.SUM:
            what = f" of {self.component}" if self.component is not None else ""
            body = f"{self.reduction}{what} over ({over}) {body}"
        number = f"({self.number}) " if self.numbers else ""
        return f"{number}{self.target} += {body}{guards}    for {domain or 'once'}"

    def latex(self, relation: str = r"\mathrel{+}=") -> str:
        """The equation as LaTeX in the names of the program, its sum and its guards before the body."""
        front = ""
        if self.reduced:
            over = ", ".join(_latex(i.symbol) for i in self.reduced)
            front = rf"{_BIG[self.reduction]}_{{{over}}} "
        front += "".join(rf"\left[{_latex(guard)}\right]\, " for guard in self.guards)
        body = rf"\left({_latex(self.body)}\right)" if front and self.body.is_Add else _latex(self.body)
        return f"{_latex(self.target)} {relation} {front}{body}"

    def _plain_latex(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _plain_html(self) -> str:
        return f"<code>{escape(str(self), quote=False)}</code>"
