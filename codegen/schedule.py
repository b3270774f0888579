"""From a Program to an order of loops: what depends on itself along an axis is a loop, all else stays array-wide.

Nodes are equations; an edge leads from a writer to a reader where the written and the read region may meet. A strongly
connected component is a recurrence: an axis, a direction and integer shifts are found for which every dependence goes
forward, the dependences that the loop carries are dropped, and what is left is split again (Allen and Kennedy 1987; Kennedy
and Allen 2001, ch. 6). Whatever is not in the component leaves the loop: the input projection of all steps becomes one
product before it, the weight gradient of all steps one product after it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr

from codegen.dependence import Distances, Edge, Timing, edges_between, find_shifts, steppable, timings
from symbolic.analysis import index_reads, is_nonnegative
from symbolic.errors import ScheduleError
from symbolic.program import Equation, Index, IndexName, Names, Program, index_symbols

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


def schedule(program: Program) -> tuple[Node, ...]:
    """The nodes of a legal order. Raises ScheduleError naming a cycle that no loop can carry."""
    equations = list(program.equations)
    names = Names.of(program)
    return _order(equations, [Statement(e) for e in equations], edges_between(equations, program), program, names, ())


def equations_of(nodes: Iterable[Node]) -> Iterable[Statement]:
    """All statements, in the order of the text."""
    for node in nodes:
        if isinstance(node, Loop):
            yield from equations_of(node.body)
        else:
            yield node


def _order(
    equations: Sequence[Equation], nodes: Sequence[Statement], edges: Sequence[Edge], program: Program,
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
    inner: dict[int, list[Edge]] = {}
    for edge in edges:
        if of[edge.writer] == of[edge.reader]:
            inner.setdefault(of[edge.writer], []).append(edge)
    result: list[tuple[Node, ...]] = []
    failed: dict[tuple[int, int, int], ScheduleError] = {}
    for c, component in enumerate(components):
        if c not in inner:
            result.append((nodes[component[0]],))
            continue
        try:
            result.append((_loop(sorted(component), equations, nodes, inner[c], program, names, loops),))
        except ScheduleError as error:
            failed[min(position[k] for k in component)] = error
    if failed:
        raise failed[min(failed)]  # the first in the text: a cycle of the user's, not that of its adjoint
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


def _loop(
    component: list[int], equations: Sequence[Equation], nodes: Sequence[Statement], edges: Sequence[Edge],
    program: Program, names: Names, loops: tuple[IndexName, ...],
) -> Loop:
    first = equations[component[0]]
    distances = Distances(equations, program)
    for index in steppable(first):
        for direction in (1, -1):
            for timing in timings(component, equations, edges, Timing(index.symbol, direction), distances):
                found = find_shifts(component, edges, timing, distances)
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
    where = next((at for k in component if (at := equations[k].origin.where) is not None), None)
    place = f"{where}: " if where is not None else ""
    raise ScheduleError(
        f"{place}{program.name}: these equations depend on each other in a cycle that no loop order can compute:\n  {shown}\n"
        "expected each way round the cycle to step along one axis (h[t-1]); check for a missing shift"
    )


def _build_loop(
    component: list[int], equations: Sequence[Equation], nodes: Sequence[Statement], left: Sequence[Edge],
    timing: Mapping[int, Timing], program: Program, names: Names, loops: tuple[IndexName, ...], direction: int,
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
        assert any(i.symbol == timing[k].symbol for i in steppable(equation)), f"a loop through a maximum: {equation}"
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
        Edge(place[e.writer], place[e.reader], inner_equations[place[e.writer]].target,
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
