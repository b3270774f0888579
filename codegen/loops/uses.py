"""What a piece of a routine touches: buffers, and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy as sp
from sympy import Expr

from codegen.loops.ir import SCRATCH, Buffer, For, If, Matrix, Node, Pack, Place, Product, Set, Store, Zero, walk
from symbolic.program import Size, reads, tensor_of

__all__ = ["expressions", "sizes", "touched", "written"]


def expressions(nodes: Sequence[Node]) -> Iterator[Expr]:
    """Every expression that stands in the nodes."""
    for node in nodes:
        match node:
            case For():
                yield node.index.lower
                yield node.index.upper
            case If():
                yield from node.conditions
            case Store():
                yield node.target
                yield node.value
            case Set():
                yield node.value
            case Product():
                yield from (node.rows, node.columns, node.inner)
                for matrix in (node.a, node.c, *(() if node.packed else (node.b,))):
                    yield from (matrix.entry, matrix.rows, matrix.columns)
            case Pack():
                yield from (node.inner, node.columns, node.b.entry, node.b.rows, node.b.columns)
        yield from expressions(node.parts if isinstance(node, If) else getattr(node, "body", ()))


def _named(nodes: Sequence[Node]) -> Iterator[str]:
    """The buffers that nodes name without an entry."""
    for node in nodes:
        match node:
            case Zero():
                yield node.buffer
            case Product():
                for matrix in (node.a, node.b, node.c):
                    yield from _offsets(matrix)
                yield node.packed or SCRATCH
            case Pack():
                yield from (node.packed, *_offsets(node.b))
        yield from _named(node.parts if isinstance(node, If) else getattr(node, "body", ()))


def _offsets(matrix: Matrix) -> tuple[str, ...]:
    return tuple(name for name in (matrix.row_offsets, matrix.column_offsets) if name)


def touched(nodes: Sequence[Node]) -> list[str]:
    """The buffers that the nodes read or write, in the order in which they first do."""
    found = dict.fromkeys(_named(nodes))
    for expr in expressions(nodes):
        found.update(dict.fromkeys(map(tensor_of, reads(expr))))
    return list(found)


def written(nodes: Sequence[Node]) -> list[str]:
    """The buffers that the nodes write."""
    found: dict[str, None] = {}
    for leaf, _ in walk(nodes):
        match leaf:
            case Store():
                found.setdefault(tensor_of(leaf.target))
            case Zero():
                found.setdefault(leaf.buffer)
            case Product():
                found.setdefault(tensor_of(leaf.c.entry))
            case Pack():
                found.setdefault(leaf.packed)
    return list(found)


def sizes(nodes: Sequence[Node], buffers: Mapping[str, Buffer]) -> set[str]:
    """The sizes that the text of the nodes says."""
    found: set[str] = set()

    def see(*exprs: Expr) -> None:
        for expr in exprs:
            found.update(s.name for s in sp.sympify(expr).atoms(Size))

    for name in _named(nodes):
        if buffers[name].place not in (Place.OFFSETS, Place.PACKED):
            see(buffers[name].entries)
    for expr in expressions(nodes):
        see(expr)
        for entry in reads(expr):
            buffer = buffers[tensor_of(entry)]
            see(*buffer.extents[1:], *buffer.storage.before)
    return found
