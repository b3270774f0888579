"""How equations are written: in index form, or as matrices where they have such a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from codegen.derivation.document import Words, words
from codegen.derivation.formula import Formula, Letter, Line
from codegen.derivation.index_form import IndexForm
from codegen.derivation.statements import Statement
from symbolic.program import IndexName, tensor_of

if TYPE_CHECKING:
    from codegen.derivation.matrix_form import MatrixForm

__all__ = ["Notation"]


@dataclass(frozen=True)
class Notation:
    """Index form for entries, and matrix form beside it where it is asked for."""

    index: IndexForm
    matrix: MatrixForm | None = None

    def line(self, statement: Statement) -> tuple[Line, Words]:
        """A statement as a line, and what must be said of how it is written."""
        if self.matrix is None:
            return self.index.line(statement), ()
        found = self.matrix.line(statement)
        return (found, ()) if found is not None else (self.index.line(statement), words("no matrix form; entry by entry"))

    def show(self, expr: Any) -> Formula:
        """An expression, entry by entry."""
        return self.index.show(expr)

    def symbol(self, name: str) -> Formula:
        """A tensor's symbol without subscripts."""
        return self.index.symbols[name].entry() if self.matrix is None else self.matrix.symbol(name)

    def adjoint(self, name: str) -> Formula:
        """dL/dX without subscripts."""
        return self.index.adjoint_of(name) if self.matrix is None else self.matrix.adjoint_of(name)

    def defined(self, name: str) -> tuple[Formula, ...]:
        """The symbols of a tensor for the table: of its entries, and of the matrices that they make."""
        entry = self.index.symbols[name].entry()
        if self.matrix is None or name not in self.matrix.layouts or self.matrix.names[name] == self.index.symbols[name]:
            return (entry,)
        return entry, self.matrix.symbol(name, self._scripts[name])

    @cached_property
    def _scripts(self) -> dict[str, Sequence[Formula]]:
        """The subscripts that a tensor's matrices have, by the names of the indices that its equations use."""
        assert self.matrix is not None
        found: dict[str, Sequence[Formula]] = {}
        for name, layout in self.matrix.layouts.items():
            entries = [e.target for e in self.index.program.writers.get(name, ())]
            entries += [r for e in self.index.program.readers.get(name, ()) for r in e.reads if tensor_of(r) == name]
            shown: list[Formula] = []
            for axis in range(layout.scripts):
                bare = next((e.indices[axis] for e in entries if isinstance(e.indices[axis], IndexName)), None)
                shown.append(self.index.show(bare) if bare is not None else Letter("tuvwrs"[axis % 6]))
            found[name] = shown
        return found
