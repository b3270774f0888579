"""Zeros: an entry that no equation writes is 0, and what vanishes with it is dropped.

Requires: nothing. Ensures: no equation reads an entry that is proved to be written by none, as far as its body stays finite
without it, and no sum has a contribution that is the number 0. Law: an entry is the reduction of all instances that write
it, over none it is 0 (laws 1, 6, 10); the number stands where the read stood, so that a function with f(0) other than 0 keeps
its value (law 4). Unrolled, the first step has many such entries: its ``r*h[-1]`` is 0, and so is all that only it feeds.
Cost: linear in the reads, and in the writers near each.

>>> from symbolic.program import *
>>> N, n = size("N"), index("n")
>>> x, q, a = Tensor("x", (N,), Role.INPUT), Tensor("q", (2, N)), Tensor("a", (2, N))
>>> over = (Index.over(n, N),)
>>> program = Program("p", (x, q, a), (Equation(q[1, n], x[n], over, numbers=(1,)),
...     Equation(a[0, n], q[0, n] + x[n], over, numbers=(2,)),
...     Equation(a[1, n], q[0, n]*x[n], over, numbers=(3,))), {"N": None})
>>> print(*without_zeros(program).equations, sep=chr(10))
(1) q[1, n] += x[n]    for n=0..N - 1
(2) a[0, n] += x[n]    for n=0..N - 1
"""

from __future__ import annotations

from collections.abc import Collection

import sympy as sp
from sympy import Indexed

from symbolic.places import Shelf
from symbolic.program import Equation, Program, Reduction, Role, tensor_of
from symbolic.rewrite.terms import apply_to_body
from symbolic.rewrite.values import apart, ranges_of

__all__ = ["drop_zeros", "without_zeros"]

NAME = "zeros"
COMPUTED = (Role.STATE, Role.INTERMEDIATE, Role.OUTPUT, Role.ADJOINT, Role.TANGENT)
DERIVED = (Role.ADJOINT, Role.TANGENT)


def drop_zeros(program: Program, keep: frozenset[str]) -> Program:
    """The program without reads of adjoints and tangents that are 0 (the forward equations stand as the model has them)."""
    return without_zeros(program, DERIVED)


def without_zeros(program: Program, roles: Collection[Role] = COMPUTED) -> Program:
    """The program without reads of entries that no equation writes, of tensors of these roles."""
    names = {t.name for t in program.tensors if t.role in roles and not t.is_index}
    rows: dict[int, Equation] = dict(enumerate(program.equations))
    reads = Shelf([(entry, k) for k, e in rows.items() for entry in e.reads if tensor_of(entry) in names], lambda row: row[0])
    writers = Shelf(list(rows), lambda k: program.equations[k].target)

    def is_zero(entry: Indexed, reader: Equation) -> bool:
        near = (rows[k] for k in writers.near(entry) if k in rows)
        return all(apart(entry, ranges_of(reader), w.target, ranges_of(w), program) for w in near)

    waiting = list(rows)
    while waiting:
        k = waiting.pop()
        if k not in rows:
            continue
        equation = rows[k]
        zeros = {e: sp.Integer(0) for e in equation.reads if tensor_of(e) in names and is_zero(e, equation)}
        body = equation.body.xreplace(zeros) if zeros else equation.body
        if body.has(sp.zoo, sp.nan, sp.oo):
            continue
        if body == 0 and equation.reduction is Reduction.SUM and equation.name in names:
            del rows[k]
            waiting += [reader for _, reader in reads.near(equation.target)]
        elif body != equation.body:
            rows[k] = apply_to_body(equation, body, NAME)
    return program if list(rows.values()) == list(program.equations) else program.with_equations(rows[k] for k in sorted(rows))
