"""Adjoints in closed form: where every adjoint that an equation reads is a known function of forward values, it is put in.

So the adjoint of what goes into a softmax with cross entropy reads p - y, although three named tensors stand in between. Only
values without further adjoints are put in: a derivation stops at the tensors that carry it on.
"""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Expr, Indexed

from codegen.derivation.provenance import Derivation
from codegen.derivation.statements import Statement, statements
from symbolic.program import Equation, IndexName, Program, tensor_of
from symbolic.rewrite.terms import apply_to_body, substitute

__all__ = ["closed_forms"]

LARGEST = 12
"""Operations of a closed form at most: beyond that it explains nothing."""


def closed_forms(derivation: Derivation) -> Mapping[str, tuple[Equation, ...]]:
    """For each tensor whose adjoint reads only adjoints that are known: its equations with these put in."""
    entries: dict[str, Statement] = {}
    found: dict[str, tuple[Equation, ...]] = {}
    program = derivation.known
    for name, adjoint in derivation.adjoints.items():
        equations = adjoint.forms[-1].equations
        read = {tensor_of(r) for e in equations for r in e.reads if tensor_of(r) in program.gradients.values()}
        if read:
            if not read <= set(entries):
                continue
            made = [_put_in(e, entries, program) for e in equations]
            if any(e is None for e in made):
                continue
            equations = tuple(e for e in made if e is not None)
            if name not in derivation.wrt:  # a gradient stays a product of what was named before
                found[name] = equations
        whole = statements(equations, program)
        if len(whole) == 1 and len(whole[0].terms) == 1 and _is_whole(whole[0], program):
            entries[adjoint.adjoint] = whole[0]
    return found


def _put_in(equation: Equation, entries: Mapping[str, Statement], program: Program) -> Equation | None:
    """The equation with every read of a known adjoint replaced by its value, or ``None`` where that is not simple."""
    rule: dict[Indexed, Expr] = {}
    for read in equation.reads:
        if tensor_of(read) in entries:
            term = entries[tensor_of(read)].terms[0]
            place: dict[IndexName, Expr] = dict(zip(term.target.indices, read.indices, strict=True))
            rule[read] = substitute(term.body, place)
    if not rule:
        return equation
    body = equation.body.xreplace(rule)
    return apply_to_body(equation, body, "closed") if body.count_ops() <= LARGEST else None


def _is_whole(statement: Statement, program: Program) -> bool:
    """Whether it says of every entry what it is, by values alone: bare subscripts, no sum, no condition."""
    (term,) = statement.terms
    return (
        not term.reduced and not term.guards and all(isinstance(part, IndexName) for part in statement.target.indices)
        and not any(tensor_of(r) in program.gradients.values() for r in term.reads)
    )

