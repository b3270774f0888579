"""The network rolled out: nested compositions, and the gradient as a sum over time of products of Jacobians."""

from __future__ import annotations

from collections.abc import Callable

from codegen.derivation.compositions import Compositions
from codegen.derivation.document import Code, Math, Paragraph, Section, listed, words
from codegen.derivation.jacobian_sums import JacobianSums
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Derivation
from symbolic.errors import ProgramError
from symbolic.jacobian import step_jacobian
from symbolic.recurrence import recurrences
from symbolic.ways import factors_of

__all__ = ["rolled_out"]


def rolled_out(derivation: Derivation, notation: Notation, told: Callable[[str], bool]) -> list[Section]:
    """The sections for what was unrolled: one for each recurrence whose layer is told; none where nothing was."""
    if derivation.rolled is None:
        return []
    found = []
    program = derivation.rolled.program
    along = recurrences(program)
    factors = factors_of(program, along)
    for recurrence in along:
        if not told(recurrence.states[0]):
            continue
        try:
            jacobian = step_jacobian(program, recurrence, factors)
        except ProgramError:  # a step of more ways than anybody reads
            continue
        if not any(jacobian.recurrence.axes(jacobian.program.tensor(name)) for name in jacobian.recurrence.states):
            continue
        compositions, sums = (kind(derivation, notation, jacobian) for kind in (Compositions, JacobianSums))
        names = listed([Math(compositions.state(name)) for name in compositions.states])
        opening = Paragraph(words("The recurrence of ", names, " along ", Math(compositions.form.show(compositions.time)),
                                  f", rolled out over {derivation.rolled.steps} steps."))
        title = words("Rolled out: ", *listed([Code(name) for name in compositions.states]))
        found.append(Section(f"rolled-{compositions.states[0]}", title, (opening, *compositions.blocks(), *sums.blocks())))
    return found
