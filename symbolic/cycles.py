"""Cycles of tensors: which depend on themselves, and along which subscripts they are read at another place than written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import sympy as sp
from sympy import Expr

from symbolic.program import Equation, Program, index_symbols, tensor_of

__all__ = ["adjacency", "components", "graph", "is_shifted"]


def is_shifted(part: Expr, equation: Equation) -> bool:
    """Whether a subscript of a read is one of the target's plus a constant other than 0."""
    symbols = index_symbols(part)
    for own in equation.target.indices:
        if symbols and index_symbols(own) == symbols:
            distance = sp.expand(part - own)
            if not index_symbols(distance) and distance != 0:
                return True
    return False


def graph(program: Program) -> dict[str, tuple[str, ...]]:
    """For each computed tensor the computed tensors that it reads."""
    return adjacency(
        (name, tensor_of(e))
        for name, rows in program.writers.items()
        for equation in rows
        for e in equation.reads
        if tensor_of(e) in program.writers
    )


def adjacency(edges: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The ends of the edges by their starts, in order."""
    table: dict[str, dict[str, None]] = {}
    for start, end in edges:
        table.setdefault(start, {})[end] = None
        table.setdefault(end, {})
    return {name: tuple(ends) for name, ends in table.items()}


def components(graph: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """For each node that reaches itself, the number of its strongly connected component (Tarjan 1972, without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    component: dict[str, int] = {}
    for root in graph:
        if root in order:
            continue
        work: list[tuple[str, Iterator[str]]] = [(root, iter(graph[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, rest = work[-1]
            following = next(rest, None)
            if following is not None:
                if following not in order:
                    order[following] = low[following] = len(order)
                    stack.append(following)
                    on_stack.add(following)
                    work.append((following, iter(graph[following])))
                elif following in on_stack:
                    low[name] = min(low[name], order[following])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[name])
            if low[name] == order[name]:
                members: list[str] = []
                while not members or members[-1] != name:
                    members.append(stack.pop())
                    on_stack.discard(members[-1])
                if len(members) > 1 or name in graph[name]:
                    component.update(dict.fromkeys(members, order[name]))
    return component
