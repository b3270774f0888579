"""Blocks of steps as text: which write makes what in a block and round it, the views of whole tensors, what is carried over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import sympy as sp

from codegen.adding import added_to, inside
from codegen.block import Block
from codegen.blocking import Blocked
from codegen.lower import Storage, given
from codegen.numpy.buffers import Mode, Plan, last_uses
from codegen.numpy.printer import integer_text
from codegen.schedule import Node, Statement, equations_of
from symbolic.program import tensor_of

__all__ = ["bare", "block_header", "part_of_axis", "plan_blocks"]


def plan_blocks(blocked: Blocked, plan: Plan, returned: Collection[str]) -> Plan:
    """The plan of a schedule with blocks, from that of the schedule without them."""
    storages = blocked.storages
    standing = blocked.standing
    shown = {w.tensor: w.whole for node in blocked.nodes if isinstance(node, Block) for w in node.windows}
    locals_ = {n for node in blocked.nodes if isinstance(node, Block) for n in node.locals}
    carried = {c.tensor: c.kept for node in blocked.nodes if isinstance(node, Block) for c in node.carries}
    modes: dict[int, Mode] = {}
    writers: dict[str, dict[int, list[Statement]]] = {}
    for top, node in enumerate(blocked.nodes):
        for statement in inside(node):
            name = statement.equation.name
            modes[id(statement)] = plan.modes[id(statement.origin)]
            writers.setdefault(shown.get(name, name), {}).setdefault(top, []).append(statement)
    covered = dict(plan.covered)
    adding = added_to(blocked, lambda statement: modes[id(statement)] is Mode.ASSIGN)
    for name, rows in writers.items():
        statements = [s for row in rows.values() for s in row]
        in_block = [s for top, row in rows.items() if isinstance(blocked.nodes[top], Block) for s in row]
        if name in locals_:
            covered[name] = covered.get(standing[name], False) and name not in carried
            if name in carried:
                _bind_to_assign(in_block, modes)
            continue
        if not in_block:
            continue
        _bind_to_assign(in_block, modes)
        if name in adding:
            modes.update(dict.fromkeys(map(id, statements), Mode.ADD))
            covered[name] = False
        else:
            covered[name] = covered.get(name, all(plan.modes[id(s.origin)] is Mode.BIND for s in in_block[:1]))
    blocks = {id(node): _block_plan(node, plan, modes, covered, carried) for node in blocked.nodes if isinstance(node, Block)}
    images: list[Node] = [node.image if isinstance(node, Block) else node for node in blocked.nodes]
    allocate: dict[int, list[str]] = {}
    used: dict[str, int] = {}
    for top, node in enumerate(blocked.nodes):
        for statement in inside(node):
            for name in (statement.equation.name, *map(tensor_of, statement.equation.reads)):
                used.setdefault(shown.get(name, name), top)
        for carry in node.carries if isinstance(node, Block) else ():
            used.setdefault(carry.kept, top)
    bound = {s.equation.name for node in blocked.nodes if not isinstance(node, Block) for s in inside(node)
             if modes[id(s)] is Mode.BIND}
    inner = {standing[n] for n in locals_}
    for name in [n for n in used if n in writers or n in carried.values()]:
        if name in bound or name in locals_ or name in inner or given(storages[name].tensor):
            continue
        covered.setdefault(name, False)
        if name in carried.values():
            covered[name] = False
        allocate.setdefault(used[name], []).append(name)
    last = last_uses(images, plan, frozenset(returned))
    for kept in carried.values():
        last[kept] = len(images)
    return replace(plan, modes=modes, covered=covered, allocate_before=allocate, last_use=last, blocks=blocks)


def _block_plan(
    block: Block, plan: Plan, modes: dict[int, Mode], covered: dict[str, bool], carried: Mapping[str, str]
) -> Plan:
    allocate: dict[int, list[str]] = {}
    last: dict[str, int] = {}
    for top, node in enumerate(block.body):
        for statement in equations_of([node]):
            for name in (statement.equation.name, *map(tensor_of, statement.equation.reads)):
                if name not in block.locals:
                    continue
                if name not in last and not (modes[id(statement)] is Mode.BIND and name == statement.equation.name):
                    allocate.setdefault(top, []).append(name)
                last[name] = top
    # What a later block reads lives on.
    last = {name: top for name, top in last.items() if name not in carried}
    return replace(plan, modes=modes, covered=covered, allocate_before=allocate, last_use=last)


def _bind_to_assign(statements: Iterable[Statement], modes: dict[int, Mode]) -> None:
    for statement in statements:
        if modes[id(statement)] is Mode.BIND:
            modes[id(statement)] = Mode.ASSIGN


def block_header(block: Block) -> list[str]:
    """``for start in range(0, T, 64):`` and how many steps the block has."""
    lower, upper = integer_text(block.lower), integer_text(block.upper)
    steps = f"range({lower}, {upper}, {block.steps})"
    return [f"for {block.start} in {f'reversed({steps})' if block.descending else steps}:",
            f"    {block.extent} = min({block.steps}, {upper} - {block.start})"]


def bare(storage: Storage) -> str:
    """The array of a tensor without what its storage has round it."""
    if not storage.padded:
        return storage.code
    picks = [f"{integer_text(a) if a != 0 else ''}:{integer_text(sp.expand(a + n)) if b != 0 else ''}"
             for a, n, b in zip(storage.before, storage.tensor.shape, storage.after, strict=True)]
    while picks[-1] == ":":
        picks.pop()
    return f"{storage.code}[{', '.join(picks)}]"


def part_of_axis(code: str, axis: int, first: sp.Expr, extent: sp.Expr) -> str:
    """The entries of one axis from ``first`` on."""
    start = "" if first == 0 else integer_text(sp.expand(first))
    return f"{code}[{':, '*axis}{start}:{integer_text(sp.expand(first + extent))}]"

