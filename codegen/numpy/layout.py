"""How arrays lie in memory. NumPy computes with any order of axes; what goes over two arrays is fast where both lie alike, and
what goes over slices is fast where the innermost axis is one that nothing slices.

An order is kept only where it is known and not C's; it is passed on from what is read to what is made of it, element by element.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sympy import Expr

from codegen.numpy.operands import Operand
from symbolic.program import Equation, IndexName, Program, index_symbols, operands, tensor_of

__all__ = ["allocated_memory", "common_memory", "partner_memory"]


def common_memory(operands: Iterable[Operand], labels: Iterable[IndexName]) -> tuple[IndexName, ...]:
    """The order in which NumPy lays out an element-wise result: that of the operands with all its axes, where they agree."""
    wanted = set(labels)
    found = {operand.memory for operand in operands if set(operand.labels) == wanted}
    return found.pop() if len(found) == 1 else ()


def partner_memory(
    name: str, labels: tuple[IndexName, ...], memory: Mapping[str, tuple[int, ...]], program: Program
) -> tuple[IndexName, ...]:
    """The order of what a tensor meets, entry by entry, where it is read: the order that it had best have too."""
    for equation in program.readers.get(name, ()):
        places = {entry.indices for entry in equation.reads if tensor_of(entry) == name}
        for entry in equation.reads if not equation.reduced else ():
            axes = memory.get(tensor_of(entry), ())
            if entry.indices in places and len(axes) == len(labels):
                return tuple(labels[axis] for axis in axes)
    return ()


def allocated_memory(name: str, memory: Mapping[str, tuple[int, ...]], program: Program) -> tuple[int, ...]:
    """The order for an array that is filled later: that of the tensor that an adjoint belongs to, of what is written to it axis
    by axis (``y[n, c, u] = max over p of a[n, c, 2*u + p]``), or of the products that make it."""
    for source, adjoint in program.gradients.items():
        if adjoint == name and source in memory:
            return memory[source]
    for equation in program.writers.get(name, ()):
        for entry in equation.reads:
            if tensor_of(entry) in memory and _goes_along(equation.target.indices, entry.indices):
                return memory[tensor_of(entry)]
        made = _of_windows(equation)
        if made:
            return made
    return ()


def _of_windows(equation: Equation) -> tuple[int, ...]:
    """The order in which products over windows come out (``y[n, o, u, v] = K[o, p, q]*x[n, u + p, v + q]``: u, o, v, n)."""
    target = equation.target.indices
    for entry in operands(equation.body) if equation.reduced and all(s.is_Symbol for s in target) else ():
        held = index_symbols(entry)
        rows = [axis for axis, s in enumerate(target) if s in held]
        columns = [axis for axis, s in enumerate(target) if s not in held]
        if columns and rows[:1] == [0] and len(rows) > 2 and columns == list(range(1, 1 + len(columns))) \
                and target[0] in entry.indices and any(len(index_symbols(s)) > 1 for s in entry.indices):
            return (*rows[1:-1], *columns, rows[-1], 0)
    return ()


def _goes_along(target: tuple[Expr, ...], read: tuple[Expr, ...]) -> bool:
    """Whether each axis of a read moves with the same axis of a target."""
    pairs = zip(target, read, strict=False)
    return len(target) == len(read) and all(t.is_Symbol and t in index_symbols(r) for t, r in pairs)
