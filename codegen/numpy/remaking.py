"""A tensor in the array of another one that nothing reads any more: one that has the entries of that one but for some, or one of
the same shape that a later loop fills.

    d_a[t,k] = d_m[t,k] for k < H,  d_a[t,k+H] = d_h[t,k]*s[t,k]   ->   d_a = d_m,  d_a[:, H:] = d_h*s

Law 25: nothing reads an entry of the old tensor after it is overwritten. For that, what makes the new one moves behind readers
of the old one, where none of them comes after the readers of the new one. Cost: linear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from codegen.lower import Storage, given
from codegen.numpy.buffers import Mode, Plan
from codegen.numpy.places import made_at_once
from codegen.schedule import Loop, Node, Statement, equations_of
from codegen.writes import covers, stores, writes_of
from symbolic.program import Program, tensor_of

__all__ = ["behind_readers", "remake", "reuse"]


def behind_readers(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], others: Collection[str]
) -> tuple[tuple[Node, ...], dict[str, str]]:
    """The nodes in an order in which tensors may be made out of others, and of which each; ``others``: tensors that are read
    besides."""
    found: dict[str, str] = {}
    order = list(nodes)
    for name in _copied(nodes, program):
        old = _source(name, order, program, storages[name], others)
        if old is None or old in found.values() or old in found:
            continue
        making = [node for node in order if isinstance(node, Statement) and node.equation.name == name]
        making.sort(key=lambda node: not _is_copy(node))
        first = next(node for node in order if name in _read_by(node))
        order = [node for node in order if not any(node is m for m in making)]
        place = next(k for k, node in enumerate(order) if node is first)
        order[place:place] = making
        found[name] = old
    return tuple(order), found


def remake(remade: Mapping[str, str], nodes: Iterable[Node], storages: Mapping[str, Storage], plan: Plan) -> Plan:
    """The plan in which these tensors are views of what they are made out of, and what is there already is not written."""
    making: dict[str, list[Statement]] = {}
    for statement in equations_of(nodes):
        making.setdefault(statement.equation.name, []).append(statement)
    modes, last, views = dict(plan.modes), dict(plan.last_use), dict[str, str]()
    for name, old in remade.items():
        new, before = storages[name], storages[old]
        if new.padded or new.ring is not None or before.ring is not None or not plan.covered.get(name) or any(
            plan.mode(s) is not Mode.ASSIGN for s in making[name]
        ) or any(e != 0 for e in (*before.before[1:], *before.after[1:])):
            continue
        modes.update((id(s), Mode.THERE) for s in making[name] if _is_copy(s))
        last[old] = max(last[old], last[name])
        views[name] = old
    return replace(plan, modes=modes, last_use=last, views=views)


def _copied(nodes: Iterable[Node], program: Program) -> list[str]:
    """The tensors that have entries of another one at the same place."""
    found = dict.fromkeys(node.equation.name for node in nodes if isinstance(node, Statement) and _is_copy(node))
    return [name for name in found if not given(program.tensor(name))]


def _is_copy(statement: Statement) -> bool:
    equation = statement.equation
    return (
        equation.body.is_Indexed and equation.body.indices == equation.target.indices and not equation.guards
        and not equation.reduced
    )


def _source(
    name: str, nodes: Sequence[Node], program: Program, storage: Storage, others: Collection[str]
) -> str | None:
    """The tensor that this one can be made out of: of the same shape, and not read once this one is."""
    rows = writes_of(nodes)[name]
    making = [row.statement for row in rows]
    olds = {tensor_of(s.equation.body) for s in making if _is_copy(s)}
    if name in others or len(olds) != 1 or any(row.loops for row in rows):
        return None
    (old,) = olds
    tensor = program.tensor(old)
    if old in others or given(tensor) or tensor.is_index or tensor.shape != program.tensor(name).shape:
        return None
    if any({old, name} & _read_by(s) for s in making if not _is_copy(s)):
        return None
    if len(stores(rows, program)) != len(rows) or not covers(rows, storage, program):
        return None
    first = next((k for k, node in enumerate(nodes) if name in _read_by(node)), None)
    before = [k for k, node in enumerate(nodes) if old in _read_by(node) or any(node is s for s in making)]
    return old if first is not None and before[-1] < first else None


def _read_by(node: Node) -> set[str]:
    return {tensor_of(entry) for s in equations_of([node]) for entry in s.equation.reads}


def reuse(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], plan: Plan, others: Collection[str]
) -> tuple[dict[str, Storage], Plan]:
    """The storages and the plan in which what a loop fills step by step lies in the array of what an earlier loop was the last to
    read: the adjoint of an LSTM's pre-activations in theirs."""
    found, modes, last, views = dict(storages), dict(plan.modes), dict(plan.last_use), dict(plan.views)
    covered = dict(plan.covered)
    allocate = {top: list(names) for top, names in plan.allocate_before.items()}
    shared = Counter(map(id, storages.values()))
    first: dict[str, tuple[int, Statement]] = {}
    stepwise: set[str] = set()
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            first.setdefault(statement.equation.name, (top, statement))
            if isinstance(node, Loop):
                stepwise.add(statement.equation.name)

    def is_free(old: str, new: str, begin: int) -> bool:
        before, tensor = found[old], program.tensor(old)
        return (
            old not in others and old not in views and old not in views.values() and shared[id(before)] == 1
            and not (given(tensor) or tensor.is_index or before.padded or before.ring is not None)
            and tensor.shape == program.tensor(new).shape
            and last[old] < begin and isinstance(nodes[last[old]], Loop)
            and (plan.mode(first[old][1]) is Mode.ASSIGN or made_at_once(first[old][1], plan))
        )

    for begin, name in [(top, name) for top, names in sorted(allocate.items()) for name in names]:
        new = found[name]
        margins = (*new.before[1:], *new.after[1:])
        if name not in stepwise or name in views or new.ring is not None or not plan.covered.get(name) or any(margins):
            continue
        old = next((old for old in first if old in stepwise and is_free(old, name, begin)), None)
        if old is None:
            continue
        top, made = first[old]
        if plan.mode(made) is Mode.BIND:
            modes[id(made)] = Mode.ASSIGN
            covered[old] = True
            allocate.setdefault(top, []).append(old)
        found[old] = replace(found[old], before=new.before, after=new.after)
        views[name] = old
        last[old] = max(last[old], last[name])
    return found, replace(plan, modes=modes, covered=covered, allocate_before=allocate, last_use=last, views=views)
