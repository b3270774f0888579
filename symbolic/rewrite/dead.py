"""Dead equations: what reaches no promised value is dropped, and an equation written twice becomes one.

Requires: ``keep``, the tensors whose values are promised. Ensures: every remaining equation writes an entry that one of
them may depend on (as far as the numbers in subscripts tell: unrolled, a step that nothing reads goes alone), and every
promised tensor keeps all its equations. Law: a value depends on nothing but what it reads. Two sums with the same target,
domain and guards are one with the sum of their bodies; here only where the bodies are the same term up to a number. Cost:
linear.

>>> from symbolic.program import *
>>> a, b = Tensor("a"), Tensor("b")
>>> program = Program("p", (a, b), (Equation(a.at(()), read("x"), ()), Equation(b.at(()), read("x"), ())))
>>> [equation.name for equation in drop_dead(program, frozenset({"a"})).equations]
['a']
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp
from sympy import Indexed

from symbolic.program import Equation, Program, Reduction, Role, index, tensor_of
from symbolic.rewrite.terms import head, renumbered

__all__ = ["drop_dead", "merge_duplicates"]


def drop_dead(program: Program, keep: frozenset[str]) -> Program:
    """The program with only the equations that a promised tensor depends on; gradients of dropped tensors are struck off."""
    frontier = [equation for name in sorted(keep) for equation in program.writers.get(name, ())]
    live, seen = {id(equation) for equation in frontier}, set[Indexed]()
    while frontier:
        for entry in frontier.pop().reads:
            if entry in seen:
                continue
            seen.add(entry)
            for writer in program.writers_near(entry):
                if id(writer) not in live:
                    live.add(id(writer))
                    frontier.append(writer)
    names = keep | {tensor_of(entry) for entry in seen}
    return replace(
        program,
        equations=tuple(e for e in program.equations if id(e) in live),
        gradients={k: v for k, v in program.gradients.items() if v in names},
        tangents={k: v for k, v in program.tangents.items() if v in names or program.tensor(v).role is Role.INPUT},
    ).pruned()


def merge_duplicates(program: Program, keep: frozenset[str]) -> Program:
    """The program with contributions that are the same up to a number (and the names of indices) made one."""
    alike: dict[object, list[Equation]] = {}
    for equation in program.equations:
        if equation.reduction is Reduction.SUM:
            alike.setdefault((equation.name, head(equation.body)[1], len(equation.indices)), []).append(equation)
    merged: dict[int, Equation | None] = {}
    for group in alike.values():
        if len(group) < 2:
            continue
        first: dict[object, Equation] = {}
        for equation in group:
            key, number = _key(equation)
            other = first.setdefault(key, equation)
            if other is not equation:
                before = merged.get(id(other)) or other
                factor, term = before.body.as_coeff_Mul()
                merged[id(other)] = renumbered(replace(before, body=(factor + number) * term), "duplicates", before, equation)
                merged[id(equation)] = None
    rows = (merged.get(id(e), e) for e in program.equations)
    return program.with_equations(e for e in rows if e is not None)


def _key(equation: Equation) -> tuple[object, sp.Expr]:
    names = {i.symbol: index(f"_{k}") for k, i in enumerate(equation.indices)}
    same = equation.renamed(names) if names else equation
    number, term = same.body.as_coeff_Mul()
    return (same.target, term, same.indices, frozenset(same.guards)), number
