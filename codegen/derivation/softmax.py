"""Where a program normalises exponentials: y = e/s with s the sum of e = exp(z) along an axis; found by structure alone."""

from __future__ import annotations

from sympy import Indexed, Mul, Pow, exp

from symbolic.program import Equation, Program, Reduction, tensor_of

__all__ = ["softmaxes"]


def softmaxes(program: Program) -> dict[str, list[tuple[Indexed, Indexed]]]:
    """For each tensor that is a softmax: the entries that are written, each with the entry z whose exponential is normalised."""
    found: dict[str, list[tuple[Indexed, Indexed]]] = {}
    for equation in program.equations:
        if (inner := _normalised(equation, program)) is not None:
            found.setdefault(equation.name, []).append((equation.target, inner))
    return found


def _normalised(equation: Equation, program: Program) -> Indexed | None:
    """The z of ``exp(z)/sum(exp(z))``, where that is what an equation says."""
    ratio = _ratio(equation.body)
    if ratio is None or equation.reduced or equation.guards or len(program.writers_near(equation.target)) != 1:
        return None
    top, bottom = ratio
    exponentials, sums = (program.writers_near(e) for e in (top, bottom))
    if len(exponentials) != 1 or len(sums) != 1 or not isinstance(exponentials[0].body, exp):
        return None
    (made,), (summed,) = exponentials, sums
    whole = summed.reduction is Reduction.SUM and len(summed.reduced) == 1 and isinstance(summed.body, Indexed)
    inner = made.body.args[0]
    if not whole or tensor_of(summed.body) != tensor_of(top) or not isinstance(inner, Indexed) or made.reduced or made.guards:
        return None
    if made.target.indices != inner.indices:
        return None
    shown: Indexed = inner.xreplace(dict(zip(made.target.indices, top.indices, strict=True)))
    return shown


def _ratio(body: object) -> tuple[Indexed, Indexed] | None:
    """``e, s`` of ``e/s``."""
    if not isinstance(body, Mul) or len(body.args) != 2:
        return None
    top = [p for p in body.args if isinstance(p, Indexed)]
    under = [p.base for p in body.args if isinstance(p, Pow) and p.exp == -1 and isinstance(p.base, Indexed)]
    return (top[0], under[0]) if len(top) == 1 and len(under) == 1 else None
