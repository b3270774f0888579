"""What a loop multiplies by at every step is laid out once: weights in the order in which the product reads them.

Requires: a routine's nodes. Ensures: the same values. Law: the matrix does not move with the loop and nothing in the loop writes
it, so what is packed before the first step is what every step reads. Cost: linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr

from codegen.loops.ir import SCRATCH, Blocks, Buffer, Call, For, If, Matrix, Nest, Node, Pack, Place, Product, walk
from codegen.loops.uses import written
from codegen.lower import Storage
from symbolic.program import Tensor, index_symbols, tensor_of

__all__ = ["pack_weights", "with_scratch"]


def pack_weights(nodes: Sequence[Node], buffers: dict[str, Buffer], fresh: Callable[[str], str]) -> list[Node]:
    """The nodes with packed matrices before the loops that use them; ``buffers`` gets their places."""
    found: list[Node] = []
    for node in nodes:
        if not isinstance(node, For) or node.independent:
            found.append(node)
            continue
        changed = set(written(node.body))
        packs: dict[Matrix, Pack] = {}
        body = _packed(node.body, changed, packs, buffers, fresh)
        found += [*packs.values(), replace(node, body=body)]
    return found


def _packed(
    nodes: Sequence[Node], changed: set[str], packs: dict[Matrix, Pack], buffers: dict[str, Buffer], fresh: Callable[[str], str]
) -> tuple[Node, ...]:
    found: list[Node] = []
    for node in nodes:
        match node:
            case If():
                body, otherwise = (_packed(part, changed, packs, buffers, fresh) for part in (node.body, node.otherwise))
                found.append(replace(node, body=body, otherwise=otherwise))
            case For() | Nest():
                found.append(replace(node, body=_packed(node.body, changed, packs, buffers, fresh)))
            case Product() if not (node.b.row_offsets or node.c.row_offsets) and _stays(node, changed):
                if node.b not in packs:
                    code = fresh(f"{buffers[tensor_of(node.b.entry)].code}_packed")
                    name, zero = f" {code}", (sp.S.Zero,)
                    size = Call(sp.Symbol("packed_size"), node.inner, node.columns)
                    buffers[name] = Buffer(Storage(Tensor(name, (size,)), code, zero, zero), Place.PACKED)
                    packs[node.b] = Pack(node.inner, node.columns, node.b, name)
                found.append(replace(node, packed=packs[node.b].packed))
            case _:
                found.append(node)
    return tuple(found)


def _stays(node: Product, changed: set[str]) -> bool:
    parts = (*node.b.entry.indices, node.b.rows, node.b.columns, node.inner, node.columns)
    return tensor_of(node.b.entry) not in changed and not any(index_symbols(part) for part in parts)


def with_scratch(nodes: Sequence[Node], buffers: dict[str, Buffer]) -> None:
    """The one array in which products lay out what they need, as large as the one that needs most."""
    needs: dict[Call, None] = {}
    for leaf, loops in walk(nodes):
        if isinstance(leaf, Product) and not leaf.packed:
            kind = "product_scatter" if leaf.c.row_offsets else "product_at" if leaf.b.row_offsets else "product"
            sizes = (leaf.inner, leaf.columns, leaf.rows) if leaf.c.row_offsets else (leaf.rows, leaf.columns, leaf.inner)
            widest: dict[Expr, Expr] = {
                loop.index.symbol: loop.index.last for loop in reversed(loops) if isinstance(loop, For)}
            widest |= {loop.extent: sp.Integer(loop.steps) for loop in loops if isinstance(loop, Blocks)}
            for symbol, last in widest.items():
                sizes = tuple(size.xreplace({symbol: last}) for size in sizes)
            needs.setdefault(Call(sp.Symbol(f"{kind}_scratch"), *sizes))
    if needs:
        tensor = Tensor(SCRATCH, (sp.Max(*needs),))
        buffers[SCRATCH] = Buffer(Storage(tensor, SCRATCH.strip(), (sp.S.Zero,), (sp.S.Zero,)), Place.PACKED)
