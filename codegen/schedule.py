"""From a Program to an order of loops: what depends on itself along an axis is a loop, all else stays array-wide.

Nodes are equations; an edge leads from a writer to a reader where the written and the read region may meet. A strongly
connected component is a recurrence: an axis, a direction and integer shifts are found for which every dependence goes
forward, the dependences that the loop carries are dropped, and what is left is split again (Allen and Kennedy 1987; Kennedy
and Allen 2001, ch. 6). Whatever is not in the component leaves the loop: the input projection of all steps becomes one
product before it, the weight gradient of all steps one product after it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine, are_apart, index_reads, is_nonnegative, subscript_range
from symbolic.errors import ScheduleError
from symbolic.places import Shelf
from symbolic.program import Equation, Index, IndexName, Names, Program, Reduction, index_symbols, tensor_of

__all__ = ["Loop", "Node", "Statement", "equations_of", "schedule"]


@dataclass(frozen=True)
class Statement:
    """One equation at one point of the schedule. Indices of enclosing loops stand in it as scalars.

    ``when``: the loop values (inclusive lower, exclusive upper) at which it runs, where narrower than the loop. ``of``: the
    statement over all steps of which this is one block.
    """

    equation: Equation
    when: tuple[tuple[IndexName, Expr, Expr], ...] = ()
    of: Statement | None = None

    @property
    def origin(self) -> Statement:
        """The statement as it was scheduled."""
        return self if self.of is None else self.of.origin

    def __str__(self) -> str:
        when = "".join(f" if {lower} <= {symbol} < {upper}" for symbol, lower, upper in self.when)
        return f"{self.equation}{when}"


@dataclass(frozen=True)
class Loop:
    """A sequential loop over ``lower <= symbol < upper``, upwards or downwards."""

    symbol: IndexName
    lower: Expr
    upper: Expr
    descending: bool
    body: tuple[Node, ...]

    def __str__(self) -> str:
        arrow = "down" if self.descending else "up"
        lines = [f"for {self.symbol} = {self.lower}..{self.upper - 1} {arrow}:"]
        for node in self.body:
            lines += [f"  {line}" for line in str(node).splitlines()]
        return "\n".join(lines)


Node = Statement | Loop


@dataclass(frozen=True)
class _Edge:
    """A read of ``reader`` that may see what ``writer`` wrote."""

    writer: int
    reader: int
    target: Indexed
    entry: Indexed


def schedule(program: Program) -> tuple[Node, ...]:
    """The nodes of a legal order. Raises ScheduleError naming a cycle that no loop can carry."""
    equations = list(program.equations)
    names = Names.of(program)
    return _order(equations, [Statement(e) for e in equations], _edges(equations, program), program, names, ())


def equations_of(nodes: Iterable[Node]) -> Iterable[Statement]:
    """All statements, in the order of the text."""
    for node in nodes:
        if isinstance(node, Loop):
            yield from equations_of(node.body)
        else:
            yield node


def _edges(equations: Sequence[Equation], program: Program) -> list[_Edge]:
    writers = Shelf(range(len(equations)), lambda k: equations[k].target)
    found = []
    for k, equation in enumerate(equations):
        for entry in equation.reads:
            for w in writers.near(entry):
                if _may_meet(equations[w].target, equations[w], entry, equation, program):
                    found.append(_Edge(w, k, equations[w].target, entry))
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


def _order(
    equations: Sequence[Equation], nodes: Sequence[Statement], edges: Sequence[_Edge], program: Program,
    names: Names, loops: tuple[IndexName, ...],
) -> tuple[Node, ...]:
    """Order the given statements (by index into ``equations``); components that are cycles become loops."""
    members = range(len(equations))
    successors: dict[int, list[int]] = {k: [] for k in members}
    for edge in edges:
        successors[edge.writer].append(edge.reader)
    components = _components(list(members), successors)
    of = {k: c for c, component in enumerate(components) for k in component}
    position = _positions(equations)
    inner: dict[int, list[_Edge]] = {}
    for edge in edges:
        if of[edge.writer] == of[edge.reader]:
            inner.setdefault(of[edge.writer], []).append(edge)
    result: list[tuple[Node, ...]] = []
    for c, component in enumerate(components):
        if c not in inner:
            result.append((nodes[component[0]],))
        else:
            result.append((_loop(sorted(component), equations, nodes, inner[c], program, names, loops),))
    after: dict[int, set[int]] = {c: set() for c in range(len(components))}
    waiting = dict.fromkeys(range(len(components)), 0)
    for edge in edges:
        a, b = of[edge.writer], of[edge.reader]
        if a != b and b not in after[a]:
            after[a].add(b)
            waiting[b] += 1
    key = {c: min(position[k] for k in component) for c, component in enumerate(components)}
    ready = [(key[c], c) for c, count in waiting.items() if not count]
    heapq.heapify(ready)
    ordered: list[Node] = []
    while ready:
        _, c = heapq.heappop(ready)
        ordered += result[c]
        for b in sorted(after[c]):
            waiting[b] -= 1
            if not waiting[b]:
                heapq.heappush(ready, (key[b], b))
    return tuple(ordered)


def _positions(equations: Sequence[Equation]) -> dict[int, tuple[int, int, int]]:
    """Text order; among the terms of one line those that fill the target come before those that are broadcast."""
    first: dict[tuple[str, int], int] = {}
    for k, equation in enumerate(equations):
        first.setdefault((equation.name, equation.number), k)
    ranks = {}
    for k, equation in enumerate(equations):
        carried = {i.symbol for i in equation.free}
        filled = carried <= index_symbols(equation.body)
        ranks[k] = (first[equation.name, equation.number], 0 if filled and equation.reduced else 1 if filled else 2, k)
    # A scatter adds to what is there: it comes after the contributions that fill the tensor.
    last: dict[str, int] = {}
    for k, equation in enumerate(equations):
        last[equation.name] = max(last.get(equation.name, 0), ranks[k][0])
    for k, equation in enumerate(equations):
        if index_reads(equation.target.indices):
            ranks[k] = (last[equation.name], 3, k)
    return ranks


def _components(members: list[int], successors: Mapping[int, Iterable[int]]) -> list[list[int]]:
    """Strongly connected components (Tarjan 1972), without recursion: nets may be deep."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in members:
        if root in order:
            continue
        work = [(root, iter(successors[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, following = work[-1]
            for follower in following:
                if follower not in order:
                    order[follower] = low[follower] = len(order)
                    stack.append(follower)
                    on_stack.add(follower)
                    work.append((follower, iter(successors[follower])))
                    break
                if follower in on_stack:
                    low[node] = min(low[node], order[follower])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = []
                    while True:
                        top = stack.pop()
                        on_stack.discard(top)
                        component.append(top)
                        if top == node:
                            break
                    found.append(component)
    return found


# ---- loops -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Timing:
    """How one equation sits in the loop: its index is ``sign * v + shift`` for loop value v."""

    symbol: IndexName
    sign: int
    shift: int = 0


def _loop(
    component: list[int], equations: Sequence[Equation], nodes: Sequence[Statement], edges: Sequence[_Edge],
    program: Program, names: Names, loops: tuple[IndexName, ...],
) -> Loop:
    first = equations[component[0]]
    distances = _Distances(equations, program)
    for index in _steppable(first):
        for direction in (1, -1):
            for timing in _timings(component, equations, edges, _Timing(index.symbol, direction), distances):
                found = _shifts(component, edges, timing, distances)
                if found is None:
                    continue
                shifts, left = found
                if len(left) == len(edges):
                    continue  # this axis carries nothing
                timing = {k: replace(t, shift=shifts[k]) for k, t in timing.items()}
                try:
                    return _build_loop(component, equations, nodes, left, timing, program, names, loops, direction)
                except ScheduleError:
                    continue
    shown = "\n  ".join(str(equations[k]) for k in component)
    raise ScheduleError(
        f"{program.name}: these equations depend on each other in a cycle that no loop order can compute:\n  {shown}\n"
        "expected each way round the cycle to step along one axis (h[t-1]); check for a missing shift"
    )


CHOICES = 32
"""Ways of giving each equation of a component its loop index that are tried; all but a handful of programs have one."""


class _Distances:
    """Distances that were asked for, kept: two choices of loop indices differ in few equations."""

    def __init__(self, equations: Sequence[Equation], program: Program) -> None:
        self.equations, self.program = equations, program
        self.found: dict[tuple[_Edge, _Timing, _Timing], int | None] = {}

    def __call__(self, edge: _Edge, timing: Mapping[int, _Timing]) -> int | None:
        key = edge, timing[edge.writer], timing[edge.reader]
        if key not in self.found:
            self.found[key] = _distance(edge, self.equations, timing, self.program)
        return self.found[key]


def _steppable(equation: Equation) -> tuple[Index, ...]:
    """The indices that a loop may step through: a sum can be added to step by step, a maximum stands in one statement."""
    return equation.indices if equation.reduction is Reduction.SUM else equation.free


def _timings(
    component: list[int], equations: Sequence[Equation], edges: Sequence[_Edge], start: _Timing, distances: _Distances
) -> Iterator[dict[int, _Timing]]:
    """Spread the choice of a loop index from the first equation over the component, along reads and writes.

    ``h[t+k] += w[k]*g[t]`` may step with t or with k: each is tried in turn.
    """
    waiting: list[dict[int, _Timing]] = [{component[0]: start}]
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
    timing: Mapping[int, _Timing], equations: Sequence[Equation], edges: Sequence[_Edge], distances: _Distances
) -> list[dict[int, _Timing]]:
    """For the first equation without a timing that an edge joins to one with: every timing that steps along with one that is
    known, or through an equal range, and under which each read is a known number of steps after its write, or more."""
    chosen: int | None = None
    options: dict[_Timing, None] = {}
    ranges: dict[_Timing, None] = {}
    for edge in edges:
        for known, other, subs_known, subs_other in (
            (edge.writer, edge.reader, edge.target.indices, edge.entry.indices),
            (edge.reader, edge.writer, edge.entry.indices, edge.target.indices),
        ):
            if known in timing and other not in timing and chosen in (None, other):
                step = equations[known].index(timing[known].symbol)
                found = _matches(timing[known], subs_known, subs_other, equations[other])
                equal = [_Timing(i.symbol, timing[known].sign) for i in _steppable(equations[other])
                         if (i.lower, i.upper) == (step.lower, step.upper)]
                if found or equal:
                    chosen = other
                options.update(dict.fromkeys(found))
                ranges.update(dict.fromkeys(equal))
    if chosen is None:
        return []
    every = [{chosen: match} for match in {**options, **ranges}]
    return [option for option in every if _computable({**timing, **option}, chosen, edges, distances)]


def _computable(timing: Mapping[int, _Timing], newest: int, edges: Sequence[_Edge], distances: _Distances) -> bool:
    """Whether every edge between the newest equation and one with a timing has a distance."""
    return all(
        distances(edge, timing) is not None for edge in edges
        if newest in (edge.writer, edge.reader) and edge.writer in timing and edge.reader in timing
    )


def _matches(
    known: _Timing, subscripts: Sequence[Expr], others: Sequence[Expr], equation: Equation
) -> list[_Timing]:
    found: dict[_Timing, None] = {}
    for a, b in zip(subscripts, others, strict=True):
        first, second = affine(a), affine(b)
        if first is None or second is None:
            continue
        coefficient = first.coefficient(known.symbol)
        if abs(coefficient) != 1:
            continue
        for symbol, factor in second.coefficients:
            if isinstance(symbol, IndexName) and abs(factor) == 1 and any(i.symbol == symbol for i in _steppable(equation)):
                found.setdefault(_Timing(symbol, int(coefficient * known.sign * factor)))
    return list(found)


def _shifts(
    component: list[int], edges: Sequence[_Edge], timing: Mapping[int, _Timing], distances: _Distances
) -> tuple[dict[int, int], list[_Edge]] | None:
    """Shifts that make every distance at least 0 (Bellman and Ford), and the edges that are left inside one step."""
    least: list[tuple[_Edge, int]] = []
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
    edge: _Edge, equations: Sequence[Equation], timing: Mapping[int, _Timing], program: Program
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


def _build_loop(
    component: list[int], equations: Sequence[Equation], nodes: Sequence[Statement], left: Sequence[_Edge],
    timing: Mapping[int, _Timing], program: Program, names: Names, loops: tuple[IndexName, ...], direction: int,
) -> Loop:
    lead = timing[component[0]]
    variable = lead.symbol if lead.symbol not in loops else names.index(str(lead.symbol))
    # An equation may have the loop's name on another of its indices (attention reads h[k] for k < t, its adjoint steps with k).
    equations = list(equations)
    apart: dict[int, dict[IndexName, IndexName]] = {}
    for k in component:
        if timing[k].symbol != variable and any(i.symbol == variable for i in equations[k].indices):
            apart[k] = {variable: names.index(str(variable))}
            equations[k] = equations[k].renamed(apart[k])
    ranges = {}
    for k in component:
        index = equations[k].index(timing[k].symbol)
        sign, shift = timing[k].sign * direction, timing[k].shift
        # The equation's index is sign times the loop's value plus the shift.
        ranges[k] = (index.lower - shift, index.upper - shift) if sign > 0 else (shift - index.upper + 1, shift - index.lower + 1)
    lower = _extreme([r[0] for r in ranges.values()], program, least=True)
    upper = _extreme([r[1] for r in ranges.values()], program, least=False)
    inner_nodes, inner_equations = [], []
    for k in component:
        sign, shift = timing[k].sign * direction, timing[k].shift
        value = sign * variable + shift
        equation = equations[k]
        at = {timing[k].symbol: value}
        assert any(i.symbol == timing[k].symbol for i in _steppable(equation)), f"a loop through a maximum: {equation}"
        kept = tuple(Index(i.symbol, i.lower.xreplace(at), i.upper.xreplace(at))
                     for i in equation.indices if i.symbol != timing[k].symbol)
        replaced = replace(equation.xreplace(at), indices=kept)
        low, high = ranges[k]
        when = nodes[k].when
        if sp.expand(low - lower) != 0 or sp.expand(high - upper) != 0:
            when = (*when, (variable, low, high))
        inner_equations.append(replaced)
        inner_nodes.append(Statement(replaced, when))
    place = {k: n for n, k in enumerate(component)}
    steps = {k: t.sign * direction * variable + t.shift for k, t in timing.items()}
    inner_edges = [
        _Edge(place[e.writer], place[e.reader], inner_equations[place[e.writer]].target,
              e.entry.xreplace(apart.get(e.reader, {})).xreplace({timing[e.reader].symbol: steps[e.reader]}))
        for e in left
    ]
    body = _order(inner_equations, inner_nodes, inner_edges, program, names, (*loops, variable))
    return Loop(variable, lower, upper, direction < 0, body)


def _extreme(values: Sequence[Expr], program: Program, least: bool) -> Expr:
    best = values[0]
    for value in values[1:]:
        difference = best - value if least else value - best
        if is_nonnegative(difference, program):
            best = value
        elif not is_nonnegative(-difference, program):
            best = (sp.Min if least else sp.Max)(best, value)
    return best
