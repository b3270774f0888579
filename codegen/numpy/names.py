"""Identifiers of the emitted module: a tensor ``rnn.W`` becomes ``rnn_W``; sizes and indices keep their names where free."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from symbolic.program import Program

__all__ = ["RESERVED", "Identifiers"]

RESERVED = frozenset({
    *keyword.kwlist, *keyword.softkwlist, "np", "params", "batch", "aux", "grads", "direction", "DTYPE",
    "PARAMETERS", "INPUTS", "OUTPUTS", "range", "float", "min", "max",
})
"""What the bodies of emitted functions say besides the model's own names."""


class Identifiers:
    """One supply of identifiers for one function."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {*RESERVED, *taken}

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

    @classmethod
    def of(cls, program: Program) -> tuple[Identifiers, dict[str, str]]:
        """The supply and the identifier of every size, tensor and index of a program (sizes keep their own names)."""
        supply = cls(program.sizes)
        codes = {tensor.name: supply.fresh(tensor.name) for tensor in program.tensors}
        return supply, codes
