"""Constants: a tensor that holds one number everywhere is that number.

Requires: an equation that alone writes its tensor, reads nothing, has no guard and no index in its body (``d_loss +=
1``, ``d_l[t,n] += 1/(N*T)``), or an adjoint that nothing writes, which is 0. Ensures: each read of it that is proved
in bounds stands as the number. Law: the writer covers the tensor and is its only one, so every entry in bounds is the
body; indices that are summed and do not occur multiply it by their extents. Cost: linear in the equations that are
changed.

>>> from symbolic.program import *
>>> N, n = size("N"), index("n")
>>> one, row = Tensor("d_loss"), Tensor("d_l", (N,))
>>> program = Program("p", (one, row), (
...     Equation(one.at(()), read("x")*0 + 1, (), numbers=(1,)),
...     Equation(row[n], one.at(())/N, (Index.over(n, N),), numbers=(2,))), {"N": None})
>>> print(fold_constants(program, frozenset()).equations[1])
(2) d_l[n] += 1/N    for n=0..N - 1
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Expr

from symbolic.analysis import is_equal, is_nonnegative
from symbolic.program import Equation, Program, Reduction, Role, index_symbols, tensor_of
from symbolic.rewrite.terms import apply_to_body, operands, renumbered
from symbolic.rewrite.values import is_met

__all__ = ["fold_constants"]

NAME = "constants"


def fold_constants(program: Program, keep: frozenset[str]) -> Program:
    """The program with the numbers in place of constant tensors (the equations themselves stay until nothing reads them)."""
    rows = list(program.equations)
    place = {id(equation): k for k, equation in enumerate(rows)}
    writers = {name: [place[id(e)] for e in found] for name, found in program.writers.items()}
    readers = {name: [place[id(e)] for e in found] for name, found in program.readers.items()}
    waiting = [name for name in writers if len(writers[name]) == 1]
    waiting += [t.name for t in program.tensors if t.role is Role.ADJOINT and t.name not in writers]
    while waiting:
        name = waiting.pop()
        live = [rows[k] for k in writers.get(name, ()) if rows[k].body != 0]
        body = _constant(live[0], program) if live else sp.Integer(0)
        if body is None:
            continue
        for k in readers.get(name, ()):
            equation = rows[k]
            entries = [e for e in operands(equation.body) if tensor_of(e) == name]
            entries = [e for e in entries if body == 0 or is_met(e, equation, program)]
            if not entries:
                continue
            changed = apply_to_body(equation, equation.body.xreplace(dict.fromkeys(entries, body)), NAME, *live)
            rows[k] = _unsummed(changed, program)
            if sum(rows[w].body != 0 for w in writers[rows[k].name]) <= 1:
                waiting.append(rows[k].name)
    derived = {t.name for t in program.tensors if t.role in (Role.ADJOINT, Role.TANGENT)}
    return program.with_equations(e for e in rows if e.body != 0 or e.name not in derived)


def _constant(equation: Equation, program: Program) -> Expr | None:
    """The one value of a tensor that this equation alone writes everywhere."""
    if equation.reads or equation.guards or equation.reduction is not Reduction.SUM or equation.reduced:
        return None
    if index_symbols(equation.body):
        return None
    tensor, seen = program.tensor(equation.name), set()
    for axis, part in enumerate(equation.target.indices):
        lower, upper = tensor.bounds(axis)
        if part in seen or not part.is_Symbol or not index_symbols(part):
            return None
        seen.add(part)
        over = equation.index(part)
        if not (is_equal(over.lower, lower, program) and is_equal(over.upper, upper, program)):
            return None
    return equation.body


def _unsummed(equation: Equation, program: Program) -> Equation:
    """A sum over an index that occurs nowhere is a product with its extent."""
    if equation.reduction is not Reduction.SUM:
        return equation
    used = frozenset().union(*(index_symbols(p) for p in (equation.body, equation.target, *equation.guards)))
    idle = [i for i in equation.reduced if i.symbol not in used and is_nonnegative(i.extent, program)]
    if not idle:
        return equation
    body = equation.body
    for i in idle:
        body = body * i.extent
    kept = tuple(i for i in equation.indices if i not in idle)
    return renumbered(replace(equation, body=body, indices=kept), NAME, equation)
