"""One recurrence that is rolled out: its states, its weights and the symbols by which they are shown."""

from __future__ import annotations

import sympy as sp

from codegen.derivation.formula import (
    Formula,
    Fraction,
    Letter,
    List,
    Row,
    Script,
    Sign,
    Word,
)
from codegen.derivation.index_form import IndexForm
from codegen.derivation.layouts import layouts
from codegen.derivation.matrix_form import MatrixForm
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Derivation
from symbolic.jacobian import StepJacobian
from symbolic.program import IndexName, Role, index, operands, tensor_of

__all__ = ["WRITTEN_OUT", "Recurrent", "immediate", "partial", "total"]

WRITTEN_OUT = 4
"""Steps of which every term is written out, at most."""


class Recurrent:
    """What the compositions and the sums over time of one recurrence have in common."""

    def __init__(self, derivation: Derivation, notation: Notation, jacobian: StepJacobian) -> None:
        assert derivation.rolled is not None
        self.rolled, self.notation, self.jacobian = derivation.rolled, notation, jacobian
        self.unrolled, self.program = derivation.given, derivation.rolled.program
        names, adjoint = notation.index.symbols, notation.index.adjoint
        self.form = IndexForm(self.program, names, adjoint)
        self.vectors = MatrixForm(self.form, layouts(self.program, self.program.equations, vectors=True))
        self.matrices = MatrixForm(self.form, layouts(self.program, self.program.equations))
        self.states = jacobian.recurrence.states
        first = self.program.tensor(self.states[0])
        self.axis = jacobian.recurrence.axes(first)[0]
        own = jacobian.blocks[0].of.indices[self.axis] if jacobian.blocks else index("t")
        self.time: IndexName = own if isinstance(own, IndexName) else index("t")
        self.loss = self.form.symbols[self.program.loss].entry()

    def state(self, name: str, at: Formula | None = None) -> Formula:
        """A state, at a step."""
        return self.vectors.symbol(name, () if at is None else (at,))

    def all_at(self, at: Formula) -> Formula:
        """The state of a step: h_t, or s_t for several together."""
        if len(self.states) == 1 and not self.lags():
            return self.state(self.states[0], at)
        return Script(Letter("s", bold=True), List((at,)))

    def lags(self) -> bool:
        """Whether a step reads further back than the one before."""
        return any(abs(self.jacobian.lag(b)) > 1 for b in self.jacobian.blocks)

    def weights(self) -> tuple[str, ...]:
        """The parameters that multiply a state of an earlier step."""
        found: dict[str, None] = {}
        for name in self.jacobian.recurrence.tensors:
            for equation in self.program.writers.get(name, ()):
                for term in sp.Add.make_args(equation.body):
                    reads = operands(term)
                    if any(tensor_of(r) in self.jacobian.recurrence.tensors for r in reads):
                        found.update(dict.fromkeys(
                            tensor_of(r) for r in reads if self.program.tensor(tensor_of(r)).role is Role.PARAMETER))
        return tuple(found)

    def parameter(self) -> Formula:
        """The recurrent weights, by a letter for all where there are several."""
        weights = self.weights()
        return self.vectors.symbol(weights[0]) if len(weights) == 1 else Letter("theta")

    def reading(self) -> frozenset[str]:
        """The tensors that depend on the state, the recurrence among them."""
        found, frontier = set(self.jacobian.recurrence.tensors), list(self.jacobian.recurrence.tensors)
        while frontier:
            for equation in self.program.readers.get(frontier.pop(), ()):
                if equation.name not in found:
                    found.add(equation.name)
                    frontier.append(equation.name)
        return frozenset(found)

    def inside(self, top: str) -> frozenset[str]:
        """What is put in: the recurrence, and what leads from it to ``top``."""
        above, frontier = set(), [top]
        while frontier:
            if (name := frontier.pop()) not in above:
                above.add(name)
                frontier += [tensor_of(r) for e in self.program.writers.get(name, ()) for r in operands(e.body)]
        return self.reading() & above | frozenset(self.jacobian.recurrence.tensors)


def partial(of: Formula, by: Formula) -> Formula:
    """A partial derivative."""
    return Fraction(Row((Letter("partial"), of)), Row((Letter("partial"), by)))


def immediate(of: Formula, by: Formula) -> Formula:
    """The immediate derivative, with the states before held fixed."""
    return Fraction(Row((Script(Letter("partial"), None, Sign("+")), of)), Row((Letter("partial"), by)))


def total(of: Formula, by: Formula) -> Formula:
    """A total derivative."""
    return Fraction(Row((Word("d"), of)), Row((Word("d"), by)))
