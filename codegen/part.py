"""Packed tensors taken apart where a recurrence reads them part by part: each part then lies together in memory.

    a[t,n,q] = W[q,d]*x[t,n,d],  r[t,n,k] = f(a[t,n,k]),  g[t,n,k] = f(a[t,n,k+H])
        ->   a_r[t,n,q] = W[q,d]*x[t,n,d] for q < H,  a_g[t,n,q] = W[q+H,d]*x[t,n,d] for q < H

A step that reads a slice of each row of a packed array makes one pass for each row; a step of a part is one piece. The other
way round from ``pack``, which joins what is computed in one call: this parts what is known before the loop.

Requires: nothing; best after ``pack``. Ensures: the same values of all promised tensors. Law: an entry of a part is the entry
that it stands for: the reads are proved to tile one axis, and every write runs over that axis whole. Cost: linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.shorten import cycles
from symbolic.analysis import is_equal, subscript_range
from symbolic.program import Equation, IndexName, Names, Program, Reduction, Role, Tensor, tensor_of
from symbolic.rewrite import promised
from symbolic.rewrite.terms import substitute

__all__ = ["part"]


@dataclass(frozen=True)
class _Part:
    """One slice of an axis, and the tensor that takes its place."""

    lower: Expr
    upper: Expr
    tensor: Tensor


def part(program: Program) -> Program:
    """The program with a tensor for each slice of what is known before a loop and read in slices by it."""
    kept, names = promised(program), Names.of(program)
    looping = frozenset().union(*cycles(program))
    for tensor in program.tensors:
        if tensor.role is not Role.INTERMEDIATE or tensor.is_index or tensor.name in looping or tensor.name in kept:
            continue
        if any(map(any, tensor.margin)) or not all(e.name in looping for e in program.readers.get(tensor.name, ())):
            continue
        for axis in range(tensor.rank):
            parts = _parts(tensor, axis, program, names)
            if parts and all(_is_whole(w, axis, program) for w in program.writers.get(tensor.name, ())):
                program = _parted(tensor, axis, parts, program)
                break
    return program


def _parts(tensor: Tensor, axis: int, program: Program, names: Names) -> tuple[_Part, ...]:
    """The slices in which the tensor is read, where there are several and they tile the axis."""
    slices: dict[tuple[Expr, Expr], list[str]] = {}
    for reader in program.readers.get(tensor.name, ()):
        for entry in (e for e in reader.reads if tensor_of(e) == tensor.name):
            found = _slice(entry, axis, reader, program)
            if found is None:
                return ()
            short = reader.name.rpartition(".")[2]
            slices.setdefault(found, [])
            slices[found] += [short] if short not in slices[found] else []
    made: list[_Part] = []
    reached: Expr = sp.S.Zero
    while len(made) < len(slices):
        following = next((s for s in slices if is_equal(s[0], reached, program)), None)
        if following is None or any(p.lower == following[0] for p in made):
            return ()
        reached = following[1]
        shape = tuple(sp.expand(reached - following[0]) if k == axis else e for k, e in enumerate(tensor.shape))
        name = names.fresh(f"{tensor.name}_{'_'.join(slices[following])}")
        made.append(_Part(*following, replace(tensor, name=name, shape=shape)))
    return tuple(made) if len(made) > 1 and is_equal(reached, tensor.shape[axis], program) else ()


def _slice(entry: Indexed, axis: int, reader: Equation, program: Program) -> tuple[Expr, Expr] | None:
    """The half-open range of one subscript, where it moves."""
    found = subscript_range(entry.indices[axis], {i.symbol: i for i in reader.indices}, program)
    if found is None or found[0] == found[1] or found[0].atoms(IndexName) or found[1].atoms(IndexName):
        return None
    return found[0], sp.expand(found[1] + 1)


def _is_whole(writer: Equation, axis: int, program: Program) -> bool:
    """Whether a contribution runs over the axis whole, by an index of its own."""
    symbol = writer.target.indices[axis]
    if writer.reduction is not Reduction.SUM or writer.guards or not isinstance(symbol, IndexName):
        return False
    index = writer.index(symbol)
    extent = program.tensor(writer.name).shape[axis]
    others = [s for k, s in enumerate(writer.target.indices) if k != axis]
    return (
        index.lower == 0 and is_equal(index.upper, extent, program) and not any(symbol in s.free_symbols for s in others)
        and not any(symbol in (i.lower + i.upper).free_symbols for i in writer.indices)
    )


def _parted(tensor: Tensor, axis: int, parts: Sequence[_Part], program: Program) -> Program:
    rows: list[Equation] = []
    for equation in program.equations:
        if equation.name == tensor.name:
            rows += [_write(equation, axis, p) for p in parts]
            continue
        rule = {}
        for entry in equation.reads:
            if tensor_of(entry) == tensor.name:
                found = _slice(entry, axis, equation, program)
                (own,) = (p for p in parts if (p.lower, p.upper) == found)
                rule[entry] = own.tensor.at(_shifted(entry, axis, -own.lower))
        rows.append(equation.xreplace(rule) if rule else equation)
    tensors = [t for t in program.tensors if t is not tensor]
    return program.with_equations(rows, [*tensors, *(p.tensor for p in parts)])


def _write(equation: Equation, axis: int, own: _Part) -> Equation:
    """The contribution to one part."""
    symbol = equation.target.indices[axis]
    indices = tuple(
        replace(i, upper=sp.expand(own.upper - own.lower)) if i.symbol == symbol else i for i in equation.indices
    )
    body = substitute(equation.body, {symbol: symbol + own.lower}) if own.lower != 0 else equation.body
    return replace(equation, target=own.tensor.at(equation.target.indices), body=body, indices=indices)


def _shifted(entry: Indexed, axis: int, by: Expr) -> list[Expr]:
    return [sp.expand(s + by) if k == axis else s for k, s in enumerate(entry.indices)]
