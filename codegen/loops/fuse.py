"""Nests over the same ranges become one: what one stores the other reads at once, from a register or from the cache.

Two nests may share their outer loops where every entry that both touch, and one of them writes, belongs to the same iteration of
both: some axis has the same subscript in both for each shared index, or the entries are proved apart. A nest is joined to an
earlier one also across nodes that have nothing to do with it, or brings the earlier one down to itself.

Requires: nodes in a legal order. Ensures: the same values. Cost: quadratic in the nests of one body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import sympy as sp
from sympy import Expr, Indexed

from codegen.loops.ir import Buffer, For, If, Local, Nest, Node, Product, Set, Store, walk
from codegen.loops.uses import touched, written
from symbolic.analysis import are_apart, subscript_range
from symbolic.program import Index, IndexName, Program, index, index_symbols, reads, tensor_of

__all__ = ["Action", "Verdict", "fuse"]


class Action(Enum):
    """What becomes of two nests."""

    FUSE = "fuse"
    KEEP = "keep order"
    FORBID = "forbid"


@dataclass(frozen=True)
class Verdict:
    """Whether two nests share loops, how many, and why not more."""

    action: Action
    depth: int
    reason: str


def fuse(nodes: Sequence[Node], buffers: Mapping[str, Buffer], program: Program) -> tuple[Node, ...]:
    """The nodes with nests joined, in every body."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, For):
            result.append(replace(node, body=fuse(node.body, buffers, program)))
        elif isinstance(node, Nest) and not _is_apart(node):
            _join(result, node, buffers, program)
        else:
            result.append(node)
    return tuple(result)


def _is_apart(node: Nest) -> bool:
    """Whether a nest is no plain loops: products, and copies that may not run."""
    return any(isinstance(leaf, Product) for leaf, _ in walk(node.body)) or node.optional


def _join(result: list[Node], node: Nest, buffers: Mapping[str, Buffer], program: Program) -> None:
    """Put a nest after the others, or into one of them."""
    for k in range(len(result) - 1, max(-1, len(result) - 13), -1):
        earlier = result[k]
        if not isinstance(earlier, Nest) or _is_apart(earlier):
            continue
        up = all(_independent(node, other) for other in result[k + 1 :])
        down = up or all(_independent(earlier, other) for other in result[k + 1 :])
        if not down:
            continue
        verdict = judge(earlier, node, buffers, program)
        if verdict.action is Action.FUSE:
            joined = _joined(earlier, node, verdict.depth)
            if up:
                result[k] = joined
            else:
                del result[k]
                result.append(joined)
            return
    result.append(node)


def _independent(a: Node, b: Node) -> bool:
    """Whether two nodes may change places: neither writes what the other touches."""
    return not (set(written((a,))) & set(touched((b,))) or set(written((b,))) & set(touched((a,))))


def judge(a: Nest, b: Nest, buffers: Mapping[str, Buffer], program: Program) -> Verdict:
    """How many outer loops two nests may share."""
    mine, others = _chain(a.body), _chain(b.body)
    depth = 0
    for first, second in zip(mine, others, strict=False):
        names = {s.index.symbol: f.index.symbol for f, s in zip(mine[:depth], others[:depth], strict=True)}
        same = (second.index.lower.xreplace(names), second.index.upper.xreplace(names)) == (first.index.lower, first.index.upper)
        if not same or first.descending != second.descending:
            break
        depth += 1
    if not depth:
        return Verdict(Action.KEEP, 0, "no loop over the same range")
    shared = [loop.index for loop in mine[:depth]]
    reason = ""
    while shared:
        reason = _conflict(a, b, _names(a, b, len(shared)), shared, buffers, program)
        if not reason:
            return Verdict(Action.FUSE, len(shared), "every entry of both belongs to one iteration")
        shared.pop()
    return Verdict(Action.FORBID, 0, reason)


def _names(a: Nest, b: Nest, depth: int) -> dict[IndexName, IndexName]:
    """What the indices of the second are called in the first: the shared ones as there, the others as no shared one is."""
    mine, others = _chain(a.body)[:depth], _chain(b.body)[:depth]
    names = {s.index.symbol: f.index.symbol for f, s in zip(mine, others, strict=True)}
    shared = {f.index.symbol for f in mine}
    taken = {symbol for body in (a.body, b.body) for symbol in _symbols(body)} | shared
    for symbol in _symbols(others[-1].body):
        if symbol in shared:
            count = 2
            while index(f"{symbol}_{count}") in taken:
                count += 1
            names[symbol] = index(f"{symbol}_{count}")
            taken.add(names[symbol])
    return names


