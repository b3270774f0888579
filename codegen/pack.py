"""Gates side by side: element-wise equations that differ by an offset alone become one equation over one wider tensor.

    i[t,n,k] = sigmoid(a[t,n,k]),  f[t,n,k] = sigmoid(a[t,n,k+H])   ->   i_f[t,n,k] = sigmoid(a[t,n,k]) for k < 2*H

and every read of f[..,k] becomes i_f[..,k+H]: one call where there were two. It recognises the offsets, not the layer.
Requires: nothing; where what is packed cannot be scheduled, the caller keeps the program as it was. Ensures: the same values of
all promised tensors. Law: each entry of the wide tensor is the entry that it stands for; only tensors whose sole writer fills
them and whose reads stay in bounds on that axis are packed, so that no zero extension is lost (law 4). Cost: linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine, is_equal, is_nonnegative, subscript_range
from symbolic.functions import row_of
from symbolic.program import Equation, IndexName, Names, Program, Reduction, Role, Tensor, reads, tensor_of
from symbolic.rewrite import promised

__all__ = ["pack"]


@dataclass(frozen=True)
class _Gate:
    """An equation that could stand in a row of others: its body at offset 0 along ``axis``, and its offset."""

    equation: Equation
    axis: int
    shape: Expr
    offset: Expr


def pack(program: Program) -> Program:
    """The program with neighbouring gates in one tensor each."""
    kept = promised(program)
    rows: dict[object, list[_Gate]] = {}
    for equation in program.equations:
        gate = _gate(equation, program) if equation.name not in kept else None
        if gate is not None:
            key = (gate.shape, gate.axis, equation.indices, tuple(equation.target.indices))
            rows.setdefault(key, []).append(gate)
    names = Names.of(program)
    moved: dict[str, tuple[Tensor, int, Expr]] = {}
    made: dict[int, Equation] = {}
    dropped: set[int] = set()
    tensors: list[Tensor] = []
    for gates in rows.values():
        for chain in _chains(gates, program):
            first = chain[0]
            index = first.equation.index(first.equation.target.indices[first.axis])
            width = index.extent
            old = program.tensor(first.equation.name)
            shape = list(old.shape)
            shape[first.axis] = sp.expand(width * len(chain))
            short = [g.equation.name.rpartition(".")[2] for g in chain]
            prefix = first.equation.name.rpartition(".")[0]
            name = names.fresh(f"{prefix}.{'_'.join(short)}" if prefix else "_".join(short))
            tensor = replace(old, name=name, shape=tuple(shape), note=f"{', '.join(g.equation.name for g in chain)} side by side")
            tensors.append(tensor)
            for k, gate in enumerate(chain):
                moved[gate.equation.name] = (tensor, gate.axis, sp.expand(width * k))
                dropped.add(id(gate.equation))
            wide = tuple(replace(i, upper=sp.expand(width * len(chain))) if i == index else i
                         for i in first.equation.indices)
            numbers = tuple(dict.fromkeys(n for g in chain for n in g.equation.numbers))
            made[id(first.equation)] = replace(
                first.equation, target=tensor.at(first.equation.target.indices), indices=wide, numbers=numbers
            )
    if not moved:
        return program
    equations = []
    for equation in program.equations:
        if id(equation) in made:
            equations.append(_moved(made[id(equation)], moved))
        elif id(equation) not in dropped:
            equations.append(_moved(equation, moved))
    left = tuple(t for t in program.tensors if t.name not in moved)
    return replace(program, tensors=(*left, *tensors), equations=tuple(equations))


def _gate(equation: Equation, program: Program) -> _Gate | None:
    """The equation as a gate, where it is one: a function of slices that it alone stores."""
    tensor = program.tensor(equation.name)
    row = row_of(equation.body)
    if (
        row is None or equation.reduction is not Reduction.SUM or equation.reduced or equation.guards
        or tensor.role is not Role.INTERMEDIATE or len(program.writers[equation.name]) != 1
        or any(any(m) for m in tensor.margin)
    ):
        return None
    for axis in reversed(range(tensor.rank)):
        symbol = equation.target.indices[axis]
        if not isinstance(symbol, IndexName):
            continue
        index = equation.index(symbol)
        if index.lower != 0 or not is_equal(index.extent, tensor.shape[axis], program):
            continue
        found = [entry for entry in reads(equation.body) if symbol in entry.free_symbols]
        if symbol in equation.body.xreplace(dict.fromkeys(found, sp.S.One)).free_symbols:
            continue  # the index itself is a number in the body: its value would run on
        offsets = {_offset(entry, symbol) for entry in found}
        offset = offsets.pop() if len(offsets) == 1 else None
        if offset is None:
            continue
        if not _stays_inside(equation.name, axis, program):
            return None
        return _Gate(equation, axis, equation.body.xreplace({e: _shifted(e, symbol, -offset) for e in found}), offset)
    return None


def _offset(entry: Indexed, symbol: IndexName) -> Expr | None:
    """The offset of the one subscript that holds the symbol, with coefficient 1 and nothing else that moves."""
    holding = [s for s in entry.indices if symbol in s.free_symbols]
    form = affine(holding[0]) if len(holding) == 1 else None
    if form is None or len(form.coefficients) != 1 or form.coefficients[0][1] != 1:
        return None
    return form.constant


def _shifted(entry: Indexed, symbol: IndexName, by: Expr) -> Indexed:
    parts = tuple(sp.expand(s + by) if symbol in s.free_symbols else s for s in entry.indices)
    return entry.func(entry.base, *parts)


def _stays_inside(name: str, axis: int, program: Program) -> bool:
    extent = program.tensor(name).shape[axis]
    for reader in program.readers.get(name, ()):
        ranges = {i.symbol: i for i in reader.indices}
        for entry in reader.reads:
            if tensor_of(entry) != name:
                continue
            found = subscript_range(entry.indices[axis], ranges, program)
            if found is None or not (
                is_nonnegative(found[0], program) and is_nonnegative(extent - 1 - found[1], program)
            ):
                return False
    return True


def _chains(gates: Sequence[_Gate], program: Program) -> list[list[_Gate]]:
    """Gates whose offsets follow one another by the width of one."""
    chains: list[list[_Gate]] = []
    left = list(gates)
    while left:
        starts = [g for g in left if not any(_follows(o, g, program) for o in left)]
        chain = [starts[0] if starts else left[0]]
        left.remove(chain[0])
        while True:
            after = next((g for g in left if _follows(chain[-1], g, program)), None)
            if after is None:
                break
            chain.append(after)
            left.remove(after)
        if len(chain) > 1:
            chains.append(chain)
    return chains


def _follows(a: _Gate, b: _Gate, program: Program) -> bool:
    width = a.equation.index(a.equation.target.indices[a.axis]).extent
    return a is not b and is_equal(a.offset + width, b.offset, program)


def _moved(equation: Equation, moved: Mapping[str, tuple[Tensor, int, Expr]]) -> Equation:
    """The equation with reads of packed tensors sent to their place."""
    rule = {}
    for entry in equation.reads:
        place = moved.get(tensor_of(entry))
        if place is not None:
            tensor, axis, offset = place
            parts = list(entry.indices)
            parts[axis] = sp.expand(parts[axis] + offset)
            rule[entry] = tensor.at(tuple(parts))
    return equation.xreplace(rule) if rule else equation

