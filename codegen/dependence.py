"""Dependences between equations, and loops that respect them: which index of each equation a loop steps with, how far apart.

An edge leads from a writer to a reader where the written and the read region may meet; undecided counts as yes (law 21). For a
loop to carry it, the time of the read less that of the write must have a proved lower bound: an interval will do, from the
subscripts, the ranges and the guards (law 22). Shifts of whole equations then make every distance at least 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine, are_apart, index_reads, is_nonnegative, subscript_range
from symbolic.places import Shelf
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index_symbols, tensor_of

__all__ = ["Distances", "Edge", "Timing", "edges_between", "find_shifts", "steppable", "timings"]


@dataclass(frozen=True)
class Edge:
    """A read of ``reader`` that may see what ``writer`` wrote."""

    writer: int
    reader: int
    target: Indexed
    entry: Indexed


def edges_between(equations: Sequence[Equation], program: Program) -> list[Edge]:
    """Every read of a tensor with each equation whose writes it may see."""
    writers = Shelf(range(len(equations)), lambda k: equations[k].target)
    found = []
    for k, equation in enumerate(equations):
        for entry in equation.reads:
            for w in writers.near(entry):
                if _may_meet(equations[w].target, equations[w], entry, equation, program):
                    found.append(Edge(w, k, equations[w].target, entry))
    return found


def _may_meet(target: Indexed, writer: Equation, entry: Indexed, reader: Equation, program: Program) -> bool:
    """Whether the two regions may intersect; undecided counts as yes (law 21)."""
    ranges_w = {i.symbol: i for i in writer.indices}
    ranges_r = {i.symbol: i for i in reader.indices}
    for a, b in zip(target.indices, entry.indices, strict=True):
        first, second = subscript_range(a, ranges_w, program), subscript_range(b, ranges_r, program)
        if first is None or second is None or any(map(index_symbols, (*first, *second))):
            continue
        if are_apart(first, second, program):
            return False
    return True


@dataclass(frozen=True)
class Timing:
    """How one equation sits in the loop: its index is ``sign * v + shift`` for loop value v."""

    symbol: IndexName
    sign: int
    shift: int = 0


CHOICES = 32
"""Ways of giving each equation of a component its loop index that are tried; all but a handful of programs have one."""


class Distances:
    """Distances that were asked for, kept: two choices of loop indices differ in few equations."""

    def __init__(self, equations: Sequence[Equation], program: Program) -> None:
        self.equations, self.program = equations, program
        self.found: dict[tuple[Edge, Timing, Timing], int | None] = {}

    def __call__(self, edge: Edge, timing: Mapping[int, Timing]) -> int | None:
        key = edge, timing[edge.writer], timing[edge.reader]
        if key not in self.found:
            self.found[key] = _distance(edge, self.equations, timing, self.program)
        return self.found[key]


def steppable(equation: Equation) -> tuple[Index, ...]:
    """The indices that a loop may step through: a sum can be added to step by step, a maximum stands in one statement."""
    return equation.indices if equation.reduction is Reduction.SUM else equation.free


def timings(
    component: list[int], equations: Sequence[Equation], edges: Sequence[Edge], start: Timing, distances: Distances
) -> Iterator[dict[int, Timing]]:
    """Spread the choice of a loop index from the first equation over the component, along reads and writes.

    ``h[t+k] += w[k]*g[t]`` may step with t or with k: each is tried in turn.
    """
    waiting: list[dict[int, Timing]] = [{component[0]: start}]
    for _ in range(CHOICES):
        if not waiting:
            return
        timing = waiting.pop()
        while len(timing) < len(component):
            options = _next_choice(timing, equations, edges, distances)
            if not options:
                break
            waiting += [{**timing, **option} for option in reversed(options[1:])]
            timing = {**timing, **options[0]}
        else:
            yield timing


def _next_choice(
    timing: Mapping[int, Timing], equations: Sequence[Equation], edges: Sequence[Edge], distances: Distances
) -> list[dict[int, Timing]]:
    """For the first equation without a timing that an edge joins to one with: every timing that steps along with one that is
    known, or through an equal range, and under which each read is a known number of steps after its write, or more."""
    chosen: int | None = None
    options: dict[Timing, None] = {}
    ranges: dict[Timing, None] = {}
    for edge in edges:
        for known, other, subs_known, subs_other in (
            (edge.writer, edge.reader, edge.target.indices, edge.entry.indices),
            (edge.reader, edge.writer, edge.entry.indices, edge.target.indices),
        ):
            if known in timing and other not in timing and chosen in (None, other):
                step = equations[known].index(timing[known].symbol)
                found = _matches(timing[known], subs_known, subs_other, equations[other])
                equal = [Timing(i.symbol, timing[known].sign) for i in steppable(equations[other])
                         if (i.lower, i.upper) == (step.lower, step.upper)]
                if found or equal:
                    chosen = other
                options.update(dict.fromkeys(found))
                ranges.update(dict.fromkeys(equal))
    if chosen is None:
        return []
    every = [{chosen: match} for match in {**options, **ranges}]
    return [option for option in every if _computable({**timing, **option}, chosen, edges, distances)]


def _computable(timing: Mapping[int, Timing], newest: int, edges: Sequence[Edge], distances: Distances) -> bool:
    """Whether every edge between the newest equation and one with a timing has a distance."""
    return all(
        distances(edge, timing) is not None for edge in edges
        if newest in (edge.writer, edge.reader) and edge.writer in timing and edge.reader in timing
    )


def _matches(
    known: Timing, subscripts: Sequence[Expr], others: Sequence[Expr], equation: Equation
) -> list[Timing]:
    found: dict[Timing, None] = {}
    for a, b in zip(subscripts, others, strict=True):
        first, second = affine(a), affine(b)
        if first is None or second is None:
            continue
        coefficient = first.coefficient(known.symbol)
        if abs(coefficient) != 1:
            continue
        for symbol, factor in second.coefficients:
            if isinstance(symbol, IndexName) and abs(factor) == 1 and any(i.symbol == symbol for i in steppable(equation)):
                found.setdefault(Timing(symbol, int(coefficient * known.sign * factor)))
    return list(found)


def find_shifts(
    component: list[int], edges: Sequence[Edge], timing: Mapping[int, Timing], distances: Distances
) -> tuple[dict[int, int], list[Edge]] | None:
    """Shifts that make every distance at least 0 (Bellman and Ford), and the edges that are left inside one step."""
    least: list[tuple[Edge, int]] = []
    for edge in edges:
        distance = distances(edge, timing)
        if distance is None:
            return None
        least.append((edge, distance))
    time = dict.fromkeys(component, 0)
    for _ in range(len(component) + 1):
        changed = False
        for edge, distance in least:
            if time[edge.reader] + distance < time[edge.writer]:
                time[edge.reader] = time[edge.writer] - distance
                changed = True
        if not changed:
            break
    else:
        return None
    left = [edge for edge, distance in least if time[edge.reader] + distance - time[edge.writer] <= 0]
    # Time runs with the loop; an equation delayed by d steps handles, at loop value v, its index sign * (v - d).
    return {k: -timing[k].sign * time[k] * 1 for k in component}, left


def _distance(
    edge: Edge, equations: Sequence[Equation], timing: Mapping[int, Timing], program: Program
) -> int | None:
    """A proved lower bound of (time of the read) - (time of the write), the best over the axes of the tensor."""
    writer, reader = equations[edge.writer], equations[edge.reader]
    w, r = timing[edge.writer], timing[edge.reader]
    best: int | None = None
    for a, b in zip(edge.target.indices, edge.entry.indices, strict=True):
        for mine, other, own, its, known, sign in (
            (w, r, a, b, (writer, reader), 1),  # the time of the write, in terms of the read's indices
            (r, w, b, a, (reader, writer), -1),  # and the other way round, for a target such as h[prev[t]]
        ):
            form = affine(own)
            if form is None or affine(its) is None or abs(form.coefficient(mine.symbol)) != 1:
                continue
            # position = c * tau + rest, so that time is sign * tau = sign * c * (position - rest)
            coefficient = form.coefficient(mine.symbol)
            rest = own - coefficient * mine.symbol
            if rest.has(Indexed):
                continue
            solved, asked = known
            marked = {s: sp.Dummy(str(s), integer=True) for s in index_symbols(rest)}
            distance = sp.expand(
                sign * (other.sign * other.symbol - mine.sign * coefficient * (its - rest.xreplace(marked)))
            )
            ranges = {i.symbol: i for i in asked.indices}
            ranges.update({marked[i.symbol]: Index(marked[i.symbol], i.lower, i.upper)
                           for i in solved.indices if i.symbol in marked})
            found = _least(distance, ranges, asked, program)
            if found is not None and (best is None or found > best):
                best = found
    return best


def _least(distance: Expr, ranges: Mapping[IndexName, Index], equation: Equation, program: Program) -> int | None:
    """A proved lower bound of an expression in the indices of one equation; its guards may prove it."""
    if distance.is_Integer:
        return int(distance)
    proofs = []
    for guard in (*equation.guards, *_of_arguments(distance, program)):
        slack = _slack(guard)
        if slack is not None:
            rest = sp.expand(distance - slack)
            proofs.append(int(rest) if rest.is_Integer else _least_of_range(rest, ranges, program))
    proofs.append(_least_of_range(distance, ranges, program))
    return max((p for p in proofs if p is not None), default=None)


def _of_arguments(expr: Expr, program: Program) -> Iterator[Expr]:
    """What holds of the arguments of maxima in an expression: the guards of the maximum, at its maximiser. Where there was no
    instance the argument is nowhere, and neither a read nor a write through it happens."""
    for entry in index_reads((expr,)):
        writers = program.writers.get(tensor_of(entry), ())
        if len(writers) != 1 or writers[0].reduction is not Reduction.ARGMAX or writers[0].component is None:
            continue
        (found,) = writers
        places = found.target.indices
        if len(set(places)) != len(places) or any(not isinstance(place, IndexName) for place in places):
            continue
        at = {**dict(zip(places, entry.indices, strict=True)), found.component: entry}
        for guard in found.guards:
            if index_symbols(guard) <= set(at):
                yield guard.xreplace(at)


def _least_of_range(distance: Expr, ranges: Mapping[IndexName, Index], program: Program) -> int | None:
    for symbol, index in ranges.items():
        if isinstance(symbol, sp.Dummy):
            bounded = _bound(distance, symbol, index, program)
            if bounded is None:
                return None
            distance = bounded
    found = subscript_range(distance, ranges, program)
    if found is None:
        return None
    for claim in (1, 0):
        if is_nonnegative(found[0] - claim, program):
            return claim
    return int(found[0]) if sp.sympify(found[0]).is_Integer else None


def _bound(expr: Expr, symbol: Expr, index: Index, program: Program) -> Expr | None:
    coefficient = sp.expand(expr).coeff(symbol)
    if is_nonnegative(coefficient, program):
        return sp.expand(expr.xreplace({symbol: index.lower}))
    if is_nonnegative(-coefficient, program):
        return sp.expand(expr.xreplace({symbol: index.upper - 1}))
    return None


def _slack(guard: Expr) -> Expr | None:
    """An expression that the guard proves to be at least 0."""
    if isinstance(guard, sp.Lt):
        return guard.rhs - guard.lhs - 1
    if isinstance(guard, sp.Le):
        return guard.rhs - guard.lhs
    if isinstance(guard, sp.Gt):
        return guard.lhs - guard.rhs - 1
    if isinstance(guard, sp.Ge):
        return guard.lhs - guard.rhs
    return None
