"""Sums of rows by an index tensor: ``d_E[tok[t,n], k] += d_x[t,n,k]``, the adjoint of a table that is read by row."""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Indexed

from symbolic.analysis import index_reads, is_equal, lies_in, subscript_range
from symbolic.program import Equation, Index, IndexName, Program, Role, index_symbols, is_index_read, tensor_of

__all__ = ["row_axis"]


def row_axis(equation: Equation, program: Program, ranges: Mapping[IndexName, Index]) -> int | None:
    """The axis of the target that an input's entries choose, where every other axis is run over whole: the statement then is
    one sum of rows for each entry of that axis, and fills the target. ``None`` where it is not."""
    target, tensor = equation.target.indices, program.tensor(equation.name)
    chosen = [axis for axis, s in enumerate(target) if index_reads((s,))]
    if len(chosen) != 1:
        return None
    (axis,) = chosen
    subscript = target[axis]
    if not isinstance(subscript, Indexed) or not is_index_read(subscript):
        return None
    source = program.tensor(tensor_of(subscript))
    if source.role is not Role.INPUT or source.ignore is not None or index_reads(subscript.indices):
        return None
    bounds = [(subscript, tensor.bounds(axis)), *((s, source.bounds(k)) for k, s in enumerate(subscript.indices))]
    for part, limits in bounds:
        found = subscript_range(part, ranges, program)
        if found is None or not lies_in(found, limits, program):
            return None  # some entries may be nowhere: they need a mask
    vector = {i.symbol: i for i in equation.indices}
    inner = index_symbols(subscript) & set(vector)
    others = [s for k, s in enumerate(target) if k != axis]
    if not inner or len(set(others)) != len(others) or inner & set(others) or any(map(any, tensor.margin)):
        return None
    for k, s in enumerate(target):
        if k != axis and not (
            s in vector and vector[s].lower == 0 and is_equal(vector[s].upper, tensor.shape[k], program)
        ):
            return None
    return axis if {*inner, *others} <= index_symbols(equation.body) else None
