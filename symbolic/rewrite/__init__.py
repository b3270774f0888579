"""Rewrites: named rules in two ordered phases, each a pure function ``Program -> Program`` with a law.

``forward`` runs before the adjoint: it recognises structure in the model's equations, never the names of layers, and
writes the stable form. ``backward`` runs on a program with adjoints. Values never change; the interpreter is the
judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from symbolic.errors import ChainruleError, nearest
from symbolic.program import Equation, Program, Role
from symbolic.rewrite.blend import blend_means
from symbolic.rewrite.cancel import cancel
from symbolic.rewrite.common import share_terms
from symbolic.rewrite.constants import fold_constants
from symbolic.rewrite.contractions import share_contractions
from symbolic.rewrite.dead import drop_dead, merge_duplicates
from symbolic.rewrite.gather import gather
from symbolic.rewrite.inline import inline
from symbolic.rewrite.log_sum_exp import stabilise_sums
from symbolic.rewrite.logarithm import split_logarithms
from symbolic.rewrite.logistic import recognise_logistic
from symbolic.rewrite.monotone import maximum_first
from symbolic.rewrite.reuse import reuse_values
from symbolic.rewrite.specialise import specialise
from symbolic.rewrite.zeros import drop_zeros

__all__ = ["RULES", "Rule", "Step", "apply", "promised"]


@dataclass(frozen=True)
class Rule:
    """One rewrite: its name for ``disabled`` and for derivations, its phase, its law in one line, and the function."""

    name: str
    phase: str
    law: str
    run: Callable[[Program, frozenset[str]], Program]


@dataclass(frozen=True)
class Step:
    """One change that a rule made: the equations before, and those that stand in their place."""

    rule: str
    before: tuple[Equation, ...]
    after: tuple[Equation, ...]

    def __str__(self) -> str:
        lines = [f"{self.rule}:"]
        lines += [f"  - {equation}" for equation in self.before]
        lines += [f"  + {equation}" for equation in self.after]
        return "\n".join(lines)


_REUSE = Rule("reuse", "backward", "a term that is the value of a stored entry, which one instance writes, is read", reuse_values)

RULES: tuple[Rule, ...] = (
    Rule("logistic", "forward", "1/(1+exp(-z)) = sigmoid(z), log(1+exp(z)) = softplus(z)", recognise_logistic),
    Rule("logarithm", "forward", "the logarithm of a product of positive factors is the sum of theirs", split_logarithms),
    Rule("log_sum_exp", "forward", "a value of degree 0 in e and s does not depend on their common factor", stabilise_sums),
    Rule("monotone", "forward", "the greatest of f(a) is f of the greatest a where f never falls", maximum_first),
    Rule("specialise", "forward", "a sum over an index that an equality fixes is its one term", specialise),
    Rule("blend", "forward", "(1 - w)*a + w*b = a + w*(b - a), for a weight w in [0, 1]", blend_means),
    Rule("constants", "backward", "a tensor that one equation makes the same number everywhere is that number", fold_constants),
    Rule("zeros", "backward", "an entry that no equation writes is 0, and a term vanishes with its factor", drop_zeros),
    _REUSE,
    Rule("cancel", "backward", "a sum of few products is multiplied out where terms cancel", cancel),
    Rule("inline", "backward", "an adjoint made by one equation and read by one stands in its reader", inline),
    Rule("gather", "backward", "a shifted or reflected target is renamed to its bare index over the exact image", gather),
    Rule(
        "common", "backward", "a costly term of several equations is computed once, where it is proved to be theirs", share_terms
    ),
    _REUSE,  # powers of what was staged just now: (v + eps)**(-3/2) beside (v + eps)**(-1/2)
    Rule("contractions", "backward", "a factor free of the reduced indices may stand outside the sum", share_contractions),
    Rule("duplicates", "backward", "two sums over one domain are one sum", merge_duplicates),
    Rule("dead", "backward", "a value depends on nothing but what it reads", drop_dead),
)
"""Every rule in the order in which it runs."""

PHASES = ("forward", "backward")


def apply(
    program: Program, phase: str, disabled: Iterable[str] = (), keep: Iterable[str] | None = None
) -> tuple[Program, tuple[Step, ...]]:
    """Run the rules of a phase in order; the rewritten program and every change made, in order.

    ``keep`` names the tensors whose values are promised (default: ``promised(program)``). Raises ChainruleError for an unknown
    phase or an unknown name in ``disabled``.
    """
    off = frozenset(disabled)
    known = list(dict.fromkeys(rule.name for rule in RULES))
    for name in sorted(off - set(known)):
        raise ChainruleError(f"no rewrite '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    if phase not in PHASES:
        raise ChainruleError(f"no rewrite phase '{phase}'; expected one of {', '.join(PHASES)}")
    kept = frozenset(keep) if keep is not None else promised(program)
    steps: list[Step] = []
    for rule in RULES:
        if rule.phase == phase and rule.name not in off:
            after = rule.run(program, kept)
            steps += _steps(rule.name, program, after)
            program = after
    return program, tuple(steps)


def promised(program: Program) -> frozenset[str]:
    """The tensors that must keep their values: the loss, the outputs, the gradients and tangents of what has no equation."""
    kept = {program.loss, *program.outputs, *program.links} - {""}
    roots = {t.name for t in program.tensors if t.role in (Role.PARAMETER, Role.INPUT)}
    kept.update(adjoint for name, adjoint in program.gradients.items() if name in roots)
    kept.update(program.tangents[name] for name in kept | roots if name in program.tangents)
    return frozenset(kept)


def _steps(name: str, before: Program, after: Program) -> list[Step]:
    """The changes between two programs: equations of one number together, and what was merged into them."""
    kept = {id(e) for e in before.equations} & {id(e) for e in after.equations}
    gone = [e for e in before.equations if id(e) not in kept]
    made = [e for e in after.equations if id(e) not in kept]
    old = {e.number for e in gone}
    # A removed equation without a successor of its own number belongs to the one that took it over; an equation with a new
    # number to the one that it was made from.
    owner = {n: n for n in (e.number for e in made) if n in old}
    for equation in made:
        if equation.number not in old:
            parent = next((n for n in equation.origin.parents if n in owner), equation.number)
            owner[equation.number] = owner.get(parent, parent)
    for equation in made:
        for number in equation.numbers:
            owner.setdefault(number, owner[equation.number])
    steps: dict[int, tuple[list[Equation], list[Equation]]] = {}
    for side, rows in enumerate((gone, made)):
        for equation in rows:
            steps.setdefault(owner.get(equation.number, equation.number), ([], []))[side].append(equation)
    return [Step(name, tuple(first), tuple(second)) for first, second in steps.values()]
