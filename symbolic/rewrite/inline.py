"""Inline: an adjoint that one equation makes and one equation reads stands in its reader.

Requires: a tensor made by differentiation, not promised, with one writer (pointwise) and one reader that has the same
instances and reads it once, as a factor. Ensures: the reader holds the writer's body, the tensor is gone: ``d_i =
d_c*g`` and ``d_a += d_i*i*(1 - i)`` become ``d_a += d_c*g*i*(1 - i)``. Law: the read is proved to meet the writer's
one instance, so it is the body; a guard of the writer moves into the reader's domain, which is exact because the
reader is 0 where the read is. No value is computed twice. Cost: linear.

>>> from symbolic.program import *
>>> N, n = size("N"), index("n")
>>> x, di, da = (Tensor(name, (N,), Role.ADJOINT) for name in ("x", "d_i", "d_a"))
>>> over = (Index.over(n, N),)
>>> program = Program("p", (x, di, da), (
...     Equation(di[n], 2*x[n], over, numbers=(1,)), Equation(da[n], di[n]*x[n], over, numbers=(2,))), {"N": None})
>>> print(*inline(program, frozenset({"d_a"})).equations)
(2) d_a[n] += 2*x[n]**2    for n=0..N - 1
"""

from __future__ import annotations

from dataclasses import replace

from sympy import Indexed

from symbolic.program import Equation, Program, Reduction, Role, index_symbols, tensor_of
from symbolic.rewrite.terms import is_pointwise, operands, powers, renumbered, solve, substitute
from symbolic.rewrite.values import inside, is_met

__all__ = ["inline"]

NAME = "inline"
MOST_READS = 8
"""A line with more distinct reads than this is no longer read at one glance."""


def inline(program: Program, keep: frozenset[str]) -> Program:
    """The program without the adjoints that stand in their only reader."""
    rows: dict[int, Equation] = dict(enumerate(program.equations))
    writers: dict[str, set[int]] = {}
    readers: dict[str, set[int]] = {}
    for k, equation in rows.items():
        writers.setdefault(equation.name, set()).add(k)
        for entry in equation.reads:
            readers.setdefault(tensor_of(entry), set()).add(k)
    waiting = [t.name for t in reversed(program.tensors) if t.role in (Role.ADJOINT, Role.TANGENT)]
    while waiting:
        name = waiting.pop()
        if name in keep or len(writers.get(name, ())) != 1 or len(readers.get(name, ())) != 1:
            continue
        ((source,), (sink,)) = writers[name], readers[name]
        merged = _merged(rows[source], rows[sink], program) if source != sink else None
        if merged is None:
            continue
        for entry in (*rows[source].reads, *rows[sink].reads):
            readers[tensor_of(entry)] -= {source, sink}
        for entry in merged.reads:
            readers[tensor_of(entry)].add(sink)
            waiting.append(tensor_of(entry)) if program.tensor(tensor_of(entry)).role is Role.ADJOINT else None
        rows[sink] = merged
        del rows[source], writers[name]
        waiting.append(merged.name)
    return program.with_equations(rows[k] for k in sorted(rows)).pruned()


def _merged(writer: Equation, reader: Equation, program: Program) -> Equation | None:
    if reader.reduction is not Reduction.SUM or reader.reduced or not is_pointwise(writer):
        return None
    found = [e for e in operands(reader.body) if tensor_of(e) == writer.name]
    if len(found) != 1 or any(tensor_of(e) == writer.name for e in reader.reads if e != found[0]):
        return None
    entry: Indexed = found[0]
    if powers(reader.body).get(entry) != 1:
        return None
    if {i.symbol for i in reader.indices} != index_symbols(entry):
        return None
    values = solve(writer.target.indices, entry.indices, frozenset(i.symbol for i in writer.indices))
    unguarded = replace(writer, guards=())
    if values is None or not inside(values, unguarded, reader, program) or not is_met(entry, reader, program):
        return None
    body = reader.body.xreplace({entry: substitute(writer.body, values)})
    if len(operands(body)) > MOST_READS:
        return None
    moved = tuple(g for g in (substitute(guard, values) for guard in writer.guards) if g not in reader.guards)
    return renumbered(replace(reader, body=body, guards=reader.guards + moved), NAME, reader, writer)
