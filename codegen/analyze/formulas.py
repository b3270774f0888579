"""The Jacobian of a step as text, in the notation of specs."""

from __future__ import annotations

from sympy.core.relational import Relational

from codegen.analyze.values import Formula
from codegen.text import text, text_in_order
from symbolic.jacobian import Block, StepJacobian, Term
from symbolic.program import Program, index_symbols

__all__ = ["formula"]


def formula(jacobian: StepJacobian) -> tuple[Formula, ...]:
    """``drnn.h[t,n,i]/drnn.h[t-1,n,j] = ...`` for each block."""
    return tuple(_of_block(block, jacobian.program) for block in jacobian.blocks)


def _of_block(block: Block, program: Program) -> Formula:
    """A condition that all terms have (a mask) stands once, before them all."""
    inner = {i.symbol for term in block.terms for i in term.sums}
    common = [g for g in block.terms[0].guards
              if all(g in term.guards for term in block.terms) and not index_symbols(g) & inner]
    terms = tuple(_term(term, [g for g in term.guards if g not in common], program, len(block.terms) > 1) for term in block.terms)
    return Formula(text(block.of), text(block.by), terms, "".join(f"[{_guard(g)}]" for g in common))


def _term(term: Term, guards: list[Relational], program: Program, one_of_several: bool) -> str:
    body, sign = term.coefficient, ""
    if body.as_coeff_Mul()[0].is_negative:
        body, sign = -body, "-"
    over = f"sum_{','.join(i.name for i in term.sums)} " if term.sums else ""
    where = "".join(f"[{_guard(g)}]*" for g in guards)
    inside = text_in_order(body, program)
    return f"{sign}{over}{where}{f'({inside})' if body.is_Add and (where or over or sign or one_of_several) else inside}"


def _guard(guard: Relational) -> str:
    """``k = j``; SymPy would print an equality as a call."""
    return f"{text(guard.lhs)} {'=' if guard.rel_op == '==' else guard.rel_op} {text(guard.rhs)}"
