"""Which tensors a schedule with blocks only adds to: what one block leaves of a sum over the steps is a part of it."""

from __future__ import annotations

from collections.abc import Callable

from codegen.block import Block
from codegen.blocking import Blocked
from codegen.schedule import Node, Statement, equations_of
from symbolic.analysis import index_reads

__all__ = ["added_to", "inside"]


def added_to(blocked: Blocked, stores: Callable[[Statement], bool]) -> frozenset[str]:
    """The tensors that begin as zeros, for every write to them adds: those that a block writes at places that do not move with
    it, or that are stored in part and added to in part, in a block and outside. ``stores``: whether a statement stores in the
    schedule without blocks."""
    shown = {w.tensor: w.whole for node in blocked.nodes if isinstance(node, Block) for w in node.windows}
    locals_ = {n for node in blocked.nodes if isinstance(node, Block) for n in node.locals}
    writes: dict[str, dict[int, list[Statement]]] = {}
    for top, node in enumerate(blocked.nodes):
        for statement in inside(node):
            name = shown.get(statement.equation.name, statement.equation.name)
            writes.setdefault(name, {}).setdefault(top, []).append(statement)
    found = set()
    for name, rows in writes.items():
        in_block = [s for top, row in rows.items() if isinstance(blocked.nodes[top], Block) for s in row]
        if name in locals_ or not in_block:
            continue
        ring = blocked.storages[name].ring is not None
        summed = any(not ring and s.equation.name == name and not _moves(s) for s in in_block)
        if summed or len(rows) > 1 and not all(stores(s) for row in rows.values() for s in row):
            found.add(name)
    return frozenset(found)


def inside(node: Node | Block) -> list[Statement]:
    """The statements of a node; those of a block as they stand in it."""
    return list(equations_of(node.body if isinstance(node, Block) else [node]))


def _moves(statement: Statement) -> bool:
    """Whether what a statement over one block writes moves with the block."""
    pairs = zip(statement.origin.equation.target.indices, statement.equation.target.indices, strict=True)
    # What an index tensor chooses (E[x[t,n],k]) may be the same in every block.
    return any(was != now for was, now in pairs if not index_reads((was,)))
