"""Recurrences: the groups of tensors that depend on themselves at another step.

A group is a strongly connected component of the graph of tensors: ``a``, the gates and ``c`` and ``h`` of one LSTM. Its states
are what is read at another step than it is written, ``h[t-1]`` and ``c[t-1]``; levels and directions that stand on one another
are groups of their own, for a lower one never reads a higher one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Indexed

from symbolic.cycles import adjacency, components, graph, is_shifted
from symbolic.program import Equation, Program, Size, Tensor, operands, tensor_of

__all__ = ["Recurrence", "recurrences", "step_axes"]


@dataclass(frozen=True)
class Recurrence:
    """One group: its ``tensors`` and the ``states`` among them, as declared; ``along``: the sizes (or the plain extents) of the
    axes that carry it."""

    tensors: tuple[str, ...]
    states: tuple[str, ...]
    along: tuple[Expr, ...]

    def axes(self, tensor: Tensor) -> tuple[int, ...]:
        """The positions of a tensor's axes that carry the recurrence: the first of each size."""
        return step_axes(tensor, self.along)


def step_axes(tensor: Tensor, along: Iterable[Expr]) -> tuple[int, ...]:
    """The first axis of a tensor for each size of ``along`` that it has."""
    found = (next((k for k, extent in enumerate(tensor.shape) if mark in _marks(extent)), None) for mark in along)
    return tuple(sorted({k for k in found if k is not None}))


def recurrences(program: Program) -> tuple[Recurrence, ...]:
    """The recurrences of a program, in the order in which their tensors were declared."""
    number = components(graph(program))
    groups: dict[int, list[str]] = {}
    for tensor in program.tensors:
        if tensor.name in number:
            groups.setdefault(number[tensor.name], []).append(tensor.name)
    return tuple(_recurrence(tuple(names), program) for names in groups.values())


def _recurrence(names: tuple[str, ...], program: Program) -> Recurrence:
    inside = frozenset(names)
    rows = [
        (equation.name, entry, _shifted(entry, equation, program))
        for name in names for equation in program.writers[name] for entry in operands(equation.body) if tensor_of(entry) in inside
    ]
    every = frozenset().union(*(shifted for _, _, shifted in rows))
    # The packed gates of an LSTM are read at H+k too, but without the steps no cycle is left.
    alone = {mark for mark in every if not components(adjacency((a, tensor_of(b)) for a, b, s in rows if mark not in s))}
    along = tuple(sorted(alone or every, key=sp.default_sort_key))
    read = {tensor_of(entry) for _, entry, shifted in rows if shifted & set(along)}
    return Recurrence(names, tuple(name for name in names if name in read), along)


def _shifted(entry: Indexed, equation: Equation, program: Program) -> frozenset[Expr]:
    shape = program.tensor(tensor_of(entry)).shape
    return frozenset().union(*(_marks(shape[k]) for k, part in enumerate(entry.indices) if is_shifted(part, equation)))


def _marks(extent: Expr) -> frozenset[Expr]:
    """What an axis is told by: the sizes in its extent, or the number that it is."""
    return frozenset(extent.atoms(Size)) or frozenset({extent})
