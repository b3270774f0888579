"""One recurrence that is rolled out: its states, its weights and the symbols by which they are shown."""

from __future__ import annotations

from functools import cached_property

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
from symbolic.adjoint import reaching
from symbolic.jacobian import StepJacobian
from symbolic.program import IndexName, Role, index, operands, tensor_of

__all__ = ["WRITTEN_OUT", "Recurrent", "immediate", "total"]

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
        return Script(Letter(self.letter("szwv"), bold=True), List((at,)))

    def lags(self) -> int:
        """How many steps lie between a state and the farthest one that it is made from, beyond the first."""
        return max((abs(self.jacobian.lag(b)) for b in self.jacobian.blocks), default=1) - 1

    @property
    def way(self) -> int:
        """1 where time runs forwards, -1 where it runs backwards, 0 where some states do this and others that."""
        ways = {1 if self.jacobian.lag(b) > 0 else -1 for b in self.jacobian.blocks if self.jacobian.lag(b)}
        return ways.pop() if len(ways) == 1 else 0

    def at(self, steps: int) -> Formula:
        """The step so many steps before this one, in the direction of the recurrence."""
        return self.form.show(self.time - steps * self.way)

    @cached_property
    def taken(self) -> frozenset[str]:
        """The letters of the time and of tensors: no letter of the general formulas may be one of them."""
        bases = (symbol.base for symbol in self.form.symbols.values())
        return frozenset(base.name for base in bases if isinstance(base, Letter)) | {str(self.time), *self.program.sizes}

    def letter(self, choices: str) -> str:
        """The first of these letters that stands for nothing else."""
        return next((letter for letter in choices if letter not in self.taken), choices[0])

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
        if len(weights) == 1:
            return self.vectors.symbol(weights[0])
        greek = ("theta", "phi", "psi", "omega")
        return Letter(next((name for name in greek if name not in self.taken), greek[0]))

    @cached_property
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
        return self.reading & reaching(self.program, top) | frozenset(self.jacobian.recurrence.tensors)


def immediate(of: Formula, by: Formula) -> Formula:
    """The immediate derivative, with the states before held fixed."""
    return Fraction(Row((Script(Letter("partial"), None, Sign("+")), of)), Row((Letter("partial"), by)))


def total(of: Formula, by: Formula) -> Formula:
    """A total derivative."""
    return Fraction(Row((Word("d"), of)), Row((Word("d"), by)))
