"""Forward mode on index equations: ``Y_dot[psi] += df/dX[phi] * X_dot[phi]`` over the same domain.

Applied to a program that already holds adjoints it gives Hessian-vector products, forward over reverse (Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from symbolic.adjoint import active, differentiable_reads, instances_to_differentiate, names_to_differentiate_by, partial
from symbolic.program import Equation, Names, Origin, Program, Reduction, Role, tensor_of

__all__ = ["tangent"]


def tangent(program: Program, wrt: str | Iterable[str] | None = None) -> Program:
    """The program with the tangent equations along a direction for the tensors ``wrt`` (default: the parameters).

    Ensures ``result.tangents[X]`` names the tangent of X: an input (the direction) for X in ``wrt``, computed for every tensor
    that depends on them.
    """
    wanted = names_to_differentiate_by("tangent", program, wrt)
    live = active(program, wanted)
    names = Names.of(program)
    equations, arguments = instances_to_differentiate(program, live, names)
    dotted = {
        t.name: replace(t, name=names.fresh(f"t_{t.name}"), constant="", note="",
                        role=Role.INPUT if t.name in wanted else Role.TANGENT)
        for t in program.tensors if t.name in live
    }
    number = max(program.next_number, 1 + max((e.number for e in arguments.equations), default=0))
    made: list[Equation] = []
    for equation in equations:
        if equation.name not in live:
            continue
        for entry in differentiable_reads(equation, program, live):
            slope = partial(equation.body, entry)
            if slope == 0:
                continue
            made.append(
                replace(
                    equation,
                    target=dotted[equation.name].at(equation.target.indices),
                    body=slope * dotted[tensor_of(entry)].at(entry.indices),
                    reduction=Reduction.SUM,
                    numbers=(number + len(made),),
                    origin=Origin("tangent", (equation.number,), entry, slope),
                )
            )
    return replace(
        program,
        tensors=(*program.tensors, *arguments.tensors, *dotted.values()),
        equations=(*program.equations, *arguments.equations, *made),
        tangents={**program.tangents, **{name: tensor.name for name, tensor in dotted.items()}},
    )
