"""A tensor in the array of another one that nothing reads any more: one that has the entries of that one but for some, or one of
the same shape that a later loop fills.

    d_a[t,k] = d_m[t,k] for k < H,  d_a[t,k+H] = d_h[t,k]*s[t,k]   ->   d_a = d_m,  d_a[:, H:] = d_h*s

Requires: the plan of a lowered schedule without blocks. Ensures: the same values of every tensor that anybody still reads.
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
from symbolic.program import Program, Reduction, tensor_of

__all__ = ["behind_readers", "remake", "reuse"]


# ---- the entries of another one but for some ---------------------------------------------------------------------------


def behind_readers(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], others: Collection[str]
) -> tuple[tuple[Node, ...], dict[str, str]]:
    """The nodes in an order in which tensors may be made out of others, and out of which; ``others``: tensors that are read
    besides."""
    found: dict[str, str] = {}
    order = list(nodes)
    for name in dict.fromkeys(node.equation.name for node in nodes if isinstance(node, Statement) and _is_in_place(node)):
        old = _source(name, order, program, storages[name], {*others, *found, *found.values()})
        if old is None:
            continue
        making = sorted(_making(name, order), key=lambda node: not _is_in_place(node))
        first = next(node for node in order if name in _read_by(node))
        order = [node for node in order if not any(node is m for m in making)]
        place = next(k for k, node in enumerate(order) if node is first)
        order[place:place] = making
        found[name] = old
    return tuple(order), found


def remake(remade: Mapping[str, str], nodes: Sequence[Node], storages: Mapping[str, Storage], plan: Plan) -> Plan:
    """The plan in which these tensors lie in the arrays of what they are made out of; what is there already is not written."""
    modes, last, views = dict(plan.modes), dict(plan.last_use), dict(plan.views)
    for name, old in remade.items():
        new, before, making = storages[name], storages[old], _making(name, nodes)
        fits = not new.padded and new.ring is None and before.ring is None and not any((*before.before[1:], *before.after[1:]))
        stored = plan.covered.get(name) and all(plan.mode(s) is Mode.ASSIGN for s in making)
        if not (fits and stored and _is_done_with(old, making, nodes)):
            continue
        modes.update((id(s), Mode.THERE) for s in making if _is_in_place(s))
        last[old] = max(last[old], last[name])
        views[name] = old
    return replace(plan, modes=modes, last_use=last, views=views)


def _is_in_place(statement: Statement) -> bool:
    """Whether a statement copies entries from the same place of another tensor."""
    equation = statement.equation
    plain = equation.reduction is Reduction.SUM and not (equation.guards or equation.reduced or statement.when)
    return plain and equation.body.is_Indexed and equation.body.indices == equation.target.indices


def _making(name: str, nodes: Iterable[Node]) -> list[Statement]:
    return [node for node in nodes if isinstance(node, Statement) and node.equation.name == name]


def _source(
    name: str, nodes: Sequence[Node], program: Program, storage: Storage, others: Collection[str]
) -> str | None:
    """The tensor that this one can be made out of: of the same shape, and not read once this one is."""
    rows = writes_of(nodes)[name]
    making = [row.statement for row in rows]
    olds = {tensor_of(s.equation.body) for s in making if _is_in_place(s)}
    if given(program.tensor(name)) or name in others or len(olds) != 1 or any(row.loops for row in rows):
        return None
    (old,) = olds
    tensor = program.tensor(old)
    if old in others or given(tensor) or tensor.is_index or tensor.shape != program.tensor(name).shape:
        return None
    if any({old, name} & _read_by(s) for s in making if not _is_in_place(s)):
        return None
    if len(stores(rows, program)) != len(rows) or not covers(rows, storage, program):
        return None
    first = next((k for k, node in enumerate(nodes) if name in _read_by(node)), None)
    before = [k for k, node in enumerate(nodes) if old in _read_by(node) or any(node is s for s in making)]
    return old if first is not None and before[-1] < first else None


def _is_done_with(old: str, making: Sequence[Statement], nodes: Sequence[Node]) -> bool:
    """Whether the last to read a tensor comes before the first to overwrite it."""
    copies = [s for s in making if _is_in_place(s)]
    reading = [k for k, node in enumerate(nodes) if old in _read_by(node) and not any(node is s for s in copies)]
    writing = [k for k, node in enumerate(nodes) if any(node is s for s in making) and not any(node is s for s in copies)]
    return not reading or not writing or reading[-1] < writing[0]


def _read_by(node: Node) -> set[str]:
    return {tensor_of(entry) for s in equations_of([node]) for entry in s.equation.reads}


# ---- the array of another one --------------------------------------------------------------------------------------------


def reuse(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], plan: Plan, others: Collection[str]
) -> tuple[dict[str, Storage], Plan]:
    """The storages and the plan in which what a loop fills step by step lies in the array of what an earlier loop was the last to
    read: the adjoint of an LSTM's pre-activations in theirs."""
    first: dict[str, tuple[int, Statement]] = {}
    for top, node in enumerate(nodes):
        for statement in equations_of([node]):
            first.setdefault(statement.equation.name, (top, statement))
    stepwise = {s.equation.name for node in nodes if isinstance(node, Loop) for s in equations_of([node])}
    shared = Counter(storage.code for storage in storages.values())

    def may_leave(old: str) -> bool:
        """Whether a tensor has an array that becomes free: its own, as it came, and last read by a loop, for a statement of its
        own may hand an array on in place."""
        storage, tensor = storages[old], program.tensor(old)
        own = shared[storage.code] == 1 and not storage.padded and storage.ring is None
        made = first[old][1]
        return (
            own and old not in others and not given(tensor) and not tensor.is_index
            and isinstance(nodes[plan.last_use[old]], Loop) and (plan.mode(made) is Mode.ASSIGN or made_at_once(made, plan))
        )

    found, last, views = dict(storages), dict(plan.last_use), dict(plan.views)
    modes, covered = dict(plan.modes), dict(plan.covered)
    allocate = {top: list(names) for top, names in plan.allocate_before.items()}
    leaving = [old for old in first if old in stepwise and may_leave(old)]
    for begin, name in [(top, name) for top, names in sorted(allocate.items()) for name in names if name in stepwise]:
        new = storages[name]
        if new.ring is not None or name in views or not plan.covered.get(name) or any((*new.before[1:], *new.after[1:])):
            continue
        old = next((old for old in leaving if last[old] < begin and old not in {*views, *views.values()}
                    and program.tensor(old).shape == program.tensor(name).shape), None)
        if old is None:
            continue
        top, made = first[old]
        if plan.mode(made) is Mode.BIND:
            modes[id(made)], covered[old] = Mode.ASSIGN, True
            allocate.setdefault(top, []).append(old)
        found[old] = replace(storages[old], before=new.before, after=new.after)
        last[old] = max(last[old], last[name])
        views[name] = old
    return found, replace(plan, modes=modes, covered=covered, allocate_before=allocate, last_use=last, views=views)
