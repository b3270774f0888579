"""Recurrences shortened: a tensor that only hands a product on within a cycle is passed by, and its loop goes without it.

    a[t] = s[t]*h[t],  m[t] = r[t]*a[t],  h[t-1] += U*m[t]   ->   m[t] = r[t]*s[t]*h[t],  and a[t] = s[t]*h[t] by itself

s and r are known before the loop starts, so their product is a tensor too: a step has one multiplication less, and a is one
array expression after the loop. A plain copy takes over the product, and what it was copied from is read off it.

Requires: nothing. Ensures: the same values but for the order of factors. Law: a product is associative; a reader is given the
product in place of the entry only where that one instance writes the entry (law 17) and nothing has a guard. Only entries
that are read as a factor are passed by: a sum of products keeps what it reads. Cost: linear for each tensor passed by.

>>> from symbolic.program import *
>>> T, t = size("T"), index("t")
>>> x, s, r, h, a, m = (Tensor(name, (T,)) for name in "xsrham")
>>> over = (Index.over(t, T),)
>>> program = Program("p", (x, s, r, h, a, m), (Equation(a[t], s[t]*h[t], over, numbers=(1,)),
...     Equation(m[t], a[t]*r[t], over, numbers=(2,)), Equation(h[t], x[t] + m[t - 1], over, numbers=(3,))), {"T": None},
...     outputs=("a", "m"))
>>> print(*shorten(program).equations, sep=chr(10))
(1) a[t] += h[t]*s[t]    for t=0..T - 1
(2) m_slope[t] += r[t]*s[t]    for t=0..T - 1
(2) m[t] += h[t]*m_slope[t]    for t=0..T - 1
(3) h[t] += m[t - 1] + x[t]    for t=0..T - 1
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.hoist import is_worthwhile
from codegen.schedule import _components
from symbolic.analysis import at_most, in_bounds, is_nonnegative
from symbolic.program import Equation, Index, Names, Origin, Program, Tensor, index_symbols, reads, tensor_of
from symbolic.rewrite import promised
from symbolic.rewrite.dead import drop_dead
from symbolic.rewrite.terms import is_pointwise, renumbered, solve, substitute
from symbolic.rewrite.values import Values, inside, is_met, sole_writer

__all__ = ["cycles", "shorten"]

NAME = "shorten"


def shorten(program: Program) -> Program:
    """The program whose cycles go through no tensor that only hands a product on."""
    kept, names, given = promised(program), Names.of(program), program
    while True:
        for cycle in cycles(program):
            made = next((p for name in sorted(cycle) if (p := _passed_by(name, cycle, program, names, kept))), None)
            if made is not None:
                program = made
                break
        else:
            return program if program is given else drop_dead(program, kept)


def cycles(program: Program) -> list[frozenset[str]]:
    """The tensors that depend on one another, set by set."""
    place = {t.name: k for k, t in enumerate(program.tensors)}
    successors: dict[int, dict[int, None]] = {k: {} for k in place.values()}
    for equation in program.equations:
        for entry in equation.reads:
            successors[place[tensor_of(entry)]].setdefault(place[equation.name])
    found = _components(list(successors), successors)
    return [frozenset(program.tensors[k].name for k in members) for members in found if len(members) > 1]


@dataclass(frozen=True)
class _Product:
    """An element-wise body: a factor that is known before the loop, times one entry of the cycle."""

    fixed: Expr
    entry: Indexed


def _product(equation: Equation, cycle: frozenset[str]) -> _Product | None:
    if equation.guards or not is_pointwise(equation):
        return None
    factors = sp.Mul.make_args(equation.body)
    moving = [f for f in factors if any(tensor_of(r) in cycle for r in reads(f))]
    if len(moving) != 1 or not isinstance(moving[0], Indexed):
        return None
    return _Product(sp.Mul(*(f for f in factors if f is not moving[0])), moving[0])


def _passed_by(name: str, cycle: frozenset[str], program: Program, names: Names, kept: frozenset[str]) -> Program | None:
    """The program in which nothing of the cycle reads the tensor, or ``None`` where something must."""
    writers = program.writers.get(name, ())
    readers = [e for e in program.readers.get(name, ()) if e.name in cycle and e.name != name]
    products = {id(w): p for w in writers if (p := _product(w, cycle)) is not None and sole_writer(w, program)}
    if not readers or len(products) != len(writers) or any(map(any, program.tensor(name).margin)):
        return None
    values, changed, used = Values(program), {}, set[int]()
    slopes: dict[int, tuple[Tensor, Equation]] = {}
    for reader in readers:
        found = _through(name, reader, writers, products, cycle, values)
        if found is None:
            return None
        product, path = found
        copied = _read_back(reader, path[0], program) if id(path[0]) not in changed else None
        made = renumbered(replace(reader, body=product.fixed * product.entry), NAME, reader, *path)
        if is_worthwhile(sp.Mul.make_args(product.fixed)):
            slope = _staged(made, product.fixed, names, program)
            if slope is None:
                return None  # it would be computed in every step
            slopes[id(reader)] = slope
            made = replace(made, body=product.entry * slope[1].target)
        changed[id(reader)] = made
        if copied is not None:
            changed[id(path[0])] = renumbered(replace(path[0], body=copied), NAME, path[0])
            path = path[1:]
        used.update(map(id, path))
    tensors, rows = list(program.tensors), list[Equation]()
    shared = [slope for _, slope in slopes.values()]
    for equation in program.equations:
        slope = slopes.get(id(equation))
        fixed = products[id(equation)].fixed if id(equation) in used and id(equation) not in changed else sp.S.One
        if is_worthwhile(sp.Mul.make_args(fixed)) and (slope := _staged(equation, fixed, names, program)) is not None:
            shared.append(slope[1])
            changed[id(equation)] = replace(equation, body=products[id(equation)].entry * slope[1].target)
        if slope is not None:
            tensors.append(slope[0])
            rows.append(slope[1])
        rows.append(changed.get(id(equation), equation))
    result = program.with_equations((_with_shared(row, shared, program) for row in rows), tensors)
    return _without_copy(name, result) if len(writers) == 1 and name not in kept else result


def _through(
    name: str, reader: Equation, writers: Sequence[Equation], products: Mapping[int, _Product], cycle: frozenset[str],
    values: Values,
) -> tuple[_Product, list[Equation]] | None:
    """What a reader reads of the tensor, traced to an entry of another one; and the writers on the way."""
    product, path = _product(reader, cycle), list[Equation]()
    while product is not None and tensor_of(product.entry) == name:
        if len(path) == len(writers) or not is_met(product.entry, reader, values.program):
            return None
        met = [(w, at) for w in writers if (at := values.instance(product.entry, w, reader)) is not None]
        if len(met) != 1:
            return None
        ((writer, at),) = met
        path.append(writer)
        step = products[id(writer)]
        product = _Product(product.fixed * substitute(step.fixed, at), substitute(step.entry, at))
    return (product, path) if product is not None and path else None


def _read_back(reader: Equation, writer: Equation, program: Program) -> Expr | None:
    """The entry of a plain copy that holds what the writer wrote, for each of the writer's instances."""
    if not isinstance(reader.body, Indexed) or not sole_writer(reader, program):
        return None
    at = solve(reader.body.indices, writer.target.indices, frozenset(i.symbol for i in reader.indices))
    if at is None or not inside(at, reader, writer, program):
        return None
    entry = substitute(reader.target, at)
    return entry if is_met(entry, writer, program) else None


