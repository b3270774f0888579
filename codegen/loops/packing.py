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
from symbolic.analysis import is_nonnegative
from symbolic.errors import ScheduleError
from symbolic.program import Program, Tensor, index_symbols, tensor_of

__all__ = ["Most", "pack_weights", "with_scratch"]


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


def with_scratch(nodes: Sequence[Node], buffers: dict[str, Buffer], program: Program) -> None:
    """The one array in which products lay out what they need, as large as the one that needs most, wherever its loops are."""
    needs: dict[Call, None] = {}
    for leaf, loops in walk(nodes):
        if isinstance(leaf, Product) and not leaf.packed:
            kind = "product_scatter" if leaf.c.row_offsets else "product_at" if leaf.b.row_offsets else "product"
            sizes = (leaf.inner, leaf.columns, leaf.rows) if leaf.c.row_offsets else (leaf.rows, leaf.columns, leaf.inner)
            most = Most([loop for loop in loops if isinstance(loop, For)], program)
            needs.setdefault(Call(sp.Symbol(f"{kind}_scratch"), *(most.of(size) for size in sizes)))
    if needs:
        tensor = Tensor(SCRATCH, (sp.Max(*needs),))
        buffers[SCRATCH] = Buffer(Storage(tensor, SCRATCH.strip(), (sp.S.Zero,), (sp.S.Zero,)), Place.PACKED)


class Most:
    """What an integer expression is at most, or at least, in some loops: term by term, so it may be a little more."""

    def __init__(self, loops: Sequence[For], program: Program) -> None:
        self.program = program
        self.ends = {loop.index.symbol: (loop.index.lower, loop.index.last) for loop in loops}
        self.ends |= {loop.extent: (sp.S.One, sp.Integer(loop.steps)) for loop in loops if isinstance(loop, Blocks)}

    def of(self, expr: Expr, most: bool = True) -> Expr:
        """Raises ScheduleError where a factor has no known sign."""
        expr = sp.expand(expr)
        if not expr.free_symbols & set(self.ends):
            return expr
        if expr in self.ends:
            return self.of(self.ends[expr][most], most)
        if isinstance(expr, sp.Max | sp.Min | sp.Add | sp.floor | sp.ceiling):
            return expr.func(*(self.of(part, most) for part in expr.args))
        if expr.is_Mul:
            moving = [factor for factor in expr.args if factor.free_symbols & set(self.ends)]
            factor = sp.Mul(*(factor for factor in expr.args if factor not in moving))
            for sign in (1, -1):
                if len(moving) == 1 and is_nonnegative(sign * factor, self.program):
                    return sp.expand(factor * self.of(moving[0], most is (sign == 1)))
            if moving == list(expr.args) and most and all(is_nonnegative(self.of(part, False), self.program) for part in moving):
                return sp.Mul(*(self.of(part) for part in moving))
        raise ScheduleError(f"{self.program.name}: expected a size that its loops bound, found {expr}")
