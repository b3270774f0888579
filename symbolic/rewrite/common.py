"""Common terms (law 18): what several equations compute is computed once, in a tensor of its own.

Requires: nothing; best after ``gather``, which brings adjoints to their bare indices. Ensures: a function application
or a power that costs as much as a transcendental function and stands in two equations or more, modulo index names and
offsets, is staged: ``tanh(c[t])`` of an LSTM's output and of its adjoint become ``tanh_c[t]``. Law: one equation, the
base, computes the term over its own domain and guards; another reads it only where its instances are proved to be
among them, so nothing is evaluated that was not, and a border where f(0) is not 0 stays as it was (law 4). Cost:
linear in the number of terms.

>>> from symbolic.program import *
>>> import sympy as sp
>>> T, t = size("T"), index("t")
>>> c, h, o, d_h, d_o = (Tensor(name, (T,)) for name in ("c", "h", "o", "d_h", "d_o"))
>>> over = (Index.over(t, T),)
>>> program = Program("p", (c, h, o, d_h, d_o), (Equation(h[t], o[t]*sp.tanh(c[t]), over, numbers=(1,)),
...     Equation(d_o[t], d_h[t]*sp.tanh(c[t]), over, numbers=(2,))), {"T": None})
>>> print(*share_terms(program, frozenset()).equations, sep=chr(10))
(3) tanh_c[t] += tanh(c[t])    for t=0..T - 1
(1) h[t] += o[t]*tanh_c[t]    for t=0..T - 1
(2) d_o[t] += d_h[t]*tanh_c[t]    for t=0..T - 1
"""

from __future__ import annotations

from collections.abc import Iterator

from sympy import Expr, Indexed

from symbolic.functions import row_of
from symbolic.program import Names, Program, tensor_of
from symbolic.rewrite.staging import Use, staged
from symbolic.rewrite.terms import CHEAP, apply_to_body, canonical, cost, head, operands

__all__ = ["share_terms"]

NAME = "common"


def share_terms(program: Program, keep: frozenset[str]) -> Program:
    """The program with costly terms that several equations hold staged in tensors."""
    rows = list(program.equations)
    alike: dict[object, list[tuple[int, Expr]]] = {}
    for row, equation in enumerate(rows):
        if cost(equation.body) >= CHEAP:
            for term in _costly(equation.body):
                alike.setdefault(head(term), []).append((row, term))
    table: dict[Expr, dict[tuple[int, Expr], Use]] = {}

    def file(row: int, term: Expr) -> None:
        form = canonical(term)
        table.setdefault(form.term, {}).setdefault((row, term), Use(row, term, form.places))

    for found in alike.values():
        if len({row for row, _ in found}) > 1:
            for row, term in found:
                file(row, term)
    names: Names | None = None
    tensors = list(program.tensors)
    place = {row: (row, 1) for row in range(len(rows))}
    # The dearest first: what stands inside it is then computed in the staged equation alone, and counted again there.
    shared = [key for key, uses in table.items() if len({use.row for use in uses.values()}) > 1]
    for key in sorted(shared, key=cost, reverse=True):
        uses = [use for use in table[key].values() if rows[use.row].body.has(use.term)]
        if len({use.row for use in uses}) < 2:
            continue
        names = names or Names.of(program)
        number = program.next_number + len(tensors) - len(program.tensors)
        made = staged(uses, rows, program.with_equations(rows, tensors), names, number, NAME, _name(key, program))
        if made is None:
            continue
        tensor, equation, served = made
        for use, entry in served:
            body = rows[use.row].body.xreplace({use.term: entry})
            rows[use.row] = apply_to_body(rows[use.row], body, NAME)
        place[len(rows)] = (min(place[use.row][0] for use, _ in served), -len(rows))
        tensors.append(tensor)
        rows.append(equation)
        for term in _costly(equation.body):
            file(len(rows) - 1, term)
    return program.with_equations((rows[row] for row in sorted(place, key=place.__getitem__)), tensors)


def _costly(expr: Expr) -> Iterator[Expr]:
    """The applications and powers in a term that are worth staging, those inside others among them."""
    if isinstance(expr, Indexed) or not expr.args or cost(expr) < CHEAP:
        return
    if (expr.is_Pow or row_of(expr) is not None) and operands(expr):
        yield expr
    for part in expr.args:
        yield from _costly(part)


def _name(term: Expr, program: Program) -> str:
    """``tanh_c`` for tanh(c[t]), in the layer that c belongs to: ``rnn.tanh_c``."""
    row = row_of(term)
    what = row.name if row is not None else "root" if not term.exp.is_Integer else "inverse" if term.exp < 0 else "power"
    entries = [e for e in operands(term) if not program.tensor(tensor_of(e)).constant]
    name = tensor_of((entries or list(operands(term)))[0])
    layer, dot, local = name.rpartition(".")
    return f"{layer}{dot}{what}_{local}"
