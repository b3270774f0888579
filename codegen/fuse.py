"""Contributions that stand side by side become one expression: ``l = m - z[y] + log(s)``, written once instead of three times.

Fused are neighbouring statements that add element-wise terms to the same entries over the same domain; a reduction keeps a
statement of its own, and so does a term under a guard. Contributions commute (law 2), so the values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codegen.schedule import Loop, Node, Statement
from symbolic.analysis import index_reads
from symbolic.program import Reduction

__all__ = ["fuse"]


def fuse(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes with neighbouring contributions joined."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Loop):
            result.append(replace(node, body=fuse(node.body)))
        elif result and isinstance(result[-1], Statement) and may_join(result[-1], node):
            result[-1] = _join(result[-1], node)
        else:
            result.append(node)
    return tuple(result)


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
