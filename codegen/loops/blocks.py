"""Blocks of steps as loops: windows of whole tensors by their place in them, room for one block, what is carried over.

    x_block[t,n] for t < steps, in blocks of 64 steps   ->   for start by 64: x[start + t,n] for t < steps

Requires: a lowered schedule. Ensures: the same values. Law: 24, as the blocks say. Cost: linear in the statements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from codegen.adding import added_to
from codegen.block import Block, Carry
from codegen.blocking import Blocked
from codegen.loops.ir import Blocks, For, How, Nest, Node, Store, Zero
from codegen.lower import Storage
from codegen.schedule import Loop, Statement
from codegen.schedule import Node as Scheduled
from symbolic.program import Index, Program, index, read, tensor_of

__all__ = ["Unfolded", "unfold"]


@dataclass(frozen=True)
class Unfolded:
    """A schedule whose blocks are loops. ``loops``: the loop of a block, by identity -> the block; ``adding``: what begins as
    zeros, for blocks add to it; ``replaced``: tensors without an array, for others stand for them or they for others; ``zeroed``:
    tensors of one block that begin as zeros in each."""

    nodes: tuple[Scheduled, ...]
    program: Program
    storages: dict[str, Storage]
    loops: Mapping[int, Block] = field(default_factory=dict)
    adding: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    zeroed: frozenset[str] = frozenset()

    @property
    def local(self) -> frozenset[str]:
        """The tensors of one block."""
        return frozenset(name for block in self.loops.values() for name in block.locals)

    def around(self, node: Loop, body: Sequence[Node]) -> For:
        """The loop of a node round a body: of a block, with what it begins and ends with."""
        own = Index(node.symbol, node.lower, node.upper)
        block = self.loops.get(id(node))
        if block is None:
            return For(own, tuple(body), node.descending)
        zeros = [Zero(name) for name in block.locals if name in self.zeroed]
        begins = [self._carried(carry, block, into=True) for carry in block.carries]
        ends = [self._carried(carry, block, into=False) for carry in block.carries]
        return Blocks(own, (*zeros, *begins, *body, *ends), node.descending, steps=block.steps, extent=block.extent)

    def _carried(self, carry: Carry, block: Block, into: bool) -> Nest:
        """The last entries of the block before, where they precede those of this one; or the last of this one, kept."""
        local, kept = self.storages[carry.tensor], self.storages[carry.kept]
        first = sp.S.Zero if into is not block.descending else block.extent
        symbols = [index(f"i{axis}") for axis in range(kept.tensor.rank)]
        here: list[Expr] = list(symbols)
        here[carry.axis] = sp.expand(symbols[carry.axis] + first - local.before[carry.axis])
        kind = kept.tensor.is_index
        inner, outer = read(carry.tensor, tuple(here), kind), read(carry.kept, tuple(symbols), kind)
        store: Node = Store(inner, outer, How.SET) if into else Store(outer, inner, How.SET)
        for axis, (symbol, extent) in reversed(list(enumerate(zip(symbols, kept.tensor.shape, strict=True)))):
            store = For(Index(symbol, -kept.before[axis], sp.expand(extent + kept.after[axis])), (store,))
        return Nest((), (store,), "as the last block left them" if into else "for the next block")


def unfold(
    blocked: Blocked, stores: Callable[[Statement], bool], covered: Collection[str], fresh: Callable[[str], str]
) -> Unfolded:
    """The schedule with its blocks as loops. ``stores``: whether a statement of the schedule without blocks stores; ``covered``:
    the tensors of which it stores all."""
    blocks = [node for node in blocked.nodes if isinstance(node, Block)]
    if not blocks:
        return Unfolded(tuple(n for n in blocked.nodes if not isinstance(n, Block)), blocked.program, dict(blocked.storages))
    storages, nodes, loops = dict(blocked.storages), list[Scheduled](), dict[int, Block]()
    for node in blocked.nodes:
        if not isinstance(node, Block):
            nodes.append(node)
            continue
        upper = sp.expand(node.upper - node.extent + 1)
        loop = Loop(node.start, node.lower, upper, node.descending, tuple(_opened(n, node, blocked.program) for n in node.body))
        loops[id(loop)] = node
        nodes.append(loop)
        for name in node.locals:
            storages[name] = _with_room(storages[name], node)
        for carry in node.carries:
            storages[carry.kept] = replace(storages[carry.kept], code=fresh(storages[carry.kept].code))
    local = [name for block in blocks for name in block.locals]
    axes = {carry.tensor: carry.axis for block in blocks for carry in block.carries}
    windows = {w.tensor for block in blocks for w in block.windows}
    return Unfolded(
        tuple(nodes), blocked.program, storages, loops, added_to(blocked, stores),
        frozenset(windows | {blocked.standing[name] for name in local}),
        frozenset(name for name in local if blocked.standing[name] not in covered or _has_halo(storages[name], axes.get(name))),
    )


def _has_halo(storage: Storage, carried: int | None) -> bool:
    """Whether there are entries that nothing fills: round an axis, but for one along which others are carried over."""
    sides = zip(storage.before, storage.after, strict=True)
    return any(a + b != 0 for axis, (a, b) in enumerate(sides) if axis != carried)


def _with_room(storage: Storage, block: Block) -> Storage:
    """Room for a whole block, whatever is left for the last."""
    shape = tuple(e.xreplace({block.extent: sp.Integer(block.steps)}) for e in storage.tensor.shape)
    return replace(storage, tensor=replace(storage.tensor, shape=shape))


def _opened(node: Scheduled, block: Block, program: Program) -> Scheduled:
    """A node with the entries of windows as those of the whole tensors: the first lies at the first step of the block."""
    windows = {w.tensor: w for w in block.windows}

    def opened(expr: Any) -> Any:
        if not getattr(expr, "args", ()):
            return expr
        if not isinstance(expr, Indexed):
            return expr.func(*map(opened, expr.args))
        parts = [opened(part) for part in expr.indices]
        window = windows.get(tensor_of(expr))
        if window is None:
            return expr.func(expr.base, *parts)
        parts[window.axis] = sp.expand(parts[window.axis] + block.start)
        return program.tensor(window.whole).at(tuple(parts))

    if isinstance(node, Loop):
        return replace(node, body=tuple(_opened(inner, block, program) for inner in node.body))
    equation = node.equation
    return replace(node, equation=replace(
        equation, target=opened(equation.target), body=opened(equation.body), guards=tuple(map(opened, equation.guards))))
