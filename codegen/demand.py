"""Instances that nobody needs do not run: a domain is cut to the entries that are read or promised.

The adjoint of a state with an entry h[-1] is defined there too; where nobody asks for the gradient of the initial state, that
last step of the reversed loop computes what is never read. Requires: nothing. Ensures: the same values of all promised
tensors. Law: an entry that nothing reads has no reader to change. Cost: linear.
"""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr

from symbolic.analysis import affine, at_most, index_reads, subscript_range
from symbolic.program import Equation, Index, Program, tensor_of
from symbolic.rewrite import promised

__all__ = ["demand"]


def demand(program: Program) -> Program:
    """The program with every equation cut to the entries of its target that are needed."""
    kept = promised(program)
    needed: dict[str, list[tuple[Expr, Expr] | None]] = {}
    for equation in program.equations:
        ranges = {i.symbol: i for i in equation.indices}
        for entry in equation.reads:
            name = tensor_of(entry)
            tensor = program.tensor(name)
            seen = [
                None if index_reads((s,)) else subscript_range(s, ranges, program) for s in entry.indices
            ]
            full = [(tensor.bounds(axis)[0], tensor.bounds(axis)[1] - 1) for axis in range(tensor.rank)]
            boxes = [box if box is not None else whole for box, whole in zip(seen, full, strict=True)]
            if name not in needed:
                needed[name] = list(boxes)
            else:
                needed[name] = [_hull(a, b, program) for a, b in zip(needed[name], boxes, strict=True)]
    rows = [
        equation if equation.name in kept or equation.name not in needed else _cut(equation, needed[equation.name], program)
        for equation in program.equations
    ]
    return program.with_equations(rows)


def _hull(a: tuple[Expr, Expr] | None, b: tuple[Expr, Expr] | None, program: Program) -> tuple[Expr, Expr] | None:
    if a is None or b is None:
        return None
    least = a[0] if at_most(a[0], b[0], program) else b[0] if at_most(b[0], a[0], program) else None
    most = a[1] if at_most(b[1], a[1], program) else b[1] if at_most(a[1], b[1], program) else None
    return None if least is None or most is None else (least, most)


def _cut(equation: Equation, boxes: list[tuple[Expr, Expr] | None], program: Program) -> Equation:
    indices = {i.symbol: i for i in equation.indices}
    for subscript, box in zip(equation.target.indices, boxes, strict=True):
        form = affine(subscript)
        if box is None or form is None or len(form.coefficients) != 1 or form.coefficients[0][1] != 1:
            continue
        symbol = form.coefficients[0][0]
        index = indices.get(symbol)
        if index is None:
            continue
        lower, upper = box[0] - form.constant, box[1] - form.constant + 1
        if at_most(index.lower + 1, lower, program):
            index = Index(symbol, lower, index.upper)
        if at_most(upper + 1, index.upper, program):
            index = Index(symbol, index.lower, upper)
        indices[symbol] = index
    return replace(equation, indices=tuple(indices.values()))
