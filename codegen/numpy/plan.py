"""One function before it is text: its schedule, where each tensor lives, which write makes it, and why (the verdicts)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from codegen.block import Block
from codegen.blocking import Blocked, block
from codegen.demand import demand
from codegen.fuse import fuse
from codegen.history import histories
from codegen.hoist import hoist
from codegen.lower import Storage, given, lower, plan_storage
from codegen.numpy.blocks import plan_blocks
from codegen.numpy.buffers import Plan, compared, plan_buffers
from codegen.numpy.names import Identifiers, speakable
from codegen.numpy.places import share_places
from codegen.numpy.remaking import behind_readers, remake, reuse
from codegen.pack import pack
from codegen.part import part
from codegen.schedule import Loop, Node, schedule
from codegen.shorten import shorten
from codegen.verdict import Verdict
from symbolic.errors import ScheduleError
from symbolic.program import Program

__all__ = ["Layout", "lay_out"]


@dataclass(frozen=True)
class Layout:
    """What a Writer writes."""

    nodes: tuple[Node | Block, ...]
    program: Program
    storages: dict[str, Storage]
    plan: Plan
    verdicts: tuple[Verdict, ...]


def lay_out(program: Program, returned: Collection[str], itemsize: int = 4, steps: int | None = None) -> Layout:
    """The layout of a function that gives these tensors back. ``steps``: of each block; ``None``: blocks only where the memory
    of all steps is known and too large. Raises ScheduleError."""
    nodes, program = _scheduled(demand(speakable(program)))
    nodes = fuse(lower(nodes, program), program)
    names, codes = Identifiers.of(program, _index_names(nodes))
    storages = plan_storage(nodes, program, codes)
    for name, storage in storages.items():
        if storage.padded and given(storage.tensor):
            storages[name] = replace(storage, code=names.fresh(f"{codes[name]}_padded"))
    hidden = compared(program)
    plan = plan_buffers(nodes, program, storages, codes, names, frozenset(returned))
    covered = {name for name, every in plan.covered.items() if every}
    kept = {*returned, *hidden}
    whole = storages
    storages, verdicts = histories(nodes, program, whole, covered, kept, itemsize)
    blocked = block(nodes, program, storages, returned, steps, itemsize, verdicts, hidden, names.taken)
    if any(isinstance(node, Block) for node in blocked.nodes):
        plan = plan_blocks(blocked, plan, returned)
        return Layout(blocked.nodes, blocked.program, _named(blocked, names), plan, blocked.verdicts)
    nodes, remade = behind_readers(nodes, program, storages, kept)
    if remade:
        plan = plan_buffers(nodes, program, whole, codes, names, frozenset(returned))
    storages, plan = share_places(nodes, program, storages, plan, kept)
    plan = remake(remade, nodes, storages, plan)
    storages, plan = reuse(nodes, program, storages, plan, kept)
    return Layout(nodes, program, storages, plan, blocked.verdicts)


def _named(blocked: Blocked, names: Identifiers) -> dict[str, Storage]:
    """The storages under names of their own: what lives in a block alone keeps the name of what it stands for, and the views of
    a tensor are called the same in every block."""
    found, codes = dict(blocked.storages), {}
    for name, whole in blocked.standing.items():
        storage = found[name]
        if storage.code != blocked.storages[whole].code:
            if storage.code not in codes:
                codes[storage.code] = names.fresh(storage.code)
            found[name] = replace(storage, code=codes[storage.code])
    return found


def _scheduled(program: Program) -> tuple[tuple[Node, ...], Program]:
    """Gates packed where that can be scheduled (one may need the other within a step), what they read taken apart, cycles
    shortened, then what can leave loops hoisted."""
    packed = shorten(part(pack(program)))
    try:
        return hoist(schedule(packed), packed)
    except ScheduleError:
        return hoist(schedule(program), program)


def _index_names(nodes: Sequence[Node]) -> list[str]:
    found: dict[str, None] = {}

    def visit(node: Node) -> None:
        if isinstance(node, Loop):
            found.setdefault(str(node.symbol))
            for child in node.body:
                visit(child)
        else:
            for index in node.equation.indices:
                found.setdefault(index.name)

    for node in nodes:
        visit(node)
    return list(found)
