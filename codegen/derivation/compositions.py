"""Nested compositions: what a network predicts at a step, with the earlier steps put in; of a cell that is too large for that, a
function of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sympy import Indexed

from codegen.derivation.document import Block, Display, Math, Paragraph, words
from codegen.derivation.formula import (
    Call,
    Fence,
    Formula,
    Letter,
    Line,
    List,
    Sign,
    Term,
    size,
)
from codegen.derivation.index_form import IndexForm
from codegen.derivation.layouts import layouts
from codegen.derivation.matrix_parts import NoMatrixForm
from codegen.derivation.nested import Nested
from codegen.derivation.recurrent import WRITTEN_OUT, Recurrent
from codegen.derivation.statements import statements
from symbolic.program import Equation, IndexName, Role, operands, tensor_of

__all__ = ["Compositions"]

LARGEST = 160
"""Symbols of a nested composition at most; what is larger is shown as a function of one step."""


class Compositions(Recurrent):
    """Writes the compositions of one recurrence."""

    def blocks(self) -> list[Block]:
        """One step, what is predicted with earlier steps put in, and the same from the start on; or a function of one step, where
        the cell is too large to be put into itself."""
        if not self.way:
            return []
        if len(self.states) > 1:
            return self._composed()
        for top in self._tops():
            try:
                found = self._nested(top)
            except NoMatrixForm:
                continue
            lines = [block.line for block in found if isinstance(block, Display)]
            if all(sum(size(f) for term in line.terms for f in term.factors) <= LARGEST for line in lines):
                return found
        return self._composed()

    def _tops(self) -> list[str]:
        """What a composition may be shown of: the prediction, the last values of a step that read the state, the state."""
        stepped = [t.name for t in self.program.tensors
                   if self.jacobian.recurrence.axes(t) and t.name not in self.jacobian.recurrence.tensors]
        after = [n for n in reversed(stepped) if n in self.reading]
        return [*dict.fromkeys([n for n in (self.rolled.prediction,) if n in self.reading] + after), self.states[0]]

    def _nested(self, top: str) -> list[Block]:
        """The composition of a tensor, as deep as the steps that were asked for."""
        group = frozenset(self.jacobian.recurrence.tensors)
        inside = self.inside(top)
        whole = layouts(self.program, self.program.equations)
        blocks: list[Block] = [Paragraph(words("One step, with what lies between put in:"))]
        blocks.append(self._line(Nested(self.form, whole, group - frozenset(self.states)), self.states[0]))
        if top not in group:
            blocks.append(self._line(Nested(self.form, whole, inside - group), top))
        steps = self.rolled.steps
        blocks.append(Paragraph(words("Put into itself, ", _times(steps), ":")))
        blocks.append(self._line(Nested(self.form, whole, inside, frozenset(self.states), self.time, steps - 1), top))
        if steps <= WRITTEN_OUT:
            blocks.append(Paragraph(words("And step by step:")))
            blocks += self._from_the_start(top, inside)
        return blocks

    def _line(self, nested: Nested, name: str) -> Display:
        """The definition of a tensor's entry at its bare indices."""
        equation = next(e for e in self.program.writers[name] if all(isinstance(p, IndexName) for p in e.target.indices))
        return Display(nested.defined(equation))

    def _from_the_start(self, name: str, inside: frozenset[str]) -> list[Block]:
        """Each step of the unrolled program, all earlier ones put in."""
        form = IndexForm(self.unrolled, self.form.symbols, self.form.adjoint)
        nested = Nested(form, layouts(self.unrolled, self.unrolled.equations), inside)
        return [Display(nested.defined(equations[0])) for equations in _by_entry(self.unrolled.writers.get(name, ()))]

    def _composed(self) -> list[Block]:
        """The composition as a function of one step, where the cell is too large to be put into itself."""
        f, inputs, lags = Letter(self.letter("FGP")), self._inputs(), self.lags()
        written = [self.notation_of_step(group) for group in _by_entry(
            [e for e in self.program.equations if e.name in self.jacobian.recurrence.tensors])]

        def state(back: int) -> Formula:
            at = self.at(back)
            parts = tuple(self.state(n, at) for n in self.states)
            return parts[0] if len(parts) == 1 else Fence(List(parts))

        def fed(back: int) -> tuple[Formula, ...]:
            return tuple(self.state(n, self.at(back)) for n in inputs)

        inner: Formula = Sign("dots")
        for back in reversed(range(self.rolled.steps)):
            inner = Call(f, (inner, *fed(back)))
        deeper: tuple[Block, ...] = (Paragraph(words("Put into itself, ", _times(self.rolled.steps), ":")),
                                     Display(Line(state(0), (Term("+", (inner,)),))))
        return [
            Paragraph(words("One step computes")),
            *written,
            Paragraph(words("This is a function ", Math(f), f" of the {'states' if lags else 'state'} before it and of what the "
                            "step reads,")),
            Display(Line(state(0), (Term("+", (Call(f, (*map(state, range(1, lags + 2)), *fed(0))),)),))),
            *(() if lags else deeper),
        ]

    def notation_of_step(self, equations: Sequence[Equation]) -> Display:
        """Equations of the rolled program, without the numbers, which are those of the unrolled one."""
        (found,) = statements(equations, self.program)
        notation = replace(self.notation, index=self.form, matrix=self.matrices if self.notation.matrix is not None else None)
        line, said = notation.line(found)
        return Display(replace(line, numbers=()), said)

    def _inputs(self) -> list[str]:
        """What a step reads from outside, step by step."""
        group = self.jacobian.recurrence.tensors
        read = dict.fromkeys(tensor_of(r) for n in group for e in self.program.writers[n] for r in operands(e.body))
        return [n for n in read if n not in group and self.program.tensor(n).role is not Role.PARAMETER
                and self.jacobian.recurrence.axes(self.program.tensor(n))]


def _by_entry(equations: Sequence[Equation]) -> list[list[Equation]]:
    found: dict[Indexed, list[Equation]] = {}
    for equation in equations:
        found.setdefault(equation.target, []).append(equation)
    return list(found.values())


def _times(steps: int) -> str:
    return {1: "once", 2: "twice"}.get(steps, f"{steps} steps deep")