def _staged(equation: Equation, fixed: Expr, names: Names, program: Program) -> tuple[Tensor, Equation] | None:
    """A tensor for a factor of an equation, and what computes it, over the indices of the equation that it has."""
    domain = tuple(i for i in equation.indices if i.symbol in index_symbols(fixed))
    if any(_moves(i) or not is_nonnegative(i.extent, program) for i in domain):
        return None
    shape = tuple(sp.expand(i.extent) for i in domain)
    tensor = Tensor(names.fresh(f"{equation.name}_slope"), shape, note="a factor that is known before the loop")
    target = tensor.at(tuple(i.symbol - i.lower for i in domain))
    return tensor, Equation(target, fixed, domain, numbers=equation.numbers, origin=Origin(NAME, (equation.number,)))


def _moves(index: Index) -> bool:
    return bool(index_symbols(index.lower) or index_symbols(index.upper))


def _with_shared(equation: Equation, shared: Iterable[Equation], program: Program) -> Equation:
    """The equation with the factors read that several have, where it has them at the same indices, each within its range."""
    for slope in {slope.body: slope for slope in shared}.values():  # of two that are the same the one reads the other
        rest = _divided(equation.body, slope.body) if equation.target != slope.target else None
        if rest is not None and all(_lies_within(equation.index(i.symbol), i, program) for i in slope.indices):
            equation = replace(equation, body=rest * slope.target)
    return equation


def _lies_within(index: Index, other: Index, program: Program) -> bool:
    return at_most(other.lower, index.lower, program) and at_most(index.upper, other.upper, program)


def _divided(body: Expr, factor: Expr) -> Expr | None:
    left = list(sp.Mul.make_args(body))
    for part in sp.Mul.make_args(factor):
        if part not in left:
            return None
        left.remove(part)
    return sp.Mul(*left)


def _without_copy(name: str, program: Program) -> Program:
    """The program in which what reads a mere copy reads what it is a copy of."""
    (writer,) = program.writers[name]
    if not isinstance(writer.body, Indexed):
        return program
    rows = []
    for equation in program.equations:
        rule = {}
        for entry in equation.reads:
            if tensor_of(entry) != name:
                continue
            at = solve(writer.target.indices, entry.indices, frozenset(i.symbol for i in writer.indices))
            if at is None or not in_bounds(entry, equation, program) or not inside(at, writer, equation, program):
                return program
            rule[entry] = substitute(writer.body, at)
        if equation is not writer:
            rows.append(equation.xreplace(rule) if rule else equation)
    return program.with_equations(rows).pruned()
