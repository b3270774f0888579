"""A softmax by its equations: e = exp(..), s the sum of e, so that e/s is p; never by the name of a layer.

    e[t,k] = exp(o[t,k]),  s[t] = sum_k e[t,k]        e[t,k]/s[t] reads p[t,k]

Where the program has a tensor that is e/s, that is p; else one is made up, for formulas alone: nothing computes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import sympy as sp
from sympy import Expr, Indexed

from symbolic.program import Equation, IndexName, Names, Program, Reduction, Tensor, tensor_of
from symbolic.rewrite.terms import bottom_up, powers, solve, substitute

__all__ = ["Softmax", "named", "normalised", "softmaxes"]


@dataclass(frozen=True)
class Softmax:
    """``equation``: p[..] = e[..]/s[..]; ``given``: whether the program has it, else p is a name for formulas alone."""

    equation: Equation
    tensor: Tensor
    given: bool

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def exponential(self) -> Indexed:
        """The entry of e."""
        return next(base for base, power in powers(self.equation.body).items() if power == 1 and isinstance(base, Indexed))

    @property
    def total(self) -> Indexed:
        """The entry of s."""
        return next(base for base, power in powers(self.equation.body).items() if power == -1)


def softmaxes(program: Program, forward: Iterable[Equation], given: Sequence[Equation]) -> tuple[Softmax, ...]:
    """The softmaxes among forward equations, each with its p: a tensor of the given equations, or one with a fresh name."""
    writers: dict[str, list[Equation]] = {}
    for equation in forward:
        writers.setdefault(equation.name, []).append(equation)
    names = Names({t.name for t in program.tensors} | {name.rpartition(".")[2] for name in program.sizes})
    found = []
    for (total, *others) in writers.values():
        entry = total.body
        if others or total.reduction is not Reduction.SUM or len(total.reduced) != 1 or not isinstance(entry, Indexed):
            continue
        (exponential, *more) = writers.get(tensor_of(entry), [total])
        if more or not isinstance(exponential.body, sp.exp):
            continue
        if total.guards or exponential.guards or not _bare(total.target) or not _bare(entry) or not _bare(exponential.target):
            continue
        if set(entry.indices) != {i.symbol for i in total.indices}:
            continue
        own = next((e for e in given if _is(e, entry, total.target)), None)
        found.append(_made_up(entry, total, program, names) if own is None else Softmax(own, program.tensor(own.name), True))
    return tuple(found)


def named(equation: Equation, known: Iterable[Softmax]) -> Equation:
    """The equation with each e/s read as p."""
    body = equation.body
    for softmax in known:
        body = bottom_up(body, partial(_divided, softmax))
    return equation if body == equation.body else replace(equation, body=body)


def _divided(softmax: Softmax, expr: Expr) -> Expr:
    """A product with e/s taken out of it as often as it is there."""
    if not expr.is_Mul:
        return expr
    e, s = softmax.exponential, softmax.total
    held = powers(expr)
    for entry, power in list(held.items()):
        if not isinstance(entry, Indexed) or tensor_of(entry) != tensor_of(e) or not power.is_Integer or power < 1:
            continue
        places = solve(e.indices, entry.indices, frozenset(p for p in e.indices if isinstance(p, IndexName)))
        below = None if places is None else substitute(s, places)
        times = min(power, -held.get(below, sp.S.Zero)) if below is not None else 0
        if not times >= 1:
            continue
        assert places is not None
        held[entry] -= times
        held[below] += times
        p = substitute(softmax.equation.target, places)
        held[p] = held.get(p, sp.S.Zero) + times
    return sp.Mul(*(base**power for base, power in held.items()))


def _made_up(entry: Indexed, total: Equation, program: Program, names: Names) -> Softmax:
    """p = e/s over the entries of e, with a name that is free."""
    e = program.tensor(tensor_of(entry))
    layer = e.name.rpartition(".")[0]
    p = Tensor(names.fresh(f"{layer}.p" if layer else "p"), e.shape, note="a name for the formulas")
    indices = {i.symbol: i for i in total.indices}
    return Softmax(Equation(p.at(entry.indices), entry / total.target, tuple(indices[part] for part in entry.indices)), p, False)


def _is(equation: Equation, entry: Indexed, total: Indexed) -> bool:
    """Whether an equation says of every entry of its target that it is e/s."""
    if equation.guards or equation.reduced or not _bare(equation.target) or len(equation.target.indices) != len(entry.indices):
        return False
    rule = dict(zip(entry.indices, equation.target.indices, strict=True))
    return bool((entry / total).xreplace(rule) == equation.body)


def _bare(entry: Indexed) -> bool:
    """Whether each subscript is an index of its own."""
    return all(isinstance(part, IndexName) for part in entry.indices) and len(set(entry.indices)) == len(entry.indices)


# ---- for compositions: which entries are softmaxes, and of what --------------------------------------------------


def normalised(program: Program) -> dict[str, list[tuple[Equation, Indexed]]]:
    """For each tensor that is a softmax along its last axis: its equations, each with the entry z whose exponential is
    normalised."""
    found: dict[str, list[tuple[Equation, Indexed]]] = {}
    for equation in program.equations:
        if (inner := _argument(equation, program)) is not None:
            found.setdefault(equation.name, []).append((equation, inner))
    return found


def _argument(equation: Equation, program: Program) -> Indexed | None:
    """The z of ``exp(z)/sum(exp(z))``, where that is what an equation says."""
    ratio = _ratio(equation.body)
    if ratio is None or equation.reduced or equation.guards or len(program.writers_near(equation.target)) != 1:
        return None
    top, bottom = ratio
    exponentials, sums = (program.writers_near(e) for e in (top, bottom))
    if len(exponentials) != 1 or len(sums) != 1 or not isinstance(exponentials[0].body, sp.exp):
        return None
    (made,), (summed,) = exponentials, sums
    whole = summed.reduction is Reduction.SUM and len(summed.reduced) == 1 and isinstance(summed.body, Indexed)
    inner = made.body.args[0]
    if not whole or tensor_of(summed.body) != tensor_of(top) or not isinstance(inner, Indexed) or made.reduced or made.guards:
        return None
    if made.target.indices != inner.indices:
        return None
    # The sum must be that of the entry's own exponentials, along the last axis.
    place = dict(zip(summed.body.indices, top.indices, strict=True))
    along = summed.reduced[0].symbol
    if summed.target.xreplace(place) != bottom or summed.body.indices[-1] != along or equation.target.indices != top.indices:
        return None
    shown: Indexed = inner.xreplace(dict(zip(made.target.indices, top.indices, strict=True)))
    return shown


def _ratio(body: object) -> tuple[Indexed, Indexed] | None:
    """``e, s`` of ``e/s``."""
    if not isinstance(body, sp.Mul) or len(body.args) != 2:
        return None
    top = [p for p in body.args if isinstance(p, Indexed)]
    under = [p.base for p in body.args if isinstance(p, sp.Pow) and p.exp == -1 and isinstance(p.base, Indexed)]
    return (top[0], under[0]) if len(top) == 1 and len(under) == 1 else None
