"""Contributions that stand side by side become one expression: ``l = m - z[y] + log(s)``, written once instead of three times.

Fused are neighbouring statements that add element-wise terms to the same entries over the same domain; a reduction keeps a
statement of its own, and so does a term under a guard. What is only copied before a loop, to entries that the loop adds to one by
one, is added there: ``v[t] = b`` for all t and ``v[t] += m[t]`` in the loop become ``v[t] = m[t] + b``, with one pass less.
Contributions commute (law 2), so the values are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sympy import Expr

from codegen.schedule import Loop, Node, Statement
from symbolic.analysis import affine, index_reads, is_equal, subscript_range
from symbolic.program import Index, IndexName, Program, Reduction, reads
from symbolic.rewrite.terms import solve, substitute

__all__ = ["fuse"]


def fuse(nodes: Sequence[Node], program: Program) -> tuple[Node, ...]:
    """The nodes with neighbouring contributions joined, and with copies where the loop is that adds to them."""
    return _with_copies(_joined(nodes), program)


def _joined(nodes: Sequence[Node]) -> list[Node]:
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Loop):
            result.append(replace(node, body=tuple(_joined(node.body))))
        elif result and isinstance(result[-1], Statement) and may_join(result[-1], node):
            result[-1] = _join(result[-1], node)
        else:
            result.append(node)
    return result


def may_join(first: Statement, second: Statement) -> bool:
    """Whether two statements add element-wise terms to the same entries at the same time."""
    a, b = first.equation, second.equation
    return (
        a.target == b.target
        and frozenset(a.indices) == frozenset(b.indices)
        and first.when == second.when
        and not (a.guards or b.guards or a.reduced or b.reduced)
        and a.reduction is b.reduction is Reduction.SUM
        and not index_reads(a.target.indices)
    )


def _join(first: Statement, second: Statement) -> Statement:
    a, b = first.equation, second.equation
    numbers = tuple(dict.fromkeys((*a.numbers, *b.numbers)))
    return replace(first, equation=replace(a, body=a.body + b.body, numbers=numbers))


def _with_copies(nodes: Sequence[Node], program: Program) -> tuple[Node, ...]:
    result = list(nodes)
    for node in nodes:
        if not isinstance(node, Statement) or not _is_copy(node):
            continue
        place = next(k for k, other in enumerate(result) if other is node)
        for k, other in enumerate(result[place + 1 :], place + 1):
            added = _added(node, other, {}, program) if isinstance(other, Loop) else None
            if added is not None:
                result[k] = added
                del result[place]
                break
    return tuple(result)


def _is_copy(statement: Statement) -> bool:
    """Whether a statement writes what is there already: an entry or a number."""
    equation = statement.equation
    return (
        not (statement.when or equation.guards or equation.reduced) and equation.reduction is Reduction.SUM
        and (equation.body.is_Indexed or not reads(equation.body)) and not index_reads((*equation.target.indices, equation.body))
    )


def _added(copy: Statement, loop: Loop, around: Mapping[IndexName, Index], program: Program) -> Loop | None:
    """The loop with the copy in the statement that adds an element-wise term to just these entries, where it has one."""
    ranges = {**around, loop.symbol: Index(loop.symbol, loop.lower, loop.upper)}
    for k, child in enumerate(loop.body):
        made = _added(copy, child, ranges, program) if isinstance(child, Loop) else _sum(copy, child, ranges, program)
        if made is not None:
            return replace(loop, body=(*loop.body[:k], made, *loop.body[k + 1 :]))
    return None


def _sum(copy: Statement, adding: Statement, loops: Mapping[IndexName, Index], program: Program) -> Statement | None:
    a, b = copy.equation, adding.equation
    if a.name != b.name or adding.when or b.guards or b.reduced or b.reduction is not Reduction.SUM:
        return None
    at = solve(a.target.indices, b.target.indices, frozenset(i.symbol for i in a.indices))
    ranges = {**loops, **{i.symbol: i for i in b.indices}}
    if at is None or len(at) != len(a.indices) or sorted(map(str, ranges)) != sorted(_symbol(e) for e in at.values()):
        return None
    for index in a.indices:
        found = subscript_range(at[index.symbol], ranges, program)
        if found is None or not (is_equal(found[0], index.lower, program) and is_equal(found[1] + 1, index.upper, program)):
            return None
    moved = replace(copy, equation=replace(a, target=b.target, body=substitute(a.body, at), indices=b.indices))
    return _join(moved, adding)


def _symbol(subscript: Expr) -> str:
    """The one index of a subscript that runs through neighbouring entries."""
    form = affine(subscript)
    alone = form is not None and len(form.coefficients) == 1 and abs(form.coefficients[0][1]) == 1
    return str(form.coefficients[0][0]) if form is not None and alone else ""
