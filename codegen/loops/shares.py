"""What several threads may compute side by side: a range of a node is cut into shares, each with its own iterations and rows.

A node is computed in shares of a range (the batch, mostly) where all that it writes lies under loops over the range, or in rows
of products that are, and one axis of each array that it writes steps with the range wherever the node touches the array: then no
share touches what another one writes, and a loop round them (time) needs no share to wait for another. A product that stands
alone is cut along its rows or columns, whichever are more, for the other matrix is laid out again for each share (the left one
only where its neighbours are along m: of as many, columns are cut).

    for t: a[t] += h[t-1] U'; for n: h[t,n,k] = tanh(a[t,n,k])   ->   in shares of n: for t: rows of a[t] += ..; for n: ..

Requires: the nodes of a routine, packed. Ensures: the same values for any number of shares, each computed in the same way but for
the tiles of a product. Cost: linear in the nodes, times the ranges that are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import sympy as sp
from sympy import Expr, Indexed

from codegen.loops.ir import Blocks, Buffer, For, If, Local, Nest, Node, Pack, Product, Set, Shares, Store, Zero
from codegen.loops.memory import LIKELY
from symbolic.program import Index, IndexName, Size, index, index_symbols, read, reads, tensor_of

__all__ = ["in_shares", "meeting"]

SHARE = index("share")
WORTH = 8192
"""A node that computes fewer entries is not worth a second thread."""
PART = 200
"""Nor is one that is less than this part of all that its function does."""
PER_ENTRY = 32
"""So many multiplications of a product take about as long as one entry of a loop."""
ROWS, LINE = 4, 16
"""Shares of rows of products, and of loops without a loop in them, begin at multiples: whole tiles, whole cache lines."""


def in_shares(nodes: Sequence[Node], buffers: Mapping[str, Buffer]) -> tuple[Node, ...]:
    """The nodes with what may be computed in shares inside of ``Shares``; nothing inside a loop over time is cut by itself, and
    nothing that is next to nothing of the whole."""
    least = _likely(_work(nodes)) / PART
    return tuple(_cut(node, least, buffers) for node in nodes)


def _cut(node: Node, part: float, buffers: Mapping[str, Buffer]) -> Node:
    if isinstance(node, Blocks):
        return replace(node, body=tuple(_cut(inner, part, buffers) for inner in node.body))
    if not isinstance(node, For | Nest | Product) or isinstance(node, Nest) and node.optional:
        return node
    work, least = _worth(node)
    if least is None or _likely(_work((node,))) < part:
        return node
    alone = _alone(node)
    marks = ((span, _marked(node, span, deep)) for span in _spans(node) for deep in (False, True))
    for span, marked in chain([alone] if alone and not _loops(node) else [], marks, [alone] if alone else []):
        if marked is not None and not meeting(marked, buffers):
            over = Index(SHARE, *span)
            return Shares((), (marked,), over=over, work=work, least=least, grain=_grain(marked))
    if not isinstance(node, Nest):
        return node
    return replace(node, body=tuple(_cut(inner, part, buffers) for inner in node.body))


Span = tuple[Expr, Expr]


def _loops(node: Node) -> bool:
    return isinstance(node, For) or any(map(_loops, _inside(node)))


def _span(i: Index) -> Span:
    return sp.expand(i.lower), sp.expand(i.upper)


def _spans(node: Node) -> list[Span]:
    """The ranges of loops and of rows of products, the outermost first, but for those that hang on other indices."""
    found: dict[Span, None] = {}

    def see(node: Node) -> None:
        if isinstance(node, For):
            found.setdefault(_span(node.index))
        if isinstance(node, Product) and len(node.over[0]) == 1:
            found.setdefault(_span(node.over[0][0]))
        for inner in _inside(node):
            see(inner)

    see(node)
    return [span for span in found if span[1] - span[0] != 1 and not any(map(index_symbols, span))]


def _inside(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, If) else node.body if isinstance(node, For | Nest) else ()


def _marked(node: Node, span: Span, deep: bool) -> Node | None:
    """The node with its outermost (``deep``: innermost) loops over a range marked, and rows of products; nothing where something
    is written beside them."""
    match node:
        case For() if not node.in_parts:
            below = _all_marked(node.body, span, deep)
            inside = replace(node, body=below) if below is not None else None
            here = replace(node, shared=True) if _span(node.index) == span and not isinstance(node, Blocks) else None
            return (inside or here) if deep else (here or inside)
        case Nest() if not node.optional:
            body = _all_marked(node.body, span, deep)
            return None if body is None else replace(node, body=body)
        case If():
            body, otherwise = _all_marked(node.body, span, deep), _all_marked(node.otherwise, span, deep)
            return None if body is None or otherwise is None else replace(node, body=body, otherwise=otherwise)
        case Product() if len(node.over[0]) == 1 and not node.c.row_offsets:
            rows = _span(node.over[0][0])  # as many as the range has, which is then not negative
            return replace(node, shared="rows") if rows == span == (0, sp.expand(node.rows)) else None
        case Set() if node.declares and node.constant:
            return node  # each share has its own
        case _:
            return None


def _all_marked(nodes: Sequence[Node], span: Span, deep: bool) -> tuple[Node, ...] | None:
    found = [made for node in nodes if (made := _marked(node, span, deep)) is not None]
    return tuple(found) if len(found) == len(nodes) else None


def _alone(node: Node) -> tuple[Span, Node] | None:
    """Loops round one product, with its rows or columns marked, and the range of these."""
    match node:
        case For() | Nest() if len(node.body) == 1:
            inner = _alone(node.body[0])
            return (inner[0], replace(node, body=(inner[1],))) if inner else None
        case Product() if not node.c.row_offsets:
            more = _likely(node.rows) - _likely(node.columns)
            if node.packed or more > 0 or more == 0 and node.a.columns != 1:
                return (sp.S.Zero, node.rows), replace(node, shared="rows")
            return (sp.S.Zero, node.columns), replace(node, shared="columns")
        case _:
            return None


# ---- whether shares meet ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Touch:
    """An entry that is read or written, and the index that steps through a range with its share; none: every share touches it."""

    entry: Indexed
    writes: bool
    symbol: IndexName | None


def meeting(node: Node, buffers: Mapping[str, Buffer]) -> str:
    """What two shares would both touch and one of them write, or an empty text where the marks of a node are right."""
    leaves = [leaf for leaf in _leaves(node) if not isinstance(leaf, Set)]
    if len(leaves) == 1 and isinstance(product := leaves[0], Product):
        names = {tensor_of(product.a.entry), tensor_of(product.b.entry)}
        if product.shared and tensor_of(product.c.entry) not in names and _is_plain(product, buffers):
            return ""
    if any(isinstance(leaf, Zero | Pack) for leaf in leaves):
        return "a whole array"
    if sums := _shared_scalars(node):
        return str(sums[0])
    touches = list(_touches((node,), None))
    mine = {tensor_of(touch.entry) for touch in touches if touch.writes}
    axes: dict[str, set[tuple[int, Expr]]] = {}
    for touch in touches:
        name = tensor_of(touch.entry)
        if name in mine:
            steps = _steps(touch, buffers[name])
            axes[name] = axes[name] & steps if name in axes else steps
            if not axes[name]:
                return f"{touch.entry}"
    return ""


def _leaves(node: Node) -> Iterator[Node]:
    inside = _inside(node)
    if not isinstance(node, For | Nest | If):
        yield node
    for inner in inside:
        yield from _leaves(inner)


def _shared_scalars(node: Node) -> list[Local]:
    """The scalars that change in a shared loop and are not of one of its iterations."""
    if isinstance(node, For) and node.shared:
        leaves = [leaf for inner in node.body for leaf in _leaves(inner) if isinstance(leaf, Set)]
        own = {leaf.local for leaf in leaves if leaf.declares}
        return [leaf.local for leaf in leaves if leaf.local not in own]
    return [local for inner in _inside(node) for local in _shared_scalars(inner)]


def _is_plain(product: Product, buffers: Mapping[str, Buffer]) -> bool:
    """Whether each entry of the result is one of one row and one column: then no two rows, and no two columns, have one in
    common, whatever the loops round the product do."""
    each = product.c.each
    if each is None or buffers[tensor_of(each)].storage.ring is not None:
        return False
    symbols = [index_symbols(part) for part in each.indices]
    here = {symbol for part in symbols for symbol in part}
    plain = all(len(s) <= 1 and not reads(part) for s, part in zip(symbols, each.indices, strict=True))
    return plain and sum(map(len, symbols)) == len(here) and {i.symbol for group in product.over for i in group} <= here


def _touches(nodes: Sequence[Node], symbol: IndexName | None) -> Iterator[_Touch]:
    """Every entry that nodes touch inside a shared loop over ``symbol``, or outside of all."""
    for node in nodes:
        match node:
            case For():
                if node.shared:
                    yield from _touches(node.body, node.index.symbol)
                else:
                    yield from _touches(node.body, symbol)
            case Nest():
                yield from _touches(node.body, symbol)
            case If():
                yield from (_Touch(e, False, symbol) for c in node.conditions for e in reads(c))
                yield from _touches(node.parts, symbol)
            case Store():
                yield _Touch(node.target, True, symbol)
                parts = (*node.target.indices, node.value)
                yield from (_Touch(e, False, symbol) for part in parts for e in reads(part))
            case Set():
                yield from (_Touch(e, False, symbol) for e in reads(node.value))
            case Product():
                mine = node.over[0][0].symbol if node.shared == "rows" and len(node.over[0]) == 1 else symbol
                for matrix, writes in ((node.a, False), (node.b, False), (node.c, True)):
                    yield _Touch(matrix.each or matrix.entry, writes, mine)
                    lists = (matrix.row_offsets, matrix.column_offsets)
                    yield from (_Touch(read(name, (sp.S.Zero,), True), False, None) for name in lists if name)


def _steps(touch: _Touch, buffer: Buffer) -> set[tuple[int, Expr]]:
    """The axes along which an entry steps with the shared index, and how far it is from it."""
    found = set()
    for axis in buffer.axes if touch.symbol is not None else ():
        away = sp.expand(touch.entry.indices[axis] - touch.symbol)
        ring = buffer.storage.ring
        if not index_symbols(away) and not reads(away) and (ring is None or ring.axis != axis):
            found.add((axis, away))
    return found


# ---- whether it is worth it ------------------------------------------------------------------------------------------


def _worth(node: Node) -> tuple[Expr, int | None]:
    """Sizes, and what their product must be more than; nothing to be more than: it is never worth it. Of all that there is to do
    the greatest part counts."""
    most = max(sp.Add.make_args(sp.expand(_work((node,)))), key=_likely)
    sizes = [factor for factor in sp.Mul.make_args(most) if isinstance(factor.as_base_exp()[0], Size)]
    rest = _likely(sp.Mul(*(factor for factor in sp.Mul.make_args(most) if factor not in sizes)))
    least = int(WORTH / rest) if rest > 0 else WORTH
    return sp.Mul(*sizes), None if not sizes and least else least


def _likely(expr: Expr) -> float:
    """A number of entries, sizes as they may be: what is decided by it does not hang on the size of a model."""
    return float(expr.xreplace({symbol: sp.Integer(LIKELY) for symbol in expr.free_symbols}))


def _work(nodes: Sequence[Node]) -> Expr:
    """About how many entries nodes compute; a loop whose bounds move counts once."""
    total: Expr = sp.S.Zero
    for node in nodes:
        match node:
            case For():
                extent = node.index.extent
                total += _work(node.body) * (sp.S.One if index_symbols(extent) else extent)
            case If() | Nest():
                total += _work(_inside(node))
            case Product():
                total += node.rows * node.columns * node.inner / PER_ENTRY
            case Store() | Set():
                total += 1
    return total


def _grain(node: Node) -> int:
    """A multiple that keeps tiles and cache lines whole."""
    grain = 1
    if isinstance(node, Product) and node.shared:
        grain = ROWS if node.shared == "rows" else LINE
    if isinstance(node, For) and node.shared:
        return LINE if all(isinstance(inner, Store | Set) for inner in node.body) else 1
    return max([grain, *map(_grain, _inside(node))])
