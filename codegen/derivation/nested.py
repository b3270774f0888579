"""Nested compositions: an entry with the definitions of what it reads put in, down to the earlier steps.

    h_t = f(W_h^T h_{t-1} + W_x^T x_t)      ->      f(W_h^T f(W_h^T f(...) + W_x^T x_{t-1}) + W_x^T x_t)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sympy import Indexed

from codegen.derivation.formula import Call, Formula, Line, Sign, Term, Word, summed_up
from codegen.derivation.index_form import IndexForm
from codegen.derivation.layouts import Layout
from codegen.derivation.matrix_form import MatrixForm
from codegen.derivation.matrix_parts import Axes, NoMatrixForm, bare, operand
from codegen.derivation.softmax import normalised
from symbolic.analysis import is_equal
from symbolic.program import Equation, Index, IndexName, Reduction, index, index_symbols, tensor_of
from symbolic.rewrite.terms import substitute

__all__ = ["Nested"]


LARGEST = 60
"""Definitions that are put in at most: a cell that reads its state in several places grows with the power of the steps."""


class Nested(MatrixForm):
    """Prints entries with those of ``inside`` replaced by their definitions.

    ``states``: of a state that lies ``depth`` steps back the function is shown, and what goes into it as dots; earlier ones stand
    as symbols.
    """

    def __init__(
        self, form: IndexForm, layouts: Mapping[str, Layout], inside: frozenset[str], states: frozenset[str] = frozenset(),
        time: IndexName | None = None, depth: int = 0,
    ) -> None:
        super().__init__(form, layouts)
        self.inside, self.states, self.time, self.depth = inside, states, time, depth
        self.softmax = normalised(form.program)
        self.fresh = self.count = 0

    def defined(self, equation: Equation) -> Line:
        """The definition of an equation's target, everything inside put in. Raises NoMatrixForm where there is none."""
        domain = {i.symbol: i for i in equation.free}
        return Line(super().read(equation.target, domain)[0], self._definition(equation.target, domain))

    def read(self, entry: Indexed, domain: Mapping[IndexName, Index]) -> tuple[Formula, Axes]:
        """As the symbol of the matrix, or where it is to be put in as its definition."""
        shown, axes = super().read(entry, domain)
        name = tensor_of(entry)
        if name not in self.inside or any(len(index_symbols(p)) != 1 or not isinstance(p, IndexName)
                                          for p in entry.indices[self.layouts[name].scripts:]):
            return shown, axes
        back = self._back(entry)
        if back > self.depth:
            return shown, axes
        if back == self.depth and name not in self.states:
            return Sign("dots"), axes
        terms = self._definition(entry, domain)
        return operand(summed_up(terms)), axes

    def _back(self, entry: Indexed) -> int:
        """How many steps back an entry lies; -1 where that is not counted."""
        steps = [self.time - part for part in entry.indices if self.time is not None and part.has(self.time)]
        return next((abs(int(step)) for step in steps if step.is_Integer), -1)

    def _definition(self, entry: Indexed, domain: Mapping[IndexName, Index]) -> tuple[Term, ...]:
        name = tensor_of(entry)
        self.count += 1
        if self.count > LARGEST:
            raise NoMatrixForm
        for equation, argument in self.softmax.get(name, ()):
            if (rule := self._match(equation, entry)) is not None:
                inner, _ = self.read(substitute(argument, rule), domain)
                return (Term("+", (Call(Word("softmax"), (bare(inner),)),)),)
        found: list[Equation] = []
        for equation in self.program.writers.get(name, ()):
            rule = self._match(equation, entry)
            if rule is not None:
                found.append(self._at(equation, rule, domain))
        if not found or any(e.reduction is not Reduction.SUM for e in found):
            raise NoMatrixForm
        frame = self.axes(entry, domain)
        return tuple(self.whole(found, frame))

    def _at(self, equation: Equation, rule: Mapping[IndexName, Any], domain: Mapping[IndexName, Index]) -> Equation:
        """The equation for one entry: its free indices are those of the reader, its sums have names of their own."""
        renamed: dict[IndexName, IndexName] = {}
        for i in equation.reduced:
            self.fresh += 1
            renamed[i.symbol] = index(f"_{self.fresh}")
        equation = equation.renamed(renamed)
        return replace(
            equation, target=substitute(equation.target, rule), body=substitute(equation.body, rule),
            guards=tuple(substitute(g, rule) for g in equation.guards),
            indices=(*(i for i in domain.values() if substitute(equation.target, rule).has(i.symbol)), *equation.reduced),
        )

    def _match(self, equation: Equation, entry: Indexed) -> dict[IndexName, Any] | None:
        """What the indices of a writer stand for where it writes the entry; ``None`` where it writes another step.

        Raises NoMatrixForm for a writer of a part of the matrix, a slice or a diagonal: it is not all of the definition.
        """
        rule: dict[IndexName, Any] = {}
        tensor, scripts = self.program.tensor(equation.name), self.layouts[equation.name].scripts
        for axis, (part, wanted) in enumerate(zip(equation.target.indices, entry.indices, strict=True)):
            if not isinstance(part, IndexName):
                if part == wanted:
                    continue
                if part.is_Integer and axis < scripts:
                    return None
                raise NoMatrixForm
            over, bounds = equation.index(part), tensor.bounds(axis)
            whole = is_equal(over.lower, bounds[0], self.program) and is_equal(over.upper, bounds[1], self.program)
            if rule.setdefault(part, wanted) != wanted or axis >= scripts and not whole:
                raise NoMatrixForm
        return rule
