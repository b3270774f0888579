"""A tensor that each step of a loop turns into another one takes that one's place: ``h[t] = tanh(a[t])`` over ``a[t]``,
``d_a[t] = d_h[t]*slope[t]`` over ``d_h[t]``.

Requires: the plan of a lowered schedule without blocks. Ensures: the same values of every tensor that anybody still reads.
Law 25: no read of an entry comes after the instance that overwrites it. That instance alone reads ``a``, at its own place, in one
operation; it fills all of ``h``, and what else is written to ``h`` lies in its margin. Cost: linear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from sympy import Expr, Indexed

from codegen.lower import Storage, given
from codegen.numpy.buffers import Mode, Plan
from codegen.schedule import Loop, Node, Statement, equations_of
from symbolic.analysis import are_apart, is_equal, subscript_range
from symbolic.functions import row_of
from symbolic.program import Equation, Index, Program, Reduction, tensor_of

__all__ = ["made_at_once", "share_places"]


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
        new = statement.equation.name
        if plan.mode(statement) is not Mode.ASSIGN or found[new].ring is not None:
            continue
        if not all(s is statement or _in_margin(s.equation, program) for s in writers[new]):
            continue
        old = next((
            name for name in map(tensor_of, _turned(statement, loop, program))
            if name not in others and readers[name] == [statement] and name in writers and made_at_once(writers[name][0], plan)
            and not found[name].padded and found[name].ring is None
        ), None)
        if old is None:
            continue
        made = writers[old]
        begin = min([top_of[id(made[0])], *(top for top, names in allocate.items() if new in names)])
        modes[id(made[0])] = Mode.ASSIGN
        found[old] = found[new]
        allocate = {top: [name for name in names if name != new] for top, names in allocate.items()}
        allocate.setdefault(begin, []).append(new)
        last[old] = last[new] = max(last.get(old, begin), last.get(new, begin))
    return found, replace(plan, modes=modes, allocate_before=allocate, last_use=last)


def made_at_once(statement: Statement, plan: Plan) -> bool:
    """Whether a statement makes the whole tensor in one array that is there: entry by entry, or as one product of matrices."""
    equation = statement.equation
    return plan.mode(statement) is Mode.BIND and not equation.guards and (not equation.reduced or _is_product(equation))


def _is_product(equation: Equation) -> bool:
    """Whether an equation is ``a[rows, k]*b[k, columns]`` for a target ``[rows, columns]``, in some order of the axes of each:
    any other product would be made in an array of its own and copied."""
    factors = equation.body.args if equation.body.is_Mul else ()
    if equation.reduction is not Reduction.SUM or len(factors) != 2 or not all(isinstance(f, Indexed) for f in factors):
        return False
    first, second = (set(f.indices) for f in factors)
    symbols = [i.symbol for i in equation.indices]
    if first | second != set(symbols) or first & second != {i.symbol for i in equation.reduced}:
        return False
    sides = [subscript in first for subscript in equation.target.indices]
    return sum(a != b for a, b in pairwise(sides)) == 1


def _turned(statement: Statement, loop: Loop, program: Program) -> list[Indexed]:
    """``d_h[t,n]`` and ``slope[t,n]``, where the statement is ``d_a[t,n] = d_h[t,n]*slope[t,n]``, or what stands in
    ``h[t,n] = f(a[t,n])`` or ``h[t,n] = f(a[t,n] + m[t,n])``, for all entries of a tensor of the same shape."""
    equation = statement.equation
    body = equation.body
    row = row_of(body)
    unary = row is not None and row.arity == 1
    operands = body.args[0].args if unary and body.args[0].is_Add else body.args
    once = len(operands) == 1 and unary or len(operands) == 2 and (unary or body.is_Mul)
    if not once or statement.when or equation.guards or equation.reduced or not all(isinstance(a, Indexed) for a in operands):
        return []
    ranges: dict[Expr, Index] = {i.symbol: i for i in equation.indices}
    ranges[loop.symbol] = Index(loop.symbol, loop.lower, loop.upper)
    new = program.tensor(equation.name)
    subscripts = equation.target.indices
    whole = len(set(subscripts)) == len(subscripts) and all(
        s in ranges and ranges[s].lower == 0 and is_equal(ranges[s].upper, extent, program)
        for s, extent in zip(subscripts, new.shape, strict=True)
    )
    if not whole or given(new):
        return []
    olds = [(entry, program.tensor(tensor_of(entry))) for entry in program.in_order(operands) if entry.indices == subscripts]
    return [entry for entry, old in olds if old.shape == new.shape and not given(old) and not old.is_index]


def _in_margin(equation: Equation, program: Program) -> bool:
    """Whether an equation writes entries before or after the bare range alone."""
    tensor = program.tensor(equation.name)
    ranges = {i.symbol: i for i in equation.indices}
    for axis, subscript in enumerate(equation.target.indices):
        span = subscript_range(subscript, ranges, program)
        if span is not None and are_apart(span, (0 * tensor.shape[axis], tensor.shape[axis] - 1), program):
            return True
    return False
