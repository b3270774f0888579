"""Monotone: a function that never falls changes places with a maximum, so that it is computed of fewer entries.

Requires: ``y = f(a)`` entry by entry, y read by one maximum ``p = max y[phi]`` alone and not promised, no more entries of p
than of y; a, y and p without margins. Ensures: ``m = max a[phi]``, ``p = f(m)``; y is gone. Law: the greatest of f(a) is f of
the greatest a where f never falls. For the slope too, where additionally f(x) = f(x') for x < x' only with slope 0 at both
(``Row.rises``): either the first maximum of f(a) is the first maximum of a, or both places get 0. A read out of bounds, and a
maximum over nothing, are 0 on both sides, because f(0) = 0. Cost: linear.

``clip`` has slope 1 at its ends and 0 beyond: of 1 and 2, clipped at 1, the first is the first maximum of the clipped ones, with
slope 1, and the second the maximum of the others, with slope 0; so it stays.

>>> from symbolic.functions import relu
>>> from symbolic.program import *
>>> N, n, q = size("N"), index("n"), index("q")
>>> a, y, p = Tensor("a", (2*N,)), Tensor("y", (2*N,)), Tensor("p", (N,))
>>> program = Program("p", (a, y, p), (
...     Equation(y[n], relu(a[n]), (Index.over(n, 2*N),), numbers=(1,)),
...     Equation(p[n], y[2*n + q], (Index.over(n, N), Index.over(q, 2)), (), Reduction.MAX, numbers=(2,))), {"N": None})
>>> print(*maximum_first(program, frozenset()).equations, sep=chr(10))
(2) p_max[n] += max over (q) a[2*n + q]    for n=0..N - 1, q=0..1
(1) p[n] += relu(p_max[n])    for n=0..N - 1
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Indexed

from symbolic.analysis import is_equal, is_nonnegative
from symbolic.functions import row_of
from symbolic.program import Equation, Names, Program, Reduction, Role, Tensor, read, tensor_of
from symbolic.rewrite.terms import renumbered

__all__ = ["maximum_first"]

NAME = "monotone"


def maximum_first(program: Program, keep: frozenset[str]) -> Program:
    """The program with each function that may change places with its maximum after it."""
    names = Names.of(program)
    gone: set[int] = set()
    made: dict[int, tuple[Equation, Equation]] = {}
    tensors = list(program.tensors)
    for maximum in program.equations:
        function = _function(maximum, program, keep)
        if function is None:
            continue
        (source,) = function.body.args
        assert isinstance(source, Indexed)
        assert isinstance(maximum.body, Indexed)
        target = program.tensor(maximum.name)
        of_source = replace(target, name=names.fresh(f"{target.name}_max"), role=Role.INTERMEDIATE)
        tensors.append(of_source)
        staged = of_source.at(maximum.target.indices)
        body = read(tensor_of(source), maximum.body.indices)
        first = renumbered(replace(maximum, target=staged, body=body), NAME, maximum)
        second = replace(function, target=maximum.target, body=function.body.func(staged), indices=maximum.free)
        made[id(maximum)] = (first, renumbered(second, NAME, function))
        gone.add(id(function))
    if not made:
        return program
    rows = [row for e in program.equations if id(e) not in gone for row in made.get(id(e), (e,))]
    return program.with_equations(rows, tensors).pruned()


def _function(maximum: Equation, program: Program, keep: frozenset[str]) -> Equation | None:
    """The equation that makes what a maximum is taken of, where the two may change places."""
    if maximum.reduction is not Reduction.MAX or not isinstance(maximum.body, Indexed):
        return None
    name = tensor_of(maximum.body)
    writers, readers = program.writers.get(name, ()), program.readers.get(name, ())
    if name in keep or len(writers) != 1 or len(readers) != 1 or program.writers[maximum.name] != (maximum,):
        return None
    if [tensor_of(entry) for entry in maximum.reads].count(name) != 1:
        return None
    (function,) = writers
    row = row_of(function.body)
    if row is None or not row.rises or not isinstance(function.body.args[0], Indexed):
        return None
    source = function.body.args[0]
    tensors = [program.tensor(n) for n in (name, tensor_of(source), maximum.name)]
    if any(t.constant or t.is_index or any(map(any, t.margin)) for t in tensors):
        return None
    if source.indices != function.target.indices or tensors[0].shape != tensors[1].shape:
        return None
    if not _is_whole(function, tensors[0], program) or function.guards or not _is_whole(maximum, tensors[2], program):
        return None
    fewer = sp.expand(sp.Mul(*tensors[0].shape) - sp.Mul(*tensors[2].shape))
    return function if is_nonnegative(fewer, program) else None


def _is_whole(equation: Equation, tensor: Tensor, program: Program) -> bool:
    """Whether an equation writes every entry of its tensor, each subscript an index of its own over the whole axis."""
    ranges = {i.symbol: i for i in equation.indices}
    subscripts = equation.target.indices
    return len(set(subscripts)) == len(subscripts) and all(
        s in ranges and ranges[s].lower == 0 and is_equal(ranges[s].upper, extent, program)
        for s, extent in zip(subscripts, tensor.shape, strict=True)
    )