def _symbols(body: Sequence[Node]) -> list[IndexName]:
    """The indices of the loops in a body."""
    found: dict[IndexName, None] = {}
    for _, around in walk(body):
        found.update(dict.fromkeys(loop.index.symbol for loop in around if isinstance(loop, For)))
    return list(found)


def _chain(body: Sequence[Node]) -> list[For]:
    """The loops that stand alone one in the other."""
    found: list[For] = []
    while len(body) == 1 and isinstance(body[0], For):
        found.append(body[0])
        body = body[0].body
    return found


def _conflict(
    a: Nest, b: Nest, names: Mapping[IndexName, IndexName], shared: Sequence[Index], buffers: Mapping[str, Buffer],
    program: Program,
) -> str:
    first, second = _accesses(a), _accesses(b)
    for entry, writes, ranges in second:
        name = tensor_of(entry)
        for other, other_writes, other_ranges in first:
            if tensor_of(other) != name or not (writes or other_writes):
                continue
            moved = entry.xreplace(names)
            spans = {**{names.get(s, s): Index(names.get(s, s), i.lower.xreplace(names), i.upper.xreplace(names))
                        for s, i in ranges.items()}}
            if not _meet_at_once(other, moved, other_ranges, spans, shared, buffers[name], program):
                return f"{entry} of one iteration meets {other} of another"
    return ""


def _meet_at_once(
    a: Indexed, b: Indexed, in_a: Mapping[IndexName, Index], in_b: Mapping[IndexName, Index], shared: Sequence[Index],
    buffer: Buffer, program: Program,
) -> bool:
    """Whether two entries are one only in the same iteration of the shared loops, or never."""
    symbols = {i.symbol for i in shared}
    left = set(symbols)
    for first, second in zip(buffer.positions(a.indices), buffer.positions(b.indices), strict=True):
        spans = subscript_range(first, in_a, program), subscript_range(second, in_b, program)
        if spans[0] is not None and spans[1] is not None and not first.has(sp.Mod) and are_apart(spans[0], spans[1], program):
            return True
        mine = index_symbols(first)
        if first == second and len(mine & symbols) == 1 and not (mine - symbols) & (set(in_a) | set(in_b)):
            left -= mine
    return not left


def _accesses(node: Nest) -> list[tuple[Indexed, bool, Mapping[IndexName, Index]]]:
    """Every entry that a nest touches, whether it is written, and the ranges round it."""
    found: list[tuple[Indexed, bool, Mapping[IndexName, Index]]] = []
    for leaf, around in walk(node.body):
        ranges = {loop.index.symbol: loop.index for loop in around if isinstance(loop, For)}
        parts: list[Expr] = [c for loop in around if isinstance(loop, If) for c in loop.conditions]
        if isinstance(leaf, Store):
            found.append((leaf.target, True, ranges))
            parts += [leaf.value, *leaf.target.indices]
        elif isinstance(leaf, Set):
            parts.append(leaf.value)
        found += [(entry, False, ranges) for part in parts for entry in reads(part)]
    return found


def _joined(a: Nest, b: Nest, depth: int) -> Nest:
    """The nests over their shared loops."""
    mine, others = _chain(a.body), _chain(b.body)
    names: dict[Expr, Expr] = dict(_names(a, b, depth))
    taken = {leaf.local for leaf, _ in walk(a.body) if isinstance(leaf, Set)}
    for leaf, _ in walk(b.body):
        if isinstance(leaf, Set) and leaf.declares and leaf.local in taken:
            count = 2
            while Local(f"{leaf.local}_{count}") in taken:
                count += 1
            names[leaf.local] = Local(f"{leaf.local}_{count}")
    inner = (*mine[depth - 1].body, *(_renamed(node, names) for node in others[depth - 1].body))
    for loop in reversed(mine[:depth]):
        inner = (replace(loop, body=inner),)
    return Nest((*a.equations, *b.equations), inner, "fused")


def _renamed(node: Node, names: Mapping[Expr, Expr]) -> Node:
    match node:
        case For():
            symbol = names.get(node.index.symbol, node.index.symbol)
            own = Index(symbol, node.index.lower.xreplace(names), node.index.upper.xreplace(names))
            return replace(node, index=own, body=tuple(_renamed(inner, names) for inner in node.body))
        case If():
            return replace(node, conditions=tuple(c.xreplace(names) for c in node.conditions),
                           body=tuple(_renamed(inner, names) for inner in node.body),
                           otherwise=tuple(_renamed(inner, names) for inner in node.otherwise))
        case Store():
            return replace(node, target=node.target.xreplace(names), value=node.value.xreplace(names))
        case Set():
            return replace(node, local=names.get(node.local, node.local), value=node.value.xreplace(names))
        case _:
            return node


