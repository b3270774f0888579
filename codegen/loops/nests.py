"""One scheduled equation as loops: which run outside, where its sum is kept, what is checked before an entry is touched.

A sum is kept in a scalar where the reduced indices run innermost, else it grows in its place in memory: the innermost loop is
the one along which most entries lie side by side. A maximum is a scan for the first one. A guard stands as far out as its
indices let it (law 3: where it is false nothing is evaluated). A subscript through an index tensor that is not proved to lie in
its axis is asked first: outside a read is 0 and a write does not happen (laws 2, 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed
from sympy.logic.boolalg import BooleanFunction

from codegen.loops.ir import For, How, If, Local, Nest, Node, Set, Store
from codegen.schedule import Statement
from symbolic.analysis import affine, at_most, index_reads, is_positive, lies_in, subscript_range
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index_symbols, operands, tensor_of

__all__ = ["Better", "Inside", "contribution", "levels", "nest", "scan", "without_units"]

Ranges = Mapping[IndexName, Index]


class Inside(sp.Function):  # type: ignore[misc]
    """``Inside(entry, condition, ...)``: the entry where every condition holds, tested in turn, else 0."""

    @property
    def entry(self) -> Indexed:
        return self.args[0]

    @property
    def conditions(self) -> tuple[Expr, ...]:
        return tuple(self.args[1:])


class Better(BooleanFunction):  # type: ignore[misc]
    """``Better(value, best, found)``: whether a value takes the place of the best so far, if one was found. Of equals the first
    stays; a NaN is greater than all, as everywhere in NumPy, and the first stays, too. To SymPy everything equals itself."""


@dataclass(frozen=True)
class _Level:
    """One loop of a nest, or what must hold before the next."""

    index: Index | None = None
    conditions: tuple[Expr, ...] = ()


def nest(statement: Statement, how: How, program: Program, ranges: Ranges) -> Nest:
    """The loops of one statement inside the loops ``ranges``. ``how``: whether its writes find nothing in their place."""
    equation = without_units(statement.equation)
    every = {**ranges, **{i.symbol: i for i in equation.indices}}
    if equation.reduction is not Reduction.SUM:
        body = scan([equation], program, every)
    else:
        body = contribution(equation, how, program, every)
    tests = tuple(test for symbol, lower, upper in statement.when for test in _between(symbol, lower, upper, every[symbol]))
    return Nest((statement.origin.equation,), (If(tests, body),) if tests else body)


def without_units(equation: Equation) -> Equation:
    """The equation without indices that take one value alone."""
    single = {i.symbol: i.lower for i in equation.indices if sp.expand(i.extent) == 1 and not index_symbols(i.lower)}
    if not single or equation.reduction is not Reduction.SUM:
        return equation
    kept = tuple(replace(i, lower=i.lower.xreplace(single), upper=i.upper.xreplace(single))
                 for i in equation.indices if i.symbol not in single)
    return replace(equation.xreplace(single), indices=kept)


def _between(symbol: IndexName, lower: Expr, upper: Expr, loop: Index) -> list[Expr]:
    found = []
    if sp.expand(lower - loop.lower) != 0:
        found.append(sp.Ge(symbol, lower))
    if sp.expand(upper - loop.upper) != 0:
        found.append(sp.Lt(symbol, upper))
    return found


def contribution(equation: Equation, how: How, program: Program, ranges: Ranges) -> tuple[Node, ...]:
    """The loops of a sum."""
    free, reduced = _outer_first(equation), list(equation.reduced)
    inner = innermost(equation)
    value = checked(equation.body, equation, program, ranges)
    guards = [*known_guards(equation, program, ranges), *_where_written(equation, program, ranges)]
    # An entry without an instance is 0. It is stored where the instance would be, not before: in one slot the last step's stands
    # there till then.
    nothing = (Store(equation.target, sp.Integer(0), How.SET),) if how is How.SET and guards else ()
    if not reduced:
        if inner in free and _may_lead(inner, free):
            free = [*(i for i in free if i is not inner), inner]
        return levels(free, guards, (Store(equation.target, value, how),), otherwise=nothing)
    if inner is None or inner in reduced:
        if inner is not None and _may_lead(inner, reduced):
            reduced = [*(i for i in reduced if i is not inner), inner]
        total = Local("total")
        inside = {i.symbol for i in reduced}
        outside = [g for g in guards if not index_symbols(g) & inside]
        loops = levels(reduced, [g for g in guards if g not in outside], (Set(total, value, How.ADD),), free)
        return levels(free, outside, (
            Set(total, sp.Integer(0), declares=True), *loops, Store(equation.target, total, how)), otherwise=nothing)
    outer = [i for i in free if i is not inner]
    grows = levels([*reduced, inner], guards, (Store(equation.target, value, How.ADD),), outer)
    if how is How.ADD:
        return levels(outer, (), grows)
    begins = levels([inner], (), (Store(equation.target, sp.Integer(0), How.SET),), outer)
    return levels(outer, (), (*begins, *grows))


def scan(equations: Sequence[Equation], program: Program, ranges: Ranges) -> tuple[Node, ...]:
    """The loops of a maximum, of its argument, or of both: equations that compare the same values over the same domain."""
    first = equations[0]
    best, found = Local("best"), Local("found")
    some = all(is_positive(i.extent, program) for i in first.reduced)
    if len(equations) == 1 and first.component is None and not first.guards and some:
        value = checked(first.body, first, program, ranges)
        loops = levels(first.reduced, (), (Set(best, value, How.MAX),))
        least = Set(best, sp.S.NegativeInfinity, declares=True)
        return levels(_outer_first(first), (), (least, *loops, Store(first.target, best, How.SET)))
    value = Local("value")
    places = {e.component: Local(f"at_{e.component}") for e in equations if e.component is not None}
    compared = checked(first.body, first, program, ranges)
    taken: list[Node] = [Set(best, value), Set(found, sp.Integer(1), integer=True)]
    taken += [Set(place, component, integer=True) for component, place in places.items()]
    inside = {i.symbol for i in first.reduced}
    guards = known_guards(first, program, ranges)
    outside = [g for g in guards if not index_symbols(g) & inside]
    loops = levels(first.reduced, [g for g in guards if g not in outside], (
        Set(value, compared, declares=True), If((Better(value, best, found),), tuple(taken))), _outer_first(first))
    begin = [Set(best, sp.Integer(0), declares=True), Set(found, sp.Integer(0), declares=True, integer=True)]
    begin += [Set(place, sp.Integer(-1), declares=True, integer=True) for place in places.values()]
    end = [Store(e.target, best if e.component is None else places[e.component], How.SET) for e in equations]
    nothing = tuple(Store(e.target, sp.Integer(0 if e.component is None else -1), How.SET) for e in equations)
    return levels(_outer_first(first), outside, (*begin, *loops, *end), otherwise=nothing)


# ---- order -----------------------------------------------------------------------------------------------------------


def outermost(equation: Equation) -> list[Index]:
    """The indices of the target, outermost axis first."""
    return _outer_first(equation)


def _outer_first(equation: Equation) -> list[Index]:
    def place(index: Index) -> int:
        return next(k for k, s in enumerate(equation.target.indices) if index.symbol in index_symbols(s))

    return sorted(equation.free, key=place)


def innermost(equation: Equation) -> Index | None:
    """The index along which most entries lie side by side; of equals a reduced one, then the last of the target."""
    weights: dict[IndexName, int] = {}
    for entry in (equation.target, *equation.reads):
        if entry.indices:
            form = affine(entry.indices[-1])
            for symbol, coefficient in form.coefficients if form is not None else ():
                elsewhere = any(symbol in index_symbols(s) for s in entry.indices[:-1])
                if isinstance(symbol, IndexName) and abs(coefficient) == 1 and not elsewhere:
                    weights[symbol] = weights.get(symbol, 0) + 1
    candidates = [i for i in (*equation.reduced, *reversed(_outer_first(equation))) if weights.get(i.symbol)]
    return max(candidates, key=lambda i: weights[i.symbol]) if candidates else None


def _may_lead(inner: Index, indices: Sequence[Index]) -> bool:
    """Whether no other range hangs on this index, so that it may run inside of all."""
    return not any(inner.symbol in index_symbols(i.lower) | index_symbols(i.upper) for i in indices)


def levels(
    indices: Sequence[Index], guards: Iterable[Expr], body: tuple[Node, ...], outer: Sequence[Index] = (),
    otherwise: tuple[Node, ...] = (),
) -> tuple[Node, ...]:
    """The body under the loops, each guard right after the last of its indices is known; ``otherwise``: where one is false."""
    waiting = list(guards)
    names = {i.symbol for i in indices}
    found: list[_Level] = []
    for index in (None, *indices):
        if index is not None:
            found.append(_Level(index))
            names.discard(index.symbol)
        ready = tuple(g for g in waiting if not index_symbols(g) & names)
        waiting = [g for g in waiting if g not in ready]
        if ready:
            found.append(_Level(conditions=ready))
    missing = otherwise
    for level in reversed(found):
        if level.index is None:
            body = (If(level.conditions, body, missing),)
        else:
            body = (For(level.index, body),)
            missing = (For(level.index, missing),) if missing else ()
    return body


# ---- subscripts through index tensors --------------------------------------------------------------------------------


def checked(body: Expr, equation: Equation, program: Program, ranges: Ranges) -> Expr:
    """The body with every read that may leave its tensor asked first."""
    rule = {}
    for entry in operands(body):
        tests = _tests(entry, equation, program, ranges)
        if tests:
            rule[entry] = Inside(entry, *tests)
    return body.xreplace(rule) if rule else body


def _where_written(equation: Equation, program: Program, ranges: Ranges) -> list[Expr]:
    """What must hold for the target to be an entry: a window may leave it, too."""
    found = _tests(equation.target, equation, program, ranges)
    tensor = program.tensor(equation.name)
    for axis, subscript in enumerate(equation.target.indices):
        if not index_reads((subscript,)):
            found += _inside(subscript, tensor.bounds(axis), program, ranges)
    return found


def _inside(subscript: Expr, bounds: tuple[Expr, Expr], program: Program, ranges: Ranges) -> list[Expr]:
    """The comparisons that say that a subscript lies in an axis, where that is not proved."""
    span = subscript_range(subscript, ranges, program)
    if span is not None and lies_in(span, bounds, program):
        return []
    lower, upper = bounds
    tests = [(sp.Ge(subscript, lower), span is not None and at_most(lower, span[0], program)),
             (sp.Lt(subscript, upper), span is not None and at_most(span[1], upper - 1, program))]
    return [test for test, proved in tests if not proved and test is not sp.true]


def _tests(entry: Indexed, equation: Equation, program: Program, ranges: Ranges) -> list[Expr]:
    """What must hold for an entry to exist, in the order in which it may be asked; nothing where that is proved."""
    tensor = program.tensor(tensor_of(entry))
    found: list[Expr] = []
    for axis, subscript in enumerate(entry.indices):
        inner = index_reads((subscript,))
        if not inner:
            continue
        for position in inner:
            found += [test for test in _tests(position, equation, program, ranges) if test not in found]
            found += [test for test in _somewhere(position, equation, program, ranges) if test not in found]
        found += [test for test in _inside(subscript, tensor.bounds(axis), program, ranges) if test not in found]
    return found


def _somewhere(position: Indexed, equation: Equation, program: Program, ranges: Ranges) -> list[Expr]:
    """That an index read gives a place: what a caller gives is in its range or is the ignored value, what is computed may be -1,
    and beyond its array stands what is nowhere (law 8)."""
    tensor = program.tensor(tensor_of(position))
    if tensor.ignore is not None:
        named = sp.Ne(position, tensor.ignore)
        return [] if named in equation.guards else [named]
    spans = [subscript_range(s, ranges, program) for s in position.indices]
    inside = all(span is not None and lies_in(span, tensor.bounds(axis), program) for axis, span in enumerate(spans))
    if inside and not program.writers.get(tensor.name):
        return []
    return [sp.Ge(position, tensor.low)]


def known_guards(equation: Equation, program: Program, ranges: Ranges) -> list[Expr]:
    """The guards, each after the tests that say that what it compares is there: of nothing no comparison holds."""
    found: list[Expr] = []
    for guard in equation.guards:
        for position in index_reads((guard.lhs, guard.rhs)):
            tests = [*_tests(position, equation, program, ranges), *_somewhere(position, equation, program, ranges)]
            found += [test for test in tests if test not in found and test != guard]
        found.append(guard)
    return found
