"""What an entry is worth: seeing through a read to the expression that defines it, and the reverse, where that is
proved.

Both directions need the law of reuse (law 17): over the reader's domain and under its guards, the instance is there
and no other equation writes the entry.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import are_apart, in_bounds, index_reads, lies_in, subscript_range
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index_symbols, tensor_of
from symbolic.rewrite.terms import is_pointwise, solve, substitute

__all__ = ["Values", "inside", "is_met", "is_somewhere", "sole_writer"]

Ranges = Mapping[IndexName, Index]


def ranges_of(equation: Equation) -> dict[IndexName, Index]:
    return {i.symbol: i for i in equation.indices}


def is_met(entry: Indexed, reader: Equation, program: Program) -> bool:
    """Whether the read is proved to meet an entry for every instance: in bounds, through no index read that may be nowhere."""
    return in_bounds(entry, reader, program) and all(is_somewhere(inner, reader, program) for inner in index_reads(entry.indices))


def is_somewhere(entry: Indexed, reader: Equation, program: Program) -> bool:
    """Whether an index read is proved to give a place: no ignored value, no maximum over nothing."""
    tensor = program.tensor(tensor_of(entry))
    if tensor.ignore is not None:
        return sp.Ne(entry, tensor.ignore) in reader.guards
    if sp.Ge(entry, tensor.low) in reader.guards:
        return True
    return not any(writer.guards for writer in program.writers.get(tensor.name, ()))


def inside(values: Mapping[IndexName, Expr], writer: Equation, reader: Equation, program: Program) -> bool:
    """Whether the instance of ``writer`` at ``values`` exists for every instance of ``reader``: in its ranges, guards held."""
    ranges = ranges_of(reader)
    for i in writer.indices:
        value = values[i.symbol]
        if value == i.symbol and ranges.get(i.symbol) == i:
            continue
        found = subscript_range(value, ranges, program)
        if found is None or index_symbols(i.lower) or index_symbols(i.upper):
            return False
        if not lies_in(found, (i.lower, i.upper), program):
            return False
    held = set(reader.guards)
    return all(substitute(guard, values) in held for guard in writer.guards)


def apart(a: Indexed, a_ranges: Ranges, b: Indexed, b_ranges: Ranges, program: Program) -> bool:
    """Whether two regions of one tensor are proved disjoint on some axis."""
    for left, right in zip(a.indices, b.indices, strict=True):
        first, second = subscript_range(left, a_ranges, program), subscript_range(right, b_ranges, program)
        if first is not None and second is not None and are_apart(first, second, program):
            return True
    return False


def sole_writer(equation: Equation, program: Program) -> bool:
    """Whether each entry that the equation writes is written by that one instance alone."""
    if not is_pointwise(equation):
        return False
    ranges = ranges_of(equation)
    return all(
        other is equation or apart(equation.target, ranges, other.target, ranges_of(other), program)
        for other in program.writers_near(equation.target)
    )


class Values:
    """Sees through reads of one program: ``value(entry, reader)`` is what the entry is worth, where that is proved."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._pointwise: dict[int, bool] = {}

    def value(self, entry: Indexed, reader: Equation) -> Expr | None:
        """The sum of all instances that write ``entry``, as an expression over the reader's indices; ``None`` where a writer
        reduces, is guarded more than the reader, or may or may not write the entry."""
        if tensor_of(entry) not in self.program.writers or not is_met(entry, reader, self.program):
            return None
        total: Expr | None = None
        for writer in self.program.writers_near(entry):
            if apart(entry, ranges_of(reader), writer.target, ranges_of(writer), self.program):
                continue
            values = self.instance(entry, writer, reader)
            if values is None:
                return None
            body = substitute(writer.body, values)
            total = body if total is None else total + body
        return total

    def instance(self, entry: Indexed, writer: Equation, reader: Equation) -> dict[IndexName, Expr] | None:
        """The one instance of ``writer`` that writes ``entry``, proved to exist wherever the reader's instances do."""
        if not self._is_pointwise(writer) or writer.reduction is not Reduction.SUM:
            return None
        found = solve(writer.target.indices, entry.indices, frozenset(i.symbol for i in writer.indices))
        return found if found is not None and inside(found, writer, reader, self.program) else None

    def _is_pointwise(self, writer: Equation) -> bool:
        key = id(writer)
        if key not in self._pointwise:
            self._pointwise[key] = is_pointwise(writer)
        return self._pointwise[key]
