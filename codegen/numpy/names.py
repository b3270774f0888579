"""Identifiers of the emitted module: a tensor ``rnn.W`` becomes ``rnn_W``; sizes and indices keep their names.

Tensors, indices and sizes are separate namespaces in a Program and one in Python: a tensor with the name of an index gets
another identifier, an index with the name of something that the text calls gets another name."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Iterable

from codegen.numpy.helpers import HELPERS
from symbolic.program import Names, Program

__all__ = ["RESERVED", "Identifiers", "speakable"]

RESERVED = frozenset({
    *keyword.kwlist, *keyword.softkwlist, *HELPERS, "_check", "_check_like",
    "np", "params", "batch", "aux", "grads", "direction", "DTYPE",
    "PARAMETERS", "INPUTS", "OUTPUTS", "range", "reversed", "float", "min", "max",
})
"""What the bodies of emitted functions say besides the model's own names."""


class Identifiers:
    """One supply of identifiers for one function."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {*RESERVED, *taken}
        self.passing: set[str] = set()

    def fresh(self, wanted: str) -> str:
        """A free identifier near the wanted one."""
        base = re.sub(r"\W", "_", wanted)
        if not base or base[0].isdigit():
            base = f"_{base}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def local(self, wanted: str, others: Container[str]) -> str:
        """An identifier for what lives in one loop alone: two loops may call theirs the same, apart from ``others``."""
        if wanted in self.passing and wanted not in others:
            return wanted
        name = self.fresh(wanted)
        self.passing.add(name)
        return name

    @classmethod
    def of(cls, program: Program, indices: Iterable[str]) -> tuple[Identifiers, dict[str, str]]:
        """The supply and the identifier of every tensor of a program whose text holds these indices."""
        supply = cls((*program.sizes, *indices))
        codes = {tensor.name: supply.fresh(tensor.name) for tensor in program.tensors}
        return supply, codes


def speakable(program: Program) -> Program:
    """The program with other names for indices that Python or the emitted text has taken."""
    names = Names.of(program)
    equations = []
    for equation in program.equations:
        clashing = {i.symbol: names.index(f"{i.name}_") for i in equation.indices if i.name in RESERVED}
        equations.append(equation.renamed(clashing) if clashing else equation)
    return program.with_equations(equations)
