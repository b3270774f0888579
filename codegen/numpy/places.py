"""A tensor that each step of a loop turns into another one takes that one's place: ``h[t] = tanh(a[t])`` over ``a[t]``.

Requires: the plan of a lowered schedule without blocks. Ensures: the same values of every tensor that anybody still reads.
Law 25: no read of an entry comes after the instance that overwrites it. That instance alone reads ``a``, at its own place; it
fills all of ``h``, and what else is written to ``h`` lies in its margin. Where ``a`` begins as a product it keeps an array of its
own: the product would be copied. Cost: linear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sympy import Expr, Indexed

from codegen.lower import Storage, given
from codegen.numpy.buffers import Mode, Plan
from codegen.schedule import Loop, Node, Statement, equations_of
from symbolic.analysis import are_apart, is_equal, subscript_range
from symbolic.functions import row_of
from symbolic.program import Equation, Index, Program, tensor_of

__all__ = ["share_places"]


def share_places(
    nodes: Sequence[Node], program: Program, storages: Mapping[str, Storage], plan: Plan, others: Collection[str]
) -> tuple[dict[str, Storage], Plan]:
    """The storages, some of them the same for two tensors, and the plan for them; ``others``: tensors that are read besides."""
    found, modes, last = dict(storages), dict(plan.modes), dict(plan.last_use)
    allocate = {top: list(names) for top, names in plan.allocate_before.items()}
    top_of = {id(s): top for top, node in enumerate(nodes) for s in equations_of([node])}
    writers: dict[str, list[Statement]] = {}
    readers: dict[str, list[Statement]] = {}
    for statement in equations_of(nodes):
        writers.setdefault(statement.equation.name, []).append(statement)
        for name in {tensor_of(entry) for entry in statement.equation.reads}:
            readers.setdefault(name, []).append(statement)
    steps = [(loop, child) for loop in nodes if isinstance(loop, Loop) for child in loop.body if isinstance(child, Statement)]
    for loop, statement in steps:
        entry = _turned(statement, loop, program)
        if entry is None or plan.mode(statement) is not Mode.ASSIGN:
            continue
        old, new = tensor_of(entry), statement.equation.name
        made = writers.get(old, [])
        if old in others or readers[old] != [statement] or not (made and _bound_by_entries(made[0], plan)):
            continue
        if found[old].padded or found[old].ring is not None or found[new].ring is not None:
            continue
        if not all(s is statement or _in_margin(s.equation, program) for s in writers[new]):
            continue
        begin = min([top_of[id(made[0])], *(top for top, names in allocate.items() if new in names)])
        modes[id(made[0])] = Mode.ASSIGN
        found[old] = found[new]
        allocate = {top: [name for name in names if name != new] for top, names in allocate.items()}
        allocate.setdefault(begin, []).append(new)
        last[old] = last[new] = max(last.get(old, begin), last.get(new, begin))
    return found, replace(plan, modes=modes, allocate_before=allocate, last_use=last)


def _bound_by_entries(statement: Statement, plan: Plan) -> bool:
    """Whether a statement makes the whole tensor by an element-wise expression."""
    return plan.mode(statement) is Mode.BIND and not statement.equation.reduced and not statement.equation.guards


def _turned(statement: Statement, loop: Loop, program: Program) -> Indexed | None:
    """``a[t,n]``, where the statement is ``h[t,n] = f(a[t,n])`` for all entries of a tensor of the same shape."""
    equation = statement.equation
    body = equation.body
    row = row_of(body)
    if row is None or row.arity != 1 or statement.when or equation.guards or equation.reduced:
        return None
    entry = body.args[0]
    if not isinstance(entry, Indexed) or entry.indices != equation.target.indices:
        return None
    old, new = program.tensor(tensor_of(entry)), program.tensor(equation.name)
    ranges: dict[Expr, Index] = {i.symbol: i for i in equation.indices}
    ranges[loop.symbol] = Index(loop.symbol, loop.lower, loop.upper)
    whole = len(set(entry.indices)) == len(entry.indices) and all(
        s in ranges and ranges[s].lower == 0 and is_equal(ranges[s].upper, extent, program)
        for s, extent in zip(entry.indices, new.shape, strict=True)
    )
    return entry if whole and old.shape == new.shape and not (given(old) or given(new) or old.is_index) else None


def _in_margin(equation: Equation, program: Program) -> bool:
    """Whether an equation writes entries before or after the bare range alone."""
    tensor = program.tensor(equation.name)
    ranges = {i.symbol: i for i in equation.indices}
    for axis, subscript in enumerate(equation.target.indices):
        span = subscript_range(subscript, ranges, program)
        if span is not None and are_apart(span, (0 * tensor.shape[axis], tensor.shape[axis] - 1), program):
            return True
    return False
