"""Which write makes an array, which fills it, and which adds to it.

The contributions to a tensor are unordered (law 2), the text is not: the first write that fills a whole tensor binds it
(``a = x @ W.T``), writes to parts of a tensor of their own assign, all others add. Where what is assigned is not proved to
cover the tensor it starts as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from codegen.lower import Storage, given
from codegen.numpy.maxima import argument_key, window_maxima
from codegen.numpy.names import Identifiers
from codegen.numpy.rows import row_axis
from codegen.schedule import Node, Statement, equations_of
from codegen.writes import Write, covers, fills, is_always, stores, writes_of
from symbolic.program import Equation, IndexName, Program, tensor_of

__all__ = ["Mode", "Plan", "compared", "last_uses", "plan_buffers"]


class Mode(Enum):
    """How a statement stores its value."""

    BIND = "bind"
    ASSIGN = "assign"
    ADD = "add"
    THERE = "there"
    """In the array that the tensor takes over."""


@dataclass
class Plan:
    """The verdicts for one function. ``allocate_before``: top-level position -> tensors allocated there; ``blocks``: the plan of
    the body of each block of steps; ``views``: tensor -> the one whose array it takes over."""

    codes: Mapping[str, str]
    names: Identifiers
    modes: dict[int, Mode] = field(default_factory=dict)
    covered: dict[str, bool] = field(default_factory=dict)
    allocate_before: dict[int, list[str]] = field(default_factory=dict)
    unwritten: tuple[str, ...] = ()
    window_maxima: Mapping[frozenset[str], tuple[Equation, Mapping[str, IndexName]]] = field(default_factory=dict)
    implied: frozenset[str] = frozenset()
    last_use: dict[str, int] = field(default_factory=dict)
    blocks: dict[int, Plan] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)

    def mode(self, statement: Statement) -> Mode:
        return self.modes[id(statement)]

    def fresh(self, wanted: str) -> str:
        return self.names.fresh(wanted)


def plan_buffers(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], codes: Mapping[str, str], names: Identifiers,
    returned: frozenset[str] = frozenset(),
) -> Plan:
    """The plan for a lowered schedule."""
    writes = writes_of(nodes)
    plan = Plan(codes, names)
    used: dict[str, int] = {}  # an entry that nothing writes may be read before others are written: it is 0
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            for entry in statement.equation.reads:
                used.setdefault(tensor_of(entry), top)
    for name, rows in writes.items():
        _decide(name, rows, plan, program, storages[name], min(rows[0].top, used.get(name, rows[0].top)))
    plan.window_maxima, plan.implied = window_maxima(program)
    plan.last_use = last_uses(nodes, plan, returned)
    plan.unwritten = tuple(
        t.name for t in program.tensors if t.name not in writes and not given(t) and t.name not in plan.implied
    )
    return plan


def compared(program: Program) -> frozenset[str]:
    """What the adjoints of window maxima read besides what their equations say, and what they do without."""
    maxima, _ = window_maxima(program)
    read = {name for maximum, _ in maxima.values() for name in (maximum.name, *map(tensor_of, maximum.reads))}
    return frozenset(read).union(*maxima)


def last_uses(nodes: Sequence[Node], plan: Plan, returned: frozenset[str]) -> dict[str, int]:
    """For each tensor the last top-level position that reads or writes it; what is returned lives on."""
    last: dict[str, int] = {}
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            equation = statement.equation
            names = {equation.name, *(tensor_of(entry) for entry in equation.reads)}
            maximum = plan.window_maxima.get(argument_key(equation))
            if maximum is not None:  # its adjoint compares again
                names |= {maximum[0].name, *(tensor_of(entry) for entry in maximum[0].reads)}
            last.update(dict.fromkeys(names, top))
    last.update(dict.fromkeys(returned, len(nodes)))
    return last


def _decide(name: str, rows: list[Write], plan: Plan, program: Program, storage: Storage, begin: int) -> None:
    first = rows[0]
    whole = fills(first, storage, program) or row_axis(first.statement.equation, program, first.ranges) is not None
    if begin == first.top and not first.loops and not first.statement.when and not storage.padded and whole \
            and is_always(first, program):
        plan.modes[id(first.statement)] = Mode.BIND
        for other in rows[1:]:
            plan.modes[id(other.statement)] = Mode.ADD
        return
    plan.allocate_before.setdefault(begin, []).append(name)
    plan.modes.update((id(row.statement), Mode.ADD) for row in rows)
    assigning = stores(rows, program)
    plan.modes.update((id(row.statement), Mode.ASSIGN) for row in assigning)
    plan.covered[name] = covers(assigning, storage, program)
